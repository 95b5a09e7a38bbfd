import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { coversHostname } from '../core/hostname.ts';
import { type Proxy, proxySchema } from '../proxies/schema.ts';
import {
  applyChange,
  createTable,
  isOwnOrigin,
  matchRequest,
  schemeDecision,
  upstreamPath,
} from './match.ts';
import { comparablePath, normaliseTarget } from './normalise.ts';
import { type Route, routeSchema } from './schema.ts';

const facts = {
  owner: 'tok_1',
  version: 1,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
};

const proxy = (hostname: string, more: Partial<Proxy> = {}): Proxy =>
  proxySchema.parse({
    id: `prx_${hostname}`,
    hostname,
    target_url: 'http://localhost:3000',
    ...facts,
    ...more,
  });

const route = (id: string, hostname: string | null, path: string, more: Partial<Route> = {}): Route =>
  routeSchema.parse({ id, hostname, path, target_url: `http://localhost:4000/${id}`, ...facts, ...more });

const app = proxy('app.example.com');

/** Id of the route a GET gets; `proxy` when none matches. */
function winner(routes: Route[], path: string, method = 'GET') {
  const match = matchRequest(createTable([app], routes), 'app.example.com', method, path);
  return match && (match.route?.id ?? 'proxy');
}

test('an exact hostname beats a wildcard, and a wildcard covers exactly one label', () => {
  const table = createTable([proxy('*.example.com'), app, proxy('example.org')], []);
  const servedBy = (hostname: string) => matchRequest(table, hostname, 'GET', '/')?.proxy.hostname;
  assert.equal(servedBy('app.example.com'), 'app.example.com');
  assert.equal(servedBy('other.example.com'), '*.example.com');
  assert.equal(servedBy('a.other.example.com'), undefined);
  assert.equal(servedBy('example.com'), undefined);
  assert.equal(servedBy('example.org'), 'example.org');
  assert.equal(servedBy('example.net'), undefined);
  assert.equal(servedBy('localhost'), undefined);
});

test('a disabled proxy serves nothing, and no wildcard takes its hostname over', () => {
  const table = createTable([proxy('*.example.com'), { ...app, enabled: false }], []);
  assert.equal(matchRequest(table, 'app.example.com', 'GET', '/'), undefined);
  assert.equal(table.proxyOf('app.example.com'), undefined);
  assert.equal(table.proxyOf('other.example.com')?.hostname, '*.example.com');
  assert.deepEqual([...table.hostnames()], ['*.example.com']);
});

test('a prefix covers whole segments, an exact path itself', () => {
  const prefix = [route('p', app.hostname, '/api')];
  for (const path of ['/api', '/api/', '/api/x', '/api/x/y']) assert.equal(winner(prefix, path), 'p', path);
  for (const path of ['/', '/apix', '/ap', '/API', '/x/api'])
    assert.equal(winner(prefix, path), 'proxy', path);
  const exact = [route('e', app.hostname, '/api', { match: 'exact' })];
  assert.equal(winner(exact, '/api'), 'e');
  for (const path of ['/api/', '/api/x']) assert.equal(winner(exact, path), 'proxy', path);
  const below = [route('b', app.hostname, '/api/')];
  assert.equal(winner(below, '/api/x'), 'b');
  assert.equal(winner(below, '/api/'), 'b');
  assert.equal(winner(below, '/api'), 'proxy');
  assert.equal(winner([route('all', app.hostname, '/')], '/x'), 'all');
  assert.equal(winner([route('all', app.hostname, '/')], '/'), 'all');
});

test('the winner: priority, then exact, then the longer path, then the proxy’s own, then the older', () => {
  const own = app.hostname;
  const young = { created_at: '2026-02-01T00:00:00.000Z' };
  const pairs: [winner: Route, loser: Route][] = [
    [route('a', null, '/', { priority: 501 }), route('b', own, '/x', { match: 'exact' })],
    [route('a', null, '/x', { match: 'exact' }), route('b', own, '/x')],
    [route('a', null, '/x'), route('b', own, '/')],
    [route('b', own, '/x', young), route('a', null, '/x')],
    [route('b', own, '/x'), route('a', own, '/x', young)],
    [route('a', own, '/x'), route('b', own, '/x')],
  ];
  for (const [first, second] of pairs)
    for (const routes of [
      [first, second],
      [second, first],
    ])
      assert.equal(winner(routes, '/x'), first.id);
});

