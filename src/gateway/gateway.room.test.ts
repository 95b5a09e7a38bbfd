/** How much one upstream gets at once, over the pool and outside of it, and that every way out makes room again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import {
  type Fixture,
  http2Session,
  proxyOf,
  raw,
  readUntil,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const plain = { redirect_to_https: false } as const;
const upstreamLimits = { singlesPerUpstream: 2, tunnelsPerUpstream: 2 };
/** More often than there is room for. */
const AGAIN = 4;
const full = /^HTTP\/1\.1 503 [^]*retry-after: 1\r\n/i;

/** Whole, and over a connection of its own, because trailers are announced. */
const upload = (path: string, more = '') =>
  `POST ${path} HTTP/1.1\r\nHost: ${app}\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n${more}\r\n1\r\nx\r\n0\r\n\r\n`;
const handshake = (path: string) =>
  `GET ${path} HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n`;
const kinds = { upload, handshake };

function open(gateway: Fixture, text: string): Socket {
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(text);
  return socket;
}

const firstOf = async (socket: Socket): Promise<string> => String((await once(socket, 'data'))[0]);

/** A socket that has its answer, and the answer; asks again as long as there is no room. */
async function answered(gateway: Fixture, text: string): Promise<{ socket: Socket; answer: string }> {
  for (;;) {
    const socket = open(gateway, text);
    const answer = await firstOf(socket);
    if (!full.test(answer)) return { socket, answer };
    socket.destroy();
  }
}

/** `/held` is never answered, `/cut` breaks off, `/short` ends at once; anything else is answered. */
async function startVaried() {
  const upstream = await startUpstream((request, response) => {
    request.on('error', () => {}).resume();
    if (request.url === '/cut') request.socket.destroy();
    else if (request.url !== '/held') response.end('now');
  });
  const seen = { open: 0 };
  upstream.server.on('connection', (socket) => {
    seen.open++;
    socket.on('error', () => {}).once('close', () => seen.open--);
  });
  upstream.server.on('upgrade', ({ url }, socket) => {
    socket.on('error', () => {}).on('end', () => socket.destroy());
    socket.resume();
    if (url === '/cut') socket.destroy();
    else if (url === '/refused') socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
    else if (url !== '/held')
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n');
    if (url === '/short') socket.end();
  });
  return Object.assign(upstream, { seen });
}

test('tunnels beyond the limit of an upstream are 503 with Retry-After, and one that ends makes room', async () => {
  await using upstream = await startVaried();
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)], upstreamLimits });
  const tunnels = [open(gateway, handshake('/')), open(gateway, handshake('/'))];
  for (const tunnel of tunnels) assert.match(await firstOf(tunnel), /^HTTP\/1\.1 101 /);
  assert.match(await readUntil(open(gateway, handshake('/'))), full);
  const session = await http2Session(gateway);
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'https',
    ':path': '/',
    ':authority': app,
  });
  const [headers] = await once(stream, 'response');
  assert.deepEqual([headers[':status'], headers['retry-after']], [503, '1']);
  session.destroy();
  assert.match(await raw(gateway.httpPort, upload('/'), /now/), /^HTTP\/1\.1 200 /, 'uploads count apart');
  tunnels[0]?.destroy();
  assert.match((await answered(gateway, handshake('/'))).answer, /^HTTP\/1\.1 101 /);
});

test('requests over connections of their own have a limit of their own', async () => {
  const clock = new ManualClock();
  await using upstream = await startVaried();
  await using gateway = await startGateway({
    clock,
    proxies: [proxyOf(app, upstream.url, plain)],
    upstreamLimits,
  });
  const held = [open(gateway, upload('/held')), open(gateway, upload('/held'))];
  while (upstream.requests.length < 2) await once(upstream.server, 'request');
  assert.match(await firstOf(open(gateway, upload('/'))), full);
  assert.match(await firstOf(open(gateway, upload('/', 'Expect: 100-continue\r\n'))), full);
  const late = open(
    gateway,
    `POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n`,
  );
  while (gateway.gateway.connections().requests < 3) await new Promise(setImmediate);
  clock.advance(gatewayLimits.firstPartMs);
  late.write('ab');
  assert.match(await readUntil(late), /^HTTP\/1\.1 200 /, 'what begins late has to do with the pool then');
  for (const socket of held) socket.destroy();
  assert.match((await answered(gateway, upload('/'))).answer, /^HTTP\/1\.1 200 /);
});

