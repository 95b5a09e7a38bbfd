import assert from 'node:assert/strict';
import test from 'node:test';
import { type Proxy, proxySchema } from '../proxies/schema.ts';
import { answersMcp, isLoopbackAddress, ownKindOf } from './own.ts';

const app: Proxy = proxySchema.parse({
  id: 'prx_1',
  hostname: 'app.example.com',
  target_url: 'http://localhost:3000',
  owner: 'tok_1',
  version: 1,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
});

test('a path is this system’s own only in its very form', () => {
  for (const path of ['/mcp', '/mcp/']) assert.equal(ownKindOf(path), 'mcp');
  for (const end of ['', '/mcp', '/mcp/'])
    assert.equal(ownKindOf(`/.well-known/oauth-protected-resource${end}`), 'metadata');
  for (const end of ['', 'token', 'a/b'])
    assert.equal(ownKindOf(`/.well-known/acme-challenge/${end}`), 'acme');
  for (const path of [
    '/',
    '/mcp/x',
    '/mcpx',
    '/MCP',
    '/x/mcp',
    '/.well-known/',
    '/.well-known/acme-challenge',
    '/.well-known/oauth-protected-resource/',
    '/.well-known/oauth-protected-resource/api',
    '/.well-known/openid-configuration',
  ])
    assert.equal(ownKindOf(path), undefined, path);
});

test('/mcp of a hostname is this system’s own unless the proxy or the setting says otherwise', () => {
  assert.equal(answersMcp(app, app.hostname, []), true);
  assert.equal(answersMcp({ ...app, serve_mcp: false }, app.hostname, []), false);
  assert.equal(answersMcp({ ...app, serve_mcp: false }, app.hostname, ['app.example.com']), false);
  assert.equal(answersMcp(app, app.hostname, ['example.org']), false);
  assert.equal(answersMcp(app, app.hostname, ['example.org', '*.example.com']), true);
  assert.equal(answersMcp(app, 'a.b.example.com', ['*.example.com']), false);
  assert.equal(answersMcp(app, 'example.com', ['*.example.com']), false);
});

test('a name that begins like a loopback address is a name', () => {
  for (const name of [
    '127.0.0.1.example.com',
    '127.example.com',
    '127.0.0.1x',
    '::1.example.com',
    '10.127.0.0',
  ])
    assert.ok(!isLoopbackAddress(name), name);
  for (const address of ['127.0.0.1', '127.255.255.254', '::1'])
    assert.ok(isLoopbackAddress(address), address);
});
