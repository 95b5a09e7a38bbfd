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
import type { RoutingChange } from '../routes/schema.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { createSealer } from '../config/secrets.ts';
import { openSqlite } from '../store/sqlite.ts';
import { proxyOperations } from './operations.ts';
import { proxySchema, proxySettings } from './schema.ts';
import type { TargetState } from './load-balancing.ts';
import { ProxyService } from './service.ts';
import type { ServiceTarget } from './target-url.ts';

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

async function setUp(t: test.TestContext) {
  const clock = new ManualClock();
  const database = await openSqlite(':memory:', clock);
  t.after(() => database[Symbol.asyncDispose]());
  const log: LogRecord[] = [];
  const changed: string[] = [];
  const published: RoutingChange[] = [];
  const gateway = { refuse: undefined as string | undefined };
  let states: TargetState[] | undefined;
  const setStates = (told: TargetState[]) => void (states = told);
  const events = createEvents();
  events.on('proxy.changed', ({ hostnames }) => changed.push(...hostnames));
  const sink = { write: (record: LogRecord) => void log.push(record), enabled: () => true };
  const proxies = new ProxyService({
    database,
    sealer: createSealer(Buffer.alloc(32)),
    events,
    clock,
    log: sink,
    own: () => [{ address: '127.0.0.1', port: 8443 }],
    controlHosts: ['localhost', 'Admin.Example.com'],
    issuers: ['first', 'second'],
    publisher: {
      prepare(change) {
        if (gateway.refuse) throw new AppError('PRECONDITION_FAILED', gateway.refuse);
        return { publish: () => void published.push(change) };
      },
    },
    targetStates: () => states,
    services: services.port,
    clientTrust: {
      require: () => {},
      describe: () => ({ problem: null, authorities: [], revocation_lists: [] }),
    },
  });
  const dispatch = createDispatch({
    services: { proxies },
    log: sink,
    clock,
    idempotency: createIdempotencyStore(database, clock, createSealer(Buffer.alloc(32))),
  });
  const call = (name: string, input: object, by: Principal = admin): Promise<any> =>
    dispatch(proxyOperations.find((one) => one.name === name) as AnyOperation, input, {
      principal: by,
      signal: new AbortController().signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
    });
  const rows = () => database.read.selectFrom('proxies').selectAll().execute();
  return { call, proxies, database, clock, log, changed, published, gateway, rows, setStates };
}

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

const app = { hostname: 'app.example.com', target_url: 'http://localhost:3000' };

test('a hostname and a target are enough; the rest has defaults', async (t) => {
  const { call, published, changed, clock } = await setUp(t);
  const proxy = await call('create_proxy', {
    hostname: 'App.Example.com.',
    target_url: 'http://localhost:3000',
  });
  assert.deepEqual(proxy, {
    id: proxy.id,
    hostname: 'app.example.com',
    target_url: 'http://localhost:3000',
    enabled: true,
    enable_http: true,
    enable_https: true,
    redirect_to_https: true,
    preserve_host: true,
    request_headers: { remove: [], set: {} },
    response_headers: { remove: [], set: {} },
    connect_timeout_ms: 10_000,
    response_timeout_ms: 60_000,
    idle_timeout_ms: 300_000,
    max_body_bytes: 1024 ** 3,
    verify_upstream_tls: true,
    auth: { kind: 'none' },
    certificate: {},
    client_auth: { mode: 'off' },
    serve_mcp: true,
    owner: 'tok_admin',
    version: 1,
    created_at: new Date(clock.now()).toISOString(),
    updated_at: new Date(clock.now()).toISOString(),
  });
  assert.match(proxy.id, /^prx_/);
  assert.deepEqual(published, [{ putProxies: [proxy] }]);
  assert.deepEqual(changed, ['app.example.com']);
  assert.deepEqual(await call('get_proxy', { hostname: 'app.example.com' }), proxy);
});

test('a hostname is served once: the second create names the first', async (t) => {
  const { call } = await setUp(t);
  const { id } = await call('create_proxy', app);
  await assert.rejects(call('create_proxy', app), failsWith('CONFLICT', new RegExp(id)));
});

test('of two creates of one hostname at once, exactly one wins', async (t) => {
  const { call, rows, published } = await setUp(t);
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => call('create_proxy', app)));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results)
    if (result.status === 'rejected') assert.equal(result.reason.code, 'CONFLICT');
  assert.equal((await rows()).length, 1);
  assert.equal(published.length, 1);
});

