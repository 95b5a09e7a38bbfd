/** The gate before `/mcp` and the control host: who gets to the handlers, and what the others are told. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { eventually } from '../../test/support/eventually.ts';
import {
  ask,
  ask2,
  echo,
  http2Session,
  principalOf,
  proxyOf,
  raw,
  startGateway,
  startUpstream,
  tlsSocket,
  readUntil,
} from '../../test/support/gateway.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const tokens = {
  admin: principalOf('tok_admin', ['system:read', 'proxies:write']),
  here: principalOf('tok_here', ['system:read'], ['*.example.com']),
  there: principalOf('tok_there', ['system:read'], ['*.example.net']),
};
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const mcp = (more: Record<string, string> = {}) => ({
  method: 'POST',
  path: '/mcp',
  body: '{}',
  headers: more,
});

const unused = () => Promise.reject(new Error('this surface is not asked'));

async function gatewayWith(more: Parameters<typeof startGateway>[0] = {}) {
  return startGateway({ tokens, proxies: [proxyOf(app, 'http://127.0.0.1:1')], ...more });
}

test('/mcp and /mcp/ are answered directly on the control host and on served hostnames, without redirect', async () => {
  await using gateway = await gatewayWith();
  for (const host of ['localhost', app, `127.0.0.1:${gateway.httpsPort}`])
    for (const path of ['/mcp', '/mcp/']) {
      const { status, body } = await ask(gateway, { ...mcp(bearer('admin')), host, path });
      assert.deepEqual([status, body], [200, 'mcp tok_admin'], `${host}${path}`);
    }
  const session = await http2Session(gateway);
  assert.equal(
    (await ask2(session, { ':method': 'POST', ':path': '/mcp', ...bearer('admin') }, '{}')).body,
    'mcp tok_admin',
  );
  session.close();
});

test('the handler gets a canonical exchange', async () => {
  await using gateway = await gatewayWith();
  await ask(gateway, {
    method: 'POST',
    path: '/x/../%6dcp?a=b',
    body: 'text',
    headers: bearer('admin'),
    host: `${app}:9443`,
  });
  const { exchange, body } = gateway.exchanges[0]!;
  const { hostname, authority, scheme, path, query, method, clientAddress, traceId } = exchange;
  assert.deepEqual(
    [hostname, authority, scheme, path, query, method, clientAddress, body],
    [app, `${app}:9443`, 'https', '/mcp', 'a=b', 'POST', '127.0.0.1', 'text'],
  );
  assert.match(traceId, /^[0-9a-f]{32}$/);
  assert.equal((await gateway.record(() => true)).bytes_in, 4);
});

test('a missing credential is challenged with an absolute resource_metadata in the form that was asked for', async () => {
  await using gateway = await gatewayWith();
  for (const path of ['/mcp', '/mcp/']) {
    const { status, headers, json } = await ask(gateway, {
      ...mcp(),
      path,
      host: `${app}:${gateway.httpsPort}`,
    });
    assert.equal(status, 401);
    assert.equal(
      headers['www-authenticate'],
      `Bearer resource_metadata="https://${app}:${gateway.httpsPort}/.well-known/oauth-protected-resource${path}", scope="system:read"`,
    );
    assert.deepEqual([json.jsonrpc, json.error.code, 'id' in json], ['2.0', 401, false]);
  }
});

test('an invalid credential is told apart from a missing one, and one in the query is none', async () => {
  await using gateway = await gatewayWith();
  const wrong = await ask(gateway, mcp(bearer('wrong')));
  assert.match(wrong.headers['www-authenticate'] ?? '', /, error="invalid_token"$/);
  const inQuery = await ask(gateway, { ...mcp(), path: '/mcp?access_token=admin&token=admin' });
  assert.equal(inQuery.status, 401);
  assert.doesNotMatch(inQuery.headers['www-authenticate'] ?? '', /error/);
  for (const authorization of ['Basic YWRtaW46', 'Bearer', 'Bearer admin, Bearer admin', 'admin'])
    assert.equal((await ask(gateway, mcp({ authorization }))).status, 401, authorization);
});

test('the metadata names the exact resource, in each form, and is for everyone', async () => {
  await using gateway = await gatewayWith();
  const host = `${app}:${gateway.httpsPort}`;
  for (const path of ['', '/mcp', '/mcp/']) {
    const { status, json, headers } = await ask(gateway, {
      host,
      path: `/.well-known/oauth-protected-resource${path}`,
      headers: { origin: 'https://anywhere.example.org' },
    });
    assert.equal(status, 200);
    assert.equal(headers['access-control-allow-origin'], '*');
    assert.deepEqual(json, {
      resource: `https://${host}${path}`,
      authorization_servers: [`https://localhost:${gateway.httpsPort}`],
      scopes_supported: ['system:read'],
      bearer_methods_supported: ['header'],
      resource_name: 'Test',
    });
  }
});

test('the metadata names the authorization server of the public URL', async () => {
  await using gateway = await gatewayWith({ settings: { publicUrl: 'https://issuer.example.net' } });
  const { json } = await ask(gateway, { path: '/.well-known/oauth-protected-resource/mcp' });
  assert.deepEqual(json.authorization_servers, ['https://issuer.example.net']);
});

test('a proxy without serve_mcp keeps /mcp and the metadata for its upstream', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await gatewayWith({
    proxies: [proxyOf(app, upstream.url, { serve_mcp: false }), proxyOf('b.example.com', upstream.url)],
    settings: { mcp: { hosts: ['c.example.com'] } },
  });
  for (const host of [app, 'b.example.com'])
    for (const path of ['/mcp', '/mcp/', '/.well-known/oauth-protected-resource/mcp'])
      assert.equal((await ask(gateway, { host, path })).json.url, path, `${host}${path}`);
  assert.equal((await ask(gateway, { host: 'localhost', ...mcp(bearer('admin')) })).body, 'mcp tok_admin');
});

test('a credential confined to hostnames opens /mcp on those and on the control host', async () => {
  await using gateway = await gatewayWith();
  assert.equal((await ask(gateway, mcp(bearer('here')))).status, 200);
  const { status, json, headers } = await ask(gateway, mcp(bearer('there')));
  assert.deepEqual([status, json.error.code], [403, 403]);
  assert.equal(
    headers['www-authenticate'],
    `Bearer error="insufficient_scope", scope="system:read", resource_metadata="https://${app}/.well-known/oauth-protected-resource/mcp"`,
  );
  assert.equal((await ask(gateway, { ...mcp(bearer('there')), host: 'localhost' })).status, 200);
});

test('mcp.access public lets anyone to the handler as anonymous, but not with a wrong credential', async () => {
  await using gateway = await gatewayWith({ settings: { mcp: { access: 'public' } } });
  assert.equal((await ask(gateway, mcp())).body, 'mcp anonymous');
  assert.equal((await ask(gateway, mcp(bearer('wrong')))).status, 401);
});

test('incident 3: a wrong Origin is 403 on /mcp and on the control host, in any spelling, and never 500', async () => {
  await using gateway = await gatewayWith({
    settings: { mcp: { allowedOrigins: ['https://inspector.example.net'] } },
  });
  const port = gateway.httpsPort;
  const bad = [
    'null',
    'https://evil.example.net',
    `https://${app}.evil.example.net`,
    `http://${app}:${port}`,
    `https://${app}:${port}.`,
    `https://${app}.:${port}`,
    `https://${app}:${port + 1}`,
    `https://${app}:${port}/`,
    `https://user@${app}:${port}`,
    'https://[::1',
    'garbage',
    '*',
    '',
    'file://',
    'http://localhost:3000',
  ];
  for (const origin of bad) {
    const { status, json } = await ask(gateway, {
      ...mcp({ ...bearer('admin'), origin }),
      host: `${app}:${port}`,
    });
    assert.deepEqual([status, json?.error.code, json && 'id' in json], [403, 403, false], origin);
  }
  for (const origin of bad.filter((origin) => !origin.includes('//localhost')))
    assert.equal(
      (await ask(gateway, { host: 'localhost', path: '/v1/x', headers: { origin } })).status,
      403,
      origin,
    );
  assert.equal(
    (await ask(gateway, { host: 'localhost', path: '/v1/x', headers: { origin: 'http://localhost:3000' } }))
      .status,
    403,
  );
  const socket = await tlsSocket(gateway, app);
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: ${app}\r\nAuthorization: Bearer admin\r\nOrigin: https://${app}\r\nOrigin: https://evil.example.net\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
  );
  assert.match(await readUntil(socket), /^HTTP\/1\.1 403 /);
  assert.equal(gateway.exchanges.length, 0);
  for (const origin of [`https://${app}:${port}`, 'https://inspector.example.net'])
    assert.equal(
      (await ask(gateway, { ...mcp({ ...bearer('admin'), origin }), host: `${app}:${port}` })).status,
      200,
      origin,
    );
});

test('incident 3: on the control host a page of another site gets no answer where its browser sends no Origin either, but a link leads there', async () => {
  await using gateway = await gatewayWith();
  const statusWith = async (headers: Record<string, string>) =>
    (await ask(gateway, { host: 'localhost', path: '/v1/x', headers })).status;
  assert.equal(await statusWith({ 'sec-fetch-site': 'cross-site' }), 403);
  assert.equal(await statusWith({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }), 403);
  assert.equal(gateway.exchanges.length, 0);
  assert.equal(await statusWith({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }), 200);
  assert.equal(await statusWith({ 'sec-fetch-site': 'same-origin' }), 200);
});

test('pages that may call /mcp of the control host may not call the rest of it', async () => {
  const origin = 'https://inspector.example.net';
  await using gateway = await gatewayWith({ settings: { mcp: { allowedOrigins: [origin] } } });
  const statusAt = async (path: string) =>
    (await ask(gateway, { ...mcp({ ...bearer('admin'), origin }), host: 'localhost', path })).status;
  assert.deepEqual([await statusAt('/mcp'), await statusAt('/v1/x')], [200, 403]);
});

test('local pages may call /mcp of the control host from a local client', async () => {
  await using gateway = await gatewayWith();
  for (const origin of ['http://localhost:6274', 'https://127.0.0.1', 'http://[::1]:80'])
    assert.equal(
      (await ask(gateway, { ...mcp({ ...bearer('admin'), origin }), host: 'localhost' })).status,
      200,
      origin,
    );
});

test('incident 3: a wrong Host never reaches the control plane', async () => {
  await using gateway = await gatewayWith();
  const send = (host: string, path = '/v1/x') =>
    raw(gateway.httpPort, `GET ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`);
  for (const host of [
    'evil.example.net',
    'localhost.evil.example.net',
    '169.254.1.1',
    '10.0.0.1',
    '0.0.0.0',
    '[::]',
    'localhost:bad',
    'local host',
    '127.1',
    '0x7f.1',
    '127.0.0.1.evil.example.net',
    '127.evil.example.net',
    '2130706433',
    '',
  ])
    for (const path of ['/v1/x', '/mcp', '/healthz'])
      assert.match(await send(`Host: ${host}\r\n`, path), /^HTTP\/1\.1 4(?:00|21) /, host);
  assert.match(await send(''), /^HTTP\/1\.1 400 /);
  assert.match(await send('Host: localhost\r\nHost: evil.example.net\r\n'), /^HTTP\/1\.1 400 /);
  assert.equal(gateway.exchanges.length, 0);
  for (const host of ['localhost', 'LOCALHOST.', '127.0.0.1', '127.9.9.9', '[::1]:80'])
    assert.match(await send(`Host: ${host}\r\n`), /^HTTP\/1\.1 200 /, host);
});

test('a preflight is answered with what MCP clients send, and CORS fields are on every reply', async () => {
  await using gateway = await gatewayWith();
  const origin = 'http://localhost:6274';
  const preflight = await ask(gateway, {
    host: 'localhost',
    path: '/mcp',
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    },
  });
  assert.equal(preflight.status, 204);
  for (const name of [
    'authorization',
    'mcp-session-id',
    'mcp-method',
    'mcp-name',
    'last-event-id',
    'traceparent',
  ])
    assert.ok(preflight.headers['access-control-allow-headers']?.includes(name), name);
  const refused = await ask(gateway, { host: 'localhost', ...mcp({ origin }) });
  assert.equal(refused.status, 401);
  assert.equal(refused.headers['access-control-allow-origin'], origin);
  assert.match(String(refused.headers['access-control-expose-headers']), /WWW-Authenticate, Mcp-Session-Id/);
  const served = await ask(gateway, { host: 'localhost', ...mcp({ origin, ...bearer('admin') }) });
  assert.equal(served.headers['access-control-allow-origin'], origin);
});

test('methods other than OPTIONS reach the handler, which knows what to say of them', async () => {
  await using gateway = await gatewayWith();
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD'])
    assert.equal(
      (await ask(gateway, { method, path: '/mcp', headers: bearer('admin') })).status,
      200,
      method,
    );
  assert.equal(gateway.exchanges.length, 6);
});

test('a body that is too large is 413, by what is announced and by what comes', async () => {
  await using gateway = await gatewayWith();
  const big = 'x'.repeat(5 * 1024 * 1024);
  const announced = await ask(gateway, { ...mcp(bearer('admin')), body: big });
  assert.deepEqual([announced.status, announced.json.error.data.code], [413, 'TOO_LARGE']);
  for (const path of ['/mcp', '/v1/x']) {
    const headers = { ...bearer('admin'), 'transfer-encoding': 'chunked' };
    const { status } = await ask(gateway, { host: 'localhost', method: 'POST', path, headers, body: big });
    assert.equal(status, 413, path);
  }
  assert.equal(gateway.exchanges.length, 0);
});

test('a handler that fails is 500 with the trace id, and its reason is in the log only', async () => {
  await using gateway = await gatewayWith({
    handlers: {
      control: async () => {
        throw new Error('canary');
      },
      oauth: () => {
        throw new Error('canary');
      },
      sites: () => {
        throw new Error('canary');
      },
      mcp: () => {
        throw new Error('canary');
      },
    },
  });
  for (const [host, path] of [
    ['localhost', '/v1/x'],
    ['localhost', '/mcp'],
    ['localhost', '/oauth/token'],
  ] as const) {
    const { status, body, headers } = await ask(gateway, { host, path, headers: bearer('admin') });
    assert.equal(status, 500);
    assert.doesNotMatch(body, /canary/);
    const system = gateway.records.find(
      ({ kind, trace_id }) => kind === 'system' && trace_id === headers['x-trace-id'],
    );
    assert.match(system?.message ?? '', /canary/);
  }
});

test('a request leaves one record: of the kind that its surface tells, with what HTTP and what the surface know', async () => {
  await using gateway = await gatewayWith({
    handlers: {
      control: unused,
      oauth: unused,
      sites: unused,
      mcp: async ({ tell, reply }) => {
        const facts = { outcome: 'OK' };
        tell(() => ({
          kind: 'mcp',
          component: 'mcp',
          operation: 'echo',
          detail: { era: 'modern' },
          ...facts,
        }));
        facts.outcome = 'INVALID_INPUT';
        reply.writeHead(200, {});
        reply.end('x');
      },
    },
  });
  await ask(gateway, mcp({ ...bearer('admin'), 'user-agent': 'wire/1' }));
  const of = ({ kind }: LogRecord) => kind === 'mcp' || kind === 'access';
  await eventually(async () => gateway.records.find(of), 'the record of the request');
  const [record, ...more] = gateway.records.filter(of);
  assert.deepEqual(more, []);
  assert.deepEqual(
    [record?.kind, record?.component, record?.level, record?.operation, record?.outcome],
    ['mcp', 'mcp', 'warn', 'echo', 'INVALID_INPUT'],
  );
  assert.deepEqual(
    [record?.method, record?.path, record?.status, record?.bytes_out, record?.user_agent],
    ['POST', '/mcp', 200, 1, 'wire/1'],
  );
  assert.deepEqual([record?.detail?.request, record?.detail?.era], ['mcp', 'modern']);
});

test('rates: a principal, an address, and refused credentials are limited with Retry-After', async () => {
  await using gateway = await gatewayWith({ settings: { mcp: { callsPerMinute: 2 } } });
  for (const expected of [200, 200, 429]) {
    const { status, headers } = await ask(gateway, mcp(bearer('admin')));
    assert.equal(status, expected);
    if (status === 429) assert.ok(Number(headers['retry-after']) > 0);
  }
  assert.equal((await ask(gateway, mcp(bearer('here')))).status, 200);
  await using byAddress = await gatewayWith({ settings: { mcp: { callsPerMinutePerAddress: 1 } } });
  assert.equal((await ask(byAddress, mcp())).status, 401);
  assert.equal((await ask(byAddress, mcp(bearer('admin')))).status, 429);
  await using byFailure = await gatewayWith({ settings: { mcp: { failuresPerMinutePerAddress: 2 } } });
  for (const expected of [401, 401, 429])
    assert.equal((await ask(byFailure, mcp(bearer('wrong')))).status, expected);
  assert.equal((await ask(byFailure, mcp(bearer('admin')))).status, 200, 'a good one opens all the same');
});

test('rates: beyond the failures of an address so many credentials are looked at, and no more', async () => {
  let looks = 0;
  const authenticate = () => void looks++;
  await using gateway = await gatewayWith({
    authenticate,
    clock: new ManualClock(),
    settings: { mcp: { failuresPerMinutePerAddress: 1, callsPerMinutePerAddress: 1_000_000 } },
  });
  const wrong =
    'POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\nContent-Length: 0\r\n';
  const count = gatewayLimits.checksPerMinute + 5;
  const replies = await raw(
    gateway.httpPort,
    `${`${wrong}\r\n`.repeat(100)}${wrong}Connection: close\r\n\r\n`,
  );
  assert.equal(replies.match(/HTTP\/1\.1 429 /g)?.length, 100);
  for (let asked = 101; asked < count; asked += 100)
    await raw(gateway.httpPort, `${`${wrong}\r\n`.repeat(99)}${wrong}Connection: close\r\n\r\n`);
  assert.equal(looks, 1 + gatewayLimits.checksPerMinute);
});

test('the control host: anonymous without a credential, 401 with a wrong one', async () => {
  await using gateway = await gatewayWith();
  const get = (headers = {}) => ask(gateway, { host: 'localhost', path: '/v1/x', headers });
  assert.equal((await get()).body, 'control anonymous');
  assert.equal((await get(bearer('admin'))).body, 'control tok_admin');
  assert.equal((await get(bearer('wrong'))).status, 401);
});

test('plain HTTP to the control plane: answered on loopback, redirected or refused from elsewhere', async () => {
  await using gateway = await gatewayWith({ settings: { trustedProxies: ['127.0.0.1'] } });
  const send = (method: string, path: string, from = '', host = 'localhost') =>
    raw(
      gateway.httpPort,
      `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${from === '' ? '' : `X-Forwarded-For: ${from}\r\n`}Authorization: Bearer admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
  for (const path of ['/mcp', '/v1/x']) {
    assert.match(await send('POST', path), /^HTTP\/1\.1 200 /);
    assert.match(await send('GET', path, '203.0.113.9'), /^HTTP\/1\.1 308 [^]*location: https:\/\/localhost/);
    assert.match(await send('POST', path, '203.0.113.9'), /^HTTP\/1\.1 403 /);
  }
  assert.match(await send('POST', '/mcp', '203.0.113.9', app), /^HTTP\/1\.1 403 /);
  assert.match(await send('POST', '/mcp', '', app), /^HTTP\/1\.1 200 /);
  assert.match(await send('GET', '/v1/x', '203.0.113.9', '127.0.0.1'), /^HTTP\/1\.1 421 /);
});

test('health: alive always, ready once it serves', async () => {
  await using gateway = await gatewayWith();
  for (const path of ['/healthz', '/readyz']) {
    const { status, body } = await ask(gateway, { host: 'localhost', path });
    assert.deepEqual([status, body], [200, 'ok\n'], path);
    assert.equal((await ask(gateway, { host: 'localhost', path, method: 'POST' })).status, 405);
  }
  await using upstream = await startUpstream(echo);
  await using served = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  assert.equal((await ask(served, { path: '/healthz' })).json.url, '/healthz');
});

test('an upgrade is not served on the control plane', async () => {
  await using gateway = await gatewayWith();
  for (const path of ['/mcp', '/v1/x']) {
    const socket = await tlsSocket(gateway, 'localhost');
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    assert.match(await readUntil(socket), /^HTTP\/1\.1 501 /);
  }
});
