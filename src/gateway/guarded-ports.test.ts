/** Guarded ports over real sockets: who gets through to what stands behind, and what is left when they close. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';
import { HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import {
  echo,
  type Fixture,
  principalOf,
  proxyOf,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { addressRanges, rangeFault } from './client-address.ts';
import type { GuardedPort } from './guarded-ports.ts';

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

/** Gives back what it got, when the other side has ended. */
async function startEcho(t: TestContext): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    text(socket).then(
      (said) => socket.end(`got ${said}`),
      () => socket.destroy(),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: portOf(server), sockets };
}

const open = (fixture: Fixture, port: Partial<GuardedPort> & { port: number; targetPort: number }) =>
  fixture.gateway.guardedPorts.open({
    id: 'svc_1',
    name: 'blog',
    ports: [{ address: '127.0.0.1', sources: undefined, permission: undefined, ...port }],
  });

/** What comes back for it, from the address. */
async function say(port: number, words: string, localAddress = '127.0.0.1'): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
  socket.on('error', () => {});
  socket.end(words);
  return text(socket).catch(() => '');
}

test('a source that is allowed gets through, its end too; any other is cut off and recorded, not without end', async (t) => {
  await using fixture = await startGateway();
  const { port: targetPort, sockets } = await startEcho(t);
  const port = await freePort();
  await open(fixture, { port, targetPort, sources: ['127.0.0.1/32'] });
  const long = 'x'.repeat(1_000_000);
  assert.equal(await say(port, long), `got ${long}`);
  for (let i = 0; i < 25; i++) assert.equal(await say(port, 'hello', '127.0.0.2'), '');
  assert.equal(sockets.length, 1, 'nothing of a refused connection reaches the service');
  const refused = fixture.records.filter(({ outcome }) => outcome === 'FORBIDDEN');
  assert.equal(refused.length, 10);
  const [first] = refused;
  assert.equal(first?.client_address, '127.0.0.2');
  assert.equal(first?.message, `connection to blog:${port} refused: its address is not allowed`);
});

test('one form of an address counts, in the socket and in the range', () => {
  const allowed = addressRanges(['10.0.0.0/8', '::ffff:192.0.2.0/120', '2001:db8::/32', '::1']);
  for (const yes of ['10.1.2.3', '::ffff:10.1.2.3', '192.0.2.7', '::ffff:c000:207', '2001:db8::5', '::1'])
    assert.ok(allowed(yes), yes);
  for (const no of [
    '11.0.0.1',
    '::ffff:11.0.0.1',
    '192.0.3.7',
    '2001:db9::1',
    '::2',
    '127.0.0.1',
    '',
    undefined,
  ])
    assert.ok(!allowed(no), no);
  assert.ok(!addressRanges(['::/0'])('10.0.0.1'), 'IPv6 is not IPv4');
  for (const wrong of ['10.0.0.0/33', '10.0.0', '0x7f.1', 'localhost', '10.0.0.0/', ''])
    assert.notEqual(rangeFault(wrong), undefined, wrong);
});

test('when it closes its connections end and nothing listens; what is open already stays when it is opened again', async (t) => {
  await using fixture = await startGateway();
  const { port: targetPort } = await startEcho(t);
  const port = await freePort();
  await open(fixture, { port, targetPort });
  const held = connect({ port, host: '127.0.0.1' });
  held.on('error', () => {});
  await once(held, 'connect');
  await open(fixture, { port, targetPort });
  assert.ok(!held.destroyed);
  // Another guard: who was let in by the old one is out.
  const over = once(held, 'close');
  await open(fixture, { port, targetPort, sources: ['127.0.0.2'] });
  held.resume();
  await over;
  assert.equal(await say(port, 'x'), '');
  fixture.gateway.guardedPorts.close('svc_1');
  const gone = connect({ port, host: '127.0.0.1' });
  await assert.rejects(once(gone, 'connect'), /ECONNREFUSED/);
});

test('when one of several can not be opened none is', async (t) => {
  await using fixture = await startGateway();
  const { port: targetPort } = await startEcho(t);
  const port = await freePort();
  const one = { address: '127.0.0.1', targetPort, sources: undefined, permission: undefined };
  await assert.rejects(
    fixture.gateway.guardedPorts.open({
      id: 'svc_1',
      name: 'blog',
      ports: [
        { ...one, port },
        { ...one, port: fixture.httpPort },
      ],
    }),
    /EADDRINUSE/,
  );
  await assert.rejects(once(connect({ port, host: '127.0.0.1' }), 'connect'), /ECONNREFUSED/);
});

