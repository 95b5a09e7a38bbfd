import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { expandPermissions, type Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { type ListenerOptions, openMetricsListener } from './listener.ts';

const holder = (granted: readonly Permission[], more: Partial<Principal> = {}): Principal => ({
  id: 'tok_test',
  name: 'test',
  kind: 'token',
  permissions: expandPermissions(granted),
  hostnames: undefined,
  expiresAt: undefined,
  ...more,
});
const principals: Record<string, Principal> = {
  good: holder(['metrics:read']),
  weak: holder(['system:write', 'logs:read']),
  confined: holder(['metrics:read'], { hostnames: ['*.example.com'] }),
  over: holder(['metrics:read'], { expiresAt: 0 }),
};

const open = (more: Partial<ListenerOptions> = {}) =>
  openMetricsListener({
    address: '127.0.0.1',
    port: 0,
    isOpen: true,
    hosts: ['proxy.example.com'],
    metrics: { text: async (format) => `as ${format}\n` },
    clock: new ManualClock(),
    authenticate: (credential) => principals[credential],
    ...more,
  });

interface Asked {
  path?: string;
  method?: string;
  headers?: Record<string, string>;
}

async function ask(port: number, { path = '/metrics', method = 'GET', headers = {} }: Asked = {}) {
  const sent = request({ host: '127.0.0.1', port, path, method, headers, agent: false });
  sent.end();
  const [response] = await once(sent, 'response');
  return { status: response.statusCode as number, headers: response.headers, body: await text(response) };
}

test('it answers GET /metrics in the format that is asked for, and nothing else', async () => {
  await using listener = await open();
  const { port } = listener.address;
  const plain = await ask(port);
  assert.deepEqual([plain.status, plain.body], [200, 'as text\n']);
  assert.equal(plain.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const other = await ask(port, { headers: { accept: 'application/openmetrics-text' } });
  assert.equal(other.body, 'as openmetrics\n');
  assert.equal((await ask(port, { path: '/metrics?x=1' })).status, 200);
  assert.deepEqual(
    [(await ask(port, { method: 'HEAD' })).status, (await ask(port, { method: 'HEAD' })).body],
    [200, ''],
  );
  for (const path of ['/', '/v1/proxies', '/mcp', '/metrics/', '/Metrics', '//metrics', '/%6detrics'])
    assert.equal((await ask(port, { path })).status, 404, path);
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])
    assert.equal((await ask(port, { method })).status, 405, method);
});

test('incident 03: where everybody may read, a page under a name of its own may not', async () => {
  await using listener = await open();
  const { port } = listener.address;
  const status = async (headers: Record<string, string>) => (await ask(port, { headers })).status;
  for (const host of [
    '127.0.0.1',
    `127.0.0.1:${port}`,
    'localhost:1',
    '[::1]:9464',
    'ohp:9464',
    'proxy.example.com',
  ])
    assert.equal(await status({ host }), 200, host);
  for (const host of [
    'evil.example.net',
    `evil.example.net:${port}`,
    'localhost.evil.example.net',
    '127.0.0.1.example.net',
    'proxy.example.com.evil.example.net',
    '127.0.0.1@evil.example.net',
  ])
    assert.equal(await status({ host }), 421, host);
  for (const origin of ['http://evil.example.net', 'null', `http://127.0.0.1:${port}`])
    assert.equal(await status({ host: '127.0.0.1', origin }), 421, origin);
});

test('where a token is asked for it has to be one with metrics:read that is confined to nothing', async () => {
  await using listener = await open({ isOpen: false });
  const { port } = listener.address;
  const status = async (authorization?: string) =>
    (
      await ask(port, {
        headers: { host: 'any.example.net', ...(authorization !== undefined && { authorization }) },
      })
    ).status;
  assert.equal(await status(), 401);
  assert.equal(await status('Bearer good'), 200);
  for (const refused of ['Bearer nobody', 'Basic good', 'good', 'Bearer', 'Bearer over'])
    assert.equal(await status(refused), 401, refused);
  for (const refused of ['Bearer weak', 'Bearer confined']) assert.equal(await status(refused), 403, refused);
  const { headers } = await ask(port, { headers: { authorization: 'Bearer weak' } });
  assert.equal(headers['www-authenticate'], 'Bearer error="insufficient_scope", scope="metrics:read"');
});

test('who may not read learns nothing of what there is: each path gives the same', async () => {
  await using listener = await open({ isOpen: false });
  for (const path of ['/metrics', '/nothing'])
    for (const method of ['GET', 'POST'])
      assert.equal((await ask(listener.address.port, { path, method })).status, 401, `${method} ${path}`);
});

test("what is no HTTP is refused, a text that can't be made ends the connection, and both leave it working", async () => {
  let isBroken = true;
  await using listener = await open({
    metrics: { text: () => (isBroken ? Promise.reject(new Error('no')) : Promise.resolve('fine\n')) },
  });
  const { port } = listener.address;
  const socket = connect(port, '127.0.0.1');
  socket.end('nonsense\r\n\r\n');
  assert.match(await text(socket), /^HTTP\/1\.1 400/);
  await assert.rejects(ask(port), /socket hang up|ECONNRESET/);
  isBroken = false;
  assert.equal((await ask(port)).body, 'fine\n');
});

test('with it, its connections end and its port is free', async () => {
  const listener = await open();
  const { port } = listener.address;
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const gone = once(socket, 'close');
  await listener[Symbol.asyncDispose]();
  await gone;
  await using again = await open({ port });
  assert.equal(again.address.port, port);
});
