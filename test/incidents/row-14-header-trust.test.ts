/**
 * What a client says about itself never reaches an upstream, in any spelling an upstream might take for the same;
 * forwarded headers are believed from `gateway.trusted_proxies` and nobody else; nothing but a credential opens what
 * asks for one.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { configFile, generous, grant } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { connectFrames, frame, headers as h2Headers } from '../support/h2-frames.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { wireHttp, wireHttps } from '../support/wire.ts';

const OPEN = 'open.example.com';
const CLOSED = 'closed.example.com';
const CANARY = 'spoofed-by-the-client';
const BATCH = 40;

let product: Product;
let trusting: Product;
let upstream: Upstream;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  trusting = await startProduct({
    env: {
      OHP_CONFIG: configFile({ ...generous, gateway: { trusted_proxies: ['127.0.0.0/8', '10.9.0.0/16'] } }),
    },
  });
  for (const one of [product, trusting]) {
    const bodies = [
      {
        hostname: OPEN,
        target_url: upstream.url,
        request_headers: { set: { 'X-Tenant': 'acme' }, remove: ['X-Debug'] },
      },
      {
        hostname: CLOSED,
        target_url: upstream.url,
        redirect_to_https: false,
        auth: { kind: 'token', permission: 'proxies:read' },
      },
    ];
    for (const body of bodies) assert.equal((await one.api('POST', '/v1/proxies', body)).status, 201);
  }
});

after(async () => {
  for (const one of [product, trusting, upstream]) await one?.[Symbol.asyncDispose]();
});

/** Who someone is: nobody in front of an upstream may say so but this gateway. */
const identity = [
  'X-Auth-User',
  'X-Auth-Email',
  'X-Auth-Groups',
  'X-Auth-Request-User',
  'X-Auth-Request-Email',
  'X-Auth-Request-Groups',
  'X-Auth-Request-Preferred-Username',
  'X-Auth-Request-Access-Token',
  'X-Authenticated-User',
  'X-Authenticated-Userid',
  'X-Authenticated-Groups',
  'X-WebAuth-User',
  'X-WebAuth-Email',
  'X-Forwarded-User',
  'X-Forwarded-Email',
  'X-Forwarded-Groups',
  'X-Forwarded-Preferred-Username',
  'X-Forwarded-Access-Token',
  'X-Forwarded-Name',
  'Remote-User',
  'Remote-Email',
  'Remote-Groups',
  'Remote-Name',
  'X-Remote-User',
  'X-Remote-Group',
  'X-Remote-Groups',
  'X-Remote-Email',
  'X-Remote-Extra-Scopes',
  'X-Authentik-Username',
  'X-Authentik-Groups',
  'X-Authentik-Email',
  'X-Authentik-Uid',
  'X-Vouch-User',
  'X-Pomerium-Claim-Email',
  'X-Consumer-Username',
  'X-Consumer-Id',
  'X-Consumer-Groups',
  'X-Goog-Authenticated-User-Email',
  'X-Goog-Authenticated-User-Id',
  'X-MS-Client-Principal',
  'X-MS-Client-Principal-Name',
  'X-MS-Client-Principal-Id',
  'X-Amzn-Oidc-Identity',
  'X-Amzn-Oidc-Data',
  'X-Amzn-Oidc-Accesstoken',
  'Cf-Access-Authenticated-User-Email',
  'Tailscale-User-Login',
  'Tailscale-User-Name',
  'OIDC-Claim-Sub',
  'OIDC-Claim-Email',
  'X-Client-Cert',
  'X-Client-Verify',
  'X-Client-Dn',
  'Client-Cert',
  'Client-Cert-Chain',
  'X-Forwarded-Client-Cert',
  'X-Forwarded-Tls-Client-Cert',
  'X-Forwarded-Tls-Client-Cert-Info',
  'Ssl-Client-Cert',
  'Ssl-Client-Verify',
  'Ssl-Client-S-Dn',
  'X-Ssl-Client-Cert',
  'X-Ssl-Client-Verify',
  'X-Ssl-Client-S-Dn',
  'X-Ssl-Cert',
  'X-Arr-Clientcert',
  'X-Appengine-User-Email',
  'X-Appengine-User-Is-Admin',
  'X-Appengine-Inbound-Appid',
  'WL-Proxy-Client-IP',
  'WL-Proxy-Client-Cert',
  'X-Amzn-Mtls-Clientcert',
  'X-Amzn-Mtls-Clientcert-Subject',
  'X-Amzn-Request-Context',
  'X-MS-Token-Aad-Id-Token',
  'X-Endpoint-Api-Userinfo',
  'X-Userinfo',
  'X-Remote-Uid',
  'X-Envoy-Internal',
  'OIDC-Access-Token',
  'Shib-Session-Id',
  'Mellon-Name-Id',
  'OAM-Remote-User',
  'SM-User',
  'IV-User',
  '$WSRU',
];
/** Where a request came from and what it was for. */
const origin = [
  'X-Forwarded-For',
  'X-Forwarded-Host',
  'X-Forwarded-Proto',
  'X-Forwarded-Port',
  'X-Forwarded-Server',
  'X-Forwarded-Prefix',
  'X-Forwarded-Scheme',
  'X-Forwarded-Ssl',
  'X-Forwarded-By',
  'X-Forwarded-Uri',
  'X-Forwarded-Method',
  'X-Forwarded',
  'Forwarded',
  'Forwarded-For',
  'X-Original-Forwarded-For',
  'X-Real-IP',
  'X-Client-IP',
  'X-Cluster-Client-IP',
  'True-Client-IP',
  'CF-Connecting-IP',
  'CF-Connecting-IPv6',
  'Fastly-Client-IP',
  'Client-IP',
  'X-Originating-IP',
  'X-Remote-IP',
  'X-Remote-Addr',
  'X-Envoy-External-Address',
  'X-Original-URL',
  'X-Original-URI',
  'X-Original-Host',
  'X-Rewrite-URL',
  'X-Rewrite-URI',
  'X-Host',
  'X-HTTP-Host-Override',
  'X-Scheme',
  'X-Url-Scheme',
  'Front-End-Https',
  'Proxy',
  'Proxy-Authorization',
  'Proxy-Connection',
  'Proxy-User',
  'Keep-Alive',
];
/** As CGI, WSGI, PHP and careless programs read one name. */
const spellings = (name: string): string[] => {
  const lower = name.toLowerCase();
  return [
    ...new Set([
      name,
      lower,
      name.toUpperCase(),
      name.replaceAll('-', '_'),
      lower.replaceAll('-', '_'),
      name.toUpperCase().replaceAll('-', '_'),
      name.replaceAll('-', '.'),
      name.replaceAll('-', '!'),
      lower.replace('-', '~'),
      lower.replaceAll('-', "'"),
      lower.replace('-', '_'),
      lower.replace(/-(?=[^-]*$)/, '_'),
      name.replace(/-(?=[^-]*$)/, '.'),
    ]),
  ];
};
const batches = (names: readonly string[]): string[][] =>
  Array.from({ length: Math.ceil(names.length / BATCH) }, (_, i) => names.slice(i * BATCH, (i + 1) * BATCH));