test('a connection in which nothing moves ends, one in which something does not', async (t) => {
  const clock = new ManualClock();
  await using fixture = await startGateway({ clock });
  const { port: targetPort, sockets } = await startEcho(t);
  const port = await freePort();
  await open(fixture, { port, targetPort });
  const [still, busy] = [0, 1].map(() => connect({ port, host: '127.0.0.1' }).on('error', () => {}));
  assert.ok(still && busy);
  const passed = async (bytes: number) => {
    while (sockets.reduce((sum, { bytesRead }) => sum + bytesRead, 0) < bytes)
      await new Promise(setImmediate);
  };
  still.write('x');
  busy.write('x');
  await passed(2);
  const over = once(still, 'close');
  still.resume();
  clock.advance(MINUTE);
  busy.write('x');
  await passed(3);
  assert.ok(!still.destroyed);
  clock.advance(HOUR);
  await over;
  assert.ok(!busy.destroyed);
  busy.destroy();
});

test('one address has no more connections than it may have anywhere', async (t) => {
  await using fixture = await startGateway({ settings: { maxConnectionsPerAddress: 2 } });
  const { port: targetPort } = await startEcho(t);
  const port = await freePort();
  await open(fixture, { port, targetPort });
  const held = [0, 1].map(() => connect({ port, host: '127.0.0.1' }).on('error', () => {}));
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  assert.equal(await say(port, 'third'), '');
  const told = fixture.records.find(({ message }) => message.includes('too many connections of its address'));
  assert.ok(told);
  for (const socket of held) socket.destroy();
});

const tokens = {
  right: principalOf('tok_right', ['services:read']),
  wrong: principalOf('tok_wrong', ['logs:read']),
  confined: principalOf('tok_confined', ['services:read'], ['app.example.com', '*.example.com', 'blog']),
  person: { ...principalOf('usr_1', ['services:read']), kind: 'user' as const },
};

/** A fresh connection each. */
async function request(port: number, head: string, localAddress = '127.0.0.1'): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => {});
  socket.write(head);
  return text(socket).catch(() => '');
}

const get = (lines: readonly string[], host = 'blog:1') =>
  `${[`GET /page?x=1 HTTP/1.1`, `Host: ${host}`, 'Connection: close', ...lines].join('\r\n')}\r\n\r\n`;

