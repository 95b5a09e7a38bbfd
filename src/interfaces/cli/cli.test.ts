import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { Command } from 'commander';
import { z } from 'zod';
import {
  type CliSetting,
  ohp,
  startWorld,
  thingOperations,
  tokens,
  type World,
} from '../../../test/surface-harness.ts';
import { errorSurface } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { argumentsOf } from '../arguments.ts';
import { addArguments } from './arguments.ts';
import { completionScript } from './completion.ts';
import { renderOutput } from './output.ts';

const lamp = { name: 'lamp', size: 3, on: true, labels: ['a', 'b'], settings: null, version: 1 };

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'ohp-cli-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

const asAdmin = (world: World): CliSetting => ({ env: { OHP_URL: world.url, OHP_TOKEN: tokens.admin } });

async function listen(t: TestContext, handler: RequestListener): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('help shows every command by its verb and nouns', async () => {
  const { code, stdout } = await ohp(['--help']);
  assert.equal(code, 0);
  for (const line of [/^ {2}list +things$/m, /^ {2}login/m, /^ {2}completion/m]) assert.match(stdout, line);
  assert.equal((await ohp(['--version'])).stdout, '1.2.3\n');
});

test("a command's help shows its values, options, choices and defaults", async () => {
  const { stdout } = await ohp(['create', 'thing', '--help']);
  assert.match(stdout, /Usage: ohp create thing \[options\] <name> <size>/);
  for (const part of [
    'Makes a thing.',
    '--labels <list>',
    '(repeat, or separate by',
    '--no-on',
    'turns off: Whether it is on\n',
    '(JSON with depth;',
    '--json',
    '--ca-file',
  ])
    assert.ok(stdout.includes(part), part);
  assert.match((await ohp(['delete', 'thing', '--help'])).stdout, /--yes/);
});

test('a switch whose description says only what false means says that', () => {
  const input = z.object({ loud: z.boolean().default(true).describe('false: it whispers') });
  const command = new Command();
  addArguments(command, argumentsOf({ ...findThing('create_thing'), input }));
  assert.match(command.helpInformation(), /^ +--no-loud +it whispers$/m);
});

const findThing = (name: string) => thingOperations.find((one) => one.name === name) ?? assert.fail(name);

const usageFaults: [string[], RegExp][] = [
  [[], /ohp takes one of: list, get, create/],
  [['list'], /ohp list takes one of: things/],
  [['frobnicate'], /unknown command 'frobnicate'\nohp takes one of: list, get/],
  [['list', 'stars'], /unknown command 'stars'[^]*ohp list takes one of: things/],
  [
    ['list', 'things', '--bogus'],
    /unknown option '--bogus'\nvalid options: --limit, --cursor, --on, --no-on, --labels, --url, --ca-file, --json/,
  ],
  [
    ['get', 'thing', '--name', 'a'],
    /unknown option '--name'\nvalid options: .*\nusage: ohp get thing \[options\] <name>/,
  ],
  [['get', 'thing'], /missing required argument 'name'\nusage: ohp get thing/],
  [['get', 'thing', 'a', 'b'], /too many arguments/],
  [['keep', 'secret'], /required option '--secret <@file>'/],
  [['list', 'things', '--limit'], /argument missing/],
];
for (const [args, message] of usageFaults)
  test(`what is typed wrong is answered with what is right: ohp ${args.join(' ')}`, async () => {
    const { code, stderr, stdout } = await ohp(args);
    assert.equal(code, errorSurface.INVALID_INPUT.exit);
    assert.match(stderr, message);
    assert.equal(stdout, '');
  });

test('a list is a table that begins with what its rows are called by', async () => {
  await using world = await startWorld();
  world.things.all.set('lamp', { ...lamp });
  world.things.all.set('desk', { ...lamp, name: 'desk', size: 20, settings: { depth: 2 } });
  const { stdout, stderr } = await ohp(['list', 'things'], asAdmin(world));
  assert.deepEqual(stdout.split('\n'), [
    'NAME  SIZE  ON    LABELS  SETTINGS     VERSION',
    'lamp  3     true  a, b                 1',
    'desk  20    true  a, b    {"depth":2}  1',
    '',
  ]);
  assert.equal(stderr, '');
});

