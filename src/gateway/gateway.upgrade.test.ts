/** WebSocket through the gateway: over HTTP/1.1, over HTTP/2 (RFC 8441), refused, cut, drained. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import {
  type Fixture,
  caPem,
  echo,
  http2Session,
  principalOf,
  proxyOf,
  readUntil,
  routeOf,
  startGateway,
  startUpstream,
  tlsSocket,
  type Upstream,
} from '../../test/support/gateway.ts';

const app = 'app.example.com';
const tokens = { good: principalOf('tok_good', ['logs:read']) };
const policy = { auth: { kind: 'token', permission: 'logs:read' } } as const;

function echoSockets(upstream: Upstream): WebSocketServer {
  const server = new WebSocketServer({ server: upstream.server });
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  return server;
}

const sni = { servername: app };

function open(gateway: Fixture, headers: Record<string, string> = {}, path = '/socket?x'): WebSocket {
  const socket = new WebSocket(`wss://127.0.0.1:${gateway.httpsPort}${path}`, ['chat'], {
    ca: caPem,
    headers: { host: app, ...headers },
    checkServerIdentity: () => undefined as never,
    // Passed on to the TLS socket, which the types don't know.
    ...sni,
  });
  socket.on('error', () => {});
  return socket;
}

test('messages pass both ways, and the handshake reaches the upstream with the rules applied', async () => {
  await using upstream = await startUpstream(echo);
  const server = echoSockets(upstream);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = open(gateway, { 'x-auth-user': 'root' });
  const [request] = await once(server, 'connection').then(([, message]) => [message]);
  assert.equal(request.url, '/socket?x');
  assert.equal(request.headers['x-auth-user'], undefined);
  assert.equal(request.headers['x-forwarded-for'], '127.0.0.1');
  if (socket.readyState !== WebSocket.OPEN) await once(socket, 'open');
  assert.equal(socket.protocol, 'chat');
  for (const text of ['one', 'x'.repeat(300_000)]) {
    socket.send(text);
    const [data] = await once(socket, 'message');
    assert.equal(String(data), text);
  }
  socket.close();
  await once(socket, 'close');
  const record = await gateway.record(() => true);
  assert.deepEqual([record.status, record.outcome, record.detail?.request], [101, 'OK', 'upgrade']);
  assert.ok((record.bytes_out ?? 0) > 300_000);
  assert.equal(gateway.gateway.connections().requests, 0);
});

test('an upstream that does not upgrade is heard', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(426, { 'x-why': 'not here' });
    response.end('no');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const [, response] = await once(open(gateway), 'unexpected-response');
  assert.deepEqual([response.statusCode, response.headers['x-why']], [426, 'not here']);
});

test('the policy holds for upgrades, and the credential is not passed on', async () => {
  await using upstream = await startUpstream(echo);
  const server = echoSockets(upstream);
  await using gateway = await startGateway({ tokens, proxies: [proxyOf(app, upstream.url, policy)] });
  const [, refused] = await once(open(gateway), 'unexpected-response');
  assert.equal(refused.statusCode, 401);
  const socket = open(gateway, { authorization: 'Bearer good' });
  const [, request] = await once(server, 'connection');
  assert.equal(request.headers.authorization, undefined);
  socket.terminate();
});

test('incident 30: revoking a token cuts the sockets that it opened', async () => {
  await using upstream = await startUpstream(echo);
  echoSockets(upstream);
  await using gateway = await startGateway({ tokens, proxies: [proxyOf(app, upstream.url, policy)] });
  const socket = open(gateway, { authorization: 'Bearer good' });
  await once(socket, 'open');
  gateway.live.cut('tok_good');
  await once(socket, 'close');
  assert.equal((await gateway.record(() => true)).outcome, 'UNAUTHENTICATED');
});

test('an upstream that is away is 502 for an upgrade too', async () => {
  await using gateway = await startGateway({ proxies: [proxyOf(app, 'http://127.0.0.1:1')] });
  const [, response] = await once(open(gateway), 'unexpected-response');
  assert.equal(response.statusCode, 502);
  assert.match(String(response.headers['x-trace-id']), /^[0-9a-f]{32}$/);
});

test('bytes behind a refused handshake are never taken for a request', async () => {
  await using upstream = await startUpstream((_request, response) => void response.end('plain'));
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(
    `GET /a HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  );
  const text = await readUntil(socket);
  assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1);
  assert.deepEqual(
    upstream.requests.map(({ url }) => url),
    ['/a'],
  );
});

test('other protocols pass raw, and either side may end first', async () => {
  await using upstream = await startUpstream(echo);
  upstream.server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nready\n');
    socket.pipe(socket);
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nearly\n`);
  let text = '';
  while (!text.includes('early')) text += (await once(socket, 'data'))[0];
  assert.match(text, /^HTTP\/1\.1 101 [^]*upgrade: lines[^]*ready\nearly\n$/i);
  socket.end('last\n');
  assert.match(await readUntil(socket), /last/);
});

test('a WebSocket over HTTP/2 (RFC 8441) reaches an HTTP/1.1 upstream', async () => {
  await using upstream = await startUpstream(echo);
  const server = echoSockets(upstream);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'https',
    ':path': '/socket',
    ':authority': app,
    'sec-websocket-version': '13',
    'sec-websocket-protocol': 'chat',
  });
  const [, request] = await once(server, 'connection');
  assert.equal(request.url, '/socket');
  const [headers] = await once(stream, 'response');
  assert.deepEqual(
    [headers[':status'], headers['sec-websocket-protocol'], headers['sec-websocket-accept']],
    [200, 'chat', undefined],
  );
  // A masked text frame "hi" with a mask of zeros; the echo comes unmasked.
  stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  const [frame] = await once(stream, 'data');
  assert.deepEqual([...frame], [0x81, 0x02, 0x68, 0x69]);
  stream.close();
  const record = await gateway.record(() => true);
  assert.deepEqual([record.status, record.detail?.protocol], [200, 'h2']);
  session.destroy();
});

test('a WebSocket over HTTP/2 is the GET that its upstream gets: the routes for GET decide', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url)],
    routes: [routeOf(app, '/secret', upstream.url, { methods: ['GET'], ...policy })],
    tokens,
  });
  const session = await http2Session(gateway);
  const handshake = async (more: Record<string, string>) => {
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'https',
      ':path': '/secret',
      ':authority': app,
      'sec-websocket-version': '13',
      ...more,
    });
    const [{ ':status': status }] = await once(stream, 'response');
    stream.close();
    return status;
  };
  assert.equal(await handshake({}), 401);
  assert.equal(upstream.requests.length, 0);
  assert.equal(await handshake({ authorization: 'Bearer good' }), 502, 'it does not upgrade');
  assert.equal(upstream.requests[0]?.method, 'GET');
  session.destroy();
});

test('over HTTP/2 what an upstream answers without upgrading never looks like an open WebSocket', async () => {
  let status = 0;
  await using upstream = await startUpstream((_request, response) => response.writeHead(status).end('plain'));
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  for (const [answered, expected] of [
    [200, 502],
    [204, 502],
    [299, 502],
    [302, 302],
    [404, 404],
    [500, 500],
  ] as const) {
    status = answered;
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'https',
      ':path': '/',
      ':authority': app,
    });
    const [{ ':status': got }] = await once(stream, 'response');
    assert.equal(got, expected, String(answered));
    stream.close();
  }
  session.destroy();
});

test('over HTTP/2 no other protocol is tunnelled than WebSocket', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  for (const protocol of ['connect-udp', 'webtransport', 'WebSocket2', 'h2c', 'tcp']) {
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': protocol,
      ':scheme': 'https',
      ':path': '/',
      ':authority': app,
    });
    const [{ ':status': status }] = await once(stream, 'response');
    assert.equal(status, 501, protocol);
    stream.close();
  }
  assert.equal(upstream.requests.length, 0);
  session.destroy();
});

test('shutting down ends tunnels at once', async () => {
  await using upstream = await startUpstream(echo);
  echoSockets(upstream);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = open(gateway);
  await once(socket, 'open');
  const closed = once(socket, 'close');
  await gateway.gateway.drain();
  await closed;
});
