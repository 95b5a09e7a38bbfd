/**
 * Secrets that leak by being logged (grafana #920, awslabs' token prefix, NPM-MCP): a canary of its own is planted in
 * every place where a secret may stand, and then everything that was printed, written or answered is searched for all
 * of them, in every encoding. The order of this file matters: planting comes first, searching last.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { after } from 'node:test';
import { makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import {
  callTool,
  configFile,
  generous,
  modernHeaders,
  modernMeta,
  openSession,
  postMcp,
  raw,
  type Reply,
  send,
} from '../support/callers.ts';
import { everyLogPage, filesIn, foundIn } from '../support/canaries.ts';
import { startCollector } from '../support/collector.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

/** Where it was planted → the secret. */
const canaries = new Map<string, string>();
let planted = 0;
/** Letters and digits only, in the middle of which nothing is encoded by anybody. */
function canary(where: string): string {
  planted += 1;
  const secret = `Zq7canary${String(planted).padStart(3, '0')}${'x9Kw'.repeat(6)}`;
  canaries.set(where, secret);
  return secret;
}

const adminToken = canary('OHP_ADMIN_TOKEN');
const masterKey = 'Zq7masterkeycanary0123456789abcdefghijklmnA';
canaries.set('OHP_MASTER_KEY', masterKey);
const otlpHeader = canary('telemetry.otlp.headers');
const collector = await startCollector();
/** An alert at once, to a receiver and a mail server that are not there. */
const alerts = {
  webhook_url: `http://127.0.0.1:9/${canary('alerts.webhook_url')}`,
  webhook_secret: canary('alerts.webhook_secret'),
  smtp: {
    host: '127.0.0.1',
    port: 9,
    tls: 'none',
    username: 'ohp',
    password: canary('alerts.smtp.password'),
    from: 'ohp@example.com',
    to: ['admin@example.com'],
  },
  rules: [{ name: 'any-disk', when: 'disk', below_bytes: 2 ** 50, for_minutes: 0 }],
};
const product = await startProduct({
  env: {
    OHP_ADMIN_TOKEN: adminToken,
    OHP_MASTER_KEY: masterKey,
    OHP_LOG_LEVEL: 'debug',
    OHP_CONFIG: configFile({
      ...generous,
      alerts,
      telemetry: {
        otlp: {
          endpoint: collector.url,
          headers: `x-api-key=${otlpHeader}`,
          interval_ms: 50,
          metrics_interval_ms: 1000,
        },
      },
    }),
  },
});
const upstream = await startUpstream((request, response) => {
  const { url = '' } = request;
  if (url.startsWith('/reset')) return void request.socket.destroy();
  if (url.startsWith('/garbage'))
    return void request.socket.end(
      `HTTP/1.1 200 ${canaries.get('reason of an upstream')}\r\nbad header ${canaries.get('header of an upstream')}\r\n\r\n`,
    );
  if (url.startsWith('/error'))
    return void response
      .writeHead(500, canaries.get('status text of an upstream'))
      .end(canaries.get('error of an upstream'));
  response.writeHead(200, { 'set-cookie': `sid=${canaries.get('Set-Cookie of an upstream')}` });
  response.end(canaries.get('body of an upstream'));
});
after(async () => {
  await Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]);
  await collector[Symbol.asyncDispose]();
});

/** Answers of the control plane and error pages: none of them repeats a secret that was sent. */
const answers: [what: string, text: string][] = [];
async function kept(what: string, reply: Promise<Reply>): Promise<Reply> {
  const answer = await reply;
  answers.push([what, `${JSON.stringify(answer.headers)}${answer.text}`]);
  return answer;
}
const rest = (what: string, method: string, path: string, more: Parameters<typeof send>[1] = {}) =>
  kept(what, send(product, { method, path, token: adminToken, ...more }));

for (const where of ['reason', 'header', 'status text', 'error', 'Set-Cookie', 'body'].map(
  (one) => `${one} of an upstream`,
))
  canary(where);

const hostname = 'app.example.com';
const target_url = upstream.url;