test('a table fits the terminal and says what it left out', async () => {
  await using world = await startWorld();
  world.things.all.set('lamp', { ...lamp });
  const { stdout, stderr } = await ohp(['list', 'things'], { ...asAdmin(world), terminal: { columns: 16 } });
  assert.deepEqual(stdout.split('\n'), ['NAME  SIZE  ON', 'lamp  3     true', '']);
  assert.equal(stderr, 'not shown: labels, version (--json has everything)\n');
});

test('the column that does not fit is shown cut when enough of it can be read', async () => {
  await using world = await startWorld();
  world.things.all.set('lamp', { ...lamp, labels: ['a long label of a lamp', 'another'] });
  const { stdout, stderr } = await ohp(['list', 'things'], { ...asAdmin(world), terminal: { columns: 40 } });
  assert.deepEqual(stdout.split('\n'), [
    'NAME  SIZE  ON    LABELS',
    'lamp  3     true  a long label of a lam…',
    '',
  ]);
  assert.equal(stderr, 'not shown: version (--json has everything)\n');
});

test('a list within an answer is told item by item, whole, and cannot drive the terminal', () => {
  const steps = [
    { step: 'served', clients: ['claude', 'cursor'], found: `it is ${'long '.repeat(40)}` },
    { step: 'pkce', found: 'no \u001b[31mS256' },
  ];
  const { text } = renderOutput({ url: 'https://app.example.com', steps, none: [] }, undefined, 80);
  assert.deepEqual(text.split('\n'), [
    'url:   https://app.example.com',
    'steps:',
    '  - step:    served',
    '    clients: claude, cursor',
    `    found:   it is ${'long '.repeat(40).trim()}`,
    '  - step:  pkce',
    `    found: ${cleanText('no \u001b[31mS256')}`,
    'none:',
    '',
  ]);
});

test('an empty list and a further page are told beside the output', async () => {
  await using world = await startWorld();
  assert.deepEqual(await ohp(['list', 'things'], asAdmin(world)), {
    code: 0,
    stdout: '',
    stderr: 'no things\n',
  });
  for (const name of ['a', 'b']) world.things.all.set(name, { ...lamp, name });
  const { stderr } = await ohp(['list', 'things', '--limit', '1'], asAdmin(world));
  assert.equal(stderr, 'more: --cursor next\n');
});

test('one thing is a list of its properties', async () => {
  await using world = await startWorld();
  world.things.all.set('lamp', { ...lamp });
  const { stdout } = await ohp(['get', 'thing', 'lamp'], asAdmin(world));
  assert.match(
    stdout,
    /^name: {5}lamp\nsize: {5}3\non: {7}true\nlabels: {3}a, b\nsettings:\nversion: {2}1\n$/,
  );
});

test('what strangers wrote can not drive the terminal, as a table, as lines or as JSON', async () => {
  await using world = await startWorld();
  const name = 'x\u001b]0;owned\u0007\u009b31m\u202e\u2028y\u{e0041}';
  world.things.all.set(name, { ...lamp, name });
  for (const args of [
    ['list', 'things'],
    ['get', 'thing', name],
    ['list', 'things', '--json'],
    ['get', 'thing', `${name}?`],
  ]) {
    const { stdout, stderr } = await ohp(args, asAdmin(world));
    assert.doesNotMatch((stdout + stderr).replaceAll('\n', ''), /[\p{Cc}\p{Cf}\u2028]/u, args.join(' '));
  }
  const { stdout } = await ohp(['list', 'things', '--json'], asAdmin(world));
  assert.equal(JSON.parse(stdout).things[0].name, name);
});