test('a route is for its methods only, and GET includes HEAD', () => {
  const routes = [route('get', app.hostname, '/', { methods: ['GET'] })];
  assert.equal(winner(routes, '/', 'GET'), 'get');
  assert.equal(winner(routes, '/', 'HEAD'), 'get');
  assert.equal(winner(routes, '/', 'POST'), 'proxy');
  assert.equal(winner(routes, '/', 'get'), 'proxy');
});

test('a disabled route is as if it did not exist', () => {
  assert.equal(winner([route('off', app.hostname, '/', { enabled: false })], '/'), 'proxy');
});

test('the policy is that of the route, or of the proxy where the route has none', () => {
  const closed = { kind: 'token', permission: 'logs:read' } as const;
  const guarded = proxy('app.example.com', { auth: closed });
  const routes = [route('open', app.hostname, '/open', { auth: { kind: 'none' } }), route('as', null, '/as')];
  const table = createTable([guarded], routes);
  const authOf = (path: string) => matchRequest(table, app.hostname, 'GET', path)?.auth;
  assert.deepEqual(authOf('/open'), { kind: 'none' });
  assert.deepEqual(authOf('/as'), closed);
  assert.deepEqual(authOf('/'), closed);
});

test('a global route is for every proxy, wildcards included', () => {
  const table = createTable([app, proxy('*.example.org')], [route('g', null, '/g')]);
  assert.equal(matchRequest(table, 'app.example.com', 'GET', '/g')?.route?.id, 'g');
  assert.equal(matchRequest(table, 'a.example.org', 'GET', '/g')?.proxy.hostname, '*.example.org');
  assert.equal(matchRequest(table, 'example.net', 'GET', '/g'), undefined);
});

test('incident row 15: no spelling of a protected path gets around its route', () => {
  const secret = [
    route('secret', app.hostname, '/admin'),
    route('deep', app.hostname, '/a/admin'),
    route('at', app.hostname, '/a@b'),
  ];
  const spellings = {
    secret: [
      '/admin',
      '/admin/',
      '//admin',
      '/./admin',
      '/x/../admin',
      '/%61dmin',
      '/%2e/admin',
      '/x/%2e%2e/admin',
      '/admin/.',
      '/admin;x',
      '/admin;x=1/y',
      '/admin%3Bx',
      '/x/..//admin',
      '/admin?x',
      '/admin/%2e',
      '/admin//x',
    ],
    deep: ['/a/admin', '/a;v=1/admin', '/a;/admin;', '/a//admin', '/a/b/../admin', '/a%3bx/admin'],
    at: ['/a@b', '/a%40b', '/a%40b/x'],
  };
  for (const [id, raws] of Object.entries(spellings))
    for (const raw of raws) {
      const target = normaliseTarget(raw);
      assert.equal(target && winner(secret, target.path), id, raw);
    }
  const refused = [
    '/x/..%2fadmin',
    '/..\\admin',
    '/x%5c..%5cadmin',
    '/admin%00',
    '/x/..;/admin',
    '/../admin',
    '/admin#',
  ];
  for (const raw of refused) assert.equal(normaliseTarget(raw), undefined, raw);
});

test('stripping takes off the segments of the prefix, however they are spelled, and keeps the target’s own path', () => {
  const strip = { strip_prefix: true, target_url: 'http://localhost:4000/base/' };
  const table = createTable(
    [app],
    [
      route('s', app.hostname, '/api', strip),
      route('t', app.hostname, '/v/1/', { strip_prefix: true, target_url: 'http://localhost:4000' }),
      route('e', app.hostname, '/one', { ...strip, match: 'exact' }),
      route('keep', app.hostname, '/keep', { target_url: 'http://localhost:4000/base' }),
      route('root', app.hostname, '/', { ...strip, priority: 1 }),
    ],
  );
  const forwarded = (path: string) => {
    const match = matchRequest(table, app.hostname, 'GET', path);
    return match && upstreamPath(match, path);
  };
  assert.equal(forwarded('/api'), '/base/');
  assert.equal(forwarded('/api/'), '/base/');
  assert.equal(forwarded('/api/x/y/'), '/base/x/y/');
  assert.equal(forwarded('/api;v=1/x'), '/base/x');
  assert.equal(forwarded('/v/1/x'), '/x');
  assert.equal(forwarded('/one'), '/base/');
  assert.equal(forwarded('/keep/x'), '/base/keep/x');
  assert.equal(forwarded('/other'), '/base/other');
});