let captureId = '';
test('incident 29: (planting) in settings of proxies', async () => {
  const request_headers = { set: { Authorization: `Bearer ${canary('header rule over REST')}` } };
  const created = await send(product, {
    method: 'POST',
    path: '/v1/proxies',
    token: adminToken,
    body: { hostname, target_url, request_headers, idempotency_key: 'idempotency-key-1' },
  });
  assert.equal(created.status, 201);
  const capture = { body: { hostname, count: 50, seconds: 600, bodies: true } };
  captureId = (await rest('a capture', 'POST', '/v1/captures', capture)).json.id;
  for (const era of ['legacy', 'modern'] as const) {
    const set = { 'X-Api-Key': canary(`header rule over MCP, ${era}`) };
    const args = { hostname: `${era}.example.com`, target_url, request_headers: { set } };
    assert.equal(
      (await callTool(product, adminToken, { name: 'create_proxy', args, era })).json.result.isError,
      undefined,
    );
    const update = {
      hostname,
      response_headers: { set: { 'X-Key': canary(`updated header rule over MCP, ${era}`) } },
    };
    const wrapped = { name: 'update_proxy', arguments: update };
    assert.equal(
      (await callTool(product, adminToken, { name: 'call_operation', args: wrapped, era })).status,
      200,
    );
  }
  const bad = { set: { 'X-Api-Key': `${canary('refused header rule')}\n` } };
  const refused = { body: { hostname: 'bad.example.com', target_url, request_headers: bad } };
  assert.equal((await rest('a refused header rule', 'POST', '/v1/proxies', refused)).status, 400);
  const user = `http://user:${canary('password in a target')}@localhost:1/`;
  const target = { body: { hostname: 'bad.example.com', target_url: user } };
  assert.equal((await rest('a refused target', 'POST', '/v1/proxies', target)).status, 400);
});

const lines = (pem: string) => pem.split('\n').filter((line) => line.length > 40);

test('incident 29: (planting) in private keys, accepted and refused', async () => {
  const make = (name: string) => {
    const { certificatePem, keyPem } = makeLeaf([name]);
    return { key: keyPem, pem: certificatePem };
  };
  const good = make('key.example.com');
  const other = make('other.example.com');
  const modern = make('modern.example.com');
  const plant = (where: string, key: string) =>
    lines(key).forEach((line, i) => canaries.set(`${where}, line ${i}`, line));
  plant('private key', good.key);
  plant('private key of another certificate', other.key);
  plant('private key over MCP', modern.key);
  const imports = (what: string, certificate_pem: string, private_key_pem: string) =>
    rest(what, 'POST', '/v1/certificates', {
      body: { certificate_pem, private_key_pem, idempotency_key: `key-${what}` },
    });
  assert.equal((await imports('an import', good.pem, good.key)).status, 201);
  assert.equal((await imports('a key that does not fit', good.pem, other.key)).status, 400);
  assert.equal((await imports('a key in the wrong field', other.key, other.pem)).status, 400);
  assert.equal((await imports('both in one field', `${other.pem}${other.key}`, 'x')).status, 400);
  assert.equal((await imports('half a key', other.pem, other.key.slice(0, 120))).status, 400);
  for (const era of ['legacy', 'modern'] as const) {
    const args = {
      name: 'import_certificate',
      arguments: { certificate_pem: modern.pem, private_key_pem: modern.key },
    };
    await kept(
      `an import over MCP, ${era}`,
      callTool(product, adminToken, { name: 'call_operation', args, era }),
    );
    const unknown = {
      name: 'import_certificate',
      arguments: { certificate_pem: modern.pem, key: modern.key },
    };
    await kept(
      `an import with a wrong name, ${era}`,
      callTool(product, adminToken, { name: 'call_operation', args: unknown, era }),
    );
  }
});

