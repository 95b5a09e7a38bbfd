/** The gateway end to end, over real sockets: HTTP/1.1 and HTTP/2 clients, TLS, real upstreams. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import test from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import {
  ask,
  ask2,
  caPem,
  echo,
  http2Session,
  leafFor,
  principalOf,
  proxyOf,
  raw,
  readUntil,
  routeOf,
  settled,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';

test('a request reaches the upstream with its canonical path, its query and its body', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { status, json } = await ask(gateway, {
    method: 'POST',
    path: '/a/./b/../%7Ec?x=1%20&y',
    body: 'hello',
  });
  assert.equal(status, 200);
  assert.deepEqual([json.method, json.url, json.body], ['POST', '/a/~c?x=1%20&y', 'hello']);
});

test('HTTP/2 clients are served like HTTP/1.1 ones, with cookies joined', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  const stream = session.request({
    ':path': '/x',
    ':method': 'POST',
    ':authority': app,
    cookie: ['a=1', 'b=2'],
  });
  stream.end('over two');
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const seen = JSON.parse(Buffer.concat(chunks).toString());
  assert.equal(seen.body, 'over two');
  assert.equal(seen.headers.cookie, 'a=1; b=2');
  assert.equal(seen.headers.host, app);
  session.close();
});

test('what a client claims to be never reaches the upstream, in any spelling', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { json } = await ask(gateway, {
    headers: {
      'X-Auth-User': 'root',
      x_auth_user: 'root',
      'x.auth.user': 'root',
      'Remote-User': 'root',
      'X-Forwarded-For': '192.0.2.9',
      'X-Forwarded-Proto': 'http',
      Forwarded: 'for=192.0.2.9',
      'X-Real-IP': '192.0.2.9',
      'X-Original-URL': '/admin',
      Connection: 'close, X-Secret-Hop',
      'X-Secret-Hop': 'x',
      'X-Kept': 'yes',
    },
  });
  assert.equal(json.headers['x-kept'], 'yes');
  assert.equal(json.headers['x-forwarded-for'], '127.0.0.1');
  assert.equal(json.headers['x-forwarded-proto'], 'https');
  const text = JSON.stringify(json.rawHeaders);
  for (const gone of ['root', '192.0.2.9', '/admin', 'X-Secret-Hop']) assert.ok(!text.includes(gone), gone);
});

test('a trusted proxy in front tells client and scheme; its chain is continued', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: true })],
    settings: { trustedProxies: ['127.0.0.0/8'] },
  });
  const text = await raw(
    gateway.httpPort,
    `GET / HTTP/1.1\r\nHost: ${app}\r\nX-Forwarded-For: 203.0.113.7, 198.51.100.1\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n`,
  );
  const seen = JSON.parse(text.slice(text.indexOf('{')));
  assert.equal(seen.headers['x-forwarded-for'], '203.0.113.7, 198.51.100.1, 127.0.0.1');
  assert.equal(seen.headers['x-forwarded-proto'], 'https');
  const { client_address } = await gateway.record(() => true);
  assert.equal(client_address, '198.51.100.1');
});

test('what a proxy on this machine hands on is not local, whether or not it is trusted', async () => {
  for (const trustedProxies of [[], ['127.0.0.0/8']]) {
    await using gateway = await startGateway({ settings: { trustedProxies } });
    const said = (field: string) =>
      raw(gateway.httpPort, `GET /v1/x HTTP/1.1\r\nHost: localhost\r\n${field}Connection: close\r\n\r\n`);
    assert.match(await said(''), /^HTTP\/1\.1 200 /);
    for (const field of ['X-Forwarded-For: 203.0.113.7', 'Forwarded: for=203.0.113.7', 'Via: 1.1 front'])
      assert.match(await said(`${field}\r\n`), /^HTTP\/1\.1 (?:30[78]|421) /, field);
  }
});

test('repeated Set-Cookie fields stay apart, over both protocols', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.setHeader('set-cookie', ['a=1; Path=/', 'b=2']);
    response.end('ok');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const one = await ask(gateway);
  assert.deepEqual(one.headers['set-cookie'], ['a=1; Path=/', 'b=2']);
  const session = await http2Session(gateway);
  const two = await ask2(session, {});
  assert.deepEqual(two.headers['set-cookie'], ['a=1; Path=/', 'b=2']);
  session.close();
});

test('a compressed body passes untouched and nothing is compressed', async () => {
  const packed = gzipSync('text '.repeat(1000));
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/plain') response.end('text '.repeat(1000));
    else {
      response.setHeader('content-encoding', 'gzip');
      response.end(packed);
    }
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n`);
  const answer = Buffer.from(await readUntil(socket), 'latin1');
  const body = answer.subarray(answer.indexOf('\r\n\r\n') + 4);
  assert.equal(gunzipSync(body).toString(), 'text '.repeat(1000));
  const plain = await ask(gateway, { path: '/plain', headers: { 'accept-encoding': 'gzip' } });
  assert.equal(plain.headers['content-encoding'], undefined);
});

test('the first event of an event stream arrives before the stream goes on', async () => {
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: one\n\n');
    void mayGoOn.then(() => response.end('data: two\n\n'));
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n`);
  let text = '';
  while (!text.includes('data: one')) text += (await once(socket, 'data'))[0];
  goOn();
  text += await readUntil(socket);
  assert.match(text, /data: two/);
});

test('the head of a reply is not held back for its body', async () => {
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  await using upstream = await startUpstream((_request, response) => {
    response.flushHeaders();
    void mayGoOn.then(() => response.end('late'));
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`);
  let text = '';
  while (!text.includes('\r\n\r\n')) text += (await once(socket, 'data'))[0];
  goOn();
  assert.match(text + (await readUntil(socket)), /late/);
});

test('a client that does not read stops the upstream', async () => {
  let written = 0;
  await using upstream = await startUpstream((_request, response) => {
    const chunk = Buffer.alloc(64 * 1024);
    const more = () => {
      while (response.write(chunk)) written += chunk.length;
      written += chunk.length;
      if (written > 64 * 1024 * 1024) response.destroy();
    };
    response.on('drain', more);
    more();
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  socket.pause();
  await once(upstream.server, 'request');
  await settled(() => written);
  assert.ok(written < 32 * 1024 * 1024, `${written} bytes were taken from the upstream`);
  socket.destroy();
});

test('an upstream that does not read stops the client', async () => {
  const server = createTcpServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connected = once(server, 'connection');
  const { port } = server.address() as AddressInfo;
  await using gateway = await startGateway({ proxies: [proxyOf(app, `http://127.0.0.1:${port}`)] });
  const socket = await tlsSocket(gateway, app);
  socket.on('error', () => {});
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 1000000000\r\n\r\n`);
  const chunk = Buffer.alloc(64 * 1024);
  let written = 0;
  const more = () => {
    while (written < 100 * 1024 * 1024 && socket.write(chunk)) written += chunk.length;
    written += chunk.length;
  };
  socket.on('drain', more);
  more();
  await settled(() => written);
  assert.ok(written < 100 * 1024 * 1024, `${written} bytes were taken from the client`);
  socket.destroy();
  (await connected)[0].destroy();
  server.close();
});

test('trailers pass both ways', async () => {
  await using upstream = await startUpstream((request, response) => {
    request.resume();
    request.on('end', () => {
      response.writeHead(200, { trailer: 'x-sum', 'x-got': String(request.trailers['x-check']) });
      response.write('body');
      response.addTrailers({ 'x-sum': '42', 'set-cookie': 'evil=1' });
      response.end();
    });
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(
    `POST / HTTP/1.1\r\nHost: ${app}\r\nTransfer-Encoding: chunked\r\nTrailer: x-check\r\nTE: trailers\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Check: seven\r\nX-Auth-User: root\r\n\r\n`,
  );
  const text = await readUntil(socket);
  assert.match(text, /x-got: seven/);
  assert.match(text, /\r\n0\r\nx-sum: 42\r\n\r\n$/);
  const session = await http2Session(gateway);
  const answer = await ask2(session, {});
  assert.equal(answer.trailers['x-sum'], '42');
  session.close();
});

test('Expect: 100-continue is answered when the upstream wants the body', async () => {
  await using upstream = await startUpstream(echo);
  upstream.server.on('checkContinue', (request, response) => {
    if (request.url === '/no') {
      response.writeHead(401, { connection: 'close' });
      response.end('no');
      return;
    }
    response.writeContinue();
    echo(request, response);
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(
    `POST /yes HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`,
  );
  let text = '';
  while (!text.includes('\r\n\r\n')) text += (await once(socket, 'data'))[0];
  assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\n/);
  socket.write('hello');
  text += await readUntil(socket);
  assert.match(text, /"body":"hello"/);
});

test('Expect: 100-continue is not answered when the upstream does not want the body', async () => {
  await using upstream = await startUpstream(echo);
  upstream.server.on('checkContinue', (_request, response) => {
    response.writeHead(401, { connection: 'close' });
    response.end('no');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`POST / HTTP/1.1\r\nHost: ${app}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n`);
  const text = await readUntil(socket, /no$/);
  assert.match(text, /^HTTP\/1\.1 401 /);
  assert.match(text, /connection: close/i);
});

test('another expectation is refused', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { status } = await ask(gateway, { headers: { expect: 'tea' } });
  assert.equal(status, 417);
});

test('HEAD, 204 and 304 replies have no body, and the length of HEAD stays', async () => {
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/204') response.writeHead(204).end();
    else if (request.url === '/304') response.writeHead(304, { etag: '"x"' }).end();
    else
      response
        .writeHead(200, { 'content-length': '1234' })
        .end(request.method === 'HEAD' ? '' : 'x'.repeat(1234));
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const head = await ask(gateway, { method: 'HEAD' });
  assert.deepEqual([head.status, head.headers['content-length'], head.body], [200, '1234', '']);
  assert.deepEqual(
    [(await ask(gateway, { path: '/204' })).status, (await ask(gateway, { path: '/204' })).body],
    [204, ''],
  );
  const unchanged = await ask(gateway, { path: '/304' });
  assert.deepEqual([unchanged.status, unchanged.headers.etag, unchanged.body], [304, '"x"', '']);
  const session = await http2Session(gateway);
  assert.equal((await ask2(session, { ':method': 'HEAD' })).headers['content-length'], '1234');
  assert.equal((await ask2(session, { ':path': '/204' })).status, 204);
  session.close();
});

test('a reply of unknown length is chunked, and one of known length is not', async () => {
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/known') response.setHeader('content-length', '2');
    response.write('o');
    response.end('k');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(gateway)).headers['transfer-encoding'], 'chunked');
  const known = await ask(gateway, { path: '/known' });
  assert.deepEqual([known.headers['content-length'], known.headers['transfer-encoding']], ['2', undefined]);
});

test('absolute-form targets are served when they name the Host, and refused when they do not', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  const good = await raw(
    gateway.httpPort,
    `GET http://${app}/x?y HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`,
  );
  assert.match(good, /"url":"\/x\?y"/);
  const bad = await raw(
    gateway.httpPort,
    `GET http://other.example.com/x HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`,
  );
  assert.match(bad, /^HTTP\/1\.1 400 /);
});

test('plain HTTP redirects, or is refused, as the proxy says', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [
      proxyOf('redirects.example.com', upstream.url),
      proxyOf('serves.example.com', upstream.url, { redirect_to_https: false }),
      proxyOf('refuses.example.com', upstream.url, { enable_http: false }),
      proxyOf('plain.example.com', upstream.url, { enable_https: false }),
    ],
  });
  const get = (host: string, method = 'GET') =>
    raw(gateway.httpPort, `${method} /a?b HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  assert.match(
    await get('redirects.example.com'),
    /^HTTP\/1\.1 308 [^]*location: https:\/\/redirects\.example\.com\/a\?b\r/,
  );
  assert.match(await get('redirects.example.com', 'DELETE'), /^HTTP\/1\.1 308 /);
  assert.match(
    await get(`redirects.example.com:${gateway.httpPort}`),
    new RegExp(`location: https://redirects\\.example\\.com:${gateway.httpsPort}/a`),
  );
  assert.match(await get('serves.example.com'), /^HTTP\/1\.1 200 /);
  assert.match(await get('refuses.example.com'), /^HTTP\/1\.1 404 /);
  assert.match(await get('plain.example.com'), /^HTTP\/1\.1 200 /);
  assert.equal((await ask(gateway, { host: 'plain.example.com' })).status, 404);
});

test('incident 17: a Host that is not the server name of the TLS connection is misdirected', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url), proxyOf('secret.example.com', upstream.url)],
  });
  const send = async (servername: string, host: string) => {
    const socket = await tlsSocket(gateway, servername);
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    return (await readUntil(socket)).slice(9, 12);
  };
  assert.equal(await send(app, app), '200');
  assert.equal(await send(app, 'APP.EXAMPLE.COM.'), '200');
  assert.equal(await send(app, 'secret.example.com'), '421');
  assert.equal(await send(app, '127.0.0.1'), '421');
  assert.equal(await send('', app), '421');
  const session = await http2Session(gateway);
  assert.equal((await ask2(session, { ':authority': 'secret.example.com' })).status, 421);
  assert.equal((await ask2(session, { host: 'secret.example.com' })).status, 400);
  session.close();
});

test('a connection without a server name is served for a loopback address', async () => {
  await using gateway = await startGateway();
  const { status, body } = await ask(gateway, { host: `127.0.0.1:${gateway.httpsPort}`, path: '/healthz' });
  assert.deepEqual([status, body], [200, 'ok\n']);
});

test('an unknown hostname is misdirected, in text, HTML or JSON as asked, with the trace id of the record', async () => {
  await using gateway = await startGateway();
  const get = (accept: string) =>
    raw(
      gateway.httpPort,
      `GET /x HTTP/1.1\r\nHost: no.example.com\r\nAccept: ${accept}\r\nConnection: close\r\n\r\n`,
    );
  const text = await get('*/*');
  assert.match(text, /^HTTP\/1\.1 421 /);
  const traceId = /x-trace-id: ([0-9a-f]{32})/.exec(text)?.[1];
  assert.ok(text.includes(`Trace id: ${traceId}`));
  assert.equal((await gateway.record(() => true)).trace_id, traceId);
  assert.match(await get('text/html,*/*'), /content-type: text\/html[^]*<h1>Not served here<\/h1>/);
  assert.match(await get('application/json'), /\{"error":\{"code":"NOT_FOUND"/);
});