async function startTokenPort(more: Partial<GuardedPort> = {}) {
  const upstream = await startUpstream(echo);
  const fixture = await startGateway({ tokens, proxies: [proxyOf('app.example.com', 'http://127.0.0.1:1')] });
  const port = await freePort();
  const targetPort = Number(new URL(upstream.url).port);
  await open(fixture, { port, targetPort, permission: 'services:read', ...more });
  return {
    upstream,
    fixture,
    port,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

test('with a token that has the permission a request reaches the service, without the token', async () => {
  await using world = await startTokenPort();
  const reply = await request(
    world.port,
    get(['Authorization: Bearer right', 'X-Auth-User: me', 'X-HTTP-Method-Override: PUT'], '127.0.0.1'),
  );
  assert.match(reply, /^HTTP\/1\.1 200 /);
  const [seen] = world.upstream.requests;
  assert.equal(seen?.url, '/page?x=1');
  assert.equal(seen.headers.authorization, undefined);
  assert.equal(seen.headers['x-auth-user'], undefined);
  assert.equal(seen.headers.host, '127.0.0.1');
  const record = await world.fixture.record(({ status }) => status === 200);
  assert.equal(record.principal, 'tok_right');
  assert.equal(record.hostname, `blog:${world.port}`);
});

test('no credential, a wrong one, or another than an API token for everything never gets to the service, whatever the request says', async () => {
  await using world = await startTokenPort();
  const cases: [number, string][] = [
    [401, get([])],
    [401, get(['Authorization: Bearer nobody'])],
    [401, get(['Authorization: Basic cmlnaHQ6'])],
    [401, get(['Authorization: Bearer right', 'Authorization: Bearer right'])],
    [401, get(['Cookie: token=right'])],
    [401, get(['X-Forwarded-For: 127.0.0.1'])],
    [403, get(['Authorization: Bearer wrong'])],
    [403, get(['Authorization: Bearer confined'])],
    [403, get(['Authorization: Bearer confined'], 'app.example.com')],
    [403, get(['Authorization: Bearer person'])],
    // Names and paths that mean something elsewhere mean nothing here.
    [401, get([], 'localhost')],
    [401, get([], 'app.example.com')],
    [401, get([]).replace('/page?x=1', '/.well-known/acme-challenge/x')],
    [401, get([]).replace('/page?x=1', '/healthz')],
    [401, get([]).replace('/page?x=1', '/mcp')],
    [401, get(['Upgrade: websocket']).replace('Connection: close', 'Connection: upgrade')],
    [400, get(['Authorization: Bearer right', 'Transfer-Encoding: chunked', 'Content-Length: 3'])],
    [400, get(['Authorization: Bearer right', 'Content-Length: 3', 'Content-Length: 4'])],
    [400, 'BLAH\r\n\r\n'],
    [400, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ];
  for (const [status, sent] of cases) {
    const reply = await request(world.port, sent);
    assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `), sent);
    if (status === 401)
      assert.match(reply, /\r\nwww-authenticate: Bearer [^\r]*scope="services:read"/i, sent);
  }
  assert.equal(world.upstream.connections, 0);
});

test('what is smuggled behind a request with a token is a request of its own', async () => {
  await using world = await startTokenPort();
  const hidden = 'GET /hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const whole = `POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`;
  const reply = await request(world.port, whole);
  assert.deepEqual(reply.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 401']);
  assert.deepEqual(
    world.upstream.requests.map(({ url }) => url),
    ['/'],
  );
});

test('source and token are both asked for where both are set', async () => {
  await using world = await startTokenPort({ sources: ['127.0.0.1'] });
  assert.match(await request(world.port, get(['Authorization: Bearer right'])), /^HTTP\/1\.1 200 /);
  assert.equal(await request(world.port, get(['Authorization: Bearer right']), '127.0.0.2'), '');
  assert.equal(world.upstream.requests.length, 1);
});

test('a head that does not come in time is cut off', async (t) => {
  await using fixture = await startGateway({ settings: { headerTimeoutMs: 100 } });
  const { port: targetPort, sockets } = await startEcho(t);
  const port = await freePort();
  await open(fixture, { port, targetPort, permission: 'services:read' });
  assert.match(await request(port, 'GET / HTTP/1.1\r\nHost: x\r\nX-Slow:'), /^HTTP\/1\.1 408 /);
  assert.equal(sockets.length, 0);
});

test('a token that is revoked takes its open replies with it; so does the end of the guard', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 1\n\n');
  });
  await using fixture = await startGateway({ tokens });
  const port = await freePort();
  const targetPort = Number(new URL(upstream.url).port);
  await open(fixture, { port, targetPort, permission: 'services:read' });
  const stream = async () => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write(get(['Authorization: Bearer right']));
    const closed = once(socket, 'close');
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    assert.match(chunk.toString(), /^HTTP\/1\.1 200 /);
    socket.resume();
    return { closed };
  };
  const revoked = await stream();
  fixture.live.cut('tok_right');
  await revoked.closed;
  const ended = await stream();
  fixture.gateway.guardedPorts.close('svc_1');
  await ended.closed;
  const isCut = ({ kind, path, status }: LogRecord) =>
    kind === 'access' && path === '/page' && status === 200;
  assert.equal(fixture.records.filter(isCut).length, 2);
});

test('what it says of its host is no reason to judge it by what is served there: a change of that leaves what came by a guarded port alone', async () => {
  await using world = await startTokenPort();
  const { fixture, port } = world;
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(get(['Authorization: Bearer right', 'Content-Length: 1'], 'app.example.com'));
  while (fixture.gateway.connections().requests === 0) await new Promise(setImmediate);
  const stricter = proxyOf('app.example.com', 'http://127.0.0.1:1', {
    auth: { kind: 'token', permission: 'system:write' },
  });
  fixture.gateway.publisher.prepare({ putProxies: [stricter] }).publish();
  socket.write('x');
  assert.match(await text(socket), /^HTTP\/1\.1 200 /);
});