test('what destroys is asked about; only yes goes on', async () => {
  await using world = await startWorld();
  const remove = async (stdin: string) => {
    world.things.all.set('lamp', { ...lamp });
    return ohp(['delete', 'thing', 'lamp'], { ...asAdmin(world), terminal: { columns: 80 }, stdin });
  };
  for (const no of ['\n', 'n\n', 'yesterday\n']) {
    const { code, stderr } = await remove(no);
    assert.equal(code, errorSurface.CONFIRMATION_REQUIRED.exit);
    assert.match(stderr, /^This deletes lamp\.\nGo on\? \[y\/N\] /);
    assert.equal(world.things.all.size, 1);
  }
  assert.equal((await remove('y\n')).code, 0);
  assert.equal(world.things.all.size, 0);
});

test('where nobody can be asked, what destroys needs --yes', async () => {
  await using world = await startWorld();
  world.things.all.set('lamp', { ...lamp });
  const { code, stderr } = await ohp(['delete', 'thing', 'lamp'], { ...asAdmin(world), stdin: 'y\n' });
  assert.equal(code, errorSurface.CONFIRMATION_REQUIRED.exit);
  assert.match(stderr, /repeat with --yes/);
  assert.equal(world.things.all.size, 1);
});

test('what an operation asks about only with some arguments needs --yes with those only', async () => {
  const operations = thingOperations.map((operation) =>
    operation.name === 'update_thing'
      ? { ...operation, confirm: ({ on }: { on?: boolean }) => (on === false ? 'Off?' : undefined) }
      : operation,
  );
  await using world = await startWorld(operations);
  world.things.all.set('lamp', { ...lamp });
  const update = (...args: string[]) =>
    ohp(['update', 'thing', 'lamp', ...args], { ...asAdmin(world), operations });
  assert.equal((await update('--size', '5')).code, 0);
  assert.equal((await update('--no-on')).code, errorSurface.CONFIRMATION_REQUIRED.exit);
  assert.equal((await update('--no-on', '--yes')).code, 0);
});

test('where a setting of the server decides who is asked, having typed the command is the yes', async () => {
  const operations = thingOperations.map((operation) =>
    operation.name === 'delete_thing' ? { ...operation, confirmIf: () => true } : operation,
  );
  await using world = await startWorld(operations);
  world.things.all.set('lamp', { ...lamp });
  assert.equal((await ohp(['delete', 'thing', 'lamp'], { ...asAdmin(world), operations })).code, 0);
});

test('a secret comes from a file or standard input, never from the command line', async (t) => {
  await using world = await startWorld();
  const cwd = folder(t);
  writeFileSync(join(cwd, 'key.pem'), 'twelve bytes');
  const run = (value: string) =>
    ohp(['keep', 'secret', '--secret', value, '--json'], { ...asAdmin(world), cwd, stdin: 'seven77' });
  assert.equal((await run('@key.pem')).stdout, '{\n  "length": 12\n}\n');
  assert.equal((await run('@-')).stdout, '{\n  "length": 7\n}\n');
  assert.match((await run('literal')).stderr, /^INVALID_INPUT: --secret: other users .* can see/);
  assert.match((await run('@missing.pem')).stderr, /^INVALID_INPUT: --secret: ENOENT/);
  assert.ok(!JSON.stringify(world.log).includes('twelve bytes'));
});

test('@@ is an @ and values may be given twice only where a list is wanted', async () => {
  await using world = await startWorld();
  assert.match((await ohp(['get', 'thing', '@@home'], asAdmin(world))).stderr, /there is no thing @home/);
  const { stderr } = await ohp(['list', 'things', '--limit', '1', '--limit', '2'], asAdmin(world));
  assert.match(stderr, /^INVALID_INPUT: --limit: given 2 times/);
});

