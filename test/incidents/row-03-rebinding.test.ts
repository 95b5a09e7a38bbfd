/**
 * A page in the operator's browser reaches listeners on loopback by a name that resolves there (Inspector
 * CVE-2025-49596, TypeScript SDK CVE-2025-66414). Every endpoint that the process lists is asked over raw sockets, with
 * the administrator's credential, so that Host and Origin are all that decides.
 */
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { configFile, generous, raw, type RawReply } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
after(() => product[Symbol.asyncDispose]());
const upstream = await startUpstream();
after(() => upstream[Symbol.asyncDispose]());
const SERVED = 'served.example.com';
const served = { hostname: SERVED, target_url: upstream.url };
assert.equal((await product.api('POST', '/v1/proxies', served)).status, 201);

interface Call {
  method: string;
  path: string;
  surface: string;
}
const places: Record<string, string> = {
  hostname: SERVED,
  id: 'tok_0',
  component: 'mcp',
  issuer: 'default',
  name: 'nothing',
  token: 'x',
  path: 'x',
};
interface Listed {
  methods: string[];
  path: string;
  surface: string;
  hosts: string;
  gate: string;
}
const listed = (await product.api('GET', '/v1/endpoints?limit=200')).body.endpoints as Listed[];
// What is at protected hostnames only is not there at the control host. Pages of the authorization server are opened
// from anywhere; their forms are row 6's.
const calls: Call[] = listed
  .filter(({ hosts, gate }) => hosts !== 'protected' && gate !== 'oauth')
  .flatMap(({ methods, path, surface }) =>
    methods.map((method) => ({
      method,
      surface: path === '/healthz' || path === '/readyz' ? 'probe' : surface,
      path: path.replace(/\{(\w+)\}/g, (_, name: string) => places[name] ?? assert.fail(name)),
    })),
  );
const port = product.httpPort;
const AT_ONCE = 50;

/** A change that would be seen, were it made. */
const bodyOf = ({ method, path, surface }: Call): string => {
  if (surface === 'mcp' && method === 'POST')
    return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_proxy","arguments":{"hostname":"${SERVED}"}}}`;
  if (method === 'POST' && path === '/v1/proxies')
    return '{"hostname":"new.example.com","target_url":"http://localhost:1"}';
  if (method === 'PATCH') return '{"enabled":false}';
  return ['POST', 'PUT'].includes(method) ? '{}' : '';
};

function request(call: Call, fields: readonly string[], target = call.path, version = '1.1'): string {
  const body = bodyOf(call);
  return [
    `${call.method} ${target} HTTP/${version}`,
    ...fields,
    `Authorization: Bearer ${product.adminToken}`,
    'Accept: application/json, text/event-stream',
    'Connection: close',
    ...(body === '' ? [] : ['Content-Type: application/json', `Content-Length: ${body.length}`]),
    '',
    body,
  ].join('\r\n');
}

/** Each call with each variant, some at once; `check` sees every reply. */
async function each<Variant>(
  of: readonly Call[],
  variants: readonly Variant[],
  bytes: (call: Call, variant: Variant) => string,
  check: (reply: RawReply, call: Call, variant: Variant) => void,
): Promise<void> {
  const jobs = of.flatMap((call) => variants.map((variant) => ({ call, variant })));
  while (jobs.length > 0)
    await Promise.all(
      jobs.splice(0, AT_ONCE).map(async ({ call, variant }) => {
        check(await raw(product, bytes(call, variant)), call, variant);
      }),
    );
}

const said = ({ method, path }: Call, variant: unknown, reply: RawReply) =>
  `${method} ${path} with ${JSON.stringify(variant)}: ${reply.all.slice(0, 400)}`;

async function nothingChanged(): Promise<void> {
  const { proxies } = (await product.api('GET', '/v1/proxies')).body;
  assert.deepEqual(
    proxies.map(({ hostname, version }: { hostname: string; version: number }) => [hostname, version]),
    [[SERVED, 1]],
  );
}

/** Tells, to whatever Host, only what is pending for that very Host: nothing here. */
const isAcme = ({ surface }: Call) => surface === 'acme';

