import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { loadConfig } from '../config/load.ts';
import { SECOND, systemClock } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { ConfirmationQuestion } from '../core/operation.ts';
import { expandPermissions, type Permission } from '../core/permissions.ts';
import { type LogRecord, silentLog } from '../core/record.ts';
import { createTemplates } from './command-templates.ts';
import { createCommandService, listCommands, runCommand } from './run-command.ts';

const CANARY = 'canary-4711';
const settings = {
  say: {
    argv: ['echo', 'say', '{word}', '--times={times}', '{mood}', '{loud}'],
    parameters: {
      word: { type: 'string', pattern: '[a-z -]{1,20}', description: 'What to say' },
      times: { type: 'integer', min: 1, max: 9, default: 2 },
      mood: { type: 'enum', values: ['glad', 'sad'], required: false },
      loud: { type: 'boolean', required: false },
    },
    description: 'Says a word',
  },
  'log-in': {
    argv: ['echo', '{key}'],
    parameters: { key: { type: 'string', pattern: '.{1,40}', secret: true } },
    confirm: true,
  },
  wait: { argv: ['sleep', '{seconds}'], parameters: { seconds: { type: 'integer' } }, timeout_ms: 50 },
  pass: {
    argv: ['echo', '{options}'],
    parameters: { options: { type: 'string', pattern: '.*', may_be_option: true } },
  },
};

const load = (templates: unknown, more: object = {}) =>
  loadConfig({ OHP_CONFIG: 'x.json' }, () => JSON.stringify({ commands: { templates, ...more } }));

