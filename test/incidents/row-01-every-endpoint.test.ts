/**
 * One control route that misses its gate is enough (nginx-ui CVE-2026-33032; an empty allow-list that allowed all).
 * Every endpoint that the process says it serves is asked as everyone, so that a new one is tested by existing.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import test, { after } from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import { configFile, callTool, generous, grant, outcomeOf, postMcp, send } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

interface Endpoint {
  methods: string[];
  path: string;
  hosts: 'control' | 'served' | 'protected';
  gate: string;
}

const product = await startProduct({
  env: { OHP_CONFIG: configFile({ ...generous, services: { labels: 'propose' } }) },
});
const upstream = await startUpstream();
after(() => Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]));

const SERVED = 'served.example.com';
const CONFINED = '*.confined.example.net';
for (const body of [
  { hostname: SERVED, target_url: upstream.url },
  {
    hostname: 'guarded.example.com',
    target_url: upstream.url,
    auth: { kind: 'token', permission: 'proxies:read' },
  },
])
  assert.equal((await product.api('POST', '/v1/proxies', body)).status, 201);

const secrets = {
  viewer: (await grant(product, { bundle: 'viewer' })).secret,
  operator: (await grant(product, { bundle: 'operator' })).secret,
  admin: (await grant(product, { bundle: 'admin' })).secret,
  confined: (await grant(product, { bundle: 'admin', hostnames: [CONFINED] })).secret,
  /** In the form of ours, and unknown. */
  stranger: `ohp_${randomBytes(32).toString('hex').slice(0, 49)}`,
  nobody: undefined,
};
type Who = keyof typeof secrets;
const everyone = Object.keys(secrets) as Who[];

/** Written out on purpose: bundles are compared with this, not with the program's own table. */
const viewerMay = [
  'proxies',
  'routes',
  'certificates',
  'services',
  'logs',
  'metrics',
  'alerts',
  'system',
].map((noun) => `${noun}:read`);
const operatorMay = [
  ...viewerMay,
  ...['proxies', 'routes', 'certificates', 'alerts'].map((noun) => `${noun}:write`),
];
/** A confined administrator touches nothing that belongs to the whole system. */
const refusedToConfined = [
  'POST /v1/alert-tests',
  'POST /v1/image-pulls',
  'POST /v1/services-clean-up',
  'POST /v1/external-services',
  'POST /v1/accepted-proposals',
  'PATCH /v1/external-services/{name}',
  'PUT /v1/log-levels/{component}',
  'GET /v1/diagnostics',
  'HEAD /v1/diagnostics',
  'GET /v1/endpoints',
  'HEAD /v1/endpoints',
  'GET /v1/audit-verification',
  'HEAD /v1/audit-verification',
  'GET /v1/audit-records',
  'HEAD /v1/audit-records',
  'GET /metrics',
  'HEAD /metrics',
  'GET /v1/commands',
  'HEAD /v1/commands',
  'POST /v1/commands',
  'POST /v1/keys/rotate',
  'POST /v1/certificates/{id}/export',
  'POST /v1/certificate-issuers/{issuer}/account-key',
];
/** People, clients and containers belong to all hostnames. */
const isRefusedToConfined = (call: string): boolean =>
  refusedToConfined.includes(call) ||
  /^\S+ \/v1\/(?:users|clients|services|publications|proposals|images|secrets)(?:\/|$)/.test(call);

const endpoints = (await product.api('GET', '/v1/endpoints?limit=200')).body.endpoints as Endpoint[];
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND'];
const places: Record<string, string> = {
  hostname: 'nowhere.example.org',
  id: 'tok_000',
  component: 'mcp',
  issuer: 'nobody',
  name: 'nothing',
  token: 'x',
  path: 'x',
};
const urlOf = (path: string) =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => places[name] ?? assert.fail(name));

function expected(who: Who, gate: string, call: string): 'pass' | 401 | 403 | undefined {
  // It asks for a client or a browser, which none of these is; tokens of ours are nothing to it.
  if (gate === 'oauth') return undefined;
  // What a front says is believed of those that are named, and none is here.
  if (gate === 'front') return 403;
  // A credential that is not valid is told so everywhere, or nobody would notice that it has expired.
  if (gate === 'public') return who === 'stranger' ? 401 : 'pass';
  if (who === 'nobody' || who === 'stranger') return 401;
  if (gate === 'mcp' || gate === 'authenticated') return 'pass';
  if (who === 'confined') return isRefusedToConfined(call) ? 403 : 'pass';
  if (who === 'admin') return 'pass';
  return (who === 'viewer' ? viewerMay : operatorMay).includes(gate) ? 'pass' : 403;
}