test('the access record has no query, and says who, what and how long', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  await ask(gateway, {
    method: 'POST',
    path: '/login?password=canary',
    body: 'secret',
    headers: { 'user-agent': 'test/1', cookie: 'canary', authorization: 'Bearer canary' },
  });
  const record = await gateway.record(({ method }) => method === 'POST');
  assert.deepEqual(
    [
      record.path,
      record.status,
      record.hostname,
      record.user_agent,
      record.bytes_in,
      record.outcome,
      record.principal,
    ],
    ['/login', 200, app, 'test/1', 6, 'OK', 'anonymous'],
  );
  assert.ok((record.bytes_out ?? 0) > 0 && (record.duration_ms ?? -1) >= 0);
  assert.ok(!JSON.stringify(gateway.records).includes('canary'));
});

test('header rules remove and set, in both directions, and an owner may set what a client may not', async () => {
  await using upstream = await startUpstream((request, response) => {
    response.setHeader('server', 'secret/1.0');
    echo(request, response);
  });
  const proxy = proxyOf(app, upstream.url, {
    preserve_host: false,
    request_headers: { remove: ['X-Drop'], set: { 'X-Auth-User': 'proxy', 'X-Set': 'b' } },
    response_headers: { remove: ['Server'], set: { 'x-frame-options': 'DENY' } },
  });
  await using gateway = await startGateway({ proxies: [proxy] });
  const { headers, json } = await ask(gateway, { headers: { 'x-drop': '1', 'x-set': 'a' } });
  assert.deepEqual(
    [json.headers['x-drop'], json.headers['x-set'], json.headers['x-auth-user']],
    [undefined, 'b', 'proxy'],
  );
  assert.equal(json.headers.host, new URL(upstream.url).host);
  assert.deepEqual([headers.server, headers['x-frame-options']], [undefined, 'DENY']);
});