test('incident 29: (planting) in credentials of every form, good and bad, on every kind of host', async () => {
  const forms = (secret: string): Record<string, string>[] => [
    { authorization: `Bearer ${secret}` },
    { authorization: `Basic ${Buffer.from(`user:${secret}`).toString('base64')}` },
    { authorization: secret },
    { authorization: `Digest username="u", response="${secret}"` },
    { cookie: `session=${secret}; other=${secret}` },
    { 'proxy-authorization': `Bearer ${secret}` },
    { 'x-api-key': secret },
    { 'mcp-session-id': secret },
    { 'last-event-id': secret },
    { 'idempotency-key': secret },
    { 'if-match': secret },
    { referer: `https://x.example.com/?token=${secret}` },
    { tracestate: `v=${secret}` },
    { 'mcp-protocol-version': secret },
    { 'mcp-name': secret, 'mcp-method': secret },
  ];
  for (const i of forms('').keys()) {
    const what = `credential header ${Object.keys(forms('')[i] ?? {}).join()} (${i})`;
    const headers = forms(canary(what))[i] ?? {};
    await kept(what, send(product, { path: '/v1/proxies', headers }));
    await send(product, { method: 'POST', path: '/v1/proxies', token: adminToken, headers, body: {} });
    await postMcp(product, { headers, body: { jsonrpc: '2.0', id: 1, method: 'ping' } });
    await postMcp(product, { token: adminToken, headers, body: { jsonrpc: '2.0', id: 1, method: 'ping' } });
    await product.get(hostname, '/', { headers });
    await product.get(hostname, '/mcp', { headers });
  }
  const checksummed = `ohp_${canary('token of our own form').padEnd(49, 'Q').slice(0, 49)}`;
  for (const path of ['/v1/proxies', '/mcp', '/'])
    await kept('a token of our form', send(product, { path, token: checksummed }));
  await product.get(hostname, '/', { headers: { authorization: `Bearer ${checksummed}` } });
});

test('incident 29: (planting) in query strings and bodies, of the control plane and of sites', async () => {
  const query = canary('query string');
  for (const name of ['token', 'access_token', 'password', 'q', 'state', 'code']) {
    await rest('a query', 'GET', `/v1/proxies?${name}=${query}`);
    await rest('a query of an unknown path', 'GET', `/nowhere?${name}=${query}`);
    await kept(
      'a query of /mcp',
      postMcp(product, { token: adminToken, query: `?${name}=${query}`, body: {} }),
    );
    await product.get(hostname, `/page?${name}=${query}`);
    await product.get(hostname, `/page/password=${canary(`path ${name}`)}/x`);
    await product.get(hostname, `/.well-known/oauth-protected-resource?${name}=${query}`);
    await raw(
      product,
      `GET /plain?${name}=${query} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`,
    );
  }
  const body = canary('body');
  for (const broken of [
    `{"a":"${body}`,
    `{"hostname":"${body}"`,
    body,
    `[${JSON.stringify(body)}]`,
    `{"a":${body}}`,
  ]) {
    await rest('a broken body', 'POST', '/v1/proxies', {
      body: broken,
      headers: { 'content-type': 'application/json' },
    });
    await kept('a broken message', postMcp(product, { token: adminToken, body: broken }));
  }
  await product.get(hostname, '/form', { method: 'POST', body: `password=${body}` });
  await product.get(hostname, '/error', { method: 'PUT', body });
});

