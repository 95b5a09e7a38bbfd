/** Incident 18: slow, many and large, bounded. Incident 1 of shutting down: nothing is dropped that could finish. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import {
  ask,
  echo,
  http2Session,
  proxyOf,
  raw,
  readUntil,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const open = { redirect_to_https: false } as const;

/** Lets the sweep run until the socket is closed, by the test's own clock. */
async function untilClosed(
  clock: ManualClock,
  socket: NodeJS.EventEmitter & { destroyed: boolean },
): Promise<void> {
  const closed = once(socket, 'close');
  const tick = setInterval(() => clock.advance(1000), 5);
  if (!socket.destroyed) await closed;
  clearInterval(tick);
}

test('a head that does not come in time ends its connection, on both ports', async () => {
  await using gateway = await startGateway({ settings: { headerTimeoutMs: 50 } });
  const slow = await raw(gateway.httpPort, `GET / HTTP/1.1\r\nHost: ${app}\r\nX-A: `);
  assert.match(slow, /^HTTP\/1\.1 408 /);
  const silent = connect(gateway.httpPort, '127.0.0.1');
  await readUntil(silent);
  const handshake = connect(gateway.httpsPort, '127.0.0.1');
  handshake.on('error', () => {});
  await readUntil(handshake);
  const overTls = await tlsSocket(gateway, app);
  overTls.write('GET / HTTP/1.1\r\n');
  assert.match(await readUntil(overTls), /^HTTP\/1\.1 408 /);
  while (gateway.gateway.connections().open > 0) await new Promise(setImmediate);
});

test('a client that is silent in the middle of its body is told so, and its upstream request ends', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 10\r\n\r\nabc`);
  await once(upstream.server, 'request');
  let text = '';
  socket.on('data', (chunk) => (text += chunk));
  await untilClosed(clock, socket);
  assert.match(text, /^HTTP\/1\.1 408 /);
  const record = await gateway.record(() => true);
  assert.deepEqual([record.status, record.outcome], [408, 'TIMEOUT']);
});

test('a client that is silent in the middle of a body over HTTP/2 is told so', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': app });
  stream.write('abc');
  const response = once(stream, 'response');
  const tick = setInterval(() => clock.advance(1000), 5);
  const [headers] = await response;
  clearInterval(tick);
  assert.equal(headers[':status'], 408);
  session.destroy();
});

test('a slow body that keeps coming is not cut', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    clock,
    settings: { bodyTimeoutMs: 10_000 },
    proxies: [proxyOf(app, upstream.url, open)],
  });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx`);
  await once(upstream.server, 'request');
  for (let i = 1; i < 10; i++) {
    clock.advance(6000);
    const [request] = upstream.requests;
    const came = once(request!, 'data');
    socket.write('x');
    await came;
  }
  assert.match(await readUntil(socket), /^HTTP\/1\.1 200 /);
});

test('a client that does not read is cut after the same silence', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(
    (_request, response) => void response.end(Buffer.alloc(64 * 1024 * 1024)),
  );
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  await once(upstream.server, 'request');
  const tick = setInterval(() => clock.advance(1000), 5);
  const record = await gateway.record(() => true);
  clearInterval(tick);
  assert.deepEqual([record.outcome, record.detail?.reason], ['TIMEOUT', 'no progress: client read']);
  socket.destroy();
});

test('an upstream that is silent in the middle of its reply is cut, an event stream is not', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream((request, response) => {
    response.writeHead(200, {
      'content-type': request.url === '/events' ? 'text/event-stream; charset=utf-8' : 'text/plain',
    });
    response.write('x');
  });
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, open)] });
  const events = connect(gateway.httpPort, '127.0.0.1');
  events.write(`GET /events HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  await once(events, 'data');
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  await once(socket, 'data');
  await untilClosed(clock, socket);
  const record = await gateway.record(() => true);
  assert.deepEqual([record.path, record.detail?.reason], ['/', 'no progress: upstream']);
  assert.equal(events.destroyed, false);
  events.destroy();
});

test('the rest of a refused body is read for a while, and then no more', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    clock,
    proxies: [proxyOf(app, upstream.url, { ...open, max_body_bytes: 10 })],
  });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 1000000\r\n\r\n`);
  const [chunk] = await once(socket, 'data');
  assert.match(String(chunk), /^HTTP\/1\.1 413 /);
  socket.resume();
  clock.advance(gatewayLimits.lingerMs - 2000);
  assert.equal(socket.destroyed, false);
  await untilClosed(clock, socket);
});