test('routes choose target, prefix and policy', async () => {
  await using one = await startUpstream((_request, response) => void response.end('one'));
  await using two = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, one.url)],
    routes: [
      routeOf(app, '/api', `${two.url}/base`, { strip_prefix: true }),
      routeOf(app, '/closed', two.url, { auth: { kind: 'token', permission: 'logs:read' } }),
    ],
  });
  assert.equal((await ask(gateway, { path: '/' })).body, 'one');
  assert.equal((await ask(gateway, { path: '/api/x?y' })).json.url, '/base/x?y');
  for (const path of ['/closed', '/closed/x', '/%63losed', '/api/../closed', '//closed', '/closed;x'])
    assert.equal((await ask(gateway, { path })).status, 401, path);
});

test('the token policy asks, checks permission and hostname, and never passes the credential on', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { auth: { kind: 'token', permission: 'logs:read' } })],
    tokens: {
      good: principalOf('tok_good', ['logs:read']),
      here: principalOf('tok_here', ['logs:read'], [app]),
      there: principalOf('tok_there', ['logs:read'], ['other.example.com']),
      poor: principalOf('tok_poor', ['proxies:read']),
    },
  });
  const nobody = await ask(gateway, { path: '/?access_token=good' });
  assert.equal(nobody.status, 401);
  assert.match(nobody.headers['www-authenticate'] ?? '', /^Bearer scope="logs:read"$/);
  const bearer = (token: string) => ask(gateway, { headers: { authorization: `Bearer ${token}` } });
  assert.match((await bearer('wrong')).headers['www-authenticate'] ?? '', /error="invalid_token"/);
  for (const token of ['there', 'poor']) assert.equal((await bearer(token)).status, 403, token);
  for (const token of ['good', 'here']) {
    const { status, json } = await bearer(token);
    assert.equal(status, 200, token);
    assert.equal(json.headers.authorization, undefined);
  }
  const twice = await ask(gateway, { headers: { authorization: ['Bearer good', 'Bearer good'] } });
  assert.equal(twice.status, 401);
  assert.equal((await gateway.record(({ status }) => status === 200)).principal, 'tok_good');
});