test('login checks the token, keeps it in a private file, and later commands use it', async (t) => {
  await using world = await startWorld();
  const home = folder(t);
  const setting = { home, env: {} };
  const login = await ohp(['login', world.url], { ...setting, stdin: `${tokens.admin}\n` });
  assert.deepEqual([login.code, login.stdout], [0, '']);
  const path = join(home, '.config/ohp/credentials.json');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(join(home, '.config/ohp')).mode & 0o777, 0o700);
  assert.ok(!login.stderr.includes(tokens.admin));

  assert.equal((await ohp(['list', 'things'], setting)).code, 0);
  assert.equal((await ohp(['logout', world.url], setting)).code, 0);
  assert.ok(!readFileSync(path, 'utf8').includes(tokens.admin));
  assert.equal(
    (await ohp(['list', 'things', '--url', world.url], setting)).code,
    errorSurface.UNAUTHENTICATED.exit,
  );
});

test('login on a terminal shows nothing of the token', async (t) => {
  await using world = await startWorld();
  const { code, stdout, stderr } = await ohp(['login', world.url], {
    home: folder(t),
    terminal: { columns: 80 },
    stdin: `wrong\u007f\u007f\u007f\u007f\u007f${tokens.viewer}\r`,
  });
  assert.equal(code, 0, stderr);
  assert.ok(!(stdout + stderr).includes('ohp_'));
});

test('login refuses a token that the server refuses, or that is none, and keeps nothing', async (t) => {
  await using world = await startWorld();
  const home = folder(t);
  const login = (stdin: string) => ohp(['login', world.url], { home, stdin });
  assert.equal((await login('ohp_wrong')).code, errorSurface.UNAUTHENTICATED.exit);
  for (const text of ['', 'two\nlines', 'é'])
    assert.equal((await login(text)).code, errorSurface.INVALID_INPUT.exit);
  assert.throws(() => statSync(join(home, '.config')));
});

test('Ctrl-C at a question ends with 130', async (t) => {
  await using world = await startWorld();
  const { code } = await ohp(['login', world.url], {
    home: folder(t),
    terminal: { columns: 80 },
    stdin: '\u0003',
  });
  assert.equal(code, errorSurface.CANCELLED.exit);
});

test('Ctrl-C during a call ends it on both sides', async () => {
  await using world = await startWorld();
  const pressed = new AbortController();
  world.things.onWait = () => pressed.abort();
  const { code } = await ohp(['wait', 'long'], { ...asAdmin(world), signal: pressed.signal });
  assert.equal(code, errorSurface.CANCELLED.exit);
  while (!world.log.some(({ outcome }) => outcome === 'CANCELLED')) await new Promise(setImmediate);
});

test('credentials that others can read are refused', async (t) => {
  await using world = await startWorld();
  const home = folder(t);
  await ohp(['login', world.url], { home, stdin: tokens.admin });
  const path = join(home, '.config/ohp/credentials.json');
  chmodSync(path, 0o640);
  const { code, stderr } = await ohp(['list', 'things'], { home });
  assert.equal(code, errorSurface.PRECONDITION_FAILED.exit);
  assert.match(stderr, /others can read it/);
  chmodSync(path, 0o600);
  writeFileSync(path, '{"tokens":[]}');
  assert.match((await ohp(['list', 'things'], { home })).stderr, /is not what ohp login writes/);
});

test('XDG_CONFIG_HOME says where credentials are kept', async (t) => {
  await using world = await startWorld();
  const config = folder(t);
  await ohp(['login', world.url], { env: { XDG_CONFIG_HOME: config }, stdin: tokens.admin });
  assert.equal(statSync(join(config, 'ohp/credentials.json')).mode & 0o777, 0o600);
});

test('incident 13: a kept token goes to no other server than the one it was given for', async (t) => {
  await using world = await startWorld();
  const home = folder(t);
  await ohp(['login', world.url], { home, stdin: tokens.admin });
  const seen: (string | undefined)[] = [];
  const other = await listen(t, (request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(302, { location: world.url }).end();
  });
  const { code, stderr } = await ohp(['list', 'things', '--url', other], { home });
  assert.equal(code, errorSurface.UPSTREAM_FAILED.exit);
  assert.match(stderr, /redirects to http:/);
  assert.deepEqual(seen, [undefined]);
});