test('incident 29: (planting) in requests that are not well-formed, and over HTTP/2', async () => {
  const secret = canary('malformed TLS');
  const heads = (secret: string) => [
    `GET / HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${secret}\r\nBad Header: x\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${hostname}\r\nCookie: a=${secret}\r\n folded\r\n\r\n`,
    `GET /?q=${secret} HTTP/9.9\r\nHost: ${hostname}\r\n\r\n`,
    `GET /?q=${secret}\r\n\r\n`,
    `${secret} / HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${secret}\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`,
    `POST / HTTP/1.1\r\nHost: ${hostname}\r\nContent-Length: ${secret}\r\n\r\n`,
    `POST / HTTP/1.1\r\nHost: ${hostname}\r\nTransfer-Encoding: ${secret}\r\n\r\n`,
    `GET /%zz?q=${secret} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: ${hostname}\r\nExpect: ${secret}\r\nConnection: close\r\n\r\n`,
    `POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${secret}\r\n`,
  ];
  for (const i of heads('').keys()) {
    const head = heads(canary(`malformed request ${i}`))[i] ?? '';
    answers.push(['a malformed request', (await raw(product, head)).all]);
  }
  // TLS records that are none.
  const socket = connect({ host: '127.0.0.1', port: product.httpsPort });
  socket
    .on('error', () => undefined)
    .resume()
    .end(`GET /?q=${secret} HTTP/1.1\r\nAuthorization: Bearer ${secret}\r\n\r\n`);
  await once(socket, 'close');
  const session = http2.connect(`https://${hostname}`, {
    ca: product.ca,
    servername: hostname,
    port: product.httpsPort,
    lookup: (_name: string, options: { all?: boolean }, done: (...found: unknown[]) => void) =>
      options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
  } as http2.SecureClientSessionOptions);
  const h2 = canary('request over HTTP/2');
  const stream = session.request({
    ':path': `/h2?q=${h2}`,
    authorization: `Bearer ${h2}`,
    cookie: `a=${h2}`,
  });
  await text(stream);
  session.close();
});

test('incident 29: (planting) in errors and answers of upstreams', async () => {
  for (const path of ['/reset', '/garbage', '/error', '/fine']) {
    const answer = await product.get(hostname, path);
    if (path === '/reset' || path === '/garbage') answers.push([`the upstream's ${path}`, answer.body]);
  }
});

test('incident 29: (planting) in MCP messages, arguments and names', async () => {
  const session = await openSession(product, adminToken);
  const messagesWith = (secret: string): object[] => [
    { method: 'tools/call', params: { name: 'echo', arguments: { msg: secret } } },
    { method: 'tools/call', params: { name: 'get_proxy', arguments: { hostname, token: secret } } },
    { method: 'tools/call', params: { name: 'get_proxy', arguments: { hostname: [secret] } } },
    { method: 'tools/call', params: { name: 'get_logs', arguments: { level: { password: secret } } } },
    {
      method: 'tools/call',
      params: { name: 'echo', arguments: { message: 'x' }, _meta: { progressToken: secret, auth: secret } },
    },
    { method: 'ping', params: { _meta: { token: secret } } },
    { method: 'resources/read', params: { uri: `x://${secret}` } },
    { method: 'completion/complete', params: { argument: { name: 'x', value: secret } } },
    { method: 'tools/call', params: { arguments: { password: secret } } },
    { method: 'tools/list', params: { cursor: secret } },
    { method: 'notifications/progress', params: { progressToken: 'none', progress: 1, message: secret } },
    { method: 'notifications/cancelled', params: { requestId: 77, reason: secret } },
  ];
  for (const i of messagesWith('').keys()) {
    const where = `MCP message ${JSON.stringify(messagesWith('…')[i])}`;
    const { method, params } = messagesWith(canary(where))[i] as { method: string; params: object };
    const id = method.startsWith('notifications/') ? {} : { id: 1 };
    await postMcp(product, { token: adminToken, session, body: { jsonrpc: '2.0', ...id, method, params } });
    await postMcp(product, { token: adminToken, body: { jsonrpc: '2.0', ...id, method, params } });
    const body = { jsonrpc: '2.0', ...id, method, params: { ...params, _meta: modernMeta } };
    await postMcp(product, { token: adminToken, headers: modernHeaders(method, 'x'), body });
  }
  const baggage = canary('baggage of a message and of a head');
  const _meta = { ...modernMeta, traceparent: `00-${'7'.repeat(32)}-${'7'.repeat(16)}-01`, baggage };
  await postMcp(product, {
    token: adminToken,
    headers: { ...modernHeaders('tools/call', 'echo'), baggage: `user=${baggage}` },
    body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'echo', arguments: {}, _meta } },
  });
  const result = { action: 'accept', content: { password: canary('MCP answer to no question') } };
  for (const id of [99, 0, 1, 'x'])
    await postMcp(product, { token: adminToken, session, body: { jsonrpc: '2.0', id, result } });
  const error = { code: 1, message: canary('MCP error to no question') };
  await postMcp(product, { token: adminToken, session, body: { jsonrpc: '2.0', id: 98, error } });
});