const line = (name: string) => `${name}: ${CANARY}\r\n`;

/** Names, as they came, of the last request whose value holds the canary. */
function leaked(): string[] {
  const { rawHeaders = [] } = upstream.requests.at(-1) ?? {};
  return rawHeaders.flatMap((name, i) => (i % 2 === 0 && rawHeaders[i + 1]?.includes(CANARY) ? [name] : []));
}

async function leaks(of: Product, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  using wire = await wireHttps(of, OPEN);
  for (const batch of batches(names)) {
    const before = upstream.requests.length;
    wire.write(`GET /spoof HTTP/1.1\r\nHost: ${OPEN}\r\nX-Passes: yes\r\n${batch.map(line).join('')}\r\n`);
    assert.equal((await wire.reply())?.status, 200);
    assert.equal(upstream.requests.length, before + 1);
    assert.equal(upstream.requests.at(-1)?.headers['x-passes'], 'yes', 'an ordinary header passes');
    found.push(...leaked());
  }
  return found;
}

test('incident 14: no spelling of an identity or forwarding header of a stranger reaches the upstream', async () => {
  assert.deepEqual(await leaks(product, [...identity, ...origin].flatMap(spellings)), []);
});

test('incident 14: over HTTP/2 neither', async () => {
  const names = [...identity, ...origin].flatMap(spellings).map((name) => name.toLowerCase());
  using client = await connectFrames(product, OPEN);
  const refusedIn2 = new Set(['proxy-connection', 'keep-alive']);
  const usual = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', OPEN],
    [':path', '/spoof2'],
  ] as const;
  let stream = 1;
  for (const batch of batches([...new Set(names)].filter((name) => !refusedIn2.has(name)))) {
    const before = upstream.requests.length;
    client.write(h2Headers(stream, [...usual, ...batch.map((name) => [name, CANARY] as const)]));
    const id = stream;
    await client.until(
      (one) => one.stream === id && (one.type === frame.DATA || one.type === frame.RST_STREAM),
    );
    assert.equal(upstream.requests.length, before + 1);
    assert.deepEqual(leaked(), []);
    stream += 2;
  }
});

