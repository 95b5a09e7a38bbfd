/** The administrator's token is lost: what a person is told, and the way back in. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { send } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';

const cli = join(import.meta.dirname, '../../src/cli.ts');
const OTHER = 'another-administrators-token-0123456789';

/** `ohp`, as a person types it on the machine of the server. */
function ohp(
  args: string[],
  env: Record<string, string>,
  cwd = '/',
): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', cli, ...args],
      { env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env }, cwd },
      (error, out, err) => resolve({ code: Number(error?.code ?? 0), out, err }),
    );
  });
}

const reset = (env: Record<string, string>, cwd?: string) =>
  ohp(['reset', 'admin-token', '--yes', '--json'], env, cwd);

test('ohp reset admin-token gives a token that works after the next start; the lost one has ended, and the log tells', async () => {
  await using first = await startProduct();
  const env = { OHP_DATA_DIR: first.dataDir };
  const refused = await reset(env);
  assert.equal(refused.code, 5);
  assert.match(refused.err, new RegExp(`in use by the process with pid ${first.child.pid}; stop it first`));
  assert.equal((await send(first, { path: '/v1/proxies', token: first.adminToken })).status, 200);
  await first.stop();

  const { code, out, err } = await reset(env);
  assert.equal(code, 0, err);
  const { id, secret, revoked } = JSON.parse(out) as { id: string; secret: string; revoked: string[] };
  assert.match(secret, /^ohp_[0-9A-Za-z]{49}$/);

  await using second = await first.restart();
  const status = async (token: string) => (await send(second, { path: '/v1/proxies', token })).status;
  assert.deepEqual([await status(secret), await status(first.adminToken)], [200, 401]);
  const { json } = await send(second, {
    path: '/v1/logs?kind=audit&operation=reset_admin_token&verbose=true',
    token: secret,
  });
  assert.deepEqual(
    json.records.map((record: { outcome: string; detail: object }) => [record.outcome, record.detail]),
    [['OK', { made: id, revoked }]],
  );
  assert.doesNotMatch(JSON.stringify(json) + second.output(), new RegExp(secret));
});

test("OHP_ADMIN_TOKEN that is not the administrator's is called ignored at the start, and a reset makes it the one", async () => {
  await using first = await startProduct();
  assert.doesNotMatch(first.output(), /IGNORED/);
  await first.stop();
  const env = { OHP_ADMIN_TOKEN: OTHER };
  await using second = await startProduct({ dataDir: first.dataDir, env });
  assert.match(second.output(), /OHP_ADMIN_TOKEN is IGNORED[^]*ohp reset admin-token/);
  assert.equal((await send(second, { path: '/v1/proxies', token: OTHER })).status, 401);
  await second.stop();

  const made = await reset({ ...env, OHP_DATA_DIR: first.dataDir });
  assert.equal(made.code, 0, made.err);
  assert.ok(!('secret' in JSON.parse(made.out)));
  assert.ok(!(made.out + made.err).includes(OTHER));
  await using third = await second.restart();
  assert.doesNotMatch(third.output(), /IGNORED/);
  assert.equal((await send(third, { path: '/v1/proxies', token: OTHER })).status, 200);
});

test('where no server ever ran, or a setting is wrong, a reset makes nothing and says why', async (t) => {
  const cwd = mkdtempSync(join(tmpdir(), 'ohp-lost-'));
  t.after(() => rmSync(cwd, { recursive: true }));
  const nowhere = await reset({}, cwd);
  assert.equal(nowhere.code, 4);
  assert.match(
    nowhere.err,
    new RegExp(`^NOT_FOUND: ${cwd}/data: no server has kept anything there; .*OHP_DATA_DIR\\n$`),
  );
  const wrong = await reset({ OHP_LOG_LEVEL: 'loud' }, cwd);
  assert.equal(wrong.code, 2);
  assert.match(wrong.err, /log\.level \(environment variable OHP_LOG_LEVEL\): found "loud"/);
  assert.deepEqual(readdirSync(cwd), []);
});

test('a relative data folder is looked up in the directory of the command, as at the start', async () => {
  await using product = await startProduct();
  await product.stop();
  const { code, err } = await reset({ OHP_DATA_DIR: './' }, product.dataDir);
  assert.equal(code, 0, err);
  assert.equal(
    (await reset({ OHP_DATA_DIR: product.dataDir.split('/').at(-1) ?? '' }, dirname(product.dataDir))).code,
    0,
  );
});