/** Enough of a request to get past the gate and no further than the arguments. */
function bodyOf(method: string, gate: string) {
  if (gate === 'mcp') return method === 'POST' ? { jsonrpc: '2.0', id: 1, method: 'ping' } : undefined;
  return ['POST', 'PUT', 'PATCH'].includes(method) ? {} : undefined;
}

test('incident 01: the registry names every surface, so that walking it means walking everything', () => {
  assert.ok(endpoints.length > 30, `${endpoints.length} endpoints`);
  for (const path of [
    '/mcp',
    '/mcp/',
    '/healthz',
    '/v1/proxies',
    '/openapi.json',
    '/metrics',
    '/v1/commands',
  ])
    assert.ok(
      endpoints.some((endpoint) => endpoint.path === path),
      path,
    );
});

test('incident 01: what an endpoint asks for is the permission of what it touches', () => {
  const noun: Record<string, string> = {
    'route-test': 'routes',
    // The walk is what anybody can see; the attempts are the log's.
    'connector-diagnosis': 'logs',
    'certificate-explanation': 'certificates',
    'certificate-orders': 'certificates',
    'certificate-issuers': 'certificates',
    'alert-tests': 'alerts',
    'log-stats': 'logs',
    'audit-records': 'logs',
    'audit-verification': 'logs',
    'log-search': 'logs',
    'log-tail': 'logs',
    'request-explanation': 'logs',
    refusals: 'logs',
    changes: 'logs',
    // Who may send a hostname's requests elsewhere could read them there.
    captures: 'proxies',
    'log-levels': 'system',
    images: 'services',
    secrets: 'services',
    'image-pulls': 'services',
    'services-clean-up': 'services',
    'external-services': 'services',
    publications: 'services',
    proposals: 'services',
    // Makes a proxy, and changes nothing of the container.
    'accepted-proposals': 'proxies',
    endpoints: 'system',
    keys: 'system',
  };
  /** Read by who may change it, and by no other. */
  const ofWriters: Record<string, string> = {
    '/v1/captures': 'proxies:write',
    '/v1/captures/{id}': 'proxies:write',
    '/v1/diagnostics': 'system:write',
  };
  const everyones = ['/v1/echo', '/v1/health', '/v1/me', '/v1/grants', '/v1/grants/{id}'];
  for (const { path, methods, gate } of endpoints.filter((one) => one.path.startsWith('/v1/'))) {
    const [, , name = ''] = path.split('/');
    const wanted = `${noun[name] ?? name}:${methods.includes('GET') ? 'read' : 'write'}`;
    const own = everyones.includes(path)
      ? 'authenticated'
      : path === '/v1/commands'
        ? 'commands:run'
        : path.endsWith('/export')
          ? 'certificates:export'
          : (ofWriters[path] ?? wanted);
    assert.equal(gate, own, `${methods.join()} ${path}`);
  }
});

for (const who of everyone)
  test(`incident 01: every endpoint gives ${who} exactly what its gate says`, async () => {
    for (const { methods, path, gate } of endpoints.filter(({ hosts }) => hosts !== 'protected'))
      for (const method of methods) {
        const call = `${method} ${path}`;
        // A preflight carries no credential, by the standard of browsers.
        if (method === 'OPTIONS') continue;
        const { status, text } = await send(product, {
          method,
          path: urlOf(path),
          token: secrets[who],
          headers: path.startsWith('/mcp') ? { accept: 'application/json, text/event-stream' } : {},
          body: bodyOf(method, gate),
        });
        const wanted = isMetaPath(path) ? 'pass' : expected(who, gate, call);
        const seen = status === 401 || status === 403 ? status : 'pass';
        if (wanted !== undefined) assert.equal(seen, wanted, `${call} as ${who}: ${status} ${text}`);
        assert.ok(
          status < 500 || /^\/v1\/(?:services|proposals|images)/.test(path),
          `${call} as ${who}: ${status} ${text}`,
        );
      }
  });

/** Answered before anyone is asked who he is: the same constant for all. */
const isMetaPath = (path: string) =>
  path.startsWith('/.well-known/') || path === '/healthz' || path === '/readyz';

