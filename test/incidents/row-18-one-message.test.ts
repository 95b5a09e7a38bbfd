/**
 * No single message ends the process or keeps a stream for ever: not a request with a version that HTTP/1 does not
 * have, and no reply of an upstream that can't be written to the client.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { PATIENCE_MS } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { wireHttp, wireHttps } from '../support/wire.ts';

const HOST = 'app.example.com';
const RULED = 'ruled.example.com';

let product: Product;
let upstream: Server;
let session: ClientHttp2Session;
const sockets = new Set<Socket>();

before(async () => {
  // Answers with the bytes that the path holds, after the whole head of the request.
  upstream = createServer((socket) => {
    sockets.add(socket);
    let head = '';
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
    socket.on('data', (chunk: Buffer) => {
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      socket.end(Buffer.from(head.split(' ')[1]?.slice(1) ?? '', 'base64url'));
      head = '';
    });
  }).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  const target_url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  for (const body of [
    { hostname: HOST, target_url, redirect_to_https: false },
    { hostname: RULED, target_url, response_headers: { set: { ETag: '"ours"', Date: 'today', Age: '7' } } },
  ]) {
    const made = await product.api('POST', '/v1/proxies', body);
    assert.equal(made.status, 201, JSON.stringify(made.body));
  }
  session = await http2(HOST);
});

after(async () => {
  session?.destroy();
  await product?.[Symbol.asyncDispose]();
  for (const socket of sockets) socket.destroy();
  upstream?.close();
});

afterEach(async () => {
  assert.equal((await product.api('GET', '/v1/proxies')).status, 200, 'the process goes on');
});

async function http2(hostname: string): Promise<ClientHttp2Session> {
  const made = connectHttp2(`https://127.0.0.1:${product.httpsPort}`, {
    servername: hostname,
    ca: product.ca,
  });
  made.on('error', () => {});
  await once(made, 'remoteSettings');
  return made;
}

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** Undefined: the stream was reset. */
async function ask2(
  over: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): Promise<Answer | undefined> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const stream = over.request(headers, { endStream: body === undefined && headers[':method'] !== 'CONNECT' });
  let answered: IncomingHttpHeaders | undefined;
  stream.on('response', (fields) => (answered = fields));
  stream.on('error', () => {});
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  // A tunnel that is refused ends on one side only.
  stream.once('end', () => stream.close());
  if (body !== undefined) stream.end(body);
  await once(stream, 'close', { signal });
  return (
    answered && {
      status: Number(answered[':status']),
      headers: answered,
      body: Buffer.concat(chunks).toString(),
    }
  );
}

const requests: Record<string, string> = {
  GET: `GET /x HTTP/VERSION\r\nHost: ${HOST}\r\n\r\n`,
  'GET of nobody': 'GET / HTTP/VERSION\r\n\r\n',
  POST: `POST /x HTTP/VERSION\r\nHost: ${HOST}\r\nContent-Length: 2\r\n\r\nhi`,
  CONNECT: `CONNECT ${HOST}:443 HTTP/VERSION\r\nHost: ${HOST}\r\n\r\n`,
  Upgrade: `GET /x HTTP/VERSION\r\nHost: ${HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  Expect: `POST /x HTTP/VERSION\r\nHost: ${HOST}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi`,
  'another Expect': `POST /x HTTP/VERSION\r\nHost: ${HOST}\r\nExpect: x\r\nContent-Length: 2\r\n\r\nhi`,
};
const versions = ['2.0', '0.9', '1.2', '3.0'];

test('incident 18: a request over HTTP/1 that says it is of another version is refused, and its connection closed', async () => {
  for (const [name, text] of Object.entries(requests))
    for (const version of versions)
      for (const open of [() => wireHttp(product), () => wireHttps(product, HOST)]) {
        using wire = await open();
        const bytes = text.replace('VERSION', version);
        const replies = await wire.write(`${bytes}${requests.GET?.replace('VERSION', '1.1')}`).replies();
        const statuses = replies.map(({ status }) => status);
        // What the engine does not take for a version at all is no request of HTTP.
        const expected = version === '2.0' || version === '0.9' ? 505 : 400;
        assert.deepEqual(statuses, [expected], `${name} ${version}`);
      }
});

test('incident 18: such a request behind a good one is refused like one that comes first', async () => {
  for (const open of [() => wireHttp(product), () => wireHttps(product, HOST)]) {
    using wire = await open();
    const good = `GET /${encoded(reply())} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;
    const replies = await wire.write(`${good}${requests.GET?.replace('VERSION', '2.0')}`).replies();
    assert.deepEqual(
      replies.map(({ status }) => status),
      [200, 505],
    );
  }
});

