/**
 * A token is for one resource (better-auth GHSA-p2fr; MCP, Token Passthrough): what was granted for one hostname or
 * path opens no other, nor the control plane, and no upstream ever sees it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessTo } from '../support/agent.ts';
import { configFile, generous, send } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const A = 'a.example.com';
const B = 'b.example.com';
const OPEN = 'open.example.com';

let product: Product;
let upstream: Upstream;
const tokens: Record<string, string> = {};
const urlOf = (hostname: string, path = '') => `https://${hostname}:${product.httpsPort}${path}`;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  for (const hostname of [A, B, OPEN])
    await product.api('POST', '/v1/proxies', { hostname, target_url: upstream.url });
  for (const hostname of [A, B]) {
    const body = { allow: { everyone: true }, mode: 'bearer' };
    assert.equal((await product.api('PUT', `/v1/proxies/${hostname}/protection`, body)).status, 200);
  }
  for (const [name, resource] of Object.entries({
    whole: urlOf(A),
    slash: urlOf(A, '/'),
    api: urlOf(A, '/api'),
  }))
    tokens[name] = (await accessTo(product, resource)).token;
  tokens['control'] = (await accessTo(product, urlOf('localhost', '/mcp'), { scope: 'admin' })).token;
  tokens['mcpOfA'] = (await accessTo(product, urlOf(A, '/mcp'), { scope: 'viewer' })).token;
});
after(async () => {
  for (const one of [product, upstream]) await one?.[Symbol.asyncDispose]();
});

const statusOf = async (token: string | undefined, hostname: string, path: string) =>
  (await product.get(hostname, path, { headers: { authorization: `Bearer ${token ?? ''}` } })).status;

const ping = { jsonrpc: '2.0', id: 1, method: 'ping' };
const mcpStatusOf = async (token: string | undefined, hostname: string) =>
  (
    await product.get(hostname, '/mcp', {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token ?? ''}`,
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
      },
      body: JSON.stringify(ping),
    })
  ).status;

test('incident 10: a token opens the resource that it is for, with and without a slash, and what is below it', async () => {
  for (const name of ['whole', 'slash'])
    for (const path of ['/', '/api', '/api/x', '/other'])
      assert.equal(await statusOf(tokens[name], A, path), 200, `${name} ${path}`);
  for (const path of ['/api', '/api/', '/api/x', '/api?x=1'])
    assert.equal(await statusOf(tokens['api'], A, path), 200, path);
});

test('incident 10: it opens nothing beside it', async () => {
  for (const path of ['/', '/apix', '/ap', '/API', '/api;x', '/api%2e', '/x/api'])
    assert.equal(await statusOf(tokens['api'], A, path), 401, path);
  for (const name of ['whole', 'slash', 'api', 'control', 'mcpOfA'])
    for (const path of ['/', '/api', '/mcpx'])
      assert.equal(await statusOf(tokens[name], B, path), 401, `${name} at ${B}${path}`);
  for (const name of ['control', 'mcpOfA']) assert.equal(await statusOf(tokens[name], A, '/'), 401, name);
});

test('incident 10: what is for a site opens neither MCP nor REST, on any hostname', async () => {
  for (const name of ['whole', 'slash', 'api']) {
    for (const hostname of [A, B, OPEN, 'localhost'])
      assert.equal(await mcpStatusOf(tokens[name], hostname), 401, `${name} at ${hostname}/mcp`);
    for (const path of ['/v1/me', '/v1/proxies', '/v1/echo'])
      assert.equal((await send(product, { path, token: tokens[name] })).status, 401, `${name} ${path}`);
  }
  assert.notEqual(await mcpStatusOf(tokens['control'], 'localhost'), 401, 'what is for it does');
  assert.equal(await mcpStatusOf(tokens['mcpOfA'], B), 401);
});

test('incident 10: no upstream sees a token of ours, wherever it was sent and however it is written', async () => {
  const seen = upstream.requests.length;
  const own = tokens['whole'] ?? '';
  for (const hostname of [A, OPEN])
    for (const authorization of [`Bearer ${own}`, `bearer ${own}`, `Bearer  ${own}`, `DPoP ${own}`])
      await product.get(hostname, '/', { headers: { authorization, dpop: 'proof' } });
  await product.get(A, '/', { headers: { authorization: `Bearer ${own}`, cookie: 'x=1' } });
  for (const { rawHeaders } of upstream.requests.slice(seen))
    assert.ok(!rawHeaders.some((text) => text.includes(own)), 'the token reached an upstream');
});

test('incident 10: a token in the query is none', async () => {
  assert.equal((await product.get(A, `/?access_token=${tokens['whole'] ?? ''}`)).status, 401);
});

test('incident 10: no token is issued for what is not protected here', async () => {
  for (const resource of [
    urlOf(OPEN, '/api'),
    'https://elsewhere.example/',
    urlOf('unknown.example.com'),
    `${urlOf(A)}?x=1`,
  ])
    await assert.rejects(accessTo(product, resource), { error: 'invalid_target' }, resource);
});