test('a create repeated with its idempotency key answers the first result and creates nothing more', async (t) => {
  const { call, rows, published } = await setUp(t);
  const input = { ...app, idempotency_key: 'key-00000001' };
  const first = await call('create_proxy', input);
  assert.deepEqual(await call('create_proxy', input), first);
  assert.equal((await rows()).length, 1);
  assert.equal(published.length, 1);
  await assert.rejects(
    call('create_proxy', { ...input, target_url: 'http://localhost:3001' }),
    failsWith('CONFLICT', /idempotency_key/),
  );
});

test('an update changes what it names, leaves the rest, and raises the version', async (t) => {
  const { call, clock, published } = await setUp(t);
  const before = await call('create_proxy', { ...app, enable_http: false, connect_timeout_ms: 5 });
  clock.advance(1000);
  const after = await call('update_proxy', {
    hostname: app.hostname,
    target_url: 'http://localhost:4000',
    version: 1,
  });
  assert.deepEqual(after, {
    ...before,
    target_url: 'http://localhost:4000',
    version: 2,
    updated_at: new Date(clock.now()).toISOString(),
  });
  assert.deepEqual(published.at(-1), { putProxies: [after] });
  assert.deepEqual(await call('get_proxy', { hostname: app.hostname }), after);
});

test('a change for another version than the present one is refused and changes nothing', async (t) => {
  const { call, rows } = await setUp(t);
  await call('create_proxy', app);
  await call('update_proxy', { hostname: app.hostname, enabled: false, version: 1 });
  const before = await rows();
  const stale = { hostname: app.hostname, version: 1 };
  await assert.rejects(
    call('update_proxy', { ...stale, enabled: true }),
    failsWith('PRECONDITION_FAILED', /version 2/),
  );
  await assert.rejects(call('delete_proxy', stale), failsWith('PRECONDITION_FAILED', /version 2/));
  assert.deepEqual(await rows(), before);
});

test('of two updates of one version at once, exactly one wins', async (t) => {
  const { call } = await setUp(t);
  await call('create_proxy', app);
  const update = (connect_timeout_ms: number) =>
    call('update_proxy', { hostname: app.hostname, version: 1, connect_timeout_ms });
  const results = await Promise.allSettled([update(1), update(2), update(3)]);
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
});

test('an update that names nothing is refused', async (t) => {
  const { call } = await setUp(t);
  await call('create_proxy', app);
  await assert.rejects(
    call('update_proxy', { hostname: app.hostname }),
    failsWith('INVALID_INPUT', /at least one/),
  );
});

test('deleting takes the routes of the proxy along, and only those', async (t) => {
  const { call, database, published, changed } = await setUp(t);
  const { id } = await call('create_proxy', app);
  await database.change({}, async (tx) => {
    for (const [route, hostname] of [
      ['rte_1', app.hostname],
      ['rte_2', 'other.example.com'],
      ['rte_3', null],
    ] as const)
      await tx.insertInto('routes').values({ id: route, hostname, document: '{}', version: 1 }).execute();
  });
  assert.deepEqual(await call('delete_proxy', { hostname: app.hostname }), {
    hostname: app.hostname,
    deleted_routes: 1,
  });
  const left = await database.read.selectFrom('routes').select('id').orderBy('id').execute();
  assert.deepEqual(left, [{ id: 'rte_2' }, { id: 'rte_3' }]);
  assert.deepEqual(published.at(-1), { removeProxies: [id], removeRoutes: ['rte_1'] });
  assert.deepEqual(changed, [app.hostname, app.hostname]);
  await assert.rejects(
    call('get_proxy', { hostname: app.hostname }),
    failsWith('NOT_FOUND', /app\.example\.com/),
  );
  await assert.rejects(call('delete_proxy', { hostname: app.hostname }), failsWith('NOT_FOUND', /no proxy/));
});

test('what the gateway refuses is not written, published or told', async (t) => {
  const { call, rows, gateway, published, changed } = await setUp(t);
  await call('create_proxy', app);
  const before = await rows();
  gateway.refuse = 'its CA can not be read';
  const refused = failsWith('PRECONDITION_FAILED', /its CA/);
  await assert.rejects(call('create_proxy', { ...app, hostname: 'b.example.com' }), refused);
  await assert.rejects(call('update_proxy', { hostname: app.hostname, enabled: false }), refused);
  await assert.rejects(call('delete_proxy', { hostname: app.hostname }), refused);
  assert.deepEqual(await rows(), before);
  assert.equal(published.length, 1);
  assert.equal(changed.length, 1);
});