const foreignHosts = [
  'evil.example.com',
  `evil.example.com:${port}`,
  'evil.example.com.',
  `localhost.evil.example.com:${port}`,
  'localhost.example.com',
  'localhost.localdomain',
  'xlocalhost',
  'localhost-',
  '127.0.0.1.example.com',
  `127.evil.example.com:${port}`,
  '127.0.0.evil.example.com',
  '127.a',
  '0.0.0.0',
  `0.0.0.0:${port}`,
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '10.0.0.1',
  '169.254.169.254',
  '127.1',
  '127.0.0.1.',
  '2130706433',
  '0x7f000001',
  '0177.0.0.1',
];

test('incident 03: every endpoint refuses a request for a Host that is not served', async () => {
  await each(
    calls,
    foreignHosts,
    (call, host) => request(call, [`Host: ${host}`]),
    (reply, call, host) => {
      const wanted = isAcme(call) ? [404, 405, 400] : [421, 400];
      assert.ok(wanted.includes(reply.status), said(call, host, reply));
      assert.ok(!reply.all.includes('access-control-allow-origin'), said(call, host, reply));
    },
  );
  await nothingChanged();
});

const brokenHosts = [
  [],
  ['Host:'],
  ['Host: localhost', 'Host: evil.example.com'],
  ['Host: evil.example.com', 'Host: localhost'],
  ['Host: localhost', 'host: localhost'],
  ['Host: localhost@evil.example.com'],
  ['Host: evil.example.com@localhost'],
  [`Host: localhost:${port}@evil.example.com`],
  ['Host: localhost, evil.example.com'],
  ['Host: localhost evil.example.com'],
  ['Host: localhost#evil.example.com'],
  ['Host: localhost/evil.example.com'],
  ['Host: localhost\\evil.example.com'],
  ['Host: http://localhost'],
  ['Host: localhost:'],
  ['Host: localhost:0'],
  ['Host: localhost:99999'],
  [`Host: localhost:${port}x`],
  ['Host: localhost:80:80'],
  ['Host: localhost:+80'],
  ['Host: [::1'],
  ['Host: ::1'],
  ['Host: [::1%25lo]'],
  ['Host: [::1]localhost'],
  ['Host: localhost..'],
  ['Host: l\xf6calhost'],
  ['Host: %6cocalhost'],
];

test('incident 03: every endpoint refuses a Host that two readers could take for two hosts', async () => {
  await each(
    calls,
    brokenHosts,
    (call, fields) => request(call, fields),
    (reply, call, fields) => assert.equal(reply.status, 400, said(call, fields, reply)),
  );
  await nothingChanged();
});

test('incident 03: every endpoint refuses a target that names another host than the Host field', async () => {
  const targets = [
    'http://evil.example.com',
    'http://localhost.evil.example.com',
    'http://x@localhost',
    'HTTP://127.0.0.2',
  ];
  await each(
    calls,
    targets,
    (call, origin) => request(call, ['Host: localhost'], `${origin}${call.path}`),
    (reply, call, origin) => assert.equal(reply.status, 400, said(call, origin, reply)),
  );
  await each(
    calls,
    [`http://evil.example.com`],
    (call, origin) => request(call, ['Host: evil.example.com'], `${origin}${call.path}`),
    (reply, call, origin) => assert.ok([421, 404, 405].includes(reply.status), said(call, origin, reply)),
  );
  await nothingChanged();
});

test('incident 03: no header but Host says which host is meant', async () => {
  const names = ['X-Forwarded-Host', 'X-Host', 'Forwarded', 'X-Original-Host', 'X-HTTP-Host-Override'];
  await each(
    calls.filter((call) => !isAcme(call)),
    names,
    (call, name) =>
      request(call, [
        'Host: evil.example.com',
        `${name}: ${name === 'Forwarded' ? 'host=' : ''}localhost:${port}`,
      ]),
    (reply, call, name) => assert.equal(reply.status, 421, said(call, name, reply)),
  );
});

test('incident 03: over TLS the Host has to be the name the connection was made for, on every endpoint', async () => {
  const named = calls.filter(({ surface }) => surface !== 'acme' && surface !== 'probe');
  for (const call of named)
    for (const [servername, host] of [
      [SERVED, 'localhost'],
      [SERVED, '127.0.0.1'],
      ['localhost', SERVED],
      ['localhost', 'evil.example.com'],
    ] as const) {
      const reply = await raw(product, request(call, [`Host: ${host}`]), servername);
      assert.equal(reply.status, 421, said(call, [servername, host], reply));
    }
  assert.equal(upstream.requests.length, 0);
});