test('a match is the same object until its proxy or route changes, also across other changes', () => {
  const one = route('one', app.hostname, '/one');
  const global = route('g', null, '/g');
  const first = createTable([app, proxy('example.org')], [one, global]);
  const get = (table: typeof first, path: string) => matchRequest(table, app.hostname, 'GET', path);
  for (const path of ['/', '/one', '/g']) assert.equal(get(first, path), get(first, path));
  const second = applyChange(first, {
    putProxies: [proxy('example.net')],
    putRoutes: [route('two', app.hostname, '/two'), route('h', null, '/h')],
  });
  for (const path of ['/', '/one', '/g']) assert.equal(get(second, path), get(first, path), path);
  const third = applyChange(second, { putRoutes: [{ ...one, version: 2 }] });
  assert.notEqual(get(third, '/one'), get(first, '/one'));
  const fourth = applyChange(second, { putProxies: [{ ...app, version: 2 }] });
  for (const path of ['/', '/one', '/g']) assert.notEqual(get(fourth, path), get(first, path), path);
});

test('a target is the proxy’s own origin by scheme, host and port, however they are spelled', () => {
  const own = proxy('app.example.com', { target_url: 'http://Back.example.net:80/base' });
  const isOwn = (target_url: string) => {
    const table = createTable([own], [route('r1', 'app.example.com', '/x', { target_url })]);
    const match = matchRequest(table, 'app.example.com', 'GET', '/x');
    return match && isOwnOrigin(match);
  };
  for (const same of ['http://back.example.net', 'http://BACK.example.net:80/other'])
    assert.equal(isOwn(same), true, same);
  for (const other of [
    'https://back.example.net:80',
    'http://back.example.net:8080',
    'http://back.example.net.',
    'http://back.example.net.evil.example',
    'http://evil.example/back.example.net',
  ])
    assert.equal(isOwn(other), false, other);
});

test('plain HTTP is redirected only where HTTPS is served', () => {
  assert.equal(schemeDecision(app, 'http'), 'redirect');
  assert.equal(schemeDecision(app, 'https'), 'serve');
  assert.equal(schemeDecision({ ...app, redirect_to_https: false }, 'http'), 'serve');
  assert.equal(schemeDecision({ ...app, enable_https: false }, 'http'), 'serve');
  assert.equal(schemeDecision({ ...app, enable_https: false }, 'https'), 'refuse');
  assert.equal(schemeDecision({ ...app, enable_http: false }, 'http'), 'refuse');
});

const hostnames = ['a.example.com', 'b.example.com', '*.example.com', 'example.org'];
const someProxy = fc
  .record({ hostname: fc.constantFrom(...hostnames), enabled: fc.boolean() })
  .map(({ hostname, enabled }) => proxy(hostname, { enabled }));
const someRoute = fc
  .record({
    id: fc.constantFrom('r1', 'r2', 'r3', 'r4', 'r5', 'r6'),
    hostname: fc.constantFrom(...hostnames, null),
    path: fc.constantFrom('/', '/a', '/a/', '/a/b', '/b'),
    more: fc.record({
      match: fc.constantFrom('prefix' as const, 'exact' as const),
      methods: fc.constantFrom<string[]>([], ['GET'], ['POST']),
      priority: fc.constantFrom(1, 2),
      enabled: fc.boolean(),
      created_at: fc.constantFrom('2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z'),
    }),
  })
  .map(({ id, hostname, path, more }) => route(id, hostname, path, more));