test('incident 01: what is not listed does not exist: other paths are 404, other methods 405, for the administrator too', async () => {
  const others = ['/admin', '/v1', '/v1/', '/v2/proxies', '/v1/proxies/a/b', '/debug', '/mcp/x', '/sse'];
  for (const path of [...others, '/V1/proxies', '/.env', '/api', '/oauth', '/oauth/x', '/oauth/token/x'])
    for (const method of METHODS.filter((one) => one !== 'TRACE')) {
      const { status, text } = await send(product, { method, path, token: secrets.admin });
      assert.equal(status, 404, `${method} ${path}: ${text}`);
    }
  for (const call of unlisted()) await isRefused(call);
});

test('incident 01: every method that /mcp answers is in the registry: HEAD is not, and is answered', async () => {
  for (const call of unlisted().filter((one) => one.startsWith('HEAD /mcp'))) await isRefused(call);
});

/** `METHOD path` of each path that is listed, with the methods that are not. */
const unlisted = () =>
  [...new Set(endpoints.filter(({ hosts }) => hosts !== 'protected').map(({ path }) => path))].flatMap(
    (path) => {
      const listed = endpoints.filter((endpoint) => endpoint.path === path).flatMap(({ methods }) => methods);
      return METHODS.filter((method) => !listed.includes(method)).map((method) => `${method} ${path}`);
    },
  );

async function isRefused(call: string): Promise<void> {
  const [method = '', path = ''] = call.split(' ');
  const { status, text } = await send(product, { method, path: urlOf(path), token: secrets.admin });
  assert.equal(status, 405, `${call}: ${status} ${text}`);
}

test('incident 01: on a served hostname there is no control plane but /mcp, which asks for a credential there too', async () => {
  for (const { methods, path, gate, hosts } of endpoints) {
    if (hosts === 'served' && gate !== 'mcp') continue;
    for (const method of methods) {
      if (method === 'OPTIONS') continue;
      const seen = upstream.requests.length;
      const url = urlOf(path);
      const answer = await product.get(SERVED, url, { method });
      if (gate === 'mcp') assert.equal(answer.status, 401, `${method} ${path}`);
      else
        assert.equal(
          upstream.requests[seen]?.url,
          url,
          `${method} ${path} is the upstream's: ${answer.status}`,
        );
    }
  }
});

test('incident 01: a body that cannot be read denies before anything is done, whoever sends it', async () => {
  const before = await state();
  const bodies = [
    '{',
    '{"hostname":"x.example.com","target_url":"http://localhost:1"',
    'null',
    '[]',
    '"x"',
    '\u0000',
  ];
  for (const { methods, path, gate } of endpoints.filter(({ hosts }) => hosts !== 'protected'))
    for (const method of methods.filter((one) => ['POST', 'PUT', 'PATCH'].includes(one)))
      for (const body of bodies)
        for (const token of Object.values(secrets)) {
          const headers = {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
          };
          const { status, text } = await send(product, { method, path: urlOf(path), token, headers, body });
          const refusals = gate === 'oauth' ? [303, 400, 401, 403, 404, 415, 429] : [400, 401, 403];
          assert.ok(refusals.includes(status), `${method} ${path} ${gate} ${body}: ${status} ${text}`);
        }
  assert.deepEqual(await state(), before);
});

async function state(): Promise<unknown> {
  const lists = ['/v1/proxies', '/v1/routes', '/v1/tokens'].map((path) => product.api('GET', path));
  return (await Promise.all(lists)).map(({ body }) =>
    JSON.stringify(body, (key, value: unknown) => (key === 'last_used_at' ? undefined : value)),
  );
}

test('incident 01: MCP has one gate with REST: a tool that REST refuses is refused by name, by call_operation and in both eras', async () => {
  const body = { jsonrpc: '2.0', id: 1, method: 'tools/list' };
  const listed = async (token: string | undefined) =>
    ((await postMcp(product, { token, body })).json.result?.tools ?? []).map(
      ({ name }: { name: string }) => name,
    );
  const all: string[] = await listed(secrets.admin);
  assert.ok(all.length >= 15, all.join());
  for (const who of ['viewer', 'operator', 'confined'] as const) {
    const own = await listed(secrets[who]);
    for (const name of all.filter((one) => !own.includes(one)))
      for (const era of ['legacy', 'modern'] as const) {
        const direct = await callTool(product, secrets[who], { name, era });
        const wrapped = { name: 'call_operation', args: { name, arguments: {} }, era };
        const found = [outcomeOf(direct), outcomeOf(await callTool(product, secrets[who], wrapped))];
        assert.deepEqual(found, ['FORBIDDEN', 'FORBIDDEN'], `${name} as ${who}, ${era}`);
      }
  }
  assert.deepEqual(await listed(undefined), []);
});