/** No page at any of these is the control host itself, whatever it looks like. */
const foreignOrigins = [
  ['null'],
  [''],
  ['http://evil.example.com'],
  [`http://evil.example.com:${port}`],
  [`http://localhost.evil.example.com:${port}`],
  [`http://localhost.:${port}`],
  [`http://LOCALHOST:${port}`],
  [`http://localhost:${port}/`],
  [`http://localhost:0${port}`],
  [`http://localhost:${port}@evil.example.com`],
  [`http://evil.example.com@localhost:${port}`],
  [`http://localhost:${port}.evil.example.com`],
  [`http://localhost:${port}, http://evil.example.com`],
  [`http://localhost:${port} http://evil.example.com`],
  [`http://localhost:${port}`, 'http://evil.example.com'],
  ['http://evil.example.com', `http://localhost:${port}`],
  [`http://localhost:${port}`, `http://localhost:${port}`],
  [`http://[::ffff:127.0.0.1]:${port}`],
  [`http://0.0.0.0:${port}`],
  [`http://127.1:${port}`],
  [`http://2130706433:${port}`],
  [`ftp://localhost:${port}`],
  ['file://'],
  ['chrome-extension://abcdefghijklmnop'],
  [`https://${SERVED}`],
  ['localhost'],
];
/** Local pages, which may talk to /mcp (development tools do, and a credential is asked for), and to nothing else. */
const localOrigins = [
  [`https://localhost:${port}`],
  ['http://localhost'],
  ['http://localhost:3000'],
  [`http://127.0.0.1:${port}`],
  [`http://[::1]:${port}`],
];
/** Says to every page what is public anyway (`metadata`), or one constant word that no page can read (`probe`). */
const isForEveryPage = ({ surface }: Call) => ['metadata', 'acme', 'probe'].includes(surface);
const guarded = calls.filter((call) => !isForEveryPage(call));
const withOrigin = (call: Call, origins: readonly string[]) =>
  request(call, [`Host: localhost:${port}`, ...origins.map((origin) => `Origin: ${origin}`)]);

test('incident 03: every endpoint refuses pages of other origins, before the credential counts', async () => {
  assert.ok(guarded.length > 40);
  await each(guarded, foreignOrigins, withOrigin, (reply, call, origins) => {
    assert.equal(reply.status, 403, said(call, origins, reply));
    assert.ok(!('access-control-allow-origin' in reply.headers), said(call, origins, reply));
  });
  const rest = guarded.filter(({ surface }) => surface !== 'mcp');
  await each(rest, localOrigins, withOrigin, (reply, call, origins) =>
    assert.equal(reply.status, 403, said(call, origins, reply)),
  );
  await nothingChanged();
});

test('incident 03: what every page may ask for is the same for everyone, and allows no page to read a probe', async () => {
  await each(
    calls.filter(isForEveryPage),
    [['http://evil.example.com'], ['null']],
    withOrigin,
    (reply, call, origins) => {
      const allowed = reply.headers['access-control-allow-origin'];
      assert.equal(allowed, call.surface === 'metadata' ? '*' : undefined, said(call, origins, reply));
      assert.ok(!('access-control-allow-credentials' in reply.headers), said(call, origins, reply));
      assert.ok(!reply.all.includes('evil'), said(call, origins, reply));
    },
  );
});

test('incident 03: on a served hostname /mcp is for its own pages only; a local page is a stranger there', async () => {
  const call = { method: 'POST', path: '/mcp', surface: 'mcp' };
  for (const origin of [
    ...localOrigins.flat(),
    'null',
    'http://evil.example.com',
    `http://${SERVED}`,
    'https://example.com',
  ]) {
    const fields = [`Host: ${SERVED}:${product.httpsPort}`, `Origin: ${origin}`];
    const reply = await raw(product, request(call, fields), SERVED);
    assert.equal(reply.status, 403, said(call, origin, reply));
  }
  await nothingChanged();
});

test('incident 03: a second spelling of the control host is the control host, and gives a page nothing more', async () => {
  const call = { method: 'GET', path: '/v1/proxies', surface: 'rest' };
  for (const host of ['localhost.', 'LOCALHOST', 'localhost:1', '127.0.0.1', '[::1]', '127.0.0.2']) {
    assert.equal((await raw(product, request(call, [`Host: ${host}`]))).status, 200, host);
    const reply = await raw(product, request(call, [`Host: ${host}`, 'Origin: http://evil.example.com']));
    assert.equal(reply.status, 403, host);
  }
});