test('a tunnel in which nothing happens is closed after the proxy’s idle time', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  upstream.server.on('upgrade', (_request, socket) => {
    socket.on('end', () => socket.end()).resume();
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
  });
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`);
  await once(socket, 'data');
  await untilClosed(clock, socket);
  assert.equal((await gateway.record(() => true)).detail?.reason, 'no progress: tunnel');
});

test('a head that is too large or has too many fields is 431, over both protocols', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    settings: { maxHeaderBytes: 8192, maxHeaders: 50 },
    proxies: [proxyOf(app, upstream.url, open)],
  });
  const head = `GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n`;
  assert.match(await raw(gateway.httpPort, `${head}X-A: ${'x'.repeat(9000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
  const many = Array.from({ length: 60 }, (_, i) => `X-${i}: a\r\n`).join('');
  assert.match(await raw(gateway.httpPort, `${head}${many}\r\n`), /^HTTP\/1\.1 431 /);
  const fits = Array.from({ length: 48 }, (_, i) => `X-${i}: a\r\n`).join('');
  assert.match(await raw(gateway.httpPort, `${head}${fits}\r\n`), /^HTTP\/1\.1 200 /);
  const session = await http2Session(gateway);
  const stream = session.request({
    ':path': '/',
    ':authority': app,
    'x-a': 'x'.repeat(8200),
  });
  await assert.rejects(once(stream, 'response'), /ENHANCE_YOUR_CALM/);
  session.destroy();
  assert.equal(upstream.requests.length, 1);
});

test('connections beyond the limit of an address are turned away, and others are not hurt', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    settings: { maxConnectionsPerAddress: 3 },
    proxies: [proxyOf(app, upstream.url, open)],
  });
  const held = Array.from({ length: 3 }, () => connect(gateway.httpPort, '127.0.0.1'));
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  while (gateway.gateway.connections().open < 3) await new Promise(setImmediate);
  assert.equal(await raw(gateway.httpPort, `GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`), '');
  assert.equal(gateway.gateway.connections().refused, 1);
  const other = connect({ port: gateway.httpPort, host: '127.0.0.1', localAddress: '127.0.0.2' });
  other.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`);
  assert.match(await readUntil(other), /^HTTP\/1\.1 200 /);
  for (const socket of held) socket.destroy();
  while (gateway.gateway.connections().open > 0) await new Promise(setImmediate);
  assert.equal((await ask(gateway)).status, 200);
});

test('connections beyond the total are turned away', async () => {
  await using gateway = await startGateway({ settings: { maxConnections: 2 } });
  const held = Array.from({ length: 2 }, () => connect(gateway.httpPort, '127.0.0.1'));
  await Promise.all(held.map((socket) => once(socket, 'connect')));
  while (gateway.gateway.connections().open < 2) await new Promise(setImmediate);
  assert.equal(await raw(gateway.httpPort, 'x'), '');
  for (const socket of held) socket.destroy();
});

test('a connection that resets streams without end is closed, and its requests end', async () => {
  await using upstream = await startUpstream(() => {});
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  const goaway = new Promise((resolve) => session.once('goaway', resolve));
  let isOver = false;
  session.once('close', () => (isOver = true));
  for (let i = 0; i < 100 && !isOver; i++) {
    const streams = Array.from({ length: 50 }, () => session.request({ ':path': '/', ':authority': app }));
    for (const stream of streams) stream.on('error', () => {});
    await new Promise(setImmediate);
    for (const stream of streams) stream.close(8);
    await new Promise(setImmediate);
  }
  await goaway;
  session.destroy();
  while (gateway.gateway.connections().requests > 0) await new Promise(setImmediate);
  assert.ok(upstream.requests.length < 1000, `${upstream.requests.length} requests got through`);
});

test('streams beyond the limit of a connection wait', async () => {
  await using gateway = await startGateway({ settings: { maxStreamsPerConnection: 7 } });
  const session = await http2Session(gateway);
  assert.equal(session.remoteSettings.maxConcurrentStreams, 7);
  session.close();
});

test('shutting down: requests finish, new ones are refused, HTTP/2 gets GOAWAY, and nothing is left', async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  await using upstream = await startUpstream(
    (_request, response) => void mayAnswer.then(() => response.end('done')),
  );
  const gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const slow = ask(gateway);
  const idle = connect(gateway.httpPort, '127.0.0.1');
  idle.on('error', () => {});
  const session = await http2Session(gateway);
  const stream = session.request({ ':path': '/', ':authority': app });
  while (upstream.requests.length < 2) await once(upstream.server, 'request');
  const goaway = once(session, 'goaway');
  const drained = gateway.gateway.drain();
  await goaway;
  idle.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  assert.match(await readUntil(idle), /^(?:HTTP\/1\.1 503 [^]*connection: close|$)/i);
  const refused = connect(gateway.httpPort, '127.0.0.1');
  await assert.rejects(once(refused, 'connect'), /ECONNREFUSED/);
  answer();
  const { status, body, headers } = await slow;
  assert.deepEqual([status, body, headers.connection], [200, 'done', 'close']);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  assert.equal(Buffer.concat(chunks).toString(), 'done');
  await drained;
  assert.deepEqual(gateway.gateway.connections(), { open: 0, refused: 0, requests: 0, upstreams: 0 });
  await gateway[Symbol.asyncDispose]();
});

test('shutting down takes no longer than is set', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(() => {});
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  await once(upstream.server, 'request');
  const drained = gateway.gateway.drain();
  clock.advance(5000);
  await drained;
  assert.equal((await gateway.record(() => true)).outcome, 'UNAVAILABLE');
});

test('shutting down ends event streams in order', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: one\n\n');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  let text = String((await once(socket, 'data'))[0]);
  while (!text.includes('one')) text += (await once(socket, 'data'))[0];
  const rest = readUntil(socket);
  await gateway.gateway.drain();
  assert.match(await rest, /0\r\n\r\n$/);
});

test('an idle connection is closed after the keep-alive time, over both protocols, one in use is not', async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/slow') void mayAnswer.then(() => response.end('slow'));
    else response.end('fast');
  });
  await using gateway = await startGateway({
    settings: { keepAliveTimeoutMs: 50 },
    proxies: [proxyOf(app, upstream.url, open)],
  });
  const busy = await http2Session(gateway);
  const stream = busy.request({ ':path': '/slow', ':authority': app });
  const idle = await http2Session(gateway);
  const closed = new Promise((resolve) => idle.once('close', resolve));
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  assert.match(await readUntil(socket), /fast$/);
  await closed;
  answer();
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  assert.equal(Buffer.concat(chunks).toString(), 'slow');
  busy.close();
});

test('a port that is taken is an error of the start, and leaves nothing open', async () => {
  await using first = await startGateway();
  await assert.rejects(startGateway({ settings: { httpsPort: first.httpsPort } }), /EADDRINUSE/);
});

test('a reply of an upstream whose head is too large is 502, however it was asked', async () => {
  const big = 'x'.repeat(gatewayLimits.upstreamHeaderBytes + 1);
  await using upstream = await startUpstream((request, response) => {
    request.resume();
    if (request.url === '/fields')
      for (let i = 0; i < 5000; i++) response.setHeader(`x-${i}`, 'y'.repeat(20));
    else if (request.url === '/big') response.setHeader('x-big', big);
    response.end('ok');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const trailer = { trailer: 'x-sum', 'transfer-encoding': 'chunked' };
  const upgrade = { connection: 'upgrade', upgrade: 'websocket' };
  for (const path of ['/big', '/fields'])
    for (const headers of [{}, upgrade, trailer]) {
      const method = headers === trailer ? 'POST' : 'GET';
      const { status } = await ask(gateway, {
        path,
        method,
        headers,
        ...(headers === trailer && { body: 'x' }),
      });
      assert.equal(status, 502, `${path} ${JSON.stringify(headers)}`);
    }
  assert.equal((await ask(gateway, { path: '/small' })).body, 'ok');
});
