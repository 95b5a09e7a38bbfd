/** What an HTTP/2 client can do below the level of requests, bounded. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'node:test';
import { connect } from 'node:tls';
import { block, encode, flag, frame, FrameClient, headers } from '../../test/support/h2-frames.ts';
import { ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import {
  caPem,
  echo,
  type Fixture,
  proxyOf,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
/** @see {@link https://www.rfc-editor.org/rfc/rfc9113#section-7 | RFC 9113 §7} */
const ENHANCE_YOUR_CALM = 0xb;
const head = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', app],
  [':path', '/'],
] as const;

/** A client that keeps its side open when the gateway has ended its own. */
async function connectClinging({ httpsPort }: Fixture, localAddress?: string): Promise<FrameClient> {
  const options = {
    port: httpsPort,
    host: '127.0.0.1',
    servername: app,
    ca: caPem,
    ALPNProtocols: ['h2'],
    ...(localAddress && { localAddress }),
  };
  const socket = connect({ ...options, allowHalfOpen: true } as typeof options);
  await once(socket, 'secureConnect');
  return new FrameClient(socket);
}

async function untilNoneIsOpen(gateway: Fixture, clock: ManualClock): Promise<void> {
  while (gateway.gateway.connections().open > 0) {
    clock.advance(gatewayLimits.lingerMs);
    await turn();
  }
}

const clingers: Record<string, (client: FrameClient) => void> = {
  'that does nothing': () => {},
  'that does not read': ({ socket }) => void socket.pause(),
  'whose head never ends': (client) => client.write(encode(frame.HEADERS, flag.END_STREAM, 1, block(head))),
  'that breaks the protocol and does not read': (client) => {
    client.write(encode(frame.HEADERS, flag.END_HEADERS, 0, block(head)));
    client.socket.pause();
  },
};

for (const [what, act] of Object.entries(clingers))
  test(`an HTTP/2 client ${what} loses its connection, though it never lets go`, async () => {
    const clock = new ManualClock();
    await using gateway = await startGateway({ clock, settings: { keepAliveTimeoutMs: 50 } });
    using client = await connectClinging(gateway);
    assert.ok(await client.ping());
    act(client);
    await untilNoneIsOpen(gateway, clock);
  });

for (const [when, before] of [
  ['the first', []],
  ['a later one', [headers(1, head)]],
] as const)
  test(`a head of HTTP/2 that is begun and does not end has the time of any head, and no more: ${when}`, async () => {
    const clock = new ManualClock();
    await using upstream = await startUpstream(echo);
    // An idle connection would stay as long as this test may take.
    const settings = { keepAliveTimeoutMs: 10 * MINUTE };
    await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url)], settings });
    using client = await connectClinging(gateway);
    client.write(...before);
    assert.ok(await client.ping());
    const stream = 1 + 2 * before.length;
    client.write(encode(frame.HEADERS, flag.END_STREAM, stream, block(head)));
    await untilNoneIsOpen(gateway, clock);
    const goaway = await client.until(({ type }) => type === frame.GOAWAY);
    assert.equal(goaway?.payload.readUInt32BE(4), ENHANCE_YOUR_CALM);
  });

test('an HTTP/2 connection between two heads, or with one that comes in parts in time, is left alone', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url)] });
  using client = await connectClinging(gateway);
  const isAnswered = async (stream: number) =>
    assert.ok(await client.until((one) => one.type === frame.HEADERS && one.stream === stream));
  const pass = (ms: number) => {
    for (let passed = 0; passed < ms; passed += SECOND) clock.advance(SECOND);
  };
  client.write(headers(1, head));
  await isAnswered(1);
  pass(MINUTE);
  assert.ok(await client.ping());
  client.write(encode(frame.HEADERS, flag.END_STREAM, 3, block(head.slice(0, 2))));
  await turn();
  pass(10 * SECOND);
  client.write(encode(frame.CONTINUATION, flag.END_HEADERS, 3, block(head.slice(2))));
  await isAnswered(3);
  pass(MINUTE);
  assert.ok(await client.ping());
});

