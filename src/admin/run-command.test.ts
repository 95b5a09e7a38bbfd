import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { type Clock, ManualClock, SECOND, systemClock } from '../core/clock.ts';
import { type CallContext, createDispatch, digestOf } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { ConfirmationQuestion, Progress } from '../core/operation.ts';
import { system } from '../core/principal.ts';
import { type LogRecord, silentLog } from '../core/record.ts';
import { type CommandMode, createCommandService, runCommand } from './run-command.ts';

interface Setup {
  mode?: CommandMode;
  clock?: Clock;
  timeoutMs?: number;
  maxOutputBytes?: number;
}

/** The operation behind `dispatch`, on real processes. */
function setUp(t: TestContext, setup: Setup = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'run-command-'));
  const scratchDir = join(folder, 'scratch');
  const { mode = 'any', clock = systemClock, timeoutMs = 60 * SECOND, maxOutputBytes = 64 * 1024 } = setup;
  const commands = createCommandService({
    mode,
    operate: async (name) => {
      throw new AppError('UNAVAILABLE', `no engine for ${name}`);
    },
    clock,
    log: silentLog,
    timeoutMs,
    maxOutputBytes,
    scratchDir,
  });
  const records: LogRecord[] = [];
  const updates: Progress[] = [];
  const dispatch = createDispatch({
    services: { commands },
    clock,
    log: { write: (record) => void records.push(record), enabled: () => true },
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  t.after(async () => {
    await commands[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (command: string, context: Partial<CallContext> = {}) =>
    dispatch(
      runCommand,
      { command },
      {
        principal: system,
        signal: new AbortController().signal,
        traceId: '0'.repeat(32),
        surface: 'internal',
        clientAddress: undefined,
        progress: (update) => void updates.push(update),
        ...context,
      },
    );
  return { run, commands, records, updates, folder, scratchDir };
}

const refusedAs = (code: ErrorCode, message?: RegExp) => (error: unknown) =>
  error instanceof AppError && error.code === code && (message?.test(error.message) ?? true);

const MAX_POLLS = 5000;
const POLL_MS = 5;

async function until(condition: () => boolean, step: () => void = () => {}): Promise<void> {
  for (let polls = 0; !condition(); polls += 1) {
    assert.ok(polls < MAX_POLLS, `it never came true: ${condition.toString()}`);
    step();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Living processes whose group this is. @see proc_pid_stat(5): state, parent and group follow the name in parentheses. */
function membersOf(group: number): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const [state, , pgrp] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return Number(pgrp) === group && state !== 'Z';
    } catch {
      return false; // It ended while it was looked at.
    }
  });
}

const pidIn = (updates: readonly Progress[]): number | undefined =>
  Number(/pid (\d+)/.exec(updates.map(({ message }) => message).join('\n'))?.[1]) || undefined;

const FAMILY = `sh -c 'sleep 600 & sleep 600 & (sleep 600; true) & echo pid $$; wait'`;
const STUBBORN = `sh -c 'trap "" TERM; echo pid $$; while true; do sleep 600; done'`;

test('returns exit code, both outputs and how much there was', async (t) => {
  const { run } = setUp(t);
  const result = await run(`sh -c 'echo one; echo two >&2; exit 3'`);
  assert.partialDeepStrictEqual(result, {
    exit_code: 3,
    signal: null,
    timed_out: false,
    stdout: 'one\n',
    stderr: 'two\n',
    truncated: false,
    output_bytes: 8,
  });
});

test('the allow-list is the default, and its programs really run', async (t) => {
  const { run } = setUp(t, { mode: 'allow-list' });
  const result = await run('df -h');
  assert.equal(result.exit_code, 0);
  assert.match(String(result.stdout), /Filesystem/);
  await assert.rejects(run('env'), refusedAs('FORBIDDEN', /allowed: uptime/));
});

test('switched off, nothing runs', async (t) => {
  const { run } = setUp(t, { mode: 'off' });
  await assert.rejects(run('uptime'), refusedAs('FORBIDDEN', /commands\.mode: off/));
});

test('a program that is not installed is UNAVAILABLE, and one with a path is refused', async (t) => {
  const { run } = setUp(t);
  await assert.rejects(run('no-such-program'), refusedAs('UNAVAILABLE', /no-such-program is not installed/));
  await assert.rejects(run('/bin/df'), refusedAs('INVALID_INPUT', /a name without a path/));
  await assert.rejects(run('../../bin/df'), refusedAs('INVALID_INPUT', /a name without a path/));
  await assert.rejects(run('LD_PRELOAD=x df'), refusedAs('INVALID_INPUT', /assignment/));
});

test('incident row 21: no value reaches a shell, in any mode', async (t) => {
  for (const mode of ['allow-list', 'any'] as const) {
    const { run, folder } = setUp(t, { mode });
    const mark = join(folder, 'mark');
    const attempts = [
      `uptime; touch ${mark}`,
      `uptime && touch ${mark}`,
      `uptime || touch ${mark}`,
      `uptime & touch ${mark}`,
      `uptime | tee ${mark}`,
      `uptime |& tee ${mark}`,
      `uptime > ${mark}`,
      `uptime 2>${mark}`,
      `uptime >> ${mark}`,
      `sh < ${mark}`,
      `uptime $(touch ${mark})`,
      `uptime \`touch ${mark}\``,
      `uptime "$(touch ${mark})"`,
      `uptime "\`touch ${mark}\`"`,
      `uptime \${IFS}touch`,
      `uptime\ntouch ${mark}`,
      `uptime\r\ntouch ${mark}`,
      `uptime\0touch ${mark}`,
      `{touch,${mark}}`,
      `(touch ${mark})`,
      `'uptime; touch ${mark}'`,
      `uptime\\;touch ${mark}`,
      `PATH=${folder} uptime`,
      `${folder}/evil`,
      `-c ${mark}`,
      `dig example.com\n-f ${mark}`,
      `openssl s_client -connect example.com:443;touch ${mark}`,
      `. ${mark}`,
    ];
    for (const attempt of attempts)
      await assert.rejects(
        run(attempt),
        (error) =>
          error instanceof AppError && ['INVALID_INPUT', 'FORBIDDEN', 'UNAVAILABLE'].includes(error.code),
        attempt,
      );
    assert.equal(existsSync(mark), false);
  }
});

test('the environment is minimal and holds no secret of this process', async (t) => {
  process.env.OHP_MASTER_KEY_CANARY = 'canary-3f1c';
  t.after(() => delete process.env.OHP_MASTER_KEY_CANARY);
  const { run, scratchDir } = setUp(t);
  const { stdout } = await run('env');
  const names = String(stdout)
    .trim()
    .split('\n')
    .map((line) => line.split('=')[0]);
  assert.deepEqual(new Set(names), new Set(['HOME', 'LANG', 'PATH']));
  assert.match(String(stdout), new RegExp(`^HOME=${scratchDir}/run-`, 'm'));
  assert.doesNotMatch(String(stdout), /canary/);
});

test('works in a folder of its own, 0700, that is gone afterwards; its input is empty', async (t) => {
  const { run, scratchDir } = setUp(t);
  const { stdout } = await run(`sh -c 'pwd; stat -c %a .; touch left; mkdir -p a/b; cat; echo end'`);
  const [folder, mode, end] = String(stdout).trim().split('\n');
  assert.match(String(folder), new RegExp(`^${scratchDir}/run-`));
  assert.deepEqual([mode, end], ['700', 'end']);
  assert.deepEqual(readdirSync(scratchDir), []);
  assert.equal(statSync(scratchDir).mode & 0o777, 0o700);
});

test('what an earlier process left in the scratch folder is removed; a fault there does not last', async (t) => {
  const { run, scratchDir } = setUp(t);
  writeFileSync(scratchDir, 'in the way');
  await assert.rejects(run('uptime'), refusedAs('INTERNAL'));
  rmSync(scratchDir);
  mkdirSync(join(scratchDir, 'run-left'), { recursive: true, mode: 0o755 });
  writeFileSync(join(scratchDir, 'kept'), '');
  assert.equal((await run('uptime')).exit_code, 0);
  assert.deepEqual(readdirSync(scratchDir), ['kept']);
  assert.equal(statSync(scratchDir).mode & 0o777, 0o700);
});

test('a timeout ends the whole group, says so and keeps what was written', async (t) => {
  const clock = new ManualClock();
  const { run, updates } = setUp(t, { clock, timeoutMs: 30 * SECOND });
  const pending = run(FAMILY);
  await until(
    () => pidIn(updates) !== undefined,
    () => clock.advance(100),
  );
  const group = pidIn(updates) ?? 0;
  assert.ok(membersOf(group).length >= 4);
  clock.advance(30 * SECOND);
  assert.partialDeepStrictEqual(await pending, {
    exit_code: null,
    signal: 'SIGTERM',
    timed_out: true,
    stdout: `pid ${group}\n`,
  });
  await until(() => membersOf(group).length === 0);
});

test('a cancelled call ends the whole group and is CANCELLED', async (t) => {
  const clock = new ManualClock();
  const { run, updates, records } = setUp(t, { clock });
  const call = new AbortController();
  const pending = run(FAMILY, { signal: call.signal });
  await until(
    () => pidIn(updates) !== undefined,
    () => clock.advance(100),
  );
  const group = pidIn(updates) ?? 0;
  call.abort();
  await assert.rejects(pending, refusedAs('CANCELLED'));
  await until(() => membersOf(group).length === 0);
  assert.equal(records.at(-1)?.outcome, 'CANCELLED');
});

test('a call that was cancelled before it began leaves nothing behind', async (t) => {
  const { run, scratchDir } = setUp(t);
  await assert.rejects(run('sleep 600', { signal: AbortSignal.abort() }), refusedAs('CANCELLED'));
  assert.deepEqual(readdirSync(scratchDir), []);
});

test('a program that ignores the request to end is killed after a grace', async (t) => {
  const clock = new ManualClock();
  const { run, updates } = setUp(t, { clock, timeoutMs: 30 * SECOND });
  const pending = run(STUBBORN);
  await until(
    () => pidIn(updates) !== undefined,
    () => clock.advance(100),
  );
  const group = pidIn(updates) ?? 0;
  clock.advance(30 * SECOND - 1);
  clock.advance(1);
  assert.ok(membersOf(group).length > 0);
  clock.advance(2 * SECOND);
  assert.partialDeepStrictEqual(await pending, { signal: 'SIGKILL', timed_out: true });
  await until(() => membersOf(group).length === 0);
});

test('what a program leaves running in its group ends with it', async (t) => {
  const { run } = setUp(t);
  const { stdout, exit_code } = await run(`sh -c 'sleep 600 & echo pid $$'`);
  assert.equal(exit_code, 0);
  const group = Number(String(stdout).slice('pid '.length));
  await until(() => membersOf(group).length === 0);
});

test('what left the group and holds the output open is not waited for', async (t) => {
  const { run } = setUp(t);
  const { stdout } = await run(
    `sh -c 'setsid sh -c "echo pid \\$\\$; touch ready; exec sleep 600" & until [ -e ready ]; do sleep 0.05; done'`,
  );
  const escaped = Number(/pid (\d+)/.exec(String(stdout))?.[1]);
  assert.ok(escaped > 1, String(stdout));
  process.kill(escaped, 'SIGKILL');
});

test('more output than the limit is cut and counted; a flood is ended', async (t) => {
  const { run, records } = setUp(t, { maxOutputBytes: 1024 });
  const cut = await run(`head -c 5000 /dev/zero`);
  assert.partialDeepStrictEqual(cut, { exit_code: 0, truncated: true, output_bytes: 5000 });
  const flood = await run('yes');
  assert.partialDeepStrictEqual(flood, { signal: 'SIGKILL', truncated: true, timed_out: false });
  assert.equal(flood.stdout, 'y\n'.repeat(512));
  assert.ok(Number(flood.output_bytes) < 40 * 1024 * 1024);
  assert.equal(records.at(-1)?.detail?.ended, 'flood');
});

test('output is cleaned of control characters and cut between characters, lines stay lines', async (t) => {
  const { run, updates } = setUp(t);
  const { stdout } = await run(`printf 'a\\033[31mb\\tc\\r\\nd\\342\\200\\256e\\303'`);
  assert.equal(stdout, 'a\ufffd[31mb\tc\nd\ufffde\ufffd');
  assert.ok(updates.every(({ message }) => !message?.includes('\u001b') && !message?.includes('\u202e')));
});

test('output arrives as progress while the program runs, numbered upwards', async (t) => {
  const clock = new ManualClock();
  const { run, updates } = setUp(t, { clock });
  const running = run(`sh -c 'echo pid $$; echo ready; kill -STOP $$; echo two; printf three'`);
  await until(
    () => updates.some(({ message }) => message?.includes('ready') === true),
    () => clock.advance(100),
  );
  process.kill(pidIn(updates) ?? 0, 'SIGCONT');
  await running;
  assert.match(updates.map(({ message }) => message).join('\n'), /^pid \d+\nready\ntwo\nthree$/);
  const numbers = updates.map(({ progress }) => progress);
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index + 1),
  );
});