for (const [kind, textOf] of Object.entries(kinds)) {
  const ends: [path: string, status: number][] =
    kind === 'upload'
      ? [
          ['/', 200],
          ['/cut', 502],
          ['/held', 504],
        ]
      : [
          ['/short', 101],
          ['/refused', 403],
          ['/cut', 502],
          ['/held', 504],
        ];
  for (const [path, status] of ends)
    test(`room is made again by: ${kind}, answered with ${status}`, async () => {
      await using upstream = await startVaried();
      // Short where it is waited for alone: a busy machine may take longer than that for an answer.
      const proxy = proxyOf(app, upstream.url, {
        ...plain,
        ...(status === 504 && { response_timeout_ms: 30 }),
      });
      await using gateway = await startGateway({ proxies: [proxy], upstreamLimits });
      for (let i = 0; i < AGAIN; i++) {
        const { socket, answer } = await answered(gateway, textOf(path));
        assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
        socket.destroy();
      }
    });

  test(`room is made again by: ${kind}, whose client goes away`, async () => {
    await using upstream = await startVaried();
    await using gateway = await startGateway({
      proxies: [proxyOf(app, upstream.url, plain)],
      upstreamLimits,
    });
    for (let i = 0; i < AGAIN; i++) {
      const socket = open(gateway, textOf('/held'));
      socket.once('data', (text) => assert.fail(`answered: ${text.toString()}`));
      await once(upstream.server, kind === 'upload' ? 'request' : 'upgrade');
      socket.destroy();
      while (upstream.seen.open > 0) await new Promise(setImmediate);
      while (gateway.gateway.connections().requests > 0) await new Promise(setImmediate);
    }
  });

  test(`room is made again by: ${kind}, whose client goes away before there is a connection`, async () => {
    const clock = new ManualClock();
    await using gateway = await startGateway({
      clock,
      proxies: [proxyOf(app, 'http://127.0.0.1:1', plain)],
      upstreamLimits,
    });
    const sockets = [open(gateway, textOf('/')), open(gateway, textOf('/'))];
    while (gateway.gateway.connections().requests < 2) await new Promise(setImmediate);
    assert.match(await firstOf(open(gateway, textOf('/'))), full);
    for (const socket of sockets) socket.destroy();
    while (gateway.gateway.connections().requests > 0) await new Promise(setImmediate);
    const tick = setInterval(() => clock.advance(100), 5);
    const { answer } = await answered(gateway, textOf('/'));
    clearInterval(tick);
    assert.match(answer, /^HTTP\/1\.1 502 /);
  });
}

const post = (path: string) =>
  `POST ${path} HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx`;

for (const [kind, textOf] of Object.entries({ ...kinds, post }))
  test(`of several targets one that is full hands on to the next: ${kind}, as often as is set`, async () => {
    await using one = await startVaried();
    await using two = await startVaried();
    const upstreamLimits = { requestsPerUpstream: 1, singlesPerUpstream: 1, tunnelsPerUpstream: 1 };
    const targets = [{ url: one.url, weight: 100 }, { url: two.url }];
    const of = (hostname: string, tries: number) =>
      proxyOf(hostname, one.url, {
        ...plain,
        load_balancing: loadBalancing.parse({ targets, retries: { tries } }),
      });
    const proxies = [of(app, 2), of('once.example.com', 1)];
    await using gateway = await startGateway({ proxies, upstreamLimits });
    const asked = kind === 'handshake' ? 'upgrade' : 'request';
    const held = [open(gateway, textOf('/held'))];
    await once(one.server, asked);
    assert.match(await readUntil(open(gateway, textOf('/').replace(app, 'once.example.com')), full), full);
    held.push(open(gateway, textOf('/held')));
    await once(two.server, asked);
    assert.match(await readUntil(open(gateway, textOf('/')), full), full, 'all are');
    const { detail } = await gateway.record(({ hostname, status }) => hostname === app && status === 503);
    assert.deepEqual([detail?.tries, String(detail?.reason).slice(0, 22)], [2, 'limit of the upstream:']);
    assert.equal(detail?.target, undefined, 'none got it');
    const [first, second] = gateway.gateway.targets(proxies[0]?.id ?? '') ?? [];
    assert.deepEqual([first?.state, second?.state], ['healthy', 'healthy'], 'full is not broken');
    for (const socket of held) socket.destroy();
  });

for (const [kind, textOf] of Object.entries({ ...kinds, post }))
  test(`the record of a request for which the target had no room names none, because none got it: ${kind}`, async () => {
    await using upstream = await startVaried();
    const upstreamLimits = { requestsPerUpstream: 1, singlesPerUpstream: 1, tunnelsPerUpstream: 1 };
    const proxies = [proxyOf(app, upstream.url, plain)];
    await using gateway = await startGateway({ proxies, upstreamLimits });
    const held = open(gateway, textOf('/held'));
    await once(upstream.server, kind === 'handshake' ? 'upgrade' : 'request');
    assert.match(await firstOf(open(gateway, textOf('/'))), full);
    held.destroy();
    const targetAt = async (at: string) => (await gateway.record(({ path }) => path === at)).detail?.target;
    assert.deepEqual([await targetAt('/'), await targetAt('/held')], [undefined, upstream.url]);
  });

test('a request for which no connection becomes free is 503, and one that is given up costs no connection', async () => {
  const clock = new ManualClock();
  const held: (() => void)[] = [];
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/held') held.push(() => response.end('late'));
    else response.end('now');
  });
  await using gateway = await startGateway({
    clock,
    proxies: [proxyOf(app, upstream.url, plain)],
    upstreamLimits: { connectionsPerUpstream: 1, requestsPerUpstream: 3 },
  });
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`;
  const first = raw(gateway.httpPort, get('/held'));
  await once(upstream.server, 'request');
  const gone = open(gateway, get('/gone'));
  const waiting = raw(gateway.httpPort, get('/waiting'));
  while (gateway.gateway.connections().requests < 3) await new Promise(setImmediate);
  assert.match(await raw(gateway.httpPort, get('/more')), full);
  gone.destroy();
  const tick = setInterval(() => clock.advance(SECOND), 5);
  assert.match(await waiting, full);
  clearInterval(tick);
  const { outcome, detail } = await gateway.record(({ path }) => path === '/waiting');
  assert.deepEqual(
    [outcome, detail?.reason],
    ['UNAVAILABLE', 'limit of the upstream: no connection became free'],
  );
  held[0]?.();
  assert.match(await first, /late$/);
  assert.match(await raw(gateway.httpPort, get('/')), /now$/);
  assert.deepEqual(
    upstream.requests.map(({ url }) => url),
    ['/held', '/'],
  );
  assert.equal(upstream.connections, 1);
});