test('what the store refuses at the commit is not published or told', async (t) => {
  const { call, proxies, rows, published, changed } = await setUp(t);
  await call('create_proxy', { ...app, idempotency_key: 'key-00000001' });
  const before = await rows();
  const idempotency = {
    principalId: admin.id,
    operation: 'create_proxy',
    key: 'key-00000001',
    inputDigest: 'x',
    seal: String,
  };
  const context = { principal: admin, idempotency };
  const taken = failsWith('CONFLICT', /idempotency_key/);
  const settings = proxySettings.parse({ target_url: app.target_url });
  await assert.rejects(proxies.create({ ...settings, hostname: 'b.example.com' }, context), taken);
  await assert.rejects(proxies.update(app.hostname, { enabled: false }, 1, context), taken);
  await assert.rejects(proxies.delete(app.hostname, 1, context), taken);
  assert.deepEqual(await rows(), before);
  assert.deepEqual([published.length, changed.length], [1, 1]);
});

test('a control host can not become a proxy', async (t) => {
  const { call } = await setUp(t);
  for (const hostname of ['localhost', 'admin.example.com'])
    await assert.rejects(
      call('create_proxy', { ...app, hostname }),
      failsWith('INVALID_INPUT', /control host/),
    );
});

test('incident row 12: forbidden targets are refused on create and on update', async (t) => {
  const { call, rows } = await setUp(t);
  await call('create_proxy', app);
  const before = await rows();
  for (const target_url of [
    'http://169.254.169.254',
    'http://[::ffff:a9fe:a9fe]/',
    'http://0xa9fea9fe',
    'https://localhost:8443',
  ]) {
    const refused = failsWith('INVALID_INPUT', /target_url: may not be a target/);
    await assert.rejects(call('create_proxy', { hostname: 'b.example.com', target_url }), refused);
    await assert.rejects(call('update_proxy', { hostname: app.hostname, target_url }), refused);
    const more = { load_balancing: { targets: [{ url: target_url }] } };
    const named = failsWith('INVALID_INPUT', /load_balancing: targets: .* may not be a target/);
    await assert.rejects(call('create_proxy', { ...app, hostname: 'b.example.com', ...more }), named);
    await assert.rejects(call('update_proxy', { hostname: app.hostname, ...more }), named);
  }
  for (const target_url of [
    'ftp://localhost',
    'unix:/x',
    'localhost:3000',
    'http://u:p@localhost',
    'http://localhost/?x',
  ])
    await assert.rejects(
      call('create_proxy', { hostname: 'b.example.com', target_url }),
      failsWith('INVALID_INPUT', /target_url/),
    );
  assert.deepEqual(await rows(), before);
});

