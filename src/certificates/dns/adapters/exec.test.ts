import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  mkdirSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { suite, type TestContext } from 'node:test';
import { startBind, withoutBind } from '../../../../test/support/bind.ts';
import { eventually } from '../../../../test/support/eventually.ts';
import { Guide } from '../../../../test/support/guide.ts';
import { SECOND, systemClock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { providerContract } from '../provider.contract.ts';
import { createExec } from './exec.ts';

const ZONE = 'example.test';
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const ONE = { zone: ZONE, name: `_acme-challenge.${ZONE}`, value: 'a-value' };

function start(t: TestContext, script: string) {
  const folder = mkdtempSync(join(tmpdir(), 'dns-exec-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'program');
  writeFileSync(program, `#!/bin/sh\n${script}`);
  chmodSync(program, 0o755);
  const open = (timeout_ms = 30 * SECOND) =>
    createExec(
      { provider: 'exec', zones: [ZONE], command: [program, join(folder, 'records')], timeout_ms },
      { clock: systemClock, scratchDir: join(folder, 'scratch') },
    );
  return { folder, open };
}

/** Each value is a file, so that a value is there once and goes alone. */
const KEEPER = `
set -eu
folder="$1/$3"
case "$2" in
  publish) mkdir -p "$folder"; : > "$folder/$4" ;;
  withdraw) rm -f "$folder/$4" ;;
esac
`;

providerContract('a program', async (t) => {
  const { folder, open } = start(t, KEEPER);
  const placeOf = (name: string) => join(folder, 'records', name);
  return {
    zone: ZONE,
    open: () => open(),
    values: async (name) => (existsSync(placeOf(name)) ? readdirSync(placeOf(name)) : []),
    seed: async (name, value) => {
      mkdirSync(placeOf(name), { recursive: true });
      writeFileSync(join(placeOf(name), value), '');
    },
  };
});

/** The script of the guide, at a real name server. */
providerContract(
  'nsupdate, as in the guide',
  async (t) => {
    const key = { name: 'acme', algorithm: 'hmac-sha256', secret: randomBytes(32).toString('base64') };
    const bind = await startBind({
      zones: { [ZONE]: '@ NS ns1\nns1 A 127.0.0.1\n' },
      keys: [key],
      policy: 'grant acme zonesub TXT;',
    });
    t.after(() => bind[Symbol.asyncDispose]());
    const { folder } = start(t, '');
    writeFileSync(
      join(folder, 'acme.key'),
      `key "acme" { algorithm ${key.algorithm}; secret "${key.secret}"; };`,
    );
    const script = new Guide('dns-providers')
      .block('bash', 'nsupdate')
      .replace('192.0.2.53 53', `127.0.0.1 ${bind.port}`)
      .replace('/etc/ohp/acme.key', join(folder, 'acme.key'));
    const program = join(folder, 'dns-record');
    writeFileSync(program, script);
    chmodSync(program, 0o755);
    const open = () =>
      createExec(
        { provider: 'exec', zones: [ZONE], command: [program], timeout_ms: 30 * SECOND },
        { clock: systemClock, scratchDir: join(folder, 'scratch') },
      );
    return {
      zone: ZONE,
      open,
      values: async (name) => (await bind.dig(name, 'TXT')).map((line) => line.replace(/^"|"$/g, '')),
      seed: (name, value) => open().publish({ zone: ZONE, name, value }, signal),
    };
  },
  { skip: withoutBind },
);

suite('a program', () => {
  test('gets words that no shell has read, three environment variables and no input', async (t) => {
    const { folder, open } = start(t, 'printf "%s\\n" "$@" > "$1"; env | sort >> "$1"; cat >> "$1"');
    const value = '$(id) `id`; * "quoted"';
    await open().publish({ ...ONE, value }, signal);
    const [records, action, name, told, zone, ...environment] = readFileSync(join(folder, 'records'), 'utf8')
      .trim()
      .split('\n');
    assert.deepEqual(
      [records, action, name, told, zone],
      [join(folder, 'records'), 'publish', ONE.name, value, ZONE],
    );
    // PWD and _ are the shell's own.
    const given = environment.map((line) => line.split('=')[0]).filter((key) => key !== 'PWD' && key !== '_');
    assert.deepEqual(given, ['HOME', 'LANG', 'PATH']);
  });

  test('a failure is told with the code and the last line, clean and without what looks like a secret', async (t) => {
    const { open } = start(t, 'echo first >&2; printf "\\033[31mpassword=hunter2 is wrong\\n" >&2; exit 3');
    await assert.rejects(open().publish(ONE, signal), (error) => {
      assert.ok(error instanceof AppError && error.code === 'UPSTREAM_FAILED');
      assert.match(
        error.message,
        /program ended with code 3 \("\ufffd\[31mpassword=\[redacted\] is wrong"\)$/,
      );
      return true;
    });
  });

  test('one that does not end is ended, with what it started, and told as TIMEOUT', async (t) => {
    const { folder, open } = start(t, 'sleep 600 & echo $! > "$1"; wait');
    await assert.rejects(
      open(SECOND).publish(ONE, signal),
      (error) => error instanceof AppError && error.code === 'TIMEOUT',
    );
    const child = Number(readFileSync(join(folder, 'records'), 'utf8'));
    await eventually(async () => (isAlive(child) ? undefined : true), 'the end of the child');
  });

  test('one that is cancelled is ended', async (t) => {
    const { folder, open } = start(t, 'echo $$ > "$1"; exec sleep 600');
    const cancel = new AbortController();
    const work = open().publish(ONE, cancel.signal);
    await eventually(async () => (existsSync(join(folder, 'records')) ? true : undefined), 'the program');
    cancel.abort();
    await assert.rejects(work, (error) => error instanceof AppError && error.code === 'CANCELLED');
  });

  test('two calls never run at once', async (t) => {
    const { folder, open } = start(t, 'mkdir "$1" || exit 9; sleep 0.05; rmdir "$1"');
    const provider = open();
    const calls = ['a', 'b', 'c'].map((value) => provider.publish({ ...ONE, value }, signal));
    await Promise.all(calls);
    assert.ok(!existsSync(join(folder, 'records')));
  });

  test('a program that is not there is told as UNAVAILABLE', async (t) => {
    const { folder } = start(t, '');
    const gone = createExec(
      { provider: 'exec', zones: [ZONE], command: [join(folder, 'absent')], timeout_ms: SECOND },
      { clock: systemClock, scratchDir: join(folder, 'scratch') },
    );
    await assert.rejects(
      gone.publish(ONE, signal),
      (error) => error instanceof AppError && error.code === 'UNAVAILABLE',
    );
  });
});

/** A zombie that nobody has collected yet counts as gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
