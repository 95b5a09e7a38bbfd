import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { AppError } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import type { AnyOperation } from '../core/operation.ts';
import { permissions } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import type { LogRecord } from '../core/record.ts';
import { type Proxy, proxySchema } from '../proxies/schema.ts';
import type { ServiceTarget } from '../proxies/target-url.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { createSealer } from '../config/secrets.ts';
import { openSqlite } from '../store/sqlite.ts';
import { applyChange, createTable, matchRequest } from './match.ts';
import { routeOperations } from './operations.ts';
import { routeSchema, routeSettings, type RoutingChange } from './schema.ts';
import { RouteService, type RouteServiceOptions } from './service.ts';

const principal = (id: string, hostnames?: string[]): Principal => ({
  id,
  name: id,
  kind: 'token',
  permissions: new Set(permissions),
  hostnames,
  expiresAt: undefined,
});
const admin = principal('tok_admin');
const confined = principal('tok_dev', ['*.dev.example.com']);

const proxy = (hostname: string, more: Partial<Proxy> = {}): Proxy =>
  proxySchema.parse({
    id: `prx_${hostname}`,
    hostname,
    target_url: 'http://localhost:3000',
    owner: 'tok_admin',
    version: 1,
    created_at: '2026-01-01T00:00:00.000Z',
    updated_at: '2026-01-01T00:00:00.000Z',
    ...more,
  });

const proxies = [
  proxy('app.example.com'),
  proxy('a.dev.example.com', { redirect_to_https: false }),
  proxy('*.dev.example.com'),
  proxy('own-mcp.example.com', { serve_mcp: false, auth: { kind: 'token', permission: 'logs:read' } }),
  proxy('secure.example.com', { enable_http: false }),
  proxy('off.example.com', { enabled: false }),
  proxy('*.example.org', { target_url: 'http://[::1]:3000/base/' }),
];

/** One container service, and one that is nowhere. */
const services = {
  asked: [] as string[],
  port: {
    placeOf: ({ name }: ServiceTarget) =>
      name === 'blog'
        ? { stay: { url: 'http://10.0.0.2:8080', host: 'blog:8080', key: '1', isOver: false }, reason: '' }
        : { stay: undefined, reason: 'it does not run' },
    async fault({ name }: ServiceTarget) {
      services.asked.push(name);
      return name === 'none' ? 'there is no service none' : undefined;
    },
  },
};