test('incident row 21: hostnames, header rules and certificates that are not what they say are refused', async (t) => {
  const { call, rows } = await setUp(t);
  const bad = [
    { hostname: 'a b.example.com' },
    { hostname: 'example.com/x' },
    { hostname: 'https://example.com' },
    { hostname: 'example.com:80' },
    { hostname: '10.0.0.1' },
    { hostname: '*.*.example.com' },
    { hostname: 'a.*.example.com' },
    { hostname: '*' },
    { hostname: '${x}.example.com' },
    { request_headers: { set: { 'X-A': 'a\r\nX-B: b' } } },
    { request_headers: { set: { 'X A': 'a' } } },
    { request_headers: { set: { 'Transfer-Encoding': 'chunked' } } },
    { request_headers: { set: { Host: 'other.example.com' } } },
    { response_headers: { remove: ['content-length'] } },
    { response_headers: { set: { 'X-A': 'é' } } },
    { upstream_ca_pem: 'nonsense' },
    { upstream_ca_pem: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' },
    { auth: { kind: 'token' } },
    { auth: { kind: 'nobody' } },
    { connect_timeout_ms: 0 },
    { unknown: true },
  ];
  for (const fault of bad)
    await assert.rejects(
      call('create_proxy', { ...app, ...fault }),
      failsWith('INVALID_INPUT', /create_proxy: /),
      JSON.stringify(fault),
    );
  assert.deepEqual(await rows(), []);
});

test('for a confined principal nothing exists outside of its hostnames', async (t) => {
  const { call } = await setUp(t);
  await call('create_proxy', app);
  const own = { ...app, hostname: 'a.dev.example.com' };
  await call('create_proxy', own, confined);
  await call('create_proxy', { ...app, hostname: '*.x.dev.example.com' }, confined);
  for (const hostname of ['b.example.com', '*.example.com', 'dev.example.com', app.hostname])
    await assert.rejects(
      call('create_proxy', { ...app, hostname }, confined),
      failsWith('FORBIDDEN', /\*\.dev\.example\.com/),
    );
  const missing = failsWith('NOT_FOUND', /no proxy for app/);
  await assert.rejects(call('get_proxy', { hostname: app.hostname }, confined), missing);
  await assert.rejects(
    call('update_proxy', { hostname: app.hostname, enabled: false, version: 9 }, confined),
    missing,
  );
  await assert.rejects(call('delete_proxy', { hostname: app.hostname }, confined), missing);
  const { proxies } = await call('list_proxies', {}, confined);
  assert.deepEqual(
    proxies.map((one: any) => one.hostname),
    ['*.x.dev.example.com', 'a.dev.example.com'],
  );
  assert.equal((await call('list_proxies', { filter: 'app.' }, confined)).proxies.length, 0);
  assert.deepEqual(await call('list_proxies', {}, principal('tok_none', [])), { proxies: [] });
});

test('a list goes on where the page before ended, under every filter', async (t) => {
  const { call } = await setUp(t);
  for (let i = 0; i < 7; i++)
    await call('create_proxy', { hostname: `h${i}.example.com`, target_url: `http://localhost:30${i % 2}` });
  const all = async (query: object) => {
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page: any = await call('list_proxies', { ...query, limit: 2, ...(cursor && { cursor }) });
      assert.ok(page.proxies.length <= 2);
      found.push(...page.proxies.map((one: any) => one.hostname.slice(0, 2)));
      cursor = page.next_cursor;
    } while (cursor);
    return found.join();
  };
  assert.equal(await all({}), 'h0,h1,h2,h3,h4,h5,h6');
  assert.equal(await all({ filter: 'H3.EXAMPLE' }), 'h3');
  assert.equal(await all({ filter: 'localhost:301' }), 'h1,h3,h5');
  assert.equal(await all({ filter: 'connect_timeout' }), '');
  await assert.rejects(call('list_proxies', { cursor: 'bm9wZQ' }), failsWith('INVALID_INPUT', /cursor/));
  assert.equal((await call('list_proxies', { limit: 10 })).proxies.length, 7);
});

test('a list longer than one scan is complete', async (t) => {
  const { call, database } = await setUp(t);
  const {
    id: _,
    hostname,
    version,
    ...document
  } = await call('create_proxy', { ...app, hostname: 'zz.example.com' });
  const row = { document: JSON.stringify(document), version };
  await database.change({}, async (tx) => {
    for (let i = 0; i < 1100; i++)
      await tx
        .insertInto('proxies')
        .values({ ...row, id: `prx_${i}`, hostname: `h${String(i).padStart(4, '0')}.example.com` })
        .execute();
  });
  const { proxies } = await call('list_proxies', { filter: hostname });
  assert.deepEqual(
    proxies.map((one: any) => one.hostname),
    [hostname],
  );
});

test('a row that can not be read is reported, served to nobody, and the others work', async (t) => {
  const { call, proxies, database, log } = await setUp(t);
  await call('create_proxy', app);
  const documents = ['not json', '{}', 'null', '{"target_url":"ftp://x"}'];
  await database.change({}, async (tx) => {
    for (const [i, document] of documents.entries())
      await tx
        .insertInto('proxies')
        .values({ id: `prx_${i}`, hostname: `bad${i}.example.com`, document, version: 1 })
        .execute();
  });
  const loaded = await proxies.load();
  assert.deepEqual(
    loaded.map(({ hostname, enabled }) => [hostname, enabled]),
    [['app.example.com', true], ...documents.map((_, i) => [`bad${i}.example.com`, false])],
  );
  for (const proxy of loaded) assert.ok(proxySchema.safeParse(proxy).success);
  assert.equal(
    log.filter(({ level, component }) => level === 'error' && component === 'store').length,
    documents.length,
  );
  assert.equal((await call('list_proxies', {})).proxies.length, 1);
  await assert.rejects(
    call('get_proxy', { hostname: 'bad0.example.com' }),
    failsWith('INTERNAL', /delete_proxy/),
  );
  await call('delete_proxy', { hostname: 'bad0.example.com' });
  await call('create_proxy', { ...app, hostname: 'bad0.example.com' });
});