const someId = fc.constantFrom('r1', 'r2', 'r3', ...hostnames.map((hostname) => `prx_${hostname}`));
const someChange = fc.record(
  {
    putProxies: fc.array(someProxy, { maxLength: 2 }),
    removeProxies: fc.array(someId, { maxLength: 1 }),
    putRoutes: fc.array(someRoute, { maxLength: 3 }),
    removeRoutes: fc.array(someId, { maxLength: 1 }),
  },
  { requiredKeys: [] },
);

/** The rules once more, in the plainest words. */
function expected(proxies: Proxy[], routes: Route[], { hostname, method, path }: Record<string, string>) {
  const serving =
    proxies.find((one) => one.hostname === hostname) ??
    proxies.find((one) => coversHostname(one.hostname, hostname!));
  if (!serving?.enabled) return undefined;
  const segments = (text: string) => text.split('/').slice(1);
  const covers = (one: Route) => {
    if (one.match === 'exact') return path === one.path;
    const wanted = segments(one.path);
    const given = segments(path!);
    if (wanted.at(-1) === '')
      return given.length >= wanted.length && wanted.slice(0, -1).every((s, i) => s === given[i]);
    return wanted.every((s, i) => s === given[i]);
  };
  const [best] = routes
    .filter((one) => one.enabled && (one.hostname === null || one.hostname === serving.hostname))
    .filter((one) => one.methods.length === 0 || one.methods.includes(method!))
    .filter(covers)
    .sort(
      (a, b) =>
        b.priority - a.priority ||
        a.match.localeCompare(b.match) ||
        b.path.length - a.path.length ||
        Number(a.hostname === null) - Number(b.hostname === null) ||
        a.created_at.localeCompare(b.created_at) ||
        a.id.localeCompare(b.id),
    );
  return { proxy: serving, route: best };
}

test('after any changes a table matches by the rules, and the tables before it as they did', () => {
  const requests = ['a.example.com', 'b.example.com', 'c.example.com', 'example.org', 'example.net'].flatMap(
    (hostname) =>
      ['GET', 'POST'].flatMap((method) =>
        ['/', '/a', '/a/', '/a/b', '/a/b/c', '/b', '/ab'].map((path) => ({ hostname, method, path })),
      ),
  );
  fc.assert(
    fc.property(fc.array(someChange, { maxLength: 5 }), (changes) => {
      const proxies = new Map<string, Proxy>();
      const routes = new Map<string, Route>();
      let table = createTable([], []);
      const seen: { table: typeof table; proxies: Proxy[]; routes: Route[] }[] = [];
      for (const change of changes) {
        table = applyChange(table, change);
        for (const id of change.removeRoutes ?? []) routes.delete(id);
        for (const id of change.removeProxies ?? []) proxies.delete(id);
        for (const one of change.putProxies ?? []) proxies.set(one.id, one);
        for (const one of change.putRoutes ?? []) routes.set(one.id, one);
        seen.push({ table, proxies: [...proxies.values()], routes: [...routes.values()] });
      }
      for (const { table, proxies, routes } of seen)
        for (const request of requests) {
          const match = matchRequest(table, request.hostname, request.method, request.path);
          const wanted = expected(proxies, routes, request);
          assert.equal(match?.proxy, wanted?.proxy);
          assert.equal(match?.route, wanted?.route);
          assert.equal(table.proxyOf(request.hostname) !== undefined, wanted !== undefined);
        }
    }),
  );
});

test('what is matched is what is forwarded: the path that leaves is the canonical one behind the prefix', () => {
  const table = createTable(
    [app],
    [route('s', app.hostname, '/a', { strip_prefix: true, target_url: 'http://h.test' })],
  );
  const piece = fc.constantFrom('a', 'b', '.', '..', '', 'a;x', '%61', '%3bx', 'a%40', '@');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
      const path = normaliseTarget(`/${pieces.join('/')}`)?.path;
      if (path === undefined) return;
      const match = matchRequest(table, app.hostname, 'GET', path)!;
      const forwarded = upstreamPath(match, path);
      if (!match.route) return assert.equal(forwarded, path);
      assert.match(comparablePath(path), /^\/a(?:\/|$)/);
      assert.ok(path.endsWith(forwarded) || forwarded === '/');
      assert.equal(normaliseTarget(forwarded)?.path, forwarded);
    }),
    { numRuns: 3000 },
  );
});
