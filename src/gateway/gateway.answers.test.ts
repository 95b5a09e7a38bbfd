/** What the gateway answers by itself: in the form that was asked for and with the trace id of its record, over both protocols. */
import assert from 'node:assert/strict';
import { connect as connectHttp1 } from 'node:net';
import test from 'node:test';
import { systemClock } from '../core/clock.ts';
import {
  type Answer,
  type Ask,
  ask,
  ask2,
  type Fixture,
  http2Session,
  principalOf,
  proxyOf,
  raw,
  readUntil,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';

const app = 'app.example.com';
const admin = principalOf('tok_admin', ['system:write']);
type Reply = Pick<Answer, 'status' | 'headers' | 'body'>;
type Send = (asked: Ask) => Promise<Reply>;

const overHttp1 =
  (gateway: Fixture): Send =>
  (asked) =>
    ask(gateway, asked);

/** A connection for each host, as clients make them. */
const overHttp2 =
  (gateway: Fixture): Send =>
  async ({ host = app, method = 'GET', path = '/', headers, body }) => {
    const session = await http2Session(gateway, host);
    const head = {
      ':method': method,
      ':path': path,
      ':authority': host,
      ...(headers as Record<string, string>),
    };
    return ask2(session, head, body?.toString()).finally(() => session.close());
  };

const protocols = [
  ['HTTP/1.1', overHttp1],
  ['HTTP/2', overHttp2],
] as const;

const forms: [accept: string | undefined, type: string, begins: RegExp][] = [
  [undefined, 'text/plain; charset=utf-8', /^\d{3} [A-Z]/],
  ['*/*', 'text/plain; charset=utf-8', /^\d{3} [A-Z]/],
  ['text/plain', 'text/plain; charset=utf-8', /^\d{3} [A-Z]/],
  [
    'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
    'text/html; charset=utf-8',
    /^<!doctype html>/,
  ],
  ['application/json', 'application/json; charset=utf-8', /^\{"error":\{"code":"/],
  ['text/html;q=0.1, application/json;q=0.8', 'application/json; charset=utf-8', /^\{"error":\{"code":"/],
  ['application/json;q=0.1, text/html;q=0.8', 'text/html; charset=utf-8', /^<!doctype html>/],
  ['image/avif', 'text/plain; charset=utf-8', /^\d{3} [A-Z]/],
];

const refusals: [status: number, asked: Ask][] = [
  [404, { host: 'plain.example.com' }],
  [413, { host: 'small.example.com', method: 'POST', body: 'too much' }],
  [421, { host: 'nobody.example.com' }],
  [502, { host: 'away.example.com' }],
  [504, { host: 'silent.example.com' }],
];

for (const [protocol, over] of protocols)
  test(`${protocol}: a refusal has the form that Accept asks for, and its trace id`, async () => {
    await using silent = await startUpstream(() => {});
    await using gateway = await startGateway({
      proxies: [
        proxyOf('plain.example.com', silent.url, { enable_https: false }),
        proxyOf('small.example.com', silent.url, { max_body_bytes: 1 }),
        proxyOf('away.example.com', 'http://127.0.0.1:1'),
        proxyOf('silent.example.com', silent.url, { response_timeout_ms: 1 }),
      ],
    });
    const send = over(gateway);
    const check = async (
      [status, asked]: (typeof refusals)[0],
      [accept, type, begins]: (typeof forms)[0],
    ) => {
      const { headers, ...answer } = await send({ ...asked, ...(accept && { headers: { accept } }) });
      const what = `${status} ${accept}`;
      assert.equal(answer.status, status, what);
      assert.equal(headers['content-type'], type, what);
      assert.match(answer.body, begins, what);
      assert.equal(headers['cache-control'], 'no-store');
      assert.equal(Number(headers['content-length']), Buffer.byteLength(answer.body));
      const traceId = String(headers['x-trace-id']);
      assert.ok(answer.body.includes(traceId), what);
      assert.equal((await gateway.record(({ trace_id }) => trace_id === traceId)).status, status);
    };
    await Promise.all(refusals.flatMap((refusal) => forms.map((form) => check(refusal, form))));
  });

test('a request that comes while the server shuts down is refused in the form that Accept asks for', async () => {
  for (const [accept, type, begins] of forms) {
    const mayAnswer = Promise.withResolvers<void>();
    await using upstream = await startUpstream(
      (_, response) => void mayAnswer.promise.then(() => response.end()),
    );
    await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
    const underWay = ask(gateway);
    const socket = await tlsSocket(gateway, app);
    socket.write('GET / HTTP/1.1\r\n');
    // Answered after those bytes were read: the connection is in use when the end begins.
    await ask(gateway, { host: 'localhost', path: '/healthz' });
    const drained = gateway.gateway.drain();
    socket.write(`Host: ${app}\r\n${accept ? `Accept: ${accept}\r\n` : ''}\r\n`);
    const [head = '', body = ''] = (await readUntil(socket)).split('\r\n\r\n');
    assert.match(head, /^HTTP\/1\.1 503 /);
    assert.ok(head.includes(`content-type: ${type}`), accept);
    assert.match(body, begins);
    mayAnswer.resolve();
    await Promise.all([underWay, drained]);
  }
});

const bearer = { authorization: 'Bearer admin' };
const own: [what: string, status: number, asked: Ask][] = [
  ['health', 200, { host: 'localhost', path: '/healthz' }],
  ['readiness', 200, { host: 'localhost', path: '/readyz' }],
  ['metadata', 200, { path: '/.well-known/oauth-protected-resource/mcp' }],
  ['a preflight', 204, { path: '/mcp', method: 'OPTIONS', headers: { origin: 'https://page.example.com' } }],
  ['a preflight for metadata', 204, { path: '/.well-known/oauth-protected-resource', method: 'OPTIONS' }],
  ['a challenge', 200, { path: '/.well-known/acme-challenge/pending' }],
  ['no challenge', 404, { path: '/.well-known/acme-challenge/other' }],
  ['REST', 200, { host: 'localhost', path: '/v1/proxies', headers: bearer }],
  ['MCP', 200, { path: '/mcp', method: 'POST', headers: bearer, body: '{}' }],
  ['MCP without a credential', 401, { path: '/mcp', method: 'POST', body: '{}' }],
  ['a foreign page', 403, { path: '/mcp', method: 'POST', headers: { origin: 'https://evil.example.org' } }],
];

for (const [protocol, over] of protocols)
  test(`${protocol}: every answer of the gateway's own has the trace id of its record`, async () => {
    await using gateway = await startGateway({
      proxies: [proxyOf(app, 'http://127.0.0.1:1')],
      tokens: { admin },
      acmeChallenge: (_hostname, token) => (token === 'pending' ? 'authorization' : undefined),
      settings: { mcp: { allowedOrigins: ['https://page.example.com'] } },
    });
    const send = over(gateway);
    for (const [what, status, asked] of own) {
      const { headers, ...answer } = await send(asked);
      assert.equal(answer.status, status, `${what}: ${answer.body}`);
      assert.match(String(headers['x-trace-id']), /^[0-9a-f]{32}$/, what);
      const record = await gateway.record(({ trace_id }) => trace_id === headers['x-trace-id']);
      assert.equal(record.status, status, what);
    }
  });

test('pages may read the trace id of what /mcp answers them', async () => {
  const origin = 'https://page.example.com';
  await using gateway = await startGateway({
    proxies: [proxyOf(app, 'http://127.0.0.1:1')],
    settings: { mcp: { allowedOrigins: [origin] } },
  });
  const { headers } = await ask(gateway, { path: '/mcp', method: 'POST', headers: { origin } });
  assert.match(String(headers['access-control-expose-headers']), /\bX-Trace-Id\b/);
});

test('a redirect to HTTPS has the trace id of its record', async () => {
  await using gateway = await startGateway({
    proxies: [proxyOf(app, 'http://127.0.0.1:1')],
    settings: { trustedProxies: ['127.0.0.1'] },
  });
  for (const path of ['/x', '/mcp']) {
    const answer = await raw(
      gateway.httpPort,
      `GET ${path} HTTP/1.1\r\nHost: ${app}\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 308 /, path);
    const [, traceId] = /x-trace-id: ([0-9a-f]{32})/.exec(answer) ?? [];
    assert.ok(traceId, answer);
    assert.equal((await gateway.record(({ trace_id }) => trace_id === traceId)).path, path);
  }
});

test('an answer of an upstream has no trace id of ours', async () => {
  await using upstream = await startUpstream((_request, response) => void response.end('theirs'));
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  for (const [, over] of protocols) {
    const { headers, body } = await over(gateway)({});
    assert.deepEqual([body, headers['x-trace-id']], ['theirs', undefined]);
  }
});

test('a head that never becomes a request is answered as text with what is wrong, and its trace id', async () => {
  await using gateway = await startGateway({ settings: { headerTimeoutMs: 100, maxHeaderBytes: 1024 } });
  const heads: [string, number, RegExp][] = [
    ['GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n', 400, /This is not a request of HTTP\./],
    [
      `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(2000)}\r\n\r\n`,
      431,
      /The header of the request is too large\./,
    ],
    ['GET / HTTP/1.1\r\nHost: a\r\nX: slow', 408, /The request did not come in time\./],
  ];
  for (const [text, status, message] of heads) {
    const socket = connectHttp1(gateway.httpPort, '127.0.0.1');
    socket.write(text);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    const answer = Buffer.concat(chunks).toString();
    assert.ok(answer.startsWith(`HTTP/1.1 ${status} `), answer);
    assert.match(answer, message);
    const traceId = /x-trace-id: ([0-9a-f]{32})/.exec(answer)?.[1] ?? '';
    assert.ok(answer.includes(`Trace id: ${traceId}`));
    assert.equal((await gateway.record(({ trace_id }) => trace_id === traceId)).status, status);
  }
});

test('a fault of the gateway itself ends the connection it came up on, leaves a record, and nothing else ends', async () => {
  let isFaulty = false;
  const now = () => {
    if (!isFaulty) return systemClock.now();
    isFaulty = false;
    throw new Error('a fault of ours');
  };
  await using gateway = await startGateway({ clock: { ...systemClock, now } });
  for (const request of [
    'GET /healthz HTTP/1.1\r\n',
    'GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n',
    'CONNECT x:1 HTTP/1.1\r\n',
    'POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n',
  ]) {
    isFaulty = true;
    assert.equal(await raw(gateway.httpPort, `${request}Host: localhost\r\n\r\n`), '', request);
    const { kind, level, message } = gateway.records.at(-1) ?? {};
    assert.deepEqual([kind, level, message], ['system', 'error', 'a listener failed: a fault of ours']);
    const next = await raw(
      gateway.httpPort,
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    assert.match(next, /^HTTP\/1\.1 200 /);
  }
});
