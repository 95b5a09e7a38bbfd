/** docs/guides/find-out-why.md: its commands, run on a product where something went wrong, find out why. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { callTool } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';

const guide = new Guide('find-out-why');
const HOST = 'app.example.com';

describe('where somebody was refused and a target is away', () => {
  let product: Product;
  let trace: string;
  let awayTrace: string;
  let strangerId: string;

  before(async () => {
    product = await startProduct();
    await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: 'http://127.0.0.1:9' });
    const away = await product.get(HOST, '/away');
    assert.equal(away.status, 502);
    awayTrace = String(away.headers['x-trace-id']);
    const auth = { kind: 'token', permission: 'proxies:write' };
    await product.api('PATCH', `/v1/proxies/${HOST}`, { auth });
    const { body } = await product.api('POST', '/v1/tokens', {
      name: 'reader',
      permissions: ['proxies:read'],
    });
    strangerId = body.id;
    const headers = { authorization: `Bearer ${body.secret}` };
    const refused = await product.get(HOST, '/page', { headers });
    assert.equal(refused.status, 403);
    trace = String(refused.headers['x-trace-id']);
  });
  after(() => product[Symbol.asyncDispose]());

  const run = async (holds: string) => {
    const ran = await runShell(guide.block('bash', holds), {
      env: { ...asAdministrator(product), TRACE: trace },
    });
    assert.equal(ran.code, 0, ran.err);
    return ran.out;
  };

  test('one request is told with its verdict and the change before it', async () => {
    const out = await run('npx ohp explain request');
    assert.match(
      out,
      /Refused by this system with 403 \(FORBIDDEN\): This credential does not open this hostname/,
    );
    assert.match(out, /operation update_proxy for app\.example\.com by .*: OK/);
    assert.match(out, new RegExp(`known as ${strangerId}`));
  });

  interface Story {
    verdict: string;
    steps: { text: string; id: string }[];
    changes_before: { text: string }[];
  }
  const storyOf = (id: string) =>
    eventually(async () => {
      const { status, body } = await product.api('GET', `/v1/request-explanation?trace_id=${id}`);
      return status === 200 && body.request ? (body as Story) : undefined;
    }, `the story of ${id}`);
  const told = ({ steps }: Story): string[] => steps.map(({ text }) => text.replace(/ .*/, ''));

  test('a request is told in its order: gateway, caller, call, target; what was changed stands before', async () => {
    const proxied = await storyOf(awayTrace);
    assert.match(
      proxied.verdict,
      /^This system gave up on the target http:\/\/127\.0\.0\.1:9\/? and answered 502/,
    );
    assert.deepEqual(told(proxied), ['arrived', 'matched', 'came', 'went', 'answered']);
    const refused = await storyOf(trace);
    assert.deepEqual(told(refused), ['arrived', 'matched', 'known', 'answered']);
    const changed = refused.changes_before.map(({ text }) => text.split(' ')[1]);
    assert.deepEqual(changed, ['create_token', 'update_proxy', 'create_proxy']);
    const args = { name: 'get_proxy', args: { hostname: HOST } };
    const call = await callTool(product, product.adminToken, args);
    const mcp = await storyOf(String(call.headers['x-trace-id']));
    assert.deepEqual(told(mcp), ['arrived', 'no', 'known', 'asked', 'operation', 'answered']);
    for (const { steps } of [proxied, refused, mcp])
      assert.ok(steps.every(({ id }) => /^\d{8}\.\d+$/.test(id)));
  });

  test('a refusal is told with its reason', async () => {
    const out = await run('npx ohp why denied');
    assert.match(out, /This credential does not open this hostname/);
    assert.match(out, new RegExp(strangerId));
  });

  test('what was changed is told, and by whom', async () => {
    const out = await run('npx ohp what changed');
    for (const operation of [
      'create_proxy for app.example.com',
      'update_proxy for app.example.com',
      'create_token',
    ])
      assert.match(out, new RegExp(`operation ${operation} by`));
  });

  test('requests are counted by host and over time', async () => {
    const out = await run('npx ohp get log-stats');
    assert.match(out, new RegExp(HOST.replaceAll('.', '\\.')));
    assert.match(out, /rollup/);
  });

  test('a text is found wherever it is, and told by kinds of lines', async () => {
    const out = await run('npx ohp search logs');
    assert.match(out, /GET \{host\}\/away 502 … /);
    assert.match(out, /ECONNREFUSED/);
  });

  test('requests are captured and shown, without the credential', async () => {
    const started = await run('npx ohp capture requests');
    const [id = ''] = /cap_[0-9a-f]{24}/.exec(started) ?? [];
    await product.get(HOST, '/again', { headers: { authorization: 'Bearer of-nobody' } });
    const shown = await eventually(async () => {
      const ran = await runShell(guide.block('bash', 'npx ohp get capture'), {
        env: { ...asAdministrator(product), CAPTURE: id },
      });
      assert.equal(ran.code, 0, ran.err);
      return ran.out.includes('/again') ? ran.out : undefined;
    }, 'the captured request');
    assert.match(shown, /authorization: \[redacted\]/);
    assert.doesNotMatch(shown, /of-nobody/);
  });

  test('the process tells of itself', async () => {
    assert.match(await run('npx ohp get diagnostics'), /event_loop/);
  });

  test('the filter finds what it says', async () => {
    const block = guide.block('bash', 'npx ohp get logs');
    const found = await runShell(block.replace('"timed out"', '/away'), { env: asAdministrator(product) });
    assert.equal(found.code, 0, found.err);
    assert.match(found.out, /\/away/);
    assert.doesNotMatch(found.out, /\/page/);
    const none = await runShell(block, { env: asAdministrator(product) });
    assert.equal(none.code, 0, none.err);
    assert.doesNotMatch(none.out, /\/away/);
  });

  test('each field of the table is one of the language', async () => {
    const fields = [...guide.text.matchAll(/^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|/gm)].flatMap(
      ([, names = '']) => names.match(/[a-z_]+/g) ?? [],
    );
    assert.ok(fields.length > 15);
    const { body } = await product.api('GET', `/v1/logs?filter=${encodeURIComponent('nofield:1')}`);
    const known = new Set(String(body.error?.message ?? body.message).match(/[a-z_]+/g));
    assert.deepEqual(
      fields.filter((field) => !known.has(field)),
      [],
    );
  });
});
