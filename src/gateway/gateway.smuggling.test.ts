/**
 * Incident 16: what two readers of the same bytes could take differently is refused, the connection is closed, and
 * the connections to the upstream stay clean. Raw sockets, since no client would send this.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { connect as connectHttp2 } from 'node:http2';
import test from 'node:test';
import {
  ask,
  caPem,
  echo,
  proxyOf,
  raw,
  readUntil,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';

const app = 'app.example.com';
const open = { redirect_to_https: false } as const;
const post = `POST /victim HTTP/1.1\r\nHost: ${app}\r\n`;
const smuggled = `GET /smuggled HTTP/1.1\r\nHost: ${app}\r\n\r\n`;

/** Each with what follows a head that a lenient reader might split otherwise. */
const corpus: Record<string, string> = {
  'length and chunked': `${post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'chunked and length': `${post}Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n${smuggled}`,
  'two lengths': `${post}Content-Length: 0\r\nContent-Length: 60\r\n\r\n${smuggled}`,
  'two equal lengths': `${post}Content-Length: 0\r\nContent-Length: 0\r\n\r\n${smuggled}`,
  'a list of lengths': `${post}Content-Length: 0, 60\r\n\r\n${smuggled}`,
  'a negative length': `${post}Content-Length: -1\r\n\r\n${smuggled}`,
  'a signed length': `${post}Content-Length: +0\r\n\r\n${smuggled}`,
  'a hexadecimal length': `${post}Content-Length: 0x10\r\n\r\n${smuggled}`,
  'an empty length': `${post}Content-Length:\r\n\r\n${smuggled}`,
  'a huge length': `${post}Content-Length: 99999999999999999999999\r\n\r\n${smuggled}`,
  'an unknown coding': `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'chunked not last': `${post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
  'a second coding': `${post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'chunked twice': `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'chunked and identity fields': `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${smuggled}`,
  'a space before the colon': `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a tab before the colon': `${post}Content-Length\t: 5\r\n\r\n${smuggled}`,
  'a vertical tab in the value': `${post}Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a folded field': `${post}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a folded coding': `${post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'bare line feeds': `POST /victim HTTP/1.1\nHost: ${app}\nContent-Length: 0\n\n${smuggled}`,
  'a bare line feed in a field': `${post}X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a bare carriage return in a field': `${post}X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a null in a field': `${post}X-A: b\0c\r\n\r\n${smuggled}`,
  'a null in a name': `${post}X\0A: b\r\n\r\n${smuggled}`,
  'a field without colon': `${post}Nonsense\r\n\r\n${smuggled}`,
  'a field without name': `${post}: b\r\n\r\n${smuggled}`,
  'chunked over HTTP/1.0': `POST /victim HTTP/1.0\r\nHost: ${app}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'an unknown version': `POST /victim HTTP/1.2\r\nHost: ${app}\r\nContent-Length: 0\r\n\r\n${smuggled}`,
  'HTTP/0.9': `GET /victim\r\n\r\n${smuggled}`,
  'spaces in the target': `GET /vic tim HTTP/1.1\r\nHost: ${app}\r\n\r\n${smuggled}`,
  'a lower-case method': `get /victim HTTP/1.1\r\nHost: ${app}\r\n\r\n${smuggled}`,
  'a first line before the request': `\0\r\n${post}\r\n${smuggled}`,
  'two hosts': `${post}Host: other.example.com\r\nContent-Length: 0\r\n\r\n${smuggled}`,
  'a target with a backslash': `GET /a\\..\\b HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  'a target with an encoded slash': `GET /a%2f..%2fb HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  'a target above the root': `GET /../../etc HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  'a target with a fragment': `GET /a#b HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
};

/** The framing of these is clear: what follows on the connection may be a request of its own. */
const clear = new Set(
  ['target', 'hosts'].flatMap((word) => Object.keys(corpus).filter((name) => name.includes(word))),
);

for (const [name, bytes] of Object.entries(corpus))
  test(`refused: ${name}`, async () => {
    await using upstream = await startUpstream(echo);
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
    const text = await raw(gateway.httpPort, bytes, clear.has(name) ? /\r\n\r\n/ : undefined);
    assert.match(text, /^HTTP\/1\.1 (?:400|405|501|505) /);
    if (!clear.has(name)) assert.equal(text.match(/HTTP\/1\.1 \d/g)?.length, 1, 'one answer, and the end');
    assert.deepEqual(
      upstream.requests.filter(({ url }) => url !== '/clean').map(({ url }) => url),
      [],
    );
    const { status, json } = await ask(gateway, { path: '/clean' });
    assert.deepEqual([status, json.url, json.body], [200, '/clean', '']);
    await gateway.record(({ outcome }) => outcome === 'INVALID_INPUT');
  });

test('nothing that follows a request whose end is in doubt is a request', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const doubtful = [
    `${post}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n`,
    `GET /victim HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n`,
    `GET /victim HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc`,
    `GET /victim HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ];
  for (const bytes of doubtful) {
    const text = await raw(gateway.httpPort, bytes + smuggled);
    assert.match(text, /connection: close/i);
    assert.equal(text.match(/HTTP\/1\.1 \d/g)?.length, 1, bytes);
  }
  assert.ok(upstream.requests.every(({ url }) => url === '/victim'));
});