test('without a policy the credential is the upstream’s own business, but one of ours is never passed on', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const theirs = await ask(gateway, { headers: { authorization: 'Bearer theirs' } });
  assert.equal(theirs.json.headers.authorization, 'Bearer theirs');
  const ours = await ask(gateway, { headers: { authorization: 'bearer  ohp_secret' } });
  assert.equal(ours.json.headers.authorization, undefined);
});

test('a policy of a kind that is not known denies', async () => {
  await using upstream = await startUpstream(echo);
  const proxy = { ...proxyOf(app, upstream.url), auth: { kind: 'future' } as never };
  await using gateway = await startGateway({
    proxies: [proxy],
    tokens: { good: principalOf('tok_good', ['logs:read']) },
  });
  assert.equal((await ask(gateway)).status, 401);
  assert.equal((await ask(gateway, { headers: { authorization: 'Bearer good' } })).status, 403);
});

test('revoking a token cuts a stream that it opened', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: one\n\n');
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { auth: { kind: 'token', permission: 'logs:read' } })],
    tokens: { good: principalOf('tok_good', ['logs:read']) },
  });
  const socket = await tlsSocket(gateway, app);
  socket.on('error', () => {});
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nAuthorization: Bearer good\r\n\r\n`);
  await once(socket, 'data');
  assert.equal(gateway.live.size, 1);
  gateway.live.cut('tok_good');
  if (!socket.destroyed) await once(socket, 'close');
  const record = await gateway.record(() => true);
  assert.equal(record.outcome, 'UNAUTHENTICATED');
  assert.equal(gateway.live.size, 0);
});

test('what fails upstream is 502, 503 or 504, and never tells where the upstream is', async () => {
  const silent = createTcpServer().listen(0, '127.0.0.1');
  const garbage = createTcpServer((socket) => socket.end('SSH-2.0-server\r\n')).listen(0, '127.0.0.1');
  const hangup = createTcpServer((socket) => socket.once('data', () => socket.destroy())).listen(
    0,
    '127.0.0.1',
  );
  await Promise.all([silent, garbage, hangup].map((server) => once(server, 'listening')));
  const urlOf = (server: typeof silent) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await using gateway = await startGateway({
    proxies: [
      proxyOf('refused.example.com', 'http://127.0.0.1:1'),
      proxyOf('nowhere.example.com', 'http://nowhere.invalid'),
      proxyOf('silent.example.com', urlOf(silent), { response_timeout_ms: 30 }),
      proxyOf('garbage.example.com', urlOf(garbage)),
      proxyOf('hangup.example.com', urlOf(hangup)),
      proxyOf('metadata.example.com', 'http://169.254.169.254/'),
      proxyOf('mixed.example.com', 'http://rebind.example.org/'),
    ],
    lookup: (hostname, _options, done) => {
      if (hostname === 'rebind.example.org')
        done(null, [
          { address: '127.0.0.1', family: 4 },
          { address: '169.254.169.254', family: 4 },
        ]);
      else done(Object.assign(new Error('no'), { code: 'ENOTFOUND' }), []);
    },
  });
  const expected = {
    refused: 502,
    nowhere: 502,
    silent: 504,
    garbage: 502,
    hangup: 502,
    metadata: 502,
    mixed: 502,
  };
  for (const [name, status] of Object.entries(expected)) {
    const answer = await ask(gateway, { host: `${name}.example.com` });
    assert.equal(answer.status, status, name);
    assert.match(answer.headers['x-trace-id'] as string, /^[0-9a-f]{32}$/);
    assert.doesNotMatch(answer.body, /127\.0|169\.254|invalid|ECONN/);
  }
  const reason = (name: string) =>
    gateway.records.find(({ kind, hostname }) => kind === 'access' && hostname === `${name}.example.com`)
      ?.detail;
  assert.match(String(reason('metadata')?.reason), /metadata service/);
  assert.match(String(reason('mixed')?.reason), /rebind\.example\.org/);
  for (const server of [silent, garbage, hangup]) server.close();
});

test('the gateway’s own ports are never a target, by any name', async () => {
  await using gateway = await startGateway({
    lookup: (_hostname, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
  });
  const { publisher } = gateway.gateway;
  assert.throws(
    () => publisher.prepare({ putProxies: [proxyOf(app, `http://127.0.0.1:${gateway.httpPort}`)] }),
    /PRECONDITION_FAILED|served by this system/,
  );
  publisher.prepare({ putProxies: [proxyOf(app, `http://back.example.org:${gateway.httpPort}`)] }).publish();
  assert.equal((await ask(gateway)).status, 502);
});