async function setUp(t: test.TestContext, more: Partial<RouteServiceOptions> = {}) {
  const clock = new ManualClock();
  const database = await openSqlite(':memory:', clock);
  t.after(() => database[Symbol.asyncDispose]());
  await database.change({}, async (tx) => {
    for (const { id, hostname } of proxies)
      await tx.insertInto('proxies').values({ id, hostname, document: '{}', version: 1 }).execute();
  });
  const log: LogRecord[] = [];
  const changed: (readonly string[])[] = [];
  const published: RoutingChange[] = [];
  const gateway = { refuse: undefined as string | undefined, table: createTable(proxies, []) };
  const events = createEvents();
  events.on('route.changed', ({ hostnames }) => void changed.push(hostnames));
  const sink = { write: (record: LogRecord) => void log.push(record), enabled: () => true };
  const routes = new RouteService({
    database,
    events,
    clock,
    log: sink,
    targetFault: (url) => (url.includes('169.254.') ? 'is link-local' : undefined),
    table: () => gateway.table,
    controlHosts: ['localhost'],
    mcpHosts: [],
    ports: () => ({ http: 8080, https: 8443 }),
    targetStates: () => undefined,
    services: services.port,
    publisher: {
      prepare(change) {
        if (gateway.refuse) throw new AppError('PRECONDITION_FAILED', gateway.refuse);
        return {
          publish() {
            published.push(change);
            gateway.table = applyChange(gateway.table, change);
          },
        };
      },
    },
    ...more,
  });
  const dispatch = createDispatch({
    services: { routes },
    log: sink,
    clock,
    idempotency: createIdempotencyStore(database, clock, createSealer(Buffer.alloc(32))),
  });
  const call = (name: string, input: object, by: Principal = admin): Promise<any> =>
    dispatch(routeOperations.find((one) => one.name === name) as AnyOperation, input, {
      principal: by,
      signal: new AbortController().signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
    });
  const rows = () => database.read.selectFrom('routes').selectAll().execute();
  const targetOf = (path: string, hostname = 'app.example.com') =>
    matchRequest(gateway.table, hostname, 'GET', path)?.targetUrl;
  return { call, routes, database, clock, log, changed, published, gateway, rows, targetOf };
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

const api = { hostname: 'app.example.com', path: '/api', target_url: 'http://localhost:4000' };

test('a route is served once it is created, changed or deleted, and not before', async (t) => {
  const { call, targetOf, changed, clock } = await setUp(t);
  const route = await call('create_route', api);
  assert.deepEqual(route, {
    id: route.id,
    ...api,
    match: 'prefix',
    methods: [],
    priority: 500,
    strip_prefix: false,
    enabled: true,
    owner: 'tok_admin',
    version: 1,
    created_at: new Date(clock.now()).toISOString(),
    updated_at: new Date(clock.now()).toISOString(),
  });
  assert.equal(targetOf('/api/x'), api.target_url);
  const auth = { kind: 'token', permission: 'logs:read' };
  const updated = await call('update_route', { id: route.id, path: '/v2', auth, version: 1 });
  assert.deepEqual(updated, { ...route, path: '/v2', auth, version: 2 });
  assert.equal(targetOf('/api/x'), 'http://localhost:3000');
  assert.equal(targetOf('/v2'), api.target_url);
  const open = await call('update_route', { id: route.id, auth: null });
  assert.equal(open.auth, undefined);
  assert.deepEqual(await call('delete_route', { id: route.id, version: 3 }), { id: route.id });
  assert.equal(targetOf('/v2'), 'http://localhost:3000');
  assert.deepEqual(changed, Array(4).fill(['app.example.com']));
  await assert.rejects(call('delete_route', { id: route.id }), failsWith('NOT_FOUND', /no route/));
});

test('a route needs the proxy of exactly its hostname', async (t) => {
  const { call } = await setUp(t);
  for (const hostname of ['other.example.com', 'b.dev.example.com'])
    await assert.rejects(call('create_route', { ...api, hostname }), failsWith('NOT_FOUND', /no proxy/));
  assert.equal(
    (await call('create_route', { ...api, hostname: '*.DEV.example.com' })).hostname,
    '*.dev.example.com',
  );
  await assert.rejects(
    call('create_route', { path: '/', target_url: api.target_url }),
    failsWith('INVALID_INPUT', /hostname/),
  );
});

test('a global route is for every hostname, and not for confined principals', async (t) => {
  const { call, targetOf } = await setUp(t);
  const wanted = { ...api, hostname: null };
  await assert.rejects(call('create_route', wanted, confined), failsWith('FORBIDDEN', /global/));
  const route = await call('create_route', wanted);
  assert.equal(targetOf('/api', 'x.example.org'), api.target_url);
  const missing = failsWith('NOT_FOUND', /no route/);
  await assert.rejects(call('update_route', { id: route.id, enabled: false }, confined), missing);
  await assert.rejects(call('delete_route', { id: route.id }, confined), missing);
  assert.deepEqual(await call('list_routes', {}, confined), { routes: [] });
  assert.equal((await call('list_routes', {})).routes.length, 1);
});

test('for a confined principal no route exists outside of its hostnames', async (t) => {
  const { call } = await setUp(t);
  const { id } = await call('create_route', api);
  const own = await call('create_route', { ...api, hostname: 'a.dev.example.com' }, confined);
  await assert.rejects(call('create_route', api, confined), failsWith('FORBIDDEN', /\*\.dev\.example\.com/));
  const missing = failsWith('NOT_FOUND', /no route/);
  await assert.rejects(call('update_route', { id, enabled: false, version: 9 }, confined), missing);
  await assert.rejects(call('delete_route', { id }, confined), missing);
  assert.deepEqual(
    (await call('list_routes', {}, confined)).routes.map((one: any) => one.id),
    [own.id],
  );
  assert.deepEqual(await call('list_routes', { hostname: 'app.example.com' }, confined), { routes: [] });
});

test('a list is filtered by hostname and goes on where the page before ended', async (t) => {
  const { call } = await setUp(t);
  for (let i = 0; i < 5; i++) await call('create_route', { ...api, path: `/p${i}` });
  await call('create_route', { ...api, hostname: null });
  const paths = async (query: object) => {
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page: any = await call('list_routes', { ...query, limit: 2, ...(cursor && { cursor }) });
      assert.ok(page.routes.length <= 2);
      found.push(...page.routes.map((one: any) => one.path));
      cursor = page.next_cursor;
    } while (cursor);
    return found.toSorted((a, b) => a.localeCompare(b)).join();
  };
  assert.equal(await paths({ hostname: 'app.example.com' }), '/p0,/p1,/p2,/p3,/p4');
  assert.equal(await paths({}), '/api,/p0,/p1,/p2,/p3,/p4');
});

