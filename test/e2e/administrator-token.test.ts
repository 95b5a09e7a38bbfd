/** OHP_ADMIN_TOKEN: what is accepted works, at the first start and on every surface; what could not work is refused. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { callTool } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const chosen = [
  'correct-horse-battery-staple!$@2026-xyz',
  'four random words, "quoted" {and} (then) some=',
  '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~0123456789',
];
for (const token of chosen)
  test(`an administrator's token of any printable characters opens REST, MCP and a guarded hostname: ${token}`, async () => {
    await using upstream = await startUpstream();
    await using product = await startProduct({ env: { OHP_ADMIN_TOKEN: token } });
    const auth = { kind: 'token', permission: 'proxies:read' };
    const created = await product.api('POST', '/v1/proxies', {
      hostname: 'guarded.example.com',
      target_url: upstream.url,
      auth,
    });
    assert.equal(created.status, 201, JSON.stringify(created.body));
    const { json } = await callTool(product, token, { name: 'echo', args: { message: 'here' } });
    assert.equal(json.result.structuredContent.message, 'here');
    const headers = { authorization: `Bearer ${token}` };
    assert.equal((await product.get('guarded.example.com', '/', { headers })).status, 200);
    assert.equal(upstream.requests[0]?.headers.authorization, undefined);
    assert.ok(!product.output().includes(token));
  });

test('one that HTTP can not carry, or is no whole token, stops the start with its key, and is not shown', async () => {
  for (const [token, reason] of [
    [`pass-phrase with an \u00fc ${'x'.repeat(32)}`, /printable ASCII/],
    [` pass-phrase ${'x'.repeat(32)}`, /spaces at its ends/],
    ['pass-phrase', /32/],
    [`ohp_pass-phrase${'x'.repeat(32)}`, /mistyped or cut/],
  ] as const)
    await assert.rejects(startProduct({ env: { OHP_ADMIN_TOKEN: token } }), ({ message }: Error) => {
      assert.match(message, /ended with 2:[^]*admin_token \(environment variable OHP_ADMIN_TOKEN\)/);
      assert.match(message, reason);
      return !message.includes('pass-phrase') && !message.includes('    at ');
    });
});
