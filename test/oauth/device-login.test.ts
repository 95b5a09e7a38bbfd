/** `ohp login --device` as it is typed: the code is shown, a person enters it in a browser, and commands work. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { PATIENCE_MS } from '../support/eventually.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';

const program = join(import.meta.dirname, '../../src/cli.ts');

test('a person signs the command line in without giving it a token; it renews its token, and signs out', async (t) => {
  await using product = await startOnFixedPorts();
  const home = mkdtempSync(join(tmpdir(), 'ohp-home-'));
  t.after(() => rmSync(home, { recursive: true }));
  const person = new Person(product);
  const run = (...args: string[]): ChildProcess =>
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, ...args], {
      cwd: home,
      timeout: PATIENCE_MS,
      env: {
        PATH: process.env['PATH'],
        NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
        HOME: home,
        OHP_DATA_DIR: product.dataDir,
      },
    });
  const done = async (child: ChildProcess) => {
    const [out, err, [code]] = await Promise.all([
      text(child.stdout ?? assert.fail()),
      text(child.stderr ?? assert.fail()),
      once(child, 'exit') as Promise<[number]>,
    ]);
    return { out, err, code };
  };

  const login = run('login', person.issuer, '--device', '--scope', 'operator');
  let said = '';
  login.stderr?.setEncoding('utf8').on('data', (chunk: string) => void (said += chunk));
  while (!/enter the code \S+\n/.test(said)) await once(login.stderr ?? assert.fail(), 'data');
  const [, url = '', code = ''] = /Open (\S+)\nand enter the code (\S+)\n/.exec(said) ?? [];
  const typed = await person.visitor.submit(await person.visitor.open(url), { user_code: code });
  const agreed = await person.agree(await person.visitor.submit(typed, {}));
  assert.match(agreed.body, /Connected/);
  assert.equal((await once(login, 'exit'))[0], 0, said);
  assert.match(said, /signed in to/);

  const file = join(home, '.config/ohp/credentials.json');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const kept = () => JSON.parse(readFileSync(file, 'utf8'));
  const { tokens, sessions } = kept();
  assert.doesNotMatch(said, new RegExp(tokens[person.issuer]));
  const me = await done(run('whoami', '--json'));
  assert.equal(me.code, 0, me.err);
  assert.deepEqual(JSON.parse(me.out).scopes, ['operator']);
  assert.equal(JSON.parse(me.out).kind, 'user');

  sessions[person.issuer].expires_at = 0;
  writeFileSync(file, JSON.stringify({ ...kept(), sessions }));
  assert.equal((await done(run('list', 'proxies'))).code, 0);
  assert.notEqual(kept().tokens[person.issuer], tokens[person.issuer], 'it was renewed');
  assert.notEqual(kept().sessions[person.issuer].refresh_token, sessions[person.issuer].refresh_token);
  assert.equal(statSync(file).mode & 0o777, 0o600);

  const last = kept().tokens[person.issuer];
  const logout = await done(run('logout'));
  assert.equal(logout.code, 0, logout.err);
  assert.deepEqual(kept().sessions, {});
  const headers = { authorization: `Bearer ${last}` };
  const after = await person.visitor.request(new URL('/v1/me', person.issuer), { headers });
  assert.equal(after.status, 401, 'the sign-in has ended on the server');
});