test('incident 01: a confined administrator sees and changes what is below its hostnames and nothing else', async () => {
  const as = (method: string, path: string, body?: object) =>
    send(product, { method, path, token: secrets.confined, body });
  for (const path of ['/v1/proxies', '/v1/routes', '/v1/certificates'])
    assert.deepEqual(Object.values((await as('GET', path)).json)[0], [], path);
  for (const [method, path, body] of [
    ['GET', `/v1/proxies/${SERVED}`],
    ['PATCH', `/v1/proxies/${SERVED}`, { enabled: false }],
    ['DELETE', `/v1/proxies/${SERVED}`],
  ] as const)
    assert.equal((await as(method, path, body)).status, 404, `${method} ${path}`);
  const target_url = upstream.url;
  for (const hostname of [
    'new.example.com',
    'confined.example.net',
    '*.example.net',
    'xconfined.example.net',
  ])
    assert.equal((await as('POST', '/v1/proxies', { hostname, target_url })).status, 403, hostname);
  for (const hostname of [null, SERVED]) {
    const { status } = await as('POST', '/v1/routes', { hostname, path: '/x', target_url });
    assert.ok([403, 404].includes(status), `a route for ${hostname}: ${status}`);
  }
  for (const hostnames of [undefined, [SERVED], [CONFINED, SERVED], ['*.example.net'], ['*.net']]) {
    const { status } = await as('POST', '/v1/tokens', { name: 'wider', bundle: 'viewer', hostnames });
    assert.equal(status, 403, `a token for ${hostnames?.join()}`);
  }
  const own = { hostname: 'own.confined.example.net', target_url };
  assert.equal((await as('POST', '/v1/proxies', own)).status, 201);
  assert.equal((await as('DELETE', `/v1/proxies/${own.hostname}`)).status, 200);
});

test('incident 01: an empty list of hostnames is refused where it is granted', async () => {
  const reply = await product.api('POST', '/v1/tokens', { name: 'none', bundle: 'admin', hostnames: [] });
  assert.equal(reply.status, 400);
});

test('incident 01: a stored token with an empty, null-like or unreadable list of hostnames opens nothing', async () => {
  await using first = await startProduct();
  const proxy = {
    hostname: SERVED,
    target_url: upstream.url,
    auth: { kind: 'token', permission: 'proxies:read' },
  };
  await first.api('POST', '/v1/proxies', proxy);
  const lists = { empty: [], text: '', number: 0, blank: [''], star: ['*'], mixed: [SERVED, 1] };
  const made = await Promise.all(
    Object.entries(lists).map(async ([name, hostnames]) => ({
      name,
      hostnames,
      ...(await grantConfined(first)),
    })),
  );
  await first.stop();
  const database = new BetterSqlite3(join(first.dataDir, 'state.sqlite'));
  for (const { id, hostnames } of made)
    database
      .prepare("update tokens set document = json_set(document, '$.hostnames', json(?)) where id = ?")
      .run(JSON.stringify(hostnames), id);
  database.close();
  await using second = await first.restart();
  for (const { name, secret } of made) {
    const list = await send(second, { path: '/v1/proxies', token: secret });
    assert.ok(list.status === 401 || list.json.proxies?.length === 0, `${name} lists: ${list.text}`);
    const create = {
      method: 'POST',
      path: '/v1/proxies',
      token: secret,
      body: { ...proxy, hostname: 'a.example.com' },
    };
    assert.ok([401, 403].includes((await send(second, create)).status), `${name} creates`);
    const headers = { authorization: `Bearer ${secret}` };
    for (const path of ['/', '/mcp'])
      assert.ok(
        [401, 403].includes((await second.get(SERVED, path, { headers })).status),
        `${name} reaches ${path}`,
      );
  }
});

const grantConfined = (on: Product) => grant(on, { bundle: 'admin', hostnames: [SERVED] });
