/** The setting `mcp.access`: nothing runs for who sends no credential, unless it is `public`; then echo and health_check. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { callTool, configFile, send } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';

const asNobody = async (product: Product) => ({
  health: (await send(product, { path: '/v1/health' })).status,
  echo: (await send(product, { path: '/v1/echo?message=x' })).status,
  mcp: (await callTool(product, undefined, { name: 'echo', args: { message: 'x' } })).status,
  proxies: (await send(product, { path: '/v1/proxies' })).status,
  alive: (await send(product, { path: '/healthz' })).status,
  ready: (await send(product, { path: '/readyz' })).status,
});
const gateOf = async (product: Product, path: string) =>
  (await product.api('GET', '/v1/endpoints?limit=200')).body.endpoints.find(
    (one: { path: string }) => one.path === path,
  ).gate;

test('by default every surface asks for a credential; only the probes of life do not', async () => {
  await using product = await startProduct();
  const expected = { health: 401, echo: 401, mcp: 401, proxies: 401, alive: 200, ready: 200 };
  assert.deepEqual(await asNobody(product), expected);
  assert.equal(await gateOf(product, '/v1/health'), 'authenticated');
});

test('mcp.access: public opens echo and health_check on every surface, and nothing else', async () => {
  await using product = await startProduct({
    env: { OHP_CONFIG: configFile({ mcp: { access: 'public' } }) },
  });
  const expected = { health: 200, echo: 200, mcp: 200, proxies: 401, alive: 200, ready: 200 };
  assert.deepEqual(await asNobody(product), expected);
  assert.equal(await gateOf(product, '/v1/health'), 'public');
});
