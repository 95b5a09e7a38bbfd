/** What upstreams do: begin their answers early, refuse for a moment, answer badly, or have too much to do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import {
  ask,
  ask2,
  echo,
  type Fixture,
  http2Session,
  proxyOf,
  raw,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const plain = { redirect_to_https: false } as const;

/** An upstream of bytes: answers every connection's first data as it is told. */
class RawUpstream implements AsyncDisposable {
  readonly server: Server;
  readonly sockets: Socket[] = [];

  constructor(answer: (socket: Socket, head: string) => void) {
    this.server = createTcpServer((socket) => {
      this.sockets.push(socket);
      socket.on('error', () => {});
      socket.once('data', (chunk) => answer(socket, chunk.toString('latin1')));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async listen(port = 0): Promise<this> {
    this.server.listen(port, '127.0.0.1');
    await once(this.server, 'listening');
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}

const startRaw = (answer: (socket: Socket, head: string) => void): Promise<RawUpstream> =>
  new RawUpstream(answer).listen();

const get = (gateway: Fixture, path = '/', fields = ''): Promise<string> =>
  raw(gateway.httpPort, `GET ${path} HTTP/1.1\r\nHost: ${app}\r\n${fields}Connection: close\r\n\r\n`);

test('the head of a request reaches the upstream before its body begins', async () => {
  await using upstream = await startUpstream((request, response) => {
    response.write(`asked for ${request.url}\n`);
    request.on('data', (chunk) => response.write(chunk));
    request.on('end', () => response.end());
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
  const request = httpRequest({
    port: gateway.httpPort,
    method: 'POST',
    path: '/talk',
    headers: { host: app },
  });
  request.flushHeaders();
  const [reply] = await once(request, 'response');
  assert.equal(String((await once(reply, 'data'))[0]), 'asked for /talk\n');
  for (const part of ['one', 'two']) {
    request.write(part);
    assert.equal(String((await once(reply, 'data'))[0]), part);
  }
  request.end();
  await once(reply.resume(), 'end');
  const session = await http2Session(gateway);
  const stream = session.request({ ':method': 'POST', ':path': '/two', ':authority': app });
  assert.equal(String((await once(stream, 'data'))[0]), 'asked for /two\n');
  stream.end('over two');
  assert.equal(String((await once(stream, 'data'))[0]), 'over two');
  await once(stream.resume(), 'end');
  session.close();
});

test('a body that begins at once costs no connection of its own', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  for (const body of ['x', 'x'.repeat(1_000_000), '']) {
    const headers = { 'transfer-encoding': 'chunked' };
    assert.equal((await ask(gateway, { method: 'POST', body })).json.body, body);
    assert.equal((await ask(gateway, { method: 'POST', body, headers })).json.body, body);
  }
  assert.equal(upstream.connections, 1);
});

test('a Trailer field beside a length is of no consequence', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
  for (const fields of ['', 'Expect: 100-continue\r\n']) {
    const head = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\nTrailer: x-a\r\nContent-Length: 5\r\n`;
    assert.match(
      await raw(gateway.httpPort, `${head}${fields}\r\nhello`),
      /HTTP\/1\.1 200 [^]*"body":"hello"/,
    );
  }
  const session = await http2Session(gateway);
  const headers = { ':method': 'POST', trailer: 'x-a', 'content-length': '5' };
  assert.match((await ask2(session, headers, 'hello')).body, /"body":"hello"/);
  session.close();
});

test('early hints reach clients that know them, with the header rules applied', async () => {
  await using upstream = await startUpstream((request, response) => {
    request.resume();
    response.writeProcessing();
    response.writeEarlyHints({ link: '</a.css>; rel=preload', 'x-secret': '1', 'x-kept': '2' });
    response.end('final');
  });
  const response_headers = { remove: ['X-Secret'], set: { 'x-frame-options': 'DENY' } };
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { ...plain, response_headers })],
  });
  const hints =
    /^HTTP\/1\.1 102 Processing\r\n\r\nHTTP\/1\.1 103 Early Hints\r\nlink: <\/a\.css>; rel=preload\r\nx-kept: 2\r\n\r\nHTTP\/1\.1 200 OK\r\n/;
  assert.match(await get(gateway), hints);
  const upload = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\nTrailer: x-a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`;
  assert.match(await raw(gateway.httpPort, upload), hints, 'over a connection of its own');
  const old = await raw(gateway.httpPort, `GET / HTTP/1.0\r\nHost: ${app}\r\n\r\n`);
  assert.match(old, /^HTTP\/1\.1 200 /, 'HTTP/1.0 knows no interim responses');
  const session = await http2Session(gateway);
  const stream = session.request({ ':path': '/', ':authority': app });
  const seen: [unknown, unknown, unknown][] = [];
  stream.on('headers', (fields) => seen.push([fields[':status'], fields.link, fields['x-secret']]));
  const [final] = await once(stream, 'response');
  assert.deepEqual(seen, [
    [102, undefined, undefined],
    [103, '</a.css>; rel=preload', undefined],
  ]);
  assert.deepEqual([final[':status'], final.link, final['x-frame-options']], [200, undefined, 'DENY']);
  session.destroy();
});

test('interim responses without end are a fault of the upstream', async () => {
  const endless = 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n';
  await using upstream = await startRaw((socket, head) => {
    if (head.includes('/endless')) socket.write(endless.repeat(gatewayLimits.interimResponses + 1));
    else socket.write(`${endless.repeat(gatewayLimits.interimResponses)}HTTP/1.1 204 No Content\r\n\r\n`);
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
  assert.match(await get(gateway, '/endless'), / 502 /);
  assert.match(await get(gateway), / 204 /);
});

test('of several addresses of a name the next is tried when one does not answer', async () => {
  await using upstream = await startUpstream(echo);
  const { port } = upstream.server.address() as AddressInfo;
  await using gateway = await startGateway({
    proxies: [proxyOf(app, `http://back.example.org:${port}`, plain)],
    lookup: (_hostname, _options, done) =>
      done(null, [
        { address: '127.0.0.2', family: 4 },
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ]),
  });
  assert.match(await get(gateway), /^HTTP\/1\.1 200 /);
});

test('an upstream that restarts is waited for, whatever the request, within the connect timeout', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  const { port } = upstream.server.address() as AddressInfo;
  const target = `http://127.0.0.1:${port}`;
  await using gateway = await startGateway({ clock, proxies: [proxyOf(app, target, plain)] });
  upstream.server.close();
  await once(upstream.server, 'close');
  const post = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n`;
  const requests = [
    raw(gateway.httpPort, `${post}Content-Length: 5\r\n\r\nhello`),
    raw(gateway.httpPort, `${post}Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n`),
  ];
  while (gateway.gateway.connections().requests < 2) await new Promise(setImmediate);
  upstream.server.listen(port, '127.0.0.1');
  await once(upstream.server, 'listening');
  const tick = setInterval(() => clock.advance(50), 5);
  for (const answer of await Promise.all(requests))
    assert.match(answer, /^HTTP\/1\.1 200 [^]*"body":"hello"/);
  clearInterval(tick);
  assert.equal(upstream.requests.length, 2);
});

test('an upstream that stays away is waited for once, and then not again until it is back', async () => {
  const clock = new ManualClock();
  await using upstream = await startUpstream(echo);
  const { port } = upstream.server.address() as AddressInfo;
  await using gateway = await startGateway({
    clock,
    proxies: [proxyOf(app, `http://127.0.0.1:${port}`, plain)],
  });
  upstream.server.close();
  await once(upstream.server, 'close');
  const first = get(gateway);
  const tick = setInterval(() => clock.advance(50), 5);
  assert.match(await first, /^HTTP\/1\.1 502 /);
  clearInterval(tick);
  assert.match(await get(gateway), /^HTTP\/1\.1 502 /, 'with a clock that stands still');
  upstream.server.listen(port, '127.0.0.1');
  await once(upstream.server, 'listening');
  assert.match(await get(gateway), /^HTTP\/1\.1 200 /);
});

test('the waits for an upstream that refuses end with the connect timeout', async () => {
  const clock = new ManualClock();
  await using gateway = await startGateway({
    clock,
    proxies: [proxyOf(app, 'http://127.0.0.1:1', { ...plain, connect_timeout_ms: 40 })],
  });
  assert.match(await get(gateway), /^HTTP\/1\.1 502 /);
});

const badReplies: Record<string, string> = {
  'no status line': 'hello\r\n\r\n',
  'a status that is no number': 'HTTP/1.1 abc OK\r\n\r\n',
  'another protocol': 'SSH-2.0-server\r\n',
  'a space in a field name': 'HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n',
  'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx',
  'a length that is no number': 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n',
  'a length beside chunks':
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'a switch of protocols': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  'a switch to nothing': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  'a head that is too large': `HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(gatewayLimits.upstreamHeaderBytes)}\r\n\r\n`,
  'a head without end': 'HTTP/1.1 200 OK\r\nX-A: a',
  nothing: '',
};

/** A body in one part and one that the upstream sees step by step: both engines that ask upstreams. */
const uploads = { pooled: '', 'over a connection of its own': 'Trailer: x-a\r\n' };

for (const [engine, fields] of Object.entries(uploads)) {
  const post = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n${fields}\r\n1\r\nx\r\n0\r\n\r\n`;

  for (const [what, reply] of Object.entries(badReplies))
    test(`${engine}: a reply with ${what} is 502`, async () => {
      await using upstream = await startRaw((socket) => socket.end(reply, 'latin1'));
      await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
      const text = await raw(gateway.httpPort, post);
      assert.match(text, /^HTTP\/1\.1 502 /);
      assert.equal((await gateway.record(() => true)).outcome, 'UPSTREAM_FAILED');
    });

  const cutReplies: Record<string, string> = {
    'ends before its length': 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf',
    'ends in the middle of a chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhalf',
    'ends before the last chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
    'has trailers that are too large': `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX-A: ${'a'.repeat(gatewayLimits.upstreamHeaderBytes)}\r\n\r\n`,
    'has a chunk of no size': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n',
  };
  for (const [what, reply] of Object.entries(cutReplies))
    test(`${engine}: a reply that ${what} is cut, not passed off as whole`, async () => {
      await using upstream = await startRaw((socket) => socket.end(reply, 'latin1'));
      await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
      const text = await raw(gateway.httpPort, post);
      assert.match(text, /^(?:$|HTTP\/1\.1 (?:502 |200 [^]*half))/);
      assert.doesNotMatch(text, /^HTTP\/1\.1 200 [^]*\r\n0\r\n\r\n$/);
      assert.equal((await gateway.record(() => true)).outcome, 'UPSTREAM_FAILED');
    });

  test(`${engine}: what comes behind a whole reply reaches nobody`, async () => {
    const reply = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole';
    await using upstream = await startRaw((socket) =>
      socket.write(`${reply}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`),
    );
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
    for (let i = 0; i < 5; i++) assert.match(await raw(gateway.httpPort, post), /\r\n\r\nwhole$/);
  });

  test(`${engine}: as many fields as fit into the head of a reply are passed`, async () => {
    const names = Array.from({ length: 3000 }, (_, i) => `x-${i}`);
    const reply = `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${names.map((name) => `${name}: a\r\n`).join('')}\r\nok`;
    await using upstream = await startRaw((socket) => socket.write(reply));
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
    const text = await raw(gateway.httpPort, post);
    assert.match(text, /^HTTP\/1\.1 200 [^]*\r\n\r\nok$/);
    for (const name of names) assert.ok(text.includes(`\r\n${name}: a\r\n`), name);
  });

  test(`${engine}: a reply whose end is the end of its connection is passed`, async () => {
    await using upstream = await startRaw((socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nold'));
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)] });
    assert.match(await raw(gateway.httpPort, post), /^HTTP\/1\.1 200 [^]*\r\nold\r\n0\r\n\r\n$/);
  });
}