test('incident 14: who a client is, nobody may say: not even a trusted proxy', async () => {
  assert.deepEqual(await leaks(trusting, identity.flatMap(spellings)), []);
});

test('incident 14: what a rule sets or removes no client may say in another spelling', async () => {
  for (const one of [product, trusting]) {
    assert.deepEqual(await leaks(one, ['X-Tenant', 'X-Debug'].flatMap(spellings)), []);
    assert.equal(upstream.requests.at(-1)?.headers['x-tenant'], 'acme');
  }
});

test('incident 14: of a trusted proxy the forwarding headers count in their own spelling only', async () => {
  const aliases = ['X-Forwarded-For', 'X-Forwarded-Host', 'X-Forwarded-Proto', 'Forwarded']
    .flatMap(spellings)
    .filter((name) => /[^-a-z]/i.test(name));
  assert.deepEqual(await leaks(trusting, aliases), []);
});

test('incident 14: what is forwarded about a stranger is what the connection says, once each', async () => {
  using wire = await wireHttps(product, OPEN);
  const lies = [
    'X-Forwarded-For: 1.2.3.4',
    'x-forwarded-for: 5.6.7.8',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: evil.example.com',
    'Forwarded: for=1.2.3.4;host=evil.example.com;proto=http',
    'X-Forwarded-Port: 1',
    'Via: 1.1 evil',
  ];
  wire.write(`GET /told HTTP/1.1\r\nHost: ${OPEN}\r\n${lies.join('\r\n')}\r\nConnection: close\r\n\r\n`);
  assert.equal((await wire.reply())?.status, 200);
  const { rawHeaders = [] } = upstream.requests.at(-1) ?? {};
  const all = (wanted: string) =>
    rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === wanted);
  assert.deepEqual(
    ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'forwarded', 'x-forwarded-port', 'host'].map(
      all,
    ),
    [['127.0.0.1'], ['https'], [OPEN], [`for=127.0.0.1;host="${OPEN}";proto=https`], [], [OPEN]],
  );
  const record = await recordOf(product, '/told');
  assert.equal(record.client_address, '127.0.0.1');
});

const recordOf = (of: Product, path: string) =>
  eventually(async () => {
    const { body } = await of.api('GET', `/v1/logs?kind=access&path_prefix=${path}`);
    return body.records[0] as { client_address: string } | undefined;
  }, `a record of ${path}`);

test('incident 14: behind a trusted proxy the client is the first address that is not one, however long the list that a stranger wrote', async () => {
  const cases: [path: string, fields: string[], expected: string][] = [
    ['/one', ['X-Forwarded-For: 203.0.113.7'], '203.0.113.7'],
    ['/prefixed', ['X-Forwarded-For: 10.0.0.1, 127.0.0.1, 203.0.113.7'], '203.0.113.7'],
    ['/chain', ['X-Forwarded-For: 198.51.100.9, 203.0.113.7, 10.9.0.1, 127.0.0.9'], '203.0.113.7'],
    ['/twice', ['X-Forwarded-For: 198.51.100.9', 'X-Forwarded-For: 203.0.113.7'], '203.0.113.7'],
    ['/forwarded', ['Forwarded: for=198.51.100.9, for="203.0.113.7:99"'], '203.0.113.7'],
    ['/six', ['X-Forwarded-For: [2001:db8::7]:443'], '2001:db8::7'],
    ['/differ', ['X-Forwarded-For: 203.0.113.7', 'Forwarded: for=198.51.100.9'], '127.0.0.1'],
    ['/nonsense', ['X-Forwarded-For: unknown'], '127.0.0.1'],
    ['/octal', ['X-Forwarded-For: 0313.0.0161.7'], '127.0.0.1'],
    ['/real-ip', ['X-Real-IP: 203.0.113.7'], '127.0.0.1'],
    ['/alias', ['X_Forwarded_For: 203.0.113.7'], '127.0.0.1'],
    ['/long', [`X-Forwarded-For: ${'127.0.0.1, '.repeat(100)}127.0.0.1`], '127.0.0.1'],
  ];
  for (const [path, fields, expected] of cases) {
    using wire = await wireHttps(trusting, OPEN);
    wire.write(`GET ${path} HTTP/1.1\r\nHost: ${OPEN}\r\n${fields.join('\r\n')}\r\n\r\n`);
    assert.equal((await wire.reply())?.status, 200, path);
    assert.equal((await recordOf(trusting, path)).client_address, expected, path);
  }
});

