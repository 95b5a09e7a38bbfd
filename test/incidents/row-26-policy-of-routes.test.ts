/** Whoever may write routes, and not proxies, opens nothing that a proxy asks a credential for, and sees no credential of a proxy. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callTool, configFile, generous, grant, send } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const CLOSED = 'closed.example.com';
const OPEN = 'open.example.com';
const SECRET = 'Basic dXBzdHJlYW06Y2FuYXJ5';
const policy = { kind: 'token', permission: 'commands:run' };

let product: Product;
let upstream: Upstream;
let routesOnly: string;
let operator: string;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  for (const [hostname, auth] of [
    [CLOSED, policy],
    [OPEN, { kind: 'none' }],
  ] as const) {
    const request_headers = {
      set: { Authorization: SECRET, 'X-Api-Version': 'canary-7' },
      remove: ['X-Debug'],
    };
    const response_headers = { set: { 'X-Frame-Options': 'DENY' } };
    const body = { hostname, target_url: upstream.url, auth, request_headers, response_headers };
    assert.equal((await product.api('POST', '/v1/proxies', body)).status, 201);
  }
  ({ secret: routesOnly } = await grant(product, { permissions: ['routes:write', 'proxies:read'] }));
  ({ secret: operator } = await grant(product, { bundle: 'operator' }));
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

const call = (token: string, method: string, path: string, body?: object) =>
  send(product, { method, path, token, ...(body && { body }) });
const create = (token: string, more: object) =>
  call(token, 'POST', '/v1/routes', { hostname: CLOSED, path: '/', target_url: upstream.url, ...more });
const statusOf = async (path = '/x') => (await product.get(CLOSED, path)).status;

test('incident 26: a route with another policy than its proxy takes the permission to change the proxy', async () => {
  const weaker = [
    { auth: { kind: 'none' } },
    { auth: { kind: 'token', permission: 'routes:write' } },
    { auth: { kind: 'none' }, path: '/deep/down', priority: 999 },
    { hostname: null, auth: { kind: 'none' } },
    { hostname: null, auth: policy },
  ];
  for (const more of weaker) {
    const refused = await create(routesOnly, more);
    assert.equal(refused.status, 403, JSON.stringify(more));
    assert.deepEqual(refused.json.error.details, { required: 'proxies:write' });
    assert.match(String(refused.headers['www-authenticate']), /insufficient_scope.*proxies:write/);
  }
  assert.equal(await statusOf(), 401);
  const route = { hostname: CLOSED, path: '/', target_url: upstream.url, auth: { kind: 'none' } };
  const tool = await callTool(product, routesOnly, { name: 'create_route', args: route });
  assert.match(tool.json.result.content[0].text, /^FORBIDDEN: .*proxies:write/);
  assert.equal(await statusOf(), 401);
});

test('incident 26: nor does a change of a route open what another may not', async () => {
  const made = await create(routesOnly, { path: '/mine' });
  assert.equal(made.status, 201);
  const path = `/v1/routes/${made.json.id}`;
  assert.equal((await call(routesOnly, 'PATCH', path, { auth: { kind: 'none' } })).status, 403);
  const off = await call(routesOnly, 'PATCH', path, { auth: { kind: 'none' }, enabled: false });
  assert.equal(off.status, 200);
  assert.equal((await call(routesOnly, 'PATCH', path, { enabled: true })).status, 403);
  assert.equal(await statusOf('/mine'), 401);
  // What an operator opened is not moved, widened or led elsewhere by whoever could not have opened it.
  const opened = await create(operator, { path: '/public', auth: { kind: 'none' } });
  assert.equal(opened.status, 201);
  const open = `/v1/routes/${opened.json.id}`;
  for (const change of [
    { path: '/' },
    { target_url: 'http://127.0.0.1:9' },
    { priority: 999 },
    { strip_prefix: true },
  ])
    assert.equal((await call(routesOnly, 'PATCH', open, change)).status, 403, JSON.stringify(change));
  assert.equal(await statusOf('/public/x'), 200);
  assert.equal((await call(routesOnly, 'PATCH', open, { auth: null })).status, 200, 'but it may be closed');
  assert.equal(await statusOf('/public/x'), 401);
});

test('incident 26: what a route may say without it: the same policy, none of its own, and any where the proxy has none', async () => {
  for (const more of [
    { path: '/same', auth: policy },
    { path: '/inherited' },
    { hostname: OPEN, path: '/stricter', auth: policy },
    { hostname: null, path: '/everywhere' },
  ]) {
    const made = await create(routesOnly, more);
    assert.equal(made.status, 201, made.text);
    await call(routesOnly, 'DELETE', `/v1/routes/${made.json.id}`);
  }
});

test('incident 13: values of request header rules are told to those only who may set them, on every surface', async () => {
  const { secret: viewer } = await grant(product, { bundle: 'viewer' });
  const shown = (token: string) =>
    Promise.all([
      call(token, 'GET', `/v1/proxies/${OPEN}`),
      callTool(product, token, { name: 'get_proxy', args: { hostname: OPEN } }),
      callTool(product, token, { name: 'get_proxy', args: { hostname: OPEN }, era: 'modern' }),
      callTool(product, token, {
        name: 'call_operation',
        args: { name: 'get_proxy', arguments: { hostname: OPEN } },
      }),
    ]);
  for (const token of [viewer, routesOnly]) {
    const replies = await shown(token);
    for (const { text } of replies) assert.doesNotMatch(text, /dXBzdHJlYW06|canary-7/);
    const { request_headers, response_headers } = replies[0].json;
    assert.deepEqual(request_headers, {
      remove: ['X-Debug'],
      set: { Authorization: '(hidden)', 'X-Api-Version': '(hidden)' },
    });
    assert.deepEqual(response_headers.set, { 'X-Frame-Options': 'DENY' });
  }
  for (const { text } of await shown(operator)) assert.match(text, /dXBzdHJlYW06/);
  await product.get(OPEN, '/x');
  assert.equal(upstream.requests.at(-1)?.headers.authorization, SECRET, 'it is sent as it is');
});