test('what is read at the start is what was written', async (t) => {
  const { call, proxies } = await setUp(t);
  const proxy = await call('create_proxy', {
    ...app,
    hostname: '*.example.com',
    request_headers: { remove: ['X-Debug'], set: { 'X-Team': 'web' } },
    auth: { kind: 'token', permission: 'logs:read' },
  });
  assert.deepEqual(await proxies.load(), [proxy]);
});

test('values of header rules stay out of the audit record', async (t) => {
  const { call, log } = await setUp(t);
  await call('create_proxy', { ...app, request_headers: { set: { Authorization: 'Bearer canary' } } });
  await call('update_proxy', {
    hostname: app.hostname,
    request_headers: { set: { Authorization: 'Bearer canary' } },
  });
  assert.doesNotMatch(JSON.stringify(log), /canary/);
  assert.equal(log.filter(({ kind }) => kind === 'audit').length, 2);
});

test('a null takes the upstream CA off', async (t) => {
  const { call } = await setUp(t);
  await call('create_proxy', app);
  const proxy = await call('update_proxy', { hostname: app.hostname, upstream_ca_pem: null });
  assert.equal('upstream_ca_pem' in proxy && proxy.upstream_ca_pem !== undefined, false);
});

test('a person is asked before a change that opens a hostname, switches it off or sends it elsewhere, and before no other', () => {
  const { confirm, input } = proxyOperations.find(({ name }) => name === 'update_proxy') as AnyOperation;
  const question = (changes: object) => confirm?.(input.parse({ hostname: app.hostname, ...changes }));
  const asked: [changes: object, says: RegExp][] = [
    [{ auth: { kind: 'none' } }, /app\.example\.com.* anyone/],
    [{ enabled: false }, /app\.example\.com.* stops being served/],
    [{ enable_https: false }, /HTTPS/],
    [{ redirect_to_https: false }, /clear/],
    [{ target_url: 'http://localhost:9' }, /http:\/\/localhost:9/],
    [{ verify_upstream_tls: false }, /Any certificate/],
    [{ enabled: false, auth: { kind: 'none' } }, /anyone.*stops being served/],
    [{ client_auth: { mode: 'off' } }, /no longer asked/],
    [{ client_auth: { mode: 'require', ca_pem: 'x', crl_pem: 'y' } }, /CAs of ca_pem, and of no others/],
    [{ client_auth: { mode: 'require', ca_pem: 'x' } }, /no others; Without crl_pem .*revoked/],
    [{ client_auth: { mode: 'optional', ca_pem: 'x' } }, /get through; .*Without crl_pem .*revoked/],
  ];
  for (const [changes, says] of asked) assert.match(question(changes) ?? '', says, JSON.stringify(changes));
  const harmless = [
    {},
    { enabled: true, enable_https: true, redirect_to_https: true, verify_upstream_tls: true },
    { auth: { kind: 'token', permission: 'logs:read' } },
    { connect_timeout_ms: 5, version: 1, request_headers: { set: { 'X-A': 'secret' } } },
  ];
  for (const changes of harmless) assert.equal(question(changes), undefined, JSON.stringify(changes));
});

test('what is served neither over HTTP nor over HTTPS is refused, with the setting that switches it off', async (t) => {
  const { call, rows } = await setUp(t);
  const nowhere = failsWith('INVALID_INPUT', /enable_http and enable_https.*enabled: false/);
  await assert.rejects(call('create_proxy', { ...app, enable_http: false, enable_https: false }), nowhere);
  assert.deepEqual(await rows(), []);
  await call('create_proxy', { ...app, enable_http: false });
  const update = (changes: object) => call('update_proxy', { hostname: app.hostname, ...changes });
  await assert.rejects(update({ enable_https: false }), nowhere);
  assert.equal((await update({ enable_http: true, enable_https: false })).enable_https, false);
});

test('every field has a description, and destroying says what will happen', () => {
  for (const { name, effect, input, confirm } of proxyOperations as readonly AnyOperation[]) {
    for (const [field, schema] of Object.entries<any>(input.shape))
      assert.ok(schema.description, `${name}.${field}`);
    if (effect === 'delete')
      assert.match(confirm?.({ hostname: 'app.example.com' }) ?? '', /app\.example\.com.*routes?/);
  }
});