test('a token is never sent in clear beyond this machine', async () => {
  for (const url of ['http://example.com', 'http://10.0.0.1:8080', 'http://127.0.0.1.example.com']) {
    const { code, stderr } = await ohp(['list', 'things', '--url', url], { env: { OHP_TOKEN: 'ohp_x' } });
    assert.equal(code, errorSurface.INVALID_INPUT.exit);
    assert.match(stderr, /would travel in clear/);
  }
  for (const url of ['ftp://localhost', 'localhost', 'https://u:p@localhost', 'https://localhost/path'])
    assert.match((await ohp(['list', 'things', '--url', url])).stderr, /^INVALID_INPUT: url: has to be/);
});

test('a server that is away or is something else is told apart', async (t) => {
  const away = await ohp(['list', 'things', '--url', 'http://127.0.0.1:1'], { env: { OHP_TOKEN: 'x' } });
  assert.equal(away.code, errorSurface.UNAVAILABLE.exit);
  assert.match(away.stderr, /nothing listens at http:\/\/127\.0\.0\.1:1; is the server running/);
  const other = await listen(t, (_request, response) => response.writeHead(502).end('<html>'));
  const odd = await ohp(['list', 'things', '--url', other], { env: { OHP_TOKEN: 'x' } });
  assert.equal(odd.code, errorSurface.UPSTREAM_FAILED.exit);
});

test('a code that every object has is no error code of ours: a refused call never looks like a good one', async (t) => {
  for (const code of ['constructor', 'toString', '__proto__', 'hasOwnProperty', 'OK', '']) {
    const error = { code, message: 'refused' };
    const url = await listen(t, (_request, response) =>
      response.writeHead(403).end(JSON.stringify({ error })),
    );
    const { code: exit, stderr } = await ohp(['list', 'things', '--url', url], { env: { OHP_TOKEN: 'x' } });
    assert.equal(exit, errorSurface.UPSTREAM_FAILED.exit, code);
    assert.match(stderr, /^UPSTREAM_FAILED: /);
  }
});

test('nothing that a server answers reaches the terminal as a control, neither values nor names', async (t) => {
  const answer = { things: [], 'na\u001b[2Jme\u202e': 'va\u001b[2Jlue', '\ufe0fx': 1 };
  const url = await listen(t, (_request, response) => response.end(JSON.stringify(answer)));
  for (const more of [[], ['--json']]) {
    const { stdout, stderr } = await ohp(['list', 'things', '--url', url, ...more], {
      env: { OHP_TOKEN: 'x' },
    });
    assert.match(`${stdout}${stderr}`, /lue/);
    assert.doesNotMatch(`${stdout}${stderr}`, /\p{Cc}(?<!\n)|\u202e|\ufe0f/u);
  }
});