const brokenBodies: Record<string, string> = {
  'a chunk size that is no number': 'zz\r\nabc\r\n0\r\n\r\n',
  'a chunk longer than its size': '3\r\nabcdef\r\n0\r\n\r\n',
  'a chunk ended by a bare line feed': '3\nabc\r\n0\r\n\r\n',
  'a huge chunk size': 'fffffffffffffffff\r\nabc\r\n0\r\n\r\n',
  'a negative chunk size': '-3\r\nabc\r\n0\r\n\r\n',
  'a chunk size with a space': '3 \r\nabc\r\n0\r\n\r\n',
  'a flood of chunk extensions': `3;${'x'.repeat(64 * 1024)}\r\nabc\r\n0\r\n\r\n`,
};

for (const [name, body] of Object.entries(brokenBodies))
  test(`a body is broken off, and the upstream connection with it: ${name}`, async () => {
    await using upstream = await startUpstream(echo);
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
    const text = await raw(gateway.httpPort, `${post}Transfer-Encoding: chunked\r\n\r\n${body}${smuggled}`);
    assert.match(text, /^(?:HTTP\/1\.1 4(?:00|13) |$)/);
    const { status, json } = await ask(gateway, { path: '/clean' });
    assert.deepEqual([status, json.url, json.body], [200, '/clean', '']);
    assert.ok(upstream.requests.every(({ url }) => url !== '/smuggled'));
  });

test('chunk extensions are not passed on', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const text = await raw(
    gateway.httpPort,
    `${post}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;evil=1\r\nabc\r\n0\r\n\r\n`,
  );
  assert.match(text, /"body":"abc"/);
});

test('a client that breaks off in the middle of its body leaves nothing on the upstream connection', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`${post}Content-Length: 100\r\n\r\nGET /smuggled HTTP/1.1\r\n`);
  while (upstream.requests.length === 0) await once(upstream.server, 'request');
  socket.destroy();
  await gateway.record(({ outcome }) => outcome === 'CANCELLED');
  const { status, json } = await ask(gateway, { path: '/clean' });
  assert.deepEqual([status, json.url], [200, '/clean']);
});

test('a malformed request behind a good one does not take its answer', async () => {
  await using upstream = await startUpstream(
    (_request, response) => void setImmediate(() => response.end('first')),
  );
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, open)] });
  const text = await raw(gateway.httpPort, `GET / HTTP/1.1\r\nHost: ${app}\r\n\r\nnonsense\r\n\r\n`);
  assert.doesNotMatch(text, /^HTTP\/1\.1 400/);
});

test('an HTTP/2 request whose length is not what it says is reset, and the upstream stays clean', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = connectHttp2(`https://${app}:${gateway.httpsPort}`, {
    ca: caPem,
    lookup: (_hostname: string, _options: unknown, done: any) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]),
  } as never);
  session.on('error', () => {});
  const stream = session.request({
    ':method': 'POST',
    ':path': '/victim',
    ':authority': app,
    'content-length': '3',
  });
  stream.on('error', () => {});
  const closed = new Promise((resolve) => stream.once('close', resolve));
  stream.end(`abc${smuggled}`);
  await closed;
  session.destroy();
  const { status, json } = await ask(gateway, { path: '/clean' });
  assert.deepEqual([status, json.url], [200, '/clean']);
});

/** An upstream that answers the first request of each connection with these bytes. */
async function startRaw(answerOf: (connection: number) => string) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const answer = answerOf(sockets.size);
    socket.on('error', () => {}).once('data', () => socket.write(answer));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

test('a reply with an ambiguous length is refused, and its connection is not used again', async () => {
  const evil = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
  await using upstream = await startRaw((connection) =>
    connection === 1
      ? `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${evil}`
      : 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean',
  );
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(gateway, { method: 'POST' })).status, 502);
  assert.equal((await ask(gateway)).body, 'clean');
  assert.equal(upstream.sockets.size, 2);
});

test('bytes behind a reply are not the next reply', async () => {
  await using upstream = await startRaw(
    () => 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
  );
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(gateway)).body, 'first');
  assert.equal((await ask(gateway)).body, 'first');
  assert.equal(upstream.sockets.size, 2);
});

test('a socket that speaks something else is told so and closed', async () => {
  await using gateway = await startGateway();
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03');
  assert.match(await readUntil(socket), /^HTTP\/1\.1 400 /);
});