test('issuers of a proxy have to be set up, internal last; what is of a wildcard only is refused elsewhere', async (t) => {
  const { call } = await setUp(t);
  const create = (hostname: string, certificate: object) =>
    call('create_proxy', { hostname, target_url: 'http://localhost:3000', certificate });
  for (const [certificate, refusal] of [
    [{ issuers: ['third'] }, /there is no "third"; there are first, second, internal/],
    [{ issuers: ['internal', 'first'] }, /has to be the last/],
    [{ on_demand: true }, /is for wildcards/],
  ] as const)
    await assert.rejects(create('wish.example.com', certificate), refusal);
  const { certificate } = await create('wish.example.com', {
    issuers: ['second', 'internal'],
    key_type: 'rsa2048',
  });
  assert.deepEqual(certificate, { issuers: ['second', 'internal'], key_type: 'rsa2048' });
});

test('targets come and go as a whole, and get_proxy tells how they stand', async (t) => {
  const { call, setStates } = await setUp(t);
  await call('create_proxy', app);
  const hostname = app.hostname;
  const targets = [{ url: 'http://localhost:3001' }];
  const changed = await call('update_proxy', { hostname, load_balancing: { targets } });
  assert.deepEqual(changed.load_balancing.targets, [
    { url: 'http://localhost:3001', weight: 1, drain: false },
  ]);
  const since = '2026-01-01T00:00:00.000Z';
  const states = [{ url: 'http://localhost:3001', state: 'healthy', since, open_requests: 2 }] as const;
  setStates([...states]);
  assert.deepEqual((await call('get_proxy', { hostname })).targets, states);
  await assert.rejects(
    call('update_proxy', {
      hostname,
      target_url: 'http://localhost:3001',
      load_balancing: { targets: [...targets, ...targets] },
    }),
    failsWith('INVALID_INPUT', /is there twice/),
  );
  const { proxies } = await call('list_proxies', { filter: ':3001' });
  assert.equal(proxies.length, 1);
  const alone = await call('update_proxy', { hostname, load_balancing: null });
  assert.equal(alone.load_balancing, undefined);
});

const hostname = 'app.dev.example.com';
const led = { hostname, target_url: 'service://blog:8080/x' };

test('a target may name a service that there is; who may know is told where it leads', async (t) => {
  const { call } = await setUp(t);
  await assert.rejects(
    call('create_proxy', { hostname, target_url: 'service://none:80' }),
    /no service none/,
  );
  await call('create_proxy', {
    ...led,
    load_balancing: { targets: [{ url: 'service://away' }, { url: 'http://localhost:3001' }] },
  });
  const leads_to = [
    { target: 'service://blog:8080/x', url: 'http://10.0.0.2:8080' },
    { target: 'service://away', reason: 'it does not run' },
  ];
  assert.deepEqual((await call('get_proxy', { hostname })).leads_to, leads_to);
  assert.deepEqual((await call('list_proxies', {})).proxies[0].leads_to, leads_to);
  assert.equal((await call('get_proxy', { hostname }, confined)).leads_to, undefined);
  await assert.rejects(
    call('update_proxy', { hostname, target_url: 'service://none' }),
    failsWith('INVALID_INPUT', /no service none/),
  );
});

test('naming a service is not for who is confined or may not read services, who are not told which there are', async (t) => {
  const { call } = await setUp(t);
  const blind = { ...admin, permissions: new Set(permissions.filter((name) => name !== 'services:read')) };
  services.asked.length = 0;
  for (const by of [confined, blind])
    for (const target_url of [led.target_url, 'service://none:80'])
      await assert.rejects(
        call('create_proxy', { hostname, target_url }, by),
        failsWith('FORBIDDEN', /services:read/),
      );
  assert.deepEqual(services.asked, []);
  await call('create_proxy', led);
  // What is there may stay, whatever else they change.
  await call('update_proxy', { hostname, target_url: led.target_url, enabled: false }, confined);
  for (const change of [
    { target_url: 'service://blog:8080/' },
    { target_url: 'service://blog:9090/x' },
    { load_balancing: { targets: [{ url: 'service://other:1' }] } },
  ])
    await assert.rejects(
      call('update_proxy', { hostname, ...change }, confined),
      failsWith('FORBIDDEN', /services:read/),
    );
});