/** What is told once, over each of the ways that keep something for later. */
const told: [way: string, secret: string][] = [];
const secretOf = (reply: Reply): string => {
  const found = /ohp_[0-9A-Za-z]{49}/.exec(reply.text)?.[0];
  return found ?? assert.fail(`no token in ${reply.text}`);
};

test('incident 29: (planting) new tokens, over every way that keeps something for later', async () => {
  const body = { name: 'canary', bundle: 'viewer' };
  const make = (more: object) =>
    send(product, { method: 'POST', path: '/v1/tokens', token: adminToken, body: { ...body, ...more } });
  const first = await make({});
  told.push(['REST', secretOf(first)]);
  const keyed = { idempotency_key: 'idempotency-key-2' };
  told.push(['REST with an idempotency key', secretOf(await make(keyed))]);
  assert.doesNotMatch((await make(keyed)).text, /ohp_/, 'told once');
  const rotate = await send(product, {
    method: 'POST',
    path: `/v1/tokens/${first.json.id}/rotate`,
    token: adminToken,
    body: {},
  });
  told.push(['rotate_token', secretOf(rotate)]);
  for (const era of ['legacy', 'modern'] as const) {
    const call = { name: 'create_token', args: { ...body, idempotency_key: `idempotency-${era}` }, era };
    told.push([`MCP, ${era}`, secretOf(await callTool(product, adminToken, call))]);
  }
  const session = await openSession(product, adminToken);
  told.push([
    'MCP, in a session',
    secretOf(await callTool(product, adminToken, { name: 'create_token', args: body, session })),
  ]);
});

const files = () => filesIn(product.dataDir);

/** What the SDK quotes when it refuses a message has a test of its own. */
const isQuoted = (where: string) =>
  /^MCP message .*(?:resources\/read|notifications\/progress)|mcp-protocol-version/.test(where);

/** Where those were planted that are in it. */
const allIn = (bytes: Buffer): string[] =>
  [...canaries, ...told]
    .filter(([where, secret]) => !isQuoted(where) && foundIn(bytes, secret))
    .map(([where]) => where);

/** The store of settings holds what was set; whether it may hold it in the clear is asked by a test of its own. */
const isSetting = (where: string) => /^(updated )?header rule/.test(where);

test('incident 29: no secret is in what was captured, bodies included', async () => {
  const reply = await rest(
    'a capture that was made',
    'GET',
    `/v1/captures/${captureId}?bodies=true&limit=50`,
  );
  assert.ok(reply.json.captured > 20 && reply.json.requests.length > 5, reply.text.slice(0, 300));
  assert.deepEqual(allIn(reply.bytes), []);
});

test('incident 29: the search finds what is there', async () => {
  const visible = canary('path, which is logged');
  await product.get(hostname, `/${visible}`);
  await collector.until(() =>
    (['traces', 'logs'] as const).every((signal) =>
      collector.got(signal).some((bytes) => foundIn(bytes, visible)),
    ),
  );
  assert.ok(foundIn(await everyLogPage(product, adminToken), visible), 'get_logs');
  assert.ok(
    files().some(([name, bytes]) => name.startsWith('logs') && foundIn(bytes, visible)),
    'the log files',
  );
  assert.ok(
    files().some(([name, bytes]) => /^audit.*ndjson$/.test(name) && bytes.includes('create_proxy')),
    'the audit trail',
  );
  canaries.delete('path, which is logged');
  assert.ok(
    foundIn(Buffer.from(`xx${Buffer.from(`user:${visible}`).toString('base64')}`), visible),
    'base64',
  );
  assert.ok(planted > 15);
});

test('incident 29: no canary is in any answer of get_logs', async () => {
  assert.deepEqual(allIn(await everyLogPage(product, adminToken)), []);
});