test('a target that leads back here by a way around is a loop', async () => {
  await using upstream = await startUpstream((request, response) => {
    // A front of somebody's that forwards what it gets to us again.
    void again(String(request.headers['cdn-loop'])).then((text) => response.end(text.slice(0, 12)));
  });
  const again = async (loop: string) => {
    const socket = await tlsSocket(gateway, app);
    socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\nCDN-Loop: ${loop}\r\nConnection: close\r\n\r\n`);
    return readUntil(socket);
  };
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(gateway)).body, 'HTTP/1.1 508');
});

test('an HTTPS upstream is verified by its own name, whatever Host says, with the authority that is set', async () => {
  const server = createTlsServer(await leafFor('back.example.org'), echo).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const target = `https://back.example.org:${port}`;
  await using gateway = await startGateway({
    proxies: [
      proxyOf(app, target, { upstream_ca_pem: caPem }),
      proxyOf('b.example.com', target, { upstream_ca_pem: caPem }),
      proxyOf('untrusted.example.com', target),
      proxyOf('other.example.com', `https://other.example.org:${port}`, { upstream_ca_pem: caPem }),
      proxyOf('off.example.com', target, { verify_upstream_tls: false }),
    ],
    lookup: (_hostname, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
  });
  for (const host of [app, 'b.example.com', 'off.example.com']) {
    const { status, json } = await ask(gateway, { host });
    assert.equal(status, 200, host);
    assert.equal(json.headers.host, host);
  }
  let connections = 0;
  server.on('secureConnection', () => connections++);
  for (const host of [app, 'b.example.com', app, 'b.example.com'])
    assert.equal((await ask(gateway, { host })).status, 200);
  assert.equal(connections, 0, 'another Host is no reason for another connection');
  for (const host of ['untrusted.example.com', 'other.example.com'])
    assert.equal((await ask(gateway, { host })).status, 502, host);
  server.closeAllConnections();
  server.close();
});

test('an HTTPS upstream that is an address is verified by the address, and gets no server name', async () => {
  const server = createTlsServer(await leafFor('127.0.0.1'), echo).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await using gateway = await startGateway({
    proxies: [proxyOf(app, `https://127.0.0.1:${port}`, { upstream_ca_pem: caPem })],
  });
  const connected = once(server, 'secureConnection');
  assert.equal((await ask(gateway)).status, 200);
  assert.equal((await connected)[0].servername, false);
  server.closeAllConnections();
  server.close();
});

test('connections to an upstream are used again, and a stale one is no error', async () => {
  await using upstream = await startUpstream((request, response) => {
    if (request.url === '/last') response.end('x', () => setImmediate(() => request.socket.destroy()));
    else echo(request, response);
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  for (let i = 0; i < 5; i++) assert.equal((await ask(gateway)).status, 200);
  assert.equal(upstream.connections, 1);
  for (let i = 0; i < 20; i++) {
    assert.equal((await ask(gateway, { path: '/last' })).status, 200);
    assert.equal((await ask(gateway)).status, 200);
  }
});

test('a request that may have had an effect is never sent twice', async () => {
  await using upstream = await startUpstream((request) => request.socket.destroy());
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(gateway, { method: 'POST', body: 'x' })).status, 502);
  assert.equal((await ask(gateway, { method: 'POST' })).status, 502);
  assert.equal((await ask(gateway, { method: 'PUT', body: 'x' })).status, 502);
  assert.equal(upstream.requests.length, 3);
  assert.equal((await ask(gateway)).status, 502);
  assert.equal(upstream.requests.length, 5);
});

test('a client that goes away takes its upstream request with it', async () => {
  const { promise: gone, resolve } = Promise.withResolvers<void>();
  await using upstream = await startUpstream((_request, response) => {
    response.on('close', resolve);
    response.write('x');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const socket = await tlsSocket(gateway, app);
  socket.write(`GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  await once(socket, 'data');
  socket.destroy();
  await gone;
  assert.equal((await gateway.record(() => true)).outcome, 'CANCELLED');
  const session = await http2Session(gateway);
  const stream = session.request({ ':path': '/', ':authority': app });
  stream.on('error', () => {});
  await once(stream, 'response');
  stream.close();
  await gateway.record(({ detail }) => detail?.protocol === 'h2');
  assert.equal(gateway.gateway.connections().requests, 0);
  session.destroy();
});

test('a reply that breaks off is not passed off as whole', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half', () => setImmediate(() => response.destroy()));
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  await assert.rejects(ask(gateway), /aborted|reset|socket/i);
  const session = await http2Session(gateway);
  const stream = session.request({ ':path': '/', ':authority': app });
  stream.resume();
  await assert.rejects(once(stream, 'end'), /NGHTTP2_INTERNAL_ERROR/);
  assert.equal((await gateway.record(() => true)).outcome, 'UPSTREAM_FAILED');
  session.destroy();
});

test('a field with a line break in it from an upstream is refused', async () => {
  const server = createTcpServer((socket) => {
    socket.once('data', () =>
      socket.end('HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: evil\r\nContent-Length: 0\r\n\r\n'),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await using gateway = await startGateway({ proxies: [proxyOf(app, `http://127.0.0.1:${port}`)] });
  const { status, headers } = await ask(gateway);
  assert.deepEqual([status, headers['set-cookie']], [502, undefined]);
  server.close();
});

test('interim responses of an upstream are not mistaken for its answer', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    response.writeProcessing();
    response.end('final');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { status, body, headers } = await ask(gateway);
  assert.deepEqual([status, body, headers.link], [200, 'final', undefined]);
});

test('a body that is larger than allowed is 413, announced or not, and the client gets to read it', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { max_body_bytes: 1000 })],
  });
  const big = 'x'.repeat(300_000);
  assert.equal((await ask(gateway, { method: 'POST', body: big })).status, 413);
  const chunked = await ask(gateway, {
    method: 'POST',
    body: big,
    headers: { 'transfer-encoding': 'chunked' },
  });
  assert.equal(chunked.status, 413);
  const session = await http2Session(gateway);
  assert.equal((await ask2(session, { ':method': 'POST' }, big)).status, 413);
  session.close();
  assert.equal((await ask(gateway, { method: 'POST', body: 'x'.repeat(1000) })).status, 200);
});

