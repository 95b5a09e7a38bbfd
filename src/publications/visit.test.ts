/** Through a real gateway, over TLS, to a real target that says what it likes. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { proxyOf, startGateway, startUpstream } from '../../test/support/gateway.ts';
import { visit } from './visit.ts';

/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();

test('whatever the target says, the gateway knows who answered', async () => {
  const sly = { status: 401 };
  /** As an answer of the gateway, with the very trace id of the request. */
  await using upstream = await startUpstream((request, response) => {
    const id = String(request.headers.traceparent).split('-')[1];
    response.writeHead(sly.status, { 'x-trace-id': id, location: 'https://localhost/sign-in' }).end();
  });
  await using fixture = await startGateway({
    proxies: [
      proxyOf('app.example.com', upstream.url),
      proxyOf('www.example.com', upstream.url, { auth: { kind: 'token', permission: 'services:read' } }),
    ],
  });
  const at = { address: '127.0.0.1', port: fixture.httpsPort };
  const watch = (end: { address: string; port: number }) => fixture.gateway.watch(end);
  const visited = (hostname: string, path = '/') => visit(at, { hostname, path, watch }, signal);
  for (sly.status of [302, 303, 401, 403])
    assert.deepEqual(await visited('app.example.com'), { status: sly.status, by: 'target' });
  assert.equal((await visited('www.example.com')).by, 'protection');
  assert.equal(upstream.requests.length, 4);
  await upstream[Symbol.asyncDispose]().catch(() => {});
  assert.equal((await visited('app.example.com')).by, 'gateway', 'nobody answers there');
});