test('an HTTP/2 connection that is ended while a reply is under way is kept until that reply is whole', async () => {
  const clock = new ManualClock();
  const mayAnswer = Promise.withResolvers<void>();
  await using upstream = await startUpstream(
    (_request, response) => void mayAnswer.promise.then(() => response.end('late')),
  );
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url)] });
  using client = await connectClinging(gateway);
  client.write(headers(1, head));
  await once(upstream.server, 'request');
  client.write(encode(frame.GOAWAY, 0, 0, Buffer.alloc(8)));
  assert.ok(await client.ping());
  for (let i = 0; i < 10; i++) clock.advance(gatewayLimits.lingerMs);
  mayAnswer.resolve();
  const data = await client.until(({ type, stream }) => type === frame.DATA && stream === 1);
  assert.equal(String(data?.payload), 'late');
  await untilNoneIsOpen(gateway, clock);
});

test('a reply under way is not lost by a head on its connection that was refused', async () => {
  const clock = new ManualClock();
  const mayAnswer = Promise.withResolvers<void>();
  await using upstream = await startUpstream(
    (_request, response) => void mayAnswer.promise.then(() => response.end('late')),
  );
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, upstream.url)] });
  using client = await connectClinging(gateway);
  client.write(headers(1, head));
  await once(upstream.server, 'request');
  client.write(headers(3, [...head, ['Upper-Case', 'is not allowed']]));
  assert.ok(await client.until(({ type, stream }) => type === frame.RST_STREAM && stream === 3));
  for (let passed = 0; passed < MINUTE; passed += SECOND) clock.advance(SECOND);
  mayAnswer.resolve();
  const data = await client.until(({ type, stream }) => type === frame.DATA && stream === 1);
  assert.equal(String(data?.payload), 'late');
});

test('requests that break the protocol of HTTP/2 again and again end their connection', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  using client = await connectClinging(gateway);
  let stream = 1;
  for (; !client.isEnded && stream < 20 * gatewayLimits.http2InvalidFrames; stream += 2) {
    client.write(headers(stream, [...head, ['Upper-Case', 'is not allowed']]));
    await turn();
  }
  assert.ok(client.isEnded, `${stream} streams`);
  assert.equal(upstream.requests.length, 0);
});

/** As many requests as `connections` may have; all are with the upstream, or were answered. */
async function fill(gateway: Fixture, connections: number, streams: number): Promise<FrameClient[]> {
  const clients: FrameClient[] = [];
  for (let i = 0; i < connections; i++) {
    const client = await connectClinging(gateway);
    for (let stream = 0; stream < streams; stream++) client.write(headers(1 + 2 * stream, head));
    assert.ok(await client.ping());
    clients.push(client);
  }
  return clients;
}

/** Whether one more request is answered with 200. RFC 7541 §6.1: 0x88 is `:status: 200`. */
async function isServed(gateway: Fixture, localAddress: string): Promise<boolean> {
  using client = await connectClinging(gateway, localAddress);
  client.write(headers(1, [...head.slice(0, 3), [':path', '/now']]));
  const answer = await client.until(({ type }) => type === frame.HEADERS);
  return answer?.payload[0] === 0x88;
}

test('one address has no more requests under way than some connections full of them, and others are served', async () => {
  const streams = 4;
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/now') response.end('now');
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url)],
    settings: { maxStreamsPerConnection: streams },
  });
  const clients = await fill(gateway, gatewayLimits.fullConnectionsPerAddress, streams);
  const full = gatewayLimits.fullConnectionsPerAddress * streams;
  while (upstream.requests.length < full) await turn();
  assert.equal(await isServed(gateway, '127.0.0.1'), false);
  const refused = await gateway.record(({ status }) => status !== 0);
  assert.deepEqual([refused.status, refused.outcome], [429, 'RATE_LIMITED']);
  assert.equal(await isServed(gateway, '127.0.0.2'), true);
  clients[0]?.[Symbol.dispose]();
  while (gateway.gateway.connections().requests >= full) await turn();
  assert.equal(await isServed(gateway, '127.0.0.1'), true);
  for (const client of clients) client[Symbol.dispose]();
});

test('a trusted proxy carries the requests of many', async () => {
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/now') response.end('now');
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url)],
    settings: { maxStreamsPerConnection: 2, trustedProxies: ['127.0.0.1'] },
  });
  const clients = await fill(gateway, gatewayLimits.fullConnectionsPerAddress + 1, 2);
  assert.equal(await isServed(gateway, '127.0.0.1'), true);
  for (const client of clients) client[Symbol.dispose]();
});