test('an upstream that answers before it has read the body is heard', async () => {
  await using upstream = await startUpstream((_request, response) => {
    response.writeHead(403);
    response.end('no thanks');
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { status, body } = await ask(gateway, { method: 'POST', body: 'x'.repeat(2_000_000) });
  assert.deepEqual([status, body], [403, 'no thanks']);
});

test('a swap of the snapshot fails no request, and each ends on the one it began with', async () => {
  await using one = await startUpstream((_request, response) => void setImmediate(() => response.end('one')));
  await using two = await startUpstream((_request, response) => void setImmediate(() => response.end('two')));
  const first = proxyOf(app, one.url);
  await using gateway = await startGateway({ proxies: [first, proxyOf('b.example.com', one.url)] });
  const session = await http2Session(gateway);
  const { publisher } = gateway.gateway;
  const answers: string[] = [];
  let version = 1;
  const edits = setInterval(() => {
    version++;
    const target_url = version % 2 === 0 ? two.url : one.url;
    publisher.prepare({ putProxies: [{ ...first, target_url, version }] }).publish();
  }, 1);
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 20; i++) {
        const { status, body } = await ask2(session, {});
        assert.equal(status, 200);
        answers.push(body);
      }
    }),
  );
  clearInterval(edits);
  session.close();
  assert.equal(answers.length, 400);
  assert.deepEqual([...new Set(answers)].sort(), ['one', 'two']);
});