test('incident 14: a stranger on plain HTTP is not on HTTPS because a header says so', async () => {
  const fields = [
    'X-Forwarded-Proto: https',
    'X-Forwarded-Ssl: on',
    'Front-End-Https: on',
    'X-Scheme: https',
    'Forwarded: proto=https',
  ].join('\r\n');
  using wire = await wireHttp(product);
  const refused = await wire.write(`GET /plain HTTP/1.1\r\nHost: ${OPEN}\r\n${fields}\r\n\r\n`).reply();
  assert.equal(refused?.status, 308);
  using other = await wireHttp(trusting);
  const believed = await other
    .write(`GET /plain HTTP/1.1\r\nHost: ${OPEN}\r\nX-Forwarded-Proto: https\r\n\r\n`)
    .reply();
  assert.equal(believed?.status, 200);
});

test('incident 14: what a proxy on this machine hands on is not local, whatever it says of the client', async () => {
  const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  const ask = async (host: string, fields: string) => {
    using wire = await wireHttp(trusting);
    wire.write(
      `POST /mcp HTTP/1.1\r\nHost: ${host}\r\n${fields}Authorization: Bearer ${trusting.adminToken}\r\n` +
        'Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n' +
        `Content-Length: ${ping.length}\r\nConnection: close\r\n\r\n${ping}`,
    );
    return (await wire.reply())?.status;
  };
  for (const host of ['localhost', `127.0.0.1:${trusting.httpPort}`]) {
    assert.equal(await ask(host, ''), 200, 'a client on this machine');
    for (const fields of [
      'X-Forwarded-For: 203.0.113.9\r\n',
      'Forwarded: for=198.51.100.1\r\nX-Forwarded-For: 203.0.113.9\r\n',
      'X-Forwarded-For: 127.0.0.1\r\n',
      'X-Forwarded-For: unknown\r\n',
      'Forwarded: for=_hidden\r\n',
      'X-Forwarded-Host: localhost\r\n',
      'X-Forwarded-Port: 80\r\n',
      'X-Forwarded-Proto: http\r\n',
      'X-Real-IP: 127.0.0.1\r\n',
      'True-Client-IP: 127.0.0.1\r\n',
      'Via: 1.1 front\r\n',
    ]) {
      const status = await ask(host, fields);
      assert.ok(status === 403 || status === 404 || status === 421, `${host} ${fields} ${status}`);
    }
  }
});

test('incident 14: of several schemes the nearest counts, which the trusted proxy wrote', async () => {
  for (const [told, expected] of [
    ['https', 200],
    ['http, https', 200],
    ['https, http', 308],
    ['https,', 308],
  ] as const) {
    using wire = await wireHttp(trusting);
    wire.write(`GET /scheme HTTP/1.1\r\nHost: ${OPEN}\r\nX-Forwarded-Proto: ${told}\r\n\r\n`);
    assert.equal((await wire.reply())?.status, expected, told);
  }
});

test('incident 14: a space before the colon, or a name that is none, is refused', async () => {
  for (const field of [
    'X-Auth-User : root',
    'X-Auth-User\t: root',
    'X-Auth-User\x0b: root',
    'X-Auth User: root',
    'X-Auth-User\x00: root',
    ' X-Auth-User: root',
    'X-Auth-Üser: root',
    '(X-Auth-User): root',
  ]) {
    const before = upstream.requests.length;
    using wire = await wireHttps(product, OPEN);
    wire.write(`GET /name HTTP/1.1\r\nHost: ${OPEN}\r\n${field}\r\nConnection: close\r\n\r\n`);
    assert.equal((await wire.replies())[0]?.status, 400, JSON.stringify(field));
    assert.equal(upstream.requests.length, before, field);
  }
});