async function setUp(t: TestContext) {
  const { commands: config } = await load(settings);
  const folder = mkdtempSync(join(tmpdir(), 'command-templates-'));
  const commands = createCommandService({
    mode: 'allow-list',
    operate: async () => undefined,
    templates: config.templates,
    clock: systemClock,
    log: silentLog,
    timeoutMs: 60 * SECOND,
    maxOutputBytes: 4096,
    scratchDir: join(folder, 'scratch'),
  });
  t.after(async () => {
    await commands[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  const records: LogRecord[] = [];
  const questions: string[] = [];
  const dispatch = createDispatch({
    services: { commands },
    clock: systemClock,
    log: { write: (record) => void records.push(record), enabled: () => true },
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  const call =
    (operation: typeof runCommand | typeof listCommands) =>
    (input: object, permissions: Permission[] = ['commands:run']) =>
      dispatch(operation, input, {
        principal: {
          id: 'tok_1',
          name: 'somebody',
          kind: 'token',
          permissions: expandPermissions(permissions),
          hostnames: undefined,
          expiresAt: undefined,
        },
        signal: new AbortController().signal,
        traceId: '0'.repeat(32),
        surface: 'internal',
        clientAddress: undefined,
        confirm: async ({ message }: ConfirmationQuestion) => void questions.push(message),
      });
  return { run: call(runCommand), list: call(listCommands), records, questions };
}

const refusedAs = (code: ErrorCode, message: RegExp) => (error: unknown) =>
  error instanceof AppError && error.code === code && message.test(error.message);

test('a command of the settings runs with its parameters in their places, defaults and what is left out', async (t) => {
  const { run } = await setUp(t);
  const parameters = { word: 'good day', mood: 'glad' };
  assert.equal((await run({ command: 'say', parameters })).stdout, 'say good day --times=2 glad\n');
  const all = { word: 'a', times: 9, mood: 'sad', loud: false };
  assert.equal((await run({ command: 'say', parameters: all })).stdout, 'say a --times=9 sad false\n');
  assert.equal((await run({ command: 'wait', parameters: { seconds: 60 } })).timed_out, true);
});

test('a parameter that is missing, unknown or wrong is refused by its name, with what it has to be', async (t) => {
  const { run } = await setUp(t);
  const refusals: [object, RegExp][] = [
    [{}, /word is missing; say takes word \(text that matches .*\), times \(a whole number, at least 1/],
    [{ word: 'a', volume: 3 }, /there is no parameter volume; say takes word/],
    [{ word: 'A' }, /word has to match \[a-z -\]\{1,20\}; found "A"/],
    [{ word: 'a\nb' }, /word may have no control or invisible character/],
    [{ word: 3 }, /word has to be text/],
    [{ word: 'a', times: 10 }, /times has to be a whole number, at least 1, at most 9; found 10/],
    [{ word: 'a', times: 1.5 }, /times has to be a whole number/],
    [{ word: 'a', times: '3' }, /times has to be a whole number/],
    [{ word: 'a', mood: 'cross' }, /mood has to be one of glad, sad/],
    [{ word: 'a', loud: 'yes' }, /loud has to be true or false/],
    [{ word: 'a', constructor: 'x' }, /there is no parameter constructor/],
  ];
  for (const [parameters, message] of refusals)
    await assert.rejects(run({ command: 'say', parameters }), refusedAs('INVALID_INPUT', message));
});

test('a value makes no option and no second argument, and no shell sees it', async (t) => {
  const { run } = await setUp(t);
  await assert.rejects(
    run({ command: 'say', parameters: { word: '-n' } }),
    refusedAs('INVALID_INPUT', /word may not make an option of its argument/),
  );
  await assert.rejects(
    run({ command: 'wait', parameters: { seconds: -1 } }),
    refusedAs('INVALID_INPUT', /seconds may not make an option/),
  );
  const options = '-n $HOME; {options} `id`';
  assert.equal((await run({ command: 'pass', parameters: { options } })).stdout, `${options}\n`);
});

test('each is a permission of its own: it gives that one and nothing else, and commands:run gives all', async (t) => {
  const { run, list } = await setUp(t);
  const only: Permission[] = ['commands:run:say'];
  assert.equal((await run({ command: 'say', parameters: { word: 'a' } }, only)).exit_code, 0);
  const allowed = refusedAs('FORBIDDEN', /the settings that you may run \(say\)/);
  for (const command of ['wait', 'no-such', 'uptime'])
    await assert.rejects(run({ command }, only), allowed, command);
  await assert.rejects(
    run({ command: 'say', parameters: { word: 'a' } }, ['system:write']),
    refusedAs('FORBIDDEN', /needs the permission commands:run/),
  );
  const names = async (held?: Permission[]) =>
    ((await list({}, held)).commands as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(await names(only), ['say']);
  assert.deepEqual(await names(), ['say', 'log-in', 'wait', 'pass']);
  assert.equal((await list({}, only)).programs, undefined);
  assert.match(JSON.stringify((await list({})).programs), /uptime/);
  assert.deepEqual(((await list({}, only)).commands as unknown[])[0], {
    name: 'say',
    description: 'Says a word',
    permission: 'commands:run:say',
    parameters: [
      { name: 'word', is: 'text that matches [a-z -]{1,20}', required: true, description: 'What to say' },
      { name: 'times', is: 'a whole number, at least 1, at most 9; default 2', required: false },
      { name: 'mood', is: 'one of glad, sad', required: false },
      { name: 'loud', is: 'true or false', required: false },
    ],
  });
});

test('a secret parameter is in no record and no refusal; the others are, with the argv', async (t) => {
  const { run, records } = await setUp(t);
  const result = await run({ command: 'log-in', parameters: { key: CANARY } });
  assert.equal(result.stdout, `${CANARY}\n`);
  await assert.rejects(
    run({ command: 'log-in', parameters: { key: CANARY.repeat(9) } }),
    (error: Error) => !error.message.includes(CANARY),
  );
  await run({ command: 'say', parameters: { word: 'seen' } });
  const logged = JSON.stringify(records);
  assert.doesNotMatch(logged, new RegExp(CANARY));
  assert.match(logged, /\["echo","\[redacted\]"\]/);
  assert.match(logged, /\["echo","say","seen","--times=2"\]/);
});

test('a person is asked where the settings say so', async (t) => {
  const { run, questions } = await setUp(t);
  await run({ command: 'say', parameters: { word: 'a' } });
  await run({ command: 'log-in', parameters: { key: 'b' } });
  assert.deepEqual(questions, [
    'Run the command log-in of the settings on the machine: ["echo","[redacted]"]',
  ]);
});

test('a template that can not be meant stops the start, and says where', async () => {
  const parameters = { a: { type: 'string', pattern: 'x' } };
  const wrong: [object, RegExp][] = [
    [{ x: { argv: ['/bin/echo'] } }, /commands\.templates\.x\.argv\.0 .*a name without a path/],
    [{ x: { argv: ['{a}'], parameters } }, /argv\.0 .*a name without a path/],
    [{ x: { argv: ['echo', '{b}'] } }, /argv\.1 .*\{b\} is not among its parameters/],
    [{ x: { argv: ['echo'], parameters } }, /parameters\.a .*no argument has the place \{a\}/],
    [{ x: { argv: ['echo', '{a}'], parameters: { a: { type: 'string' } } } }, /parameters\.a\.pattern/],
    [
      { x: { argv: ['echo', '{a}'], parameters: { a: { type: 'string', pattern: '(' } } } },
      /has to be a regular expression/,
    ],
    [
      { x: { argv: ['echo', '{a}'], parameters: { a: { type: 'integer', max: 3, default: 4 } } } },
      /parameters\.a\.default .*at most 3/,
    ],
    [{ 'X y': { argv: ['echo'] } }, /commands\.templates\.X y/],
    [{ x: { argv: ['echo'], shell: true } }, /commands\.templates\.x\.shell .*known here are argv/],
  ];
  for (const [templates, message] of wrong) await assert.rejects(load(templates), message);
});

test('the settings of docs/guides/commands.md are taken, and its call is filled as it says', async () => {
  const guide = readFileSync(join(import.meta.dirname, '../../docs/guides/commands.md'), 'utf8');
  const [, yaml = ''] = /```yaml\n([^]*?)```/.exec(guide) ?? [];
  const { commands } = await loadConfig({ OHP_CONFIG: 'x.yaml' }, () => yaml);
  const [restart, tail] = createTemplates(commands.templates);
  assert.deepEqual(restart?.fill({ unit: 'blog' }).argv, ['systemctl', 'restart', 'blog.service']);
  assert.deepEqual(tail?.fill({ lines: 20, name: 'shop' }).argv, [
    'tail',
    '--lines=20',
    '/var/log/app/shop.log',
  ]);
});