test('incident 28: an ACME challenge path is never forwarded, and answered when one is pending', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: true })],
    acmeChallenge: (hostname, token) => (hostname === app && token === 'tok' ? 'tok.key' : undefined),
  });
  const get = (path: string) =>
    raw(gateway.httpPort, `GET ${path} HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`);
  assert.match(await get('/.well-known/acme-challenge/tok'), /^HTTP\/1\.1 200 [^]*tok\.key$/);
  for (const path of [
    '/.well-known/acme-challenge/other',
    '/.well-known/%61cme-challenge/x',
    '/x/../.well-known/acme-challenge/y',
  ])
    assert.match(await get(path), /^HTTP\/1\.1 404 /, path);
  assert.equal(upstream.requests.length, 0);
});

test('Upgrade: h2c is a request like any other', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { status, json } = await ask(gateway, {
    headers: { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQAAP__' },
  });
  assert.equal(status, 200);
  assert.deepEqual([json.headers.upgrade, json.headers['http2-settings']], [undefined, undefined]);
});

test('CONNECT and TRACE are not served', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  assert.match(
    await raw(gateway.httpPort, `CONNECT ${app}:80 HTTP/1.1\r\nHost: ${app}\r\n\r\n`),
    /^HTTP\/1\.1 405 /,
  );
  assert.match(
    await raw(gateway.httpPort, `TRACE / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`),
    /^HTTP\/1\.1 405 /,
  );
  assert.equal(upstream.requests.length, 0);
});