test('a create repeated with its idempotency key creates nothing more', async (t) => {
  const { call, rows } = await setUp(t);
  const input = { ...api, idempotency_key: 'key-00000001' };
  assert.deepEqual(await call('create_route', input), await call('create_route', input));
  assert.equal((await rows()).length, 1);
});

test('what the gateway refuses, or another version, changes nothing', async (t) => {
  const { call, rows, gateway, published } = await setUp(t);
  const { id } = await call('create_route', api);
  const before = await rows();
  await assert.rejects(
    call('update_route', { id, enabled: false, version: 2 }),
    failsWith('PRECONDITION_FAILED', /version 1/),
  );
  await assert.rejects(
    call('delete_route', { id, version: 2 }),
    failsWith('PRECONDITION_FAILED', /version 1/),
  );
  await assert.rejects(call('update_route', { id }), failsWith('INVALID_INPUT', /at least one/));
  gateway.refuse = 'can not be served';
  const refused = failsWith('PRECONDITION_FAILED', /can not be served/);
  await assert.rejects(call('create_route', api), refused);
  await assert.rejects(call('update_route', { id, enabled: false }), refused);
  await assert.rejects(call('delete_route', { id }), refused);
  assert.deepEqual(await rows(), before);
  assert.equal(published.length, 1);
});

test('what the store refuses at the commit is not published or told', async (t) => {
  const { call, routes, rows, published, changed } = await setUp(t);
  const { id } = await call('create_route', { ...api, idempotency_key: 'key-00000001' });
  const idempotency = {
    principalId: admin.id,
    operation: 'create_route',
    key: 'key-00000001',
    inputDigest: 'x',
    seal: String,
  };
  const context = { principal: admin, idempotency };
  const taken = failsWith('CONFLICT', /idempotency_key/);
  const settings = routeSettings.parse({ path: '/x', target_url: api.target_url });
  await assert.rejects(routes.create({ ...settings, hostname: null }, context), taken);
  await assert.rejects(routes.update(id, { enabled: false }, 1, context), taken);
  await assert.rejects(routes.delete(id, 1, context), taken);
  assert.equal((await rows()).length, 1);
  assert.deepEqual([published.length, changed.length], [1, 1]);
});