test('the audit record holds the arguments, the exit code and the digest of the output', async (t) => {
  const { run, records } = setUp(t);
  const { stdout, stderr } = await run(`sh -c 'echo out; echo err >&2; exit 4'`);
  assert.partialDeepStrictEqual(records.at(-1), {
    outcome: 'OK',
    detail: {
      argv: ['sh', '-c', 'echo out; echo err >&2; exit 4'],
      exit_code: 4,
      output_sha256: createHash('sha256')
        .update(`${String(stdout)}${String(stderr)}`)
        .digest('hex'),
    },
  });
});

test('only so many run at once', async (t) => {
  const { run } = setUp(t);
  const call = new AbortController();
  const running = [1, 2, 3, 4].map(() => run('sleep 600', { signal: call.signal }));
  await assert.rejects(run('uptime'), refusedAs('RATE_LIMITED', /4 commands are running/));
  call.abort();
  await Promise.allSettled(running);
  assert.equal((await run('uptime')).exit_code, 0);
});

test('disposing ends what runs', async (t) => {
  const { run, commands } = setUp(t);
  const pending = assert.rejects(run('sleep 600'), refusedAs('CANCELLED'));
  await commands[Symbol.asyncDispose]();
  await pending;
});

test('in mode any a person is asked about this exact call; on the allow-list nobody is', async (t) => {
  const questions: Omit<ConfirmationQuestion, 'onPage'>[] = [];
  const confirm = async ({ onPage: _onPage, ...question }: ConfirmationQuestion) => {
    questions.push(question);
    throw new AppError('CONFIRMATION_REQUIRED', 'ask');
  };
  const { run } = setUp(t);
  await assert.rejects(run(`sh -c 'echo "x"'`, { confirm }), refusedAs('CONFIRMATION_REQUIRED'));
  assert.deepEqual(questions, [
    {
      operation: 'run_command',
      inputDigest: digestOf({ command: `sh -c 'echo "x"'` }),
      message: 'Run this on the machine, with all rights of this process: ["sh","-c","echo \\"x\\""]',
    },
  ]);
  assert.equal((await setUp(t, { mode: 'allow-list' }).run('uptime', { confirm })).exit_code, 0);
});