test('incident 14: no path, method, user agent, header, query or cookie opens what asks for a credential', async () => {
  const { secret } = await grant(product, { permissions: ['certificates:read'] });
  const { adminToken } = product;
  const before = upstream.requests.length;
  const paths = [
    '/',
    '/healthz',
    '/readyz',
    '/health',
    '/ping',
    '/status',
    '/metrics',
    '/robots.txt',
    '/favicon.ico',
    '/static/app.js',
    '/x.png',
    '/login',
    '/logout',
    '/oauth2/auth',
    '/oauth2/callback',
    '/.well-known/openid-configuration',
    '/.well-known/security.txt',
    '/.well-known/acme-challenge/x',
    '/.well-known/acme-challenge',
    '/.well-known/acme-challenge/../../secret',
    '/api/public',
    '/mcp',
    '/mcp/',
    '/mcp/x',
    '/v1/proxies',
    `/?access_token=${adminToken}`,
    `/?token=${adminToken}`,
    '/secret?.png',
    '/secret;.png',
    '/secret/.css',
  ];
  const agents = [
    'kube-probe/1.30',
    'GoogleHC/1.0',
    'ELB-HealthChecker/2.0',
    'Prometheus/3.0',
    'Googlebot/2.1',
    'ohp/0.1.0',
    '',
  ];
  const methods = ['GET', 'HEAD', 'OPTIONS', 'POST', 'PROPFIND', 'PURGE'];
  const fields = [
    `Cookie: token=${adminToken}; access_token=${adminToken}`,
    `X-Api-Key: ${adminToken}`,
    `X-Auth-Token: ${adminToken}`,
    `Proxy-Authorization: Bearer ${adminToken}`,
    `Authorization_: Bearer ${adminToken}`,
    'X-Forwarded-For: 127.0.0.1',
    'X-Real-IP: 127.0.0.1',
    'X-Auth-User: admin',
    'X-Original-URL: /healthz',
    'X-HTTP-Method-Override: OPTIONS',
    'X-Forwarded-Method: OPTIONS',
    'Origin: https://closed.example.com\r\nAccess-Control-Request-Method: GET',
    'Upgrade: websocket\r\nConnection: Upgrade',
    'Expect: 100-continue\r\nContent-Length: 0',
    'Authorization: Basic YWRtaW46YWRtaW4=',
    'Authorization: Bearer',
    'Authorization: Bearer undefined',
    'Authorization: Bearer null',
    `Authorization: ${adminToken}`,
    `Authorization: Token ${adminToken}`,
    `Authorization: Bearer ${adminToken}x`,
    `Authorization: Bearer ${adminToken.toUpperCase()}`,
    `Authorization: Bearer x, Bearer ${adminToken}`,
    `Authorization: Bearer x\r\nAuthorization: Bearer ${adminToken}`,
    `Authorization: Bearer ${adminToken}\r\nAuthorization: Bearer x`,
    `Authorization: Bearer "${adminToken}"`,
    `Authorization: Bearer ${secret}`,
  ];
  const requests = [
    ...paths.map((path) => ['GET', path, '']),
    ...agents.map((agent) => ['GET', '/secret', `User-Agent: ${agent}`]),
    ...methods.map((method) => [method, '/secret', '']),
    ...fields.map((field) => ['GET', '/secret', field]),
  ] as const;
  const opened: string[] = [];
  for (const [method, path, field] of requests)
    for (const open of [() => wireHttps(product, CLOSED), () => wireHttp(product)]) {
      using wire = await open();
      wire.write(
        `${method} ${path} HTTP/1.1\r\nHost: ${CLOSED}\r\n${field}${field === '' ? '' : '\r\n'}Connection: close\r\n\r\n`,
      );
      const [reply] = await wire.replies();
      const isClosed =
        [400, 401, 403, 404].includes(reply?.status ?? 0) || (method === 'HEAD' && reply === undefined);
      if (!isClosed || upstream.requests.length !== before)
        opened.push(`${method} ${path} ${field}: ${reply?.status}`);
    }
  assert.deepEqual(opened, []);
  const allowed = await product.get(CLOSED, '/secret', {
    headers: { authorization: `Bearer ${adminToken}` },
  });
  assert.equal(allowed.status, 200, 'the credential itself opens it');
  assert.equal(upstream.requests.at(-1)?.headers.authorization, undefined, 'and stays here');
});

test('incident 14: behind a trusted proxy no forwarded host or path chooses another policy', async () => {
  const before = upstream.requests.length;
  for (const field of [
    `X-Forwarded-Host: ${OPEN}`,
    `Forwarded: host=${OPEN}`,
    'X-Original-URL: /public',
    'X-Forwarded-Uri: /public',
    `X-Host: ${OPEN}`,
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-User: admin',
  ]) {
    using wire = await wireHttps(trusting, CLOSED);
    const reply = await wire.write(`GET /secret HTTP/1.1\r\nHost: ${CLOSED}\r\n${field}\r\n\r\n`).reply();
    assert.equal(reply?.status, 401, field);
  }
  assert.equal(upstream.requests.length, before);
});