/** A server with a certificate of its own, `cert.pem` in its folder, that answers every call. */
async function startTls(t: TestContext): Promise<{ url: string; folder: string; cert: Buffer }> {
  const cwd = folder(t);
  const make =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem';
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync('openssl', [...make.split(' '), ...name], { cwd, stdio: 'ignore' });
  const [key, cert] = [readFileSync(join(cwd, 'key.pem')), readFileSync(join(cwd, 'cert.pem'))];
  const server = createTlsServer({ key, cert }, (_request, response) => response.end('{"things":[]}'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, folder: cwd, cert };
}

test('a server of this machine is trusted by the CA in its data directory, others by a CA that is named', async (t) => {
  const { url, folder: cwd, cert } = await startTls(t);
  mkdirSync(join(cwd, 'data'));
  const env = { OHP_TOKEN: 'x', OHP_URL: url };

  const refused = await ohp(['list', 'things'], { cwd, env });
  assert.equal(refused.code, errorSurface.UNAVAILABLE.exit);
  assert.match(refused.stderr, /is not trusted .*--ca-file/);
  assert.equal((await ohp(['list', 'things', '--ca-file', 'cert.pem'], { cwd, env })).code, 0);
  assert.equal((await ohp(['list', 'things'], { cwd, env: { ...env, OHP_CA_FILE: 'cert.pem' } })).code, 0);
  writeFileSync(join(cwd, 'data/ca.pem'), cert);
  assert.equal((await ohp(['list', 'things'], { cwd, env })).code, 0);
  assert.equal((await ohp(['list', 'things', '--ca-file', 'nowhere.pem'], { cwd, env })).code, 2);
});

test('the CA that login was given is trusted by later commands, for that server only', async (t) => {
  const home = folder(t);
  const [first, second] = [await startTls(t), await startTls(t)];
  const login = (url: string, ...more: string[]) =>
    ohp(['login', url, ...more], { home, cwd: first.folder, stdin: tokens.admin });
  assert.equal((await login(first.url, '--ca-file', 'cert.pem')).code, 0);
  for (const args of [[], ['--url', first.url]])
    assert.equal((await ohp(['list', 'things', ...args], { home })).code, 0);
  assert.match((await ohp(['list', 'things', '--url', second.url], { home })).stderr, /is not trusted/);
  assert.equal((await ohp(['logout', first.url], { home })).code, 0);
  assert.match((await ohp(['list', 'things', '--url', first.url], { home })).stderr, /is not trusted/);
});

test('what an earlier version kept at login can be read', async (t) => {
  await using world = await startWorld();
  const home = folder(t);
  mkdirSync(join(home, '.config/ohp'), { recursive: true, mode: 0o700 });
  const kept = { current: world.url, tokens: { [world.url]: tokens.admin } };
  writeFileSync(join(home, '.config/ohp/credentials.json'), JSON.stringify(kept), { mode: 0o600 });
  assert.equal((await ohp(['list', 'things'], { home })).code, 0);
});

test("the administrator's token is reset only after a yes; the secret is in the output and what to do beside it", async () => {
  let resets = 0;
  const resetAdminToken = async () => ({ id: 'tok_new', secret: 'ohp_new', revoked: [`tok_${++resets}`] });
  const run = (args: string[], setting: CliSetting = {}) =>
    ohp(['reset', 'admin-token', ...args], { resetAdminToken, ...setting });
  const terminal = { columns: 80 };
  assert.equal((await run([], { terminal, stdin: 'n\n' })).code, errorSurface.CONFIRMATION_REQUIRED.exit);
  assert.match((await run([])).stderr, /ends the administrator's token .*\n.*repeat with --yes/);
  assert.equal(resets, 0);
  const asked = await run([], { terminal, stdin: 'y\n' });
  assert.deepEqual([asked.code, asked.stdout], [0, 'id:      tok_new\nsecret:  ohp_new\nrevoked: tok_1\n']);
  assert.match(asked.stderr, /shown this once/);
  assert.deepEqual(JSON.parse((await run(['--yes', '--json'])).stdout).revoked, ['tok_2']);
  assert.match(
    (await run(['--yes'], { resetAdminToken: async () => ({ id: 'tok_new', revoked: [] }) })).stderr,
    /is the one in OHP_ADMIN_TOKEN/,
  );
  assert.match((await ohp(['--help'])).stdout, /^ {2}reset +admin-token$/m);
});

test('an unknown shell is answered with the known ones', async () => {
  assert.match((await ohp(['completion', 'csh'])).stderr, /has to be one of bash, zsh, fish/);
});

test('completion in bash offers verbs, then nouns, then options', () => {
  const complete = (...typed: string[]) =>
    execFileSync('bash', [
      '-c',
      `${completionScript('bash', thingOperations)}
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ohp; printf '%s\\n' "\${COMPREPLY[@]}"`,
      'bash',
      ...typed,
    ])
      .toString()
      .split('\n')
      .filter((word) => word !== '');
  assert.deepEqual(complete('ohp', 'l'), ['login', 'logout', 'list']);
  assert.deepEqual(complete('ohp', 'list', ''), ['things']);
  assert.deepEqual(complete('ohp', 'list', 'things', '--l'), ['--limit', '--labels']);
  assert.deepEqual(complete('ohp', 'delete', 'thing', 'x', '--y'), ['--yes']);
  assert.deepEqual(complete('ohp', 'completion', 'z'), ['zsh']);
});
