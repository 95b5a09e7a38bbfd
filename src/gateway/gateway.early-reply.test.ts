/** A reply that is whole before its request is: over HTTP/2 the client is asked to stop, without an error. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, constants, type IncomingHttpHeaders } from 'node:http2';
import test from 'node:test';
import { http2Session, proxyOf, startGateway, startUpstream } from '../../test/support/gateway.ts';

const app = 'app.example.com';
const long = 'x'.repeat(1_000_000);

/** Sends a head and a part of its body, never the rest; resolves when the stream is closed. */
async function sendPart(session: ClientHttp2Session, more: Record<string, string> = {}) {
  const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': app, ...more });
  const closed = once(stream, 'close');
  let trailers: IncomingHttpHeaders = {};
  stream.on('trailers', (fields) => (trailers = fields));
  if (more.expect === undefined) stream.write('a part');
  const [{ ':status': status }] = (await once(stream, 'response')) as [IncomingHttpHeaders];
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await closed;
  const sum = trailers['x-sum'];
  return { status, body: Buffer.concat(chunks).toString(), code: stream.rstCode, sum };
}

test('HTTP/2: a client whose body is refused gets the whole reply and is asked to stop', async () => {
  await using upstream = await startUpstream((request, response) => {
    request.resume();
    if (request.headers.host === 'empty.example.com') response.writeHead(204).end();
    else response.writeHead(401).end('no, thanks');
  });
  upstream.server.on('checkContinue', (_request, response) => response.writeHead(401).end('no, thanks'));
  await using gateway = await startGateway({
    proxies: [
      proxyOf(app, upstream.url),
      proxyOf('empty.example.com', upstream.url),
      proxyOf('small.example.com', upstream.url, { max_body_bytes: 3 }),
      proxyOf('away.example.com', 'http://127.0.0.1:1'),
    ],
  });
  const cases: [what: string, host: string, status: number, body: RegExp, more?: Record<string, string>][] = [
    ['of the upstream', app, 401, /^no, thanks$/],
    ['of the upstream, to whom expects to be asked', app, 401, /^no, thanks$/, { expect: '100-continue' }],
    ['of the upstream, without a body', 'empty.example.com', 204, /^$/],
    ['too large as it says', 'small.example.com', 413, /^413 Too large/, { 'content-length': '7' }],
    ['too large as it comes', 'small.example.com', 413, /^413 Too large/],
    ['no upstream', 'away.example.com', 502, /^502 /],
  ];
  for (const [what, host, status, body, more] of cases) {
    const session = await http2Session(gateway, host);
    const before = gateway.records.length;
    const reply = await sendPart(session, { ':authority': host, ...more });
    assert.deepEqual([reply.status, reply.code], [status, constants.NGHTTP2_NO_ERROR], what);
    assert.match(reply.body, body, what);
    const record = await gateway.record((one) => gateway.records.indexOf(one) >= before);
    assert.equal(record.status, status, what);
    assert.notEqual(record.outcome, 'TIMEOUT', what);
    assert.equal(session.destroyed, false, what);
    session.close();
  }
});

test('HTTP/2: trailers of such a reply are not cut off', async () => {
  await using upstream = await startUpstream((request, response) => {
    response.writeHead(200, { trailer: 'X-Sum' });
    response.write(request.url === '/long' ? long : 'all');
    response.addTrailers({ 'X-Sum': '42' });
    response.end();
  });
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const session = await http2Session(gateway);
  for (let i = 0; i < 20; i++)
    assert.deepEqual(await sendPart(session), { status: 200, body: 'all', code: 0, sum: '42' });
  // Longer than the client's window: the end of the reply waits for the client.
  const { body, ...rest } = await sendPart(session, { ':path': '/long' });
  assert.deepEqual(
    { ...rest, length: body.length },
    { status: 200, code: 0, sum: '42', length: long.length },
  );
  session.close();
});