test('pipelined requests are begun one after the other and answered in their order, bodies and all', async () => {
  let underWay = 0;
  let most = 0;
  await using upstream = await startUpstream((request, response) => {
    most = Math.max(most, ++underWay);
    response.once('close', () => underWay--);
    setImmediate(() => echo(request, response));
  });
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  const big = 'b'.repeat(200_000);
  const requests = Array.from({ length: 40 }, (_, i) =>
    i % 4 === 3
      ? `POST /${i} HTTP/1.1\r\nHost: ${app}\r\nContent-Length: ${big.length}\r\n\r\n${big}`
      : `GET /${i} HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  );
  const text = await raw(
    gateway.httpPort,
    `${requests.join('')}GET /last HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`,
  );
  const paths = [...text.matchAll(/"url":"([^"]+)"/g)].map(([, path]) => path);
  assert.deepEqual(paths, [...requests.map((_, i) => `/${i}`), '/last']);
  assert.deepEqual(
    upstream.requests.map(({ url }) => url),
    paths,
  );
  assert.equal(most, 1);
});

test('an upgrade behind a request that is not answered yet ends the connection', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  const upgrade = `GET /ws HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
  await raw(gateway.httpPort, `GET /first HTTP/1.1\r\nHost: ${app}\r\n\r\n${upgrade}`);
  await raw(gateway.httpPort, upgrade + upgrade);
  await raw(
    gateway.httpPort,
    `GET /first HTTP/1.1\r\nHost: ${app}\r\n\r\nCONNECT ${app}:80 HTTP/1.1\r\nHost: ${app}\r\n\r\n`,
  );
  assert.equal((await ask(gateway)).status, 200);
});

test('more requests behind each other than may wait end the connection', async () => {
  await using upstream = await startUpstream(() => {});
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  await raw(
    gateway.httpPort,
    `GET / HTTP/1.1\r\nHost: ${app}\r\n\r\n`.repeat(gatewayLimits.pipelinedRequests + 2),
  );
  assert.equal(upstream.requests.length <= 1, true);
});

test('a client that asked to close still gets to read why its long body was refused', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false, max_body_bytes: 10 })],
  });
  const body = Buffer.alloc(8 * 1024 * 1024);
  for (const framing of [
    `Content-Length: ${body.length}\r\n\r\n`,
    `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n`,
  ]) {
    const head = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n${framing}`;
    assert.match(await raw(gateway.httpPort, Buffer.concat([Buffer.from(head), body])), /^HTTP\/1\.1 413 /);
  }
});

test('a keep-alive connection of a client serves many requests', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { redirect_to_https: false })],
  });
  const { Agent } = await import('node:http');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 10; i++) {
    const request = httpRequest({ port: gateway.httpPort, host: '127.0.0.1', agent, headers: { host: app } });
    request.end();
    const [response] = await once(request, 'response');
    response.resume();
    await once(response, 'end');
  }
  assert.equal(gateway.gateway.connections().open, 1);
  agent.destroy();
});