test('paths that could never match, bad methods and forbidden targets are refused, saying what is expected', async (t) => {
  const { call, rows } = await setUp(t);
  const bad: [object, RegExp][] = [
    [{ path: 'api' }, /begin with \//],
    [{ path: '/a/../b' }, /path: .*\/b/],
    [{ path: '/a//b' }, /path: .*\/a\/b/],
    [{ path: '/a;x' }, /path: .*\/a$/],
    [{ path: '/%61' }, /path: .*\/a$/],
    [{ path: '/a?x' }, /without query/],
    [{ path: '/a%2fb' }, /path/],
    [{ methods: ['get'] }, /capitals/],
    [{ priority: 1000 }, /priority/],
    [{ match: 'regex' }, /match/],
    [{ target_url: 'http://169.254.169.254' }, /target_url: may not be a target/],
    [{ auth: { kind: 'token', permission: 'everything' } }, /auth/],
  ];
  for (const [fault, message] of bad)
    await assert.rejects(
      call('create_route', { ...api, ...fault }),
      failsWith('INVALID_INPUT', message),
      JSON.stringify(fault),
    );
  assert.deepEqual(await rows(), []);
});

test('the number of routes that a request is compared with is limited', async (t) => {
  const { call, database } = await setUp(t);
  await database.change({}, async (tx) => {
    for (let i = 0; i < 500; i++)
      await tx
        .insertInto('routes')
        .values({ id: `rte_${i}`, hostname: api.hostname, document: '{}', version: 1 })
        .execute();
    for (let i = 0; i < 100; i++)
      await tx
        .insertInto('routes')
        .values({ id: `rte_g${i}`, hostname: null, document: '{}', version: 1 })
        .execute();
  });
  await assert.rejects(call('create_route', api), failsWith('PRECONDITION_FAILED', /500 routes of app/));
  await assert.rejects(
    call('create_route', { ...api, hostname: null }),
    failsWith('PRECONDITION_FAILED', /100 global/),
  );
});

test('a route that can not be read closes what it was for, and only that', async (t) => {
  const { call, routes, database, log } = await setUp(t);
  const good = await call('create_route', { ...api, path: '/good' });
  const rest = { match: 'prefix', methods: [], priority: 500, target_url: 'nonsense', enabled: true };
  await database.change({}, async (tx) => {
    const bad = { version: 1, document: JSON.stringify({ ...rest, path: '/admin' }) };
    await tx
      .insertInto('routes')
      .values({ ...bad, id: 'rte_1', hostname: 'app.example.com' })
      .execute();
    await tx
      .insertInto('routes')
      .values({ ...bad, id: 'rte_2', hostname: '*.example.org', document: '{' })
      .execute();
  });
  const loaded = await routes.load();
  for (const route of loaded) assert.ok(routeSchema.safeParse(route).success);
  const table = createTable(proxies, loaded);
  const get = (hostname: string, path: string) => matchRequest(table, hostname, 'GET', path);
  for (const match of [get('app.example.com', '/admin/x'), get('x.example.org', '/any')]) {
    assert.equal(new URL(match!.targetUrl).hostname, 'closed.invalid');
    assert.notEqual(match!.auth.kind, 'none');
  }
  assert.equal(get('app.example.com', '/good')?.route?.id, good.id);
  assert.equal(get('app.example.com', '/')?.targetUrl, 'http://localhost:3000');
  assert.equal(log.filter(({ level, component }) => level === 'error' && component === 'store').length, 2);
  await assert.rejects(
    call('update_route', { id: 'rte_1', path: '/x' }),
    failsWith('INTERNAL', /delete_route/),
  );
  await call('delete_route', { id: 'rte_1' });
  assert.deepEqual(
    (await call('list_routes', {})).routes.map((one: any) => one.id),
    [good.id],
  );
});

const none = {
  mcp_answers: false,
  redirect_to: null,
  proxy: null,
  route: null,
  auth: null,
  target_url: null,
};
const shown = (hostname: string) => ({ id: `prx_${hostname}`, hostname });

test('test_route tells proxy, route, policy and the URL that the upstream gets', async (t) => {
  const { call } = await setUp(t);
  const auth = { kind: 'token', permission: 'logs:read' };
  const route = await call('create_route', {
    ...api,
    strip_prefix: true,
    target_url: 'http://localhost:4000/v1/',
    auth,
  });
  const answer = await call('test_route', {
    url: 'https://APP.example.com:8443//api/%7e;v=1/../y?q=%2F#top',
  });
  assert.deepEqual(answer, {
    outcome: 'forward',
    reason: `route ${route.id} matches`,
    hostname: 'app.example.com',
    path: '/api/y',
    mcp_answers: false,
    redirect_to: null,
    proxy: shown('app.example.com'),
    route: { id: route.id, hostname: 'app.example.com', path: '/api', priority: 500 },
    auth,
    target_url: 'http://localhost:4000/v1/y?q=%2F',
  });
  const other = await call('test_route', { url: 'https://x.example.org', method: 'POST' });
  assert.deepEqual(
    [other.outcome, other.route, other.auth, other.target_url],
    ['forward', null, { kind: 'none' }, 'http://[::1]:3000/base/'],
  );
});

test('test_route tells what does not reach a target', async (t) => {
  const { call } = await setUp(t);
  const ask = async (url: string) => {
    const { reason, ...answer } = await call('test_route', { url });
    assert.notEqual(reason, '');
    return answer;
  };
  const at = (hostname: string, path = '/') => ({ ...none, hostname, path });
  const app = 'app.example.com';
  assert.deepEqual(await ask('http://app.example.com:8080/x?y'), {
    ...at(app, '/x'),
    outcome: 'redirect',
    redirect_to: 'https://app.example.com:8443/x?y',
    proxy: shown(app),
    auth: { kind: 'none' },
    target_url: 'http://localhost:3000/x?y',
  });
  assert.deepEqual(await ask('https://app.example.com/mcp'), {
    ...at(app, '/mcp'),
    outcome: 'mcp',
    mcp_answers: true,
    proxy: shown(app),
  });
  assert.deepEqual(await ask('http://localhost:8080/mcp/'), {
    ...at('localhost', '/mcp/'),
    outcome: 'mcp',
    mcp_answers: true,
  });
  assert.deepEqual(await ask('https://localhost/v1/proxies'), {
    ...at('localhost', '/v1/proxies'),
    outcome: 'system',
  });
  assert.equal((await ask('http://127.0.0.1:8080/')).outcome, 'system');
  for (const host of [app, 'other.example.com', 'localhost'])
    assert.deepEqual(await ask(`http://${host}/.well-known/acme-challenge/x`), {
      ...at(host, '/.well-known/acme-challenge/x'),
      outcome: 'system',
    });
  for (const path of ['', '/mcp', '/mcp/'].map((end) => `/.well-known/oauth-protected-resource${end}`))
    assert.deepEqual(await ask(`https://app.example.com${path}`), {
      ...at(app, path),
      outcome: 'system',
      proxy: shown(app),
    });
  for (const host of ['other.example.com', 'off.example.com', '10.0.0.1'])
    assert.deepEqual(await ask(`https://${host}/`), { ...at(host), outcome: 'not_served' });
  assert.deepEqual(await ask('http://secure.example.com/mcp'), {
    ...at('secure.example.com', '/mcp'),
    outcome: 'not_served',
    proxy: shown('secure.example.com'),
  });
  const own = await ask('https://own-mcp.example.com/mcp');
  assert.deepEqual([own.outcome, own.mcp_answers, own.auth.kind], ['forward', false, 'token']);
  const bad = { ...none, hostname: null, path: null, outcome: 'bad_request' };
  for (const url of [
    'https://app.example.com/a%2fb',
    'https://app.example.com/..',
    'https://a b/',
    'https://u@app.example.com/',
    'https:///x',
  ])
    assert.deepEqual(await ask(url), bad, url);
  for (const url of ['app.example.com', '/x', 'ftp://app.example.com/'])
    await assert.rejects(ask(url), failsWith('INVALID_INPUT', /whole URL/));
});

test('test_route tells where plain HTTP ends, and for MCP that it does before the proxy is asked', async (t) => {
  const { call } = await setUp(t);
  const ask = async (url: string, method = 'GET') => {
    const { outcome, redirect_to, mcp_answers } = await call('test_route', { url, method });
    return [outcome, redirect_to, mcp_answers];
  };
  const plain = 'a.dev.example.com'; // Its proxy has redirect_to_https off.
  assert.deepEqual(await ask(`http://${plain}/x`), ['forward', null, false]);
  assert.deepEqual(await ask(`http://${plain}/mcp`), ['redirect', `https://${plain}/mcp`, true]);
  assert.deepEqual(await ask(`http://${plain}/mcp`, 'POST'), ['not_served', null, true]);
  assert.deepEqual(await ask('http://app.example.com/x', 'POST'), [
    'redirect',
    'https://app.example.com/x',
    false,
  ]);
  assert.deepEqual(await ask('http://app.example.com:80/x'), [
    'redirect',
    'https://app.example.com/x',
    false,
  ]);
});

test('test_route names what the gateway would do: to a method, a port, a probe, a name that looks like an address', async (t) => {
  const { call } = await setUp(t);
  const ask = async (url: string, method = 'GET') => {
    const { outcome, redirect_to } = await call('test_route', { url, method });
    return [outcome, redirect_to];
  };
  for (const method of ['TRACE', 'CONNECT'])
    assert.deepEqual(await ask('https://app.example.com/x', method), ['not_served', null]);
  const elsewhere = await ask('http://app.example.com:9999/x');
  assert.deepEqual(elsewhere, ['redirect', 'https://app.example.com/x'], 'not a port of ours');
  for (const host of ['127.0.0.1.example.com', '127.1.example.com'])
    assert.deepEqual(await ask(`https://${host}/x`), ['not_served', null]);
  assert.deepEqual(await ask('http://localhost/healthz'), ['system', null]);
});

test('mcp.hosts narrows where test_route says that MCP answers', async (t) => {
  const { call } = await setUp(t, { mcpHosts: ['a.dev.example.com'] });
  const answers = async (url: string) => (await call('test_route', { url })).mcp_answers;
  assert.equal(await answers('https://app.example.com/mcp'), false);
  assert.equal(await answers('https://a.dev.example.com/mcp'), true);
});

test('test_route keeps from a confined principal what decides outside of its hostnames', async (t) => {
  const { call } = await setUp(t);
  const ask = (url: string, by: Principal) => call('test_route', { url }, by);
  await assert.rejects(ask('https://app.example.com/', confined), failsWith('FORBIDDEN', /confined/));
  assert.equal((await ask('https://a.dev.example.com/x', confined)).target_url, 'http://localhost:3000/x');
  const { id } = await call('create_route', { ...api, hostname: null });
  const global = await ask('https://a.dev.example.com/api', confined);
  assert.deepEqual(
    [global.proxy?.hostname, global.route, global.auth, global.target_url],
    ['a.dev.example.com', null, null, null],
  );
  const narrow = await ask('https://b.dev.example.com/x', principal('tok_b', ['b.dev.example.com']));
  assert.deepEqual([narrow.outcome, narrow.proxy, narrow.target_url], ['forward', null, null]);
  for (const answer of [global, narrow])
    assert.doesNotMatch(JSON.stringify(answer), new RegExp(`${id}|localhost:`));
});

test('a person is asked before a change that opens a route, switches it off or sends it elsewhere, and before no other', () => {
  const { confirm, input } = routeOperations.find(({ name }) => name === 'update_route') as AnyOperation;
  const question = (changes: object) => confirm?.(input.parse({ id: 'rte_1', ...changes }));
  const asked: [changes: object, says: RegExp][] = [
    [{ auth: { kind: 'none' } }, /rte_1.* anyone/],
    [{ auth: null }, /rte_1.* the policy of its proxy/],
    [{ enabled: false }, /rte_1.* what matches next/],
    [{ target_url: 'http://localhost:9' }, /http:\/\/localhost:9/],
  ];
  for (const [changes, says] of asked) assert.match(question(changes) ?? '', says, JSON.stringify(changes));
  for (const changes of [
    {},
    { enabled: true },
    { priority: 5, version: 1 },
    { auth: { kind: 'token', permission: 'logs:read' } },
  ])
    assert.equal(question(changes), undefined, JSON.stringify(changes));
});

test('every field has a description, and destroying says what will happen', () => {
  for (const { name, effect, input, confirm } of routeOperations as readonly AnyOperation[]) {
    for (const [field, schema] of Object.entries<any>(input.shape))
      assert.ok(schema.description, `${name}.${field}`);
    if (effect === 'delete') assert.match(confirm?.({ id: 'rte_1' }) ?? '', /rte_1/);
  }
});

test('a route leads to a service that there is, and names it for who may', async (t) => {
  const { call } = await setUp(t);
  const wanted = { hostname: 'a.dev.example.com', path: '/api', target_url: 'service://blog:8080' };
  await assert.rejects(call('create_route', wanted, confined), failsWith('FORBIDDEN', /services:read/));
  await assert.rejects(
    call('create_route', { ...wanted, target_url: 'service://none:80' }),
    failsWith('INVALID_INPUT', /there is no service none/),
  );
  const { id } = await call('create_route', wanted);
  await call('update_route', { id, target_url: wanted.target_url, path: '/v1' }, confined);
  const change = { id, target_url: 'service://blog:9090' };
  await assert.rejects(call('update_route', change, confined), failsWith('FORBIDDEN', /services:read/));
  const { target_url } = await call('test_route', { url: 'https://a.dev.example.com/v1/x' });
  assert.equal(target_url, 'service://blog:8080/v1/x');
});

test('list_routes and test_route tell where a service leads, or why nowhere, to who may name services', async (t) => {
  const { call } = await setUp(t);
  const hostname = 'a.dev.example.com';
  for (const [path, target_url] of [
    ['/blog', 'service://blog:8080/x'],
    ['/away', 'service://away:80'],
    ['/plain', 'http://localhost:4000'],
  ])
    await call('create_route', { hostname, path, target_url });
  const blind = { ...admin, permissions: new Set(permissions.filter((name) => name !== 'services:read')) };
  const listed = async (by: Principal) => {
    const { routes } = await call('list_routes', { hostname }, by);
    return Object.fromEntries(routes.map(({ path, leads_to }: any) => [path, leads_to]));
  };
  const tested = async (path: string, by: Principal) =>
    (await call('test_route', { url: `https://${hostname}${path}` }, by)).leads_to;
  const led: Record<string, object[] | undefined> = {
    '/blog': [{ target: 'service://blog:8080/x', url: 'http://10.0.0.2:8080' }],
    '/away': [{ target: 'service://away:80', reason: 'it does not run' }],
    '/plain': undefined,
  };
  assert.deepEqual(await listed(admin), led);
  for (const [path, leads_to] of Object.entries(led)) {
    assert.deepEqual(await tested(path, admin), leads_to, path);
    for (const by of [confined, blind]) assert.equal(await tested(path, by), undefined, path);
  }
  for (const by of [confined, blind])
    assert.ok(Object.values(await listed(by)).every((leads_to) => leads_to === undefined));
});