const encoded = (text: string): string => Buffer.from(text, 'latin1').toString('base64url');
const reply = (fields = '', line = '200 OK'): string =>
  `HTTP/1.1 ${line}\r\nSet-Cookie: session=of-the-upstream\r\n${fields}Content-Length: 2\r\n\r\nhi`;

/** What an upstream may say, and what a client of either protocol gets. */
const replies: [name: string, bytes: string, expected: number][] = [
  ['doubled Date', reply('Date: a\r\nDate: b\r\n'), 200],
  ['doubled ETag', reply('ETag: "a"\r\nETag: "b"\r\n'), 200],
  ['doubled Age', reply('Age: 1\r\nAge: 2\r\n'), 200],
  ['doubled Location', reply('Location: /a\r\nLocation: /b\r\n', '302 Found'), 302],
  ['a field of HTTP/2 over HTTP/1', reply('HTTP2-Settings: AAMAAABkAAQAAP__\r\n'), 200],
  ['a reason phrase that is no ASCII', reply('', '200 \xff\xfe'), 200],
  ['a reason phrase with a tab', reply('', '200 a\tb'), 200],
  ['status 600', reply('', '600 Beyond'), 502],
  ['status 999', reply('', '999 Beyond'), 502],
  ['a field that is no ASCII', reply('X-Name: \xff\r\n'), 200],
];

const shapes: [name: string, ask: (path: string) => Promise<Answer | undefined>][] = [
  ['HTTP/1.1', (path) => product.get(HOST, path)],
  [
    'HTTP/1.1, Expect',
    (path) => ask1(`POST ${path} HTTP/1.1`, 'Expect: 100-continue\r\nContent-Length: 1\r\n', 'x'),
  ],
  ['HTTP/1.1, WebSocket', (path) => ask1(`GET ${path} HTTP/1.1`, WEBSOCKET)],
  ['HTTP/2', (path) => ask2(session, { ':path': path, ':authority': HOST })],
  [
    'HTTP/2, Expect',
    (path) =>
      ask2(session, { ':method': 'POST', ':path': path, ':authority': HOST, expect: '100-continue' }, 'x'),
  ],
  [
    'HTTP/2, WebSocket',
    (path) =>
      ask2(session, {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': 'https',
        ':path': path,
        ':authority': HOST,
      }),
  ],
];
const WEBSOCKET =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n';

async function ask1(line: string, fields: string, body = ''): Promise<Answer | undefined> {
  using wire = await wireHttps(product, HOST);
  wire.write(`${line}\r\nHost: ${HOST}\r\nConnection: close\r\n${fields}\r\n${body}`);
  return await wire.reply();
}

for (const [shape, ask] of shapes)
  test(`incident 18: over ${shape} a reply that can't be written is a 502, and none is worse than that`, async () => {
    for (const [name, bytes, wanted] of replies) {
      // There a 2xx would say that the tunnel is open, which this upstream never does (RFC 8441 §5).
      const expected = shape === 'HTTP/2, WebSocket' && wanted === 200 ? 502 : wanted;
      const answer = await ask(`/${encoded(bytes)}`);
      assert.equal(answer?.status, expected, name);
      if (expected === 502) {
        assert.equal(
          answer.headers['set-cookie'],
          undefined,
          `${name}: our page carries nothing of the upstream`,
        );
        assert.match(answer.body, /Trace id/, name);
      }
    }
  });

test('incident 18: what a rule sets beside what the upstream sent is written, over HTTP/2 as well', async () => {
  const ruled = await http2(RULED);
  const path = `/${encoded(reply('ETag: "theirs"\r\nDate: then\r\nAge: 1\r\n'))}`;
  const over2 = await ask2(ruled, { ':path': path, ':authority': RULED });
  ruled.destroy();
  for (const answer of [over2, await product.get(RULED, path)])
    assert.deepEqual(
      [answer?.status, answer?.headers.etag, answer?.headers.date, answer?.headers.age],
      [200, '"ours"', 'today', '7'],
    );
});

test('incident 18: rules that HTTP/2 could not write, or that contradict each other, are refused', async () => {
  for (const set of [
    { 'HTTP2-Settings': 'x' },
    { 'Proxy-Authenticate': 'x' },
    { 'proxy-x': 'x' },
    { ETag: '"a"', etag: '"b"' },
  ])
    for (const field of ['response_headers', 'request_headers']) {
      const changed = await product.api('PATCH', `/v1/proxies/${HOST}`, { [field]: { set } });
      assert.equal(changed.status, 400, `${field} ${JSON.stringify(set)}`);
      assert.match(changed.body.error.message, new RegExp(field));
    }
});