test('incident 29: no canary is in the metrics, in either format', async () => {
  for (const accept of ['text/plain', 'application/openmetrics-text']) {
    const { status, text: told } = await send(product, {
      path: '/metrics',
      token: adminToken,
      headers: { accept },
    });
    assert.equal(status, 200);
    assert.match(told, /^ohp_http_requests_total\{/m);
    assert.deepEqual(allIn(Buffer.from(told)), []);
  }
});

test('incident 29: no canary is in any refusal or error page', () => {
  for (const [what, answer] of answers)
    for (const [where, secret] of canaries) {
      // The caller's own words in a refusal to that caller are his: a version, a host, a method he asked for.
      if (/^credential header|^malformed request/.test(where)) continue;
      assert.ok(
        !foundIn(Buffer.from(answer), secret),
        `${where} is in the answer to ${what}: ${answer.slice(0, 500)}`,
      );
    }
});

test('incident 29: no canary is in what was printed', () => {
  const printed = Buffer.from(product.output());
  assert.ok(printed.length > 0);
  assert.deepEqual(allIn(printed), []);
});

function nothingOnDisk(when: string): void {
  const kept = files();
  assert.ok(kept.length >= 4, kept.map(([name]) => name).join());
  for (const [name, bytes] of kept) {
    const found = allIn(bytes).filter((where) => !(name.startsWith('state.sqlite') && isSetting(where)));
    assert.deepEqual(found, [], `in ${name} ${when}`);
  }
}

test('incident 29: no canary is in any file of the data directory, journals included, while it runs', () => {
  nothingOnDisk('while it runs');
});

test('incident 29: a token that is told over an event stream is not kept in the clear with the events of the session', async () => {
  const session = await openSession(product, adminToken);
  const body = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'create_token', arguments: { name: 'x', bundle: 'viewer' } },
  };
  const reply = await postMcp(product, {
    token: adminToken,
    session,
    headers: { accept: 'text/event-stream' },
    body,
  });
  const secret = secretOf(reply);
  // The events are written off the request path: another stream of the same log, resumed, is read after them.
  const stream = /^id: ?(p[0-9a-f]{16})/m.exec(reply.text)?.[1];
  if (stream !== undefined)
    await send(product, {
      path: '/mcp',
      token: adminToken,
      headers: { accept: 'text/event-stream', 'mcp-session-id': session, 'last-event-id': `${stream}.0` },
    });
  for (const [name, bytes] of files()) assert.ok(!foundIn(bytes, secret), `the token is in ${name}`);
});

test('incident 29: what a client sent is not quoted in the log, nor printed, because the SDK refused it', async () => {
  const quoted = [...canaries].filter(([where]) => isQuoted(where));
  assert.equal(quoted.length, 3);
  const written = [
    await everyLogPage(product, adminToken),
    Buffer.from(product.output()),
    ...files().map(([, bytes]) => bytes),
  ];
  const found = quoted.filter(([, secret]) => written.some((bytes) => foundIn(bytes, secret)));
  assert.deepEqual(
    found.map(([where]) => where),
    [],
  );
});

test('incident 29: a credential for an upstream in a header rule is not kept in the clear', () => {
  for (const [name, bytes] of files())
    for (const [where, secret] of canaries)
      if (isSetting(where)) assert.ok(!foundIn(bytes, secret), `${where} is in ${name}`);
});

test('incident 29: no canary is left on disk or printed when it has ended', async () => {
  assert.equal(await product.stop(), 0);
  nothingOnDisk('after the end');
  assert.deepEqual(allIn(Buffer.from(product.output())), []);
});

test('incident 29: no canary is in anything that was sent to a collector', () => {
  for (const signal of ['traces', 'logs', 'metrics'] as const) {
    const got = collector.got(signal);
    assert.ok(got.length > 0, signal);
    // The header that is the collector's own comes once with each request, and nowhere else.
    const asked = collector.requests.filter((request) => request.signal === signal).length;
    assert.equal(Buffer.concat(got).toString('latin1').split(otlpHeader).length - 1, asked, signal);
    assert.deepEqual(allIn(Buffer.concat(got)), ['telemetry.otlp.headers'], signal);
  }
  assert.ok(collector.spans.length > 100 && collector.logs.length > 100);
  assert.deepEqual(collector.faults, []);
});
