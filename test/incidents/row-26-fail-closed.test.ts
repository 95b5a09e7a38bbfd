/**
 * What is away, full, mistyped or unreadable must close and not open (ContextForge's `_env_bool` typo switched an SSRF
 * guard off; rate limits that fail open). What stays open is stated: traffic of hostnames whose policy can be read.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import { callTool, configFile, generous, grant, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const EXIT_BAD_SETTING = 2;

/** What a start printed that was refused, and with which code. */
async function refusedStart(
  options: Parameters<typeof startProduct>[0],
): Promise<{ code: number; printed: string }> {
  try {
    await using product = await startProduct(options);
    return assert.fail(`it started:\n${product.output()}`);
  } catch (cause) {
    if (!(cause instanceof Error)) throw cause;
    const [, code, printed = ''] = /ended with (\d+):\n([\s\S]*)$/.exec(cause.message) ?? [];
    if (code === undefined) throw cause;
    return { code: Number(code), printed };
  }
}

test('incident 26: a mistyped switch, word or name stops the start; the message names each, and shows no secret', async () => {
  const mistyped = {
    mcp: {
      access: 'pubic',
      confirm: 'allways',
      read_only: 'ture',
      strict_accept: 'yes',
      toolsets: ['proxys'],
      hosts: ['*'],
    },
    commands: { mode: 'allowlist', allow: 'uptime' },
    log: { level: 'loud', stderr: 'on', retention_days: '30' },
    gateway: { max_connections: '10_000', trusted_proxies: '10.0.0.0/8' },
    control: { hosts: [] },
  };
  const unknown = {
    mcp: { acces: 'authenticated', readonly: true },
    comands: { mode: 'off' },
    gateway: { Max_Headers: 1 },
  };
  const settings = {
    ...mistyped,
    ...unknown,
    mcp: { ...mistyped.mcp, ...unknown.mcp },
    gateway: { ...mistyped.gateway, ...unknown.gateway },
  };
  const env = {
    OHP_ADMIN_TOKEN: 'short-and-secret',
    OHP_MASTER_KEY: 'not-a-key-but-secret',
    OHP_CONFIG: configFile(settings),
  };
  const { code, printed } = await refusedStart({ env });
  assert.equal(code, EXIT_BAD_SETTING, printed);
  for (const [section, keys] of Object.entries(mistyped))
    for (const key of Object.keys(keys))
      assert.match(printed, new RegExp(`${section}\\.${key}[.0-9]* \\(`), printed);
  for (const key of [
    'mcp.acces (',
    'mcp.readonly',
    'comands',
    'gateway.Max_Headers',
    'OHP_ADMIN_TOKEN',
    'OHP_MASTER_KEY',
  ])
    assert.ok(printed.includes(key), printed);
  assert.doesNotMatch(printed, /secret(?!s)/);
});

test('incident 26: an unknown variable stops the start: nothing that was meant is ignored', async () => {
  const { code, printed } = await refusedStart({ env: { OHP_MCP_ACCESS: 'authenticated' } });
  assert.equal(code, EXIT_BAD_SETTING, printed);
  assert.match(printed, /OHP_MCP_ACCESS: unknown/);
});

test('incident 26: a rule that cannot be used as it is written stops the start', async () => {
  const bad: [settings: string, says: RegExp][] = [
    [
      'gateway:\n  trusted_proxies:\n    - 10.0.0.1\n    - 10.0.0.0/99\n',
      /gateway\.trusted_proxies\.1 \(\S+\.yaml:4\): found "10\.0\.0\.0\/99"; has to be an IP address or a range such as 10\.0\.0\.0\/8/,
    ],
    [
      'commands:\n  allow:\n    - program: uptime\n      arguments:\n        - "-p"\n        - "("\n',
      /commands\.allow\.0\.arguments\.1 \(\S+\.yaml:6\): found "\("; has to be a regular expression/,
    ],
    [
      'commands:\n  allow:\n    - program: uptime\n    - program: df\n      rest: "[z-a]"\n',
      /commands\.allow\.1\.rest \(\S+\.yaml:5\): found "\[z-a\]"; has to be a regular expression/,
    ],
    [
      'commands:\n  allow:\n    - program: /bin/sh\n',
      /commands\.allow\.0\.program \(\S+\.yaml:3\): found "\/bin\/sh"; has to be a name without a path/,
    ],
    [
      'log:\n  level: info\nbind: localhost:80\n',
      /bind \(\S+\.yaml:3\): found "localhost:80"; has to be an IP address .* such as 127\.0\.0\.1/,
    ],
  ];
  for (const [settings, says] of bad) {
    const { code, printed } = await refusedStart({ env: { OHP_CONFIG: configFile(settings) } });
    assert.equal(code, EXIT_BAD_SETTING, printed);
    assert.match(printed, says);
    assert.doesNotMatch(printed, /^ {4}at /m, 'a stack says nothing about a setting');
  }
});

test('incident 26: a damaged administrator token stops the first start and is not shown', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ohp-e2e-'));
  const { code, printed } = await refusedStart({
    env: { OHP_ADMIN_TOKEN: `ohp_${'secretA1b2'.repeat(4)}123456789` },
    dataDir,
  });
  rmSync(dataDir, { recursive: true });
  assert.equal(code, EXIT_BAD_SETTING, printed);
  assert.match(printed, /admin_token \(environment variable OHP_ADMIN_TOKEN\): .*mistyped or cut/);
  assert.doesNotMatch(printed, /^ {4}at /m);
  assert.doesNotMatch(printed, /secret(?!s)/);
});

const without = (document: Record<string, unknown>, name: string) =>
  Object.fromEntries(Object.entries(document).filter(([key]) => key !== name));

const stateOf = ({ dataDir }: Product) => new BetterSqlite3(join(dataDir, 'state.sqlite'));

test('incident 26: a proxy, route or token that cannot be read opens nothing, and its neighbours go on', async () => {
  await using upstream = await startUpstream();
  await using first = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  const target_url = upstream.url;
  const auth = { kind: 'token', permission: 'proxies:read' };
  const damages: Record<string, (document: Record<string, unknown>) => unknown> = {
    nojson: () => '{',
    nothing: () => '',
    null: () => 'null',
    kind: (document) => ({ ...document, auth: { kind: 'mtls' } }),
    noauth: (document) => ({ ...document, auth: null }),
    permission: (document) => ({ ...document, auth: { kind: 'token', permission: 'everything' } }),
    boolean: (document) => ({ ...document, enabled: 'yes' }),
    future: (document) => ({ ...document, require_client_certificate: true }),
    target: (document) => ({ ...document, target_url: 'file:///etc/passwd' }),
    header: (document) => ({ ...document, request_headers: { remove: [], set: { 'X\r\nY': 'v' } } }),
  };
  const kinds = Object.keys(damages);
  const create = async (path: string, body: object) => {
    const reply = await first.api('POST', path, body);
    assert.equal(reply.status, 201, JSON.stringify(reply.body));
    return reply.body.id as string;
  };
  // A wildcard that is open to all stands behind every one of them.
  await create('/v1/proxies', { hostname: '*.example.com', target_url });
  await create('/v1/proxies', { hostname: 'good.example.com', target_url, auth });
  await create('/v1/proxies', { hostname: 'site.example.org', target_url });
  const rows: [table: string, id: string, kind: string][] = [];
  for (const kind of kinds) {
    rows.push([
      'proxies',
      await create('/v1/proxies', { hostname: `${kind}.example.com`, target_url, auth }),
      kind,
    ]);
    // A site that is open but for one path; what of a route can't be read widens what is closed.
    const site = `${kind}.example.org`;
    await create('/v1/proxies', { hostname: site, target_url });
    rows.push(['routes', await create('/v1/routes', { hostname: site, path: '/x', target_url, auth }), kind]);
  }
  const tokenDamages: Record<string, (document: Record<string, unknown>) => unknown> = {
    nojson: () => '{',
    permission: (document) => ({ ...document, permissions: ['proxies:read', 'everything'] }),
    text: (document) => ({ ...document, permissions: 'proxies:read' }),
    unconfined: (document) => without(document, 'hostnames'),
    expiry: (document) => ({ ...document, expires_at: 'soon' }),
    forever: (document) => without(document, 'expires_at'),
    other: (document) => ({ ...document, id: 'tok_000000000000000000000000' }),
  };
  const secrets = new Map<string, string>();
  for (const kind of Object.keys(tokenDamages)) {
    const made = await grant(first, { name: kind, bundle: 'admin', hostnames: ['good.example.com'] });
    secrets.set(kind, made.secret);
    rows.push(['tokens', made.id, kind]);
  }
  const healthy = (await grant(first, { bundle: 'viewer' })).secret;
  await first.stop();
  const database = stateOf(first);
  for (const [table, id, kind] of rows) {
    const before = database.prepare(`select document from ${table} where id = ?`).pluck().get(id) as string;
    const damage = (table === 'tokens' ? tokenDamages : damages)[kind] ?? assert.fail(kind);
    const after = damage(JSON.parse(before) as Record<string, unknown>);
    const text = typeof after === 'string' ? after : JSON.stringify(after);
    database.prepare(`update ${table} set document = ? where id = ?`).run(text, id);
  }
  database.close();

  await using second = await first.restart();
  const bearer = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });
  const reached = (tag: string) => upstream.requests.some(({ url }) => url.includes(tag));
  for (const kind of kinds) {
    for (const credential of [{}, bearer(healthy)]) {
      // Not served at all: no certificate, or a refusal. `http` is what a wildcard would answer on.
      const answer = await second
        .get(`${kind}.example.com`, `/proxy-${kind}`, credential)
        .catch(() => undefined);
      assert.ok(answer === undefined || answer.status >= 400, `the proxy ${kind}: ${answer?.status}`);
      const { status } = await second.get(`${kind}.example.org`, `/x/route-${kind}`, credential);
      assert.ok(status >= 400, `the route ${kind}: ${status}`);
    }
    assert.ok(!reached(`proxy-${kind}`) && !reached(`route-${kind}`), kind);
  }
  for (const [kind, secret] of secrets) {
    assert.equal(
      (await send(second, { path: '/v1/proxies', token: secret })).status,
      401,
      `the token ${kind}`,
    );
    assert.equal(
      (await second.get('good.example.com', '/', bearer(secret))).status,
      401,
      `the token ${kind}`,
    );
  }
  assert.equal((await second.get('good.example.com', '/neighbour', bearer(healthy))).status, 200);
  assert.equal((await second.get('site.example.org', '/neighbour')).status, 200);
  assert.equal((await second.get('any.example.com', '/neighbour')).status, 200);
  for (const [, id] of rows) assert.ok(second.output().includes(id), `${id} is reported`);
});

test('incident 26: with another master key, or a state that is damaged or newer, the start is refused and nothing is made anew', async (t) => {
  await using first = await startProduct();
  await first.stop();
  const { dataDir } = first;
  const keyFile = join(dataDir, 'master.key');
  const key = readFileSync(keyFile, 'utf8');
  await t.test(
    'incident 26: another master key, none, or one that others can read: refused, and it is not shown',
    async () => {
      const refused: [string, () => Promise<{ code: number; printed: string }>][] = [
        ['another key', () => refusedStart({ dataDir, env: { OHP_MASTER_KEY: 'A'.repeat(43) } })],
        ['a key that others can read', () => (chmodSync(keyFile, 0o644), refusedStart({ dataDir }))],
        ['no key, where something was sealed', () => (rmSync(keyFile), refusedStart({ dataDir }))],
      ];
      for (const [what, start] of refused) {
        const { code, printed } = await start();
        assert.notEqual(code, 0, what);
        assert.match(printed, /master key|master\.key/, `${what}: ${printed}`);
        assert.ok(!printed.includes(key.trim()), what);
      }
      rmSync(keyFile, { force: true });
      writeFileSync(keyFile, key, { mode: 0o600 });
    },
  );
  const path = join(dataDir, 'state.sqlite');
  const whole = readFileSync(path);
  await t.test(
    'incident 26: a state that is newer than the program, or damaged, is left as it is',
    async () => {
      const database = stateOf(first);
      database.prepare("update meta set value = '99' where key = 'schema_version'").run();
      database.close();
      assert.match((await refusedStart({ dataDir })).printed, /newer program|schema version/);
      const damaged = Buffer.concat([whole.subarray(0, 100), Buffer.alloc(whole.length - 100, 1)]);
      writeFileSync(path, damaged);
      for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
      assert.notEqual((await refusedStart({ dataDir })).code, 0);
      assert.deepEqual(readFileSync(path), damaged);
    },
  );
  await t.test(
    'incident 26: OHP_ADMIN_TOKEN makes no second administrator on data that has one',
    async () => {
      writeFileSync(path, whole);
      const other = 'another-administrator-token-0123456789';
      await using second = await startProduct({ dataDir, env: { OHP_ADMIN_TOKEN: other } });
      assert.equal((await send(second, { path: '/v1/proxies', token: other })).status, 401);
      assert.equal((await send(second, { path: '/v1/proxies', token: first.adminToken })).status, 200);
    },
  );
});

const canLimit = process.platform === 'linux' && existsSync('/usr/bin/prlimit');
/** Every write to a file fails from now on, as on a full disk, until it is taken back. */
const setDiskFull = ({ child }: Product, full: boolean) =>
  execFileSync('/usr/bin/prlimit', [
    '--pid',
    String(child.pid),
    `--fsize=${full ? 0 : 'unlimited'}:unlimited`,
  ]);

test('incident 26: with a full disk what is served goes on under the same policies, changes are refused as a whole, and lost records are counted', {
  skip: !canLimit && 'there is no prlimit here',
}, async () => {
  await using upstream = await startUpstream();
  await using product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  const target_url = upstream.url;
  const auth = { kind: 'token', permission: 'proxies:read' };
  await product.api('POST', '/v1/proxies', { hostname: 'open.example.com', target_url });
  await product.api('POST', '/v1/proxies', { hostname: 'guarded.example.com', target_url, auth });
  const { id, secret } = await grant(product, { bundle: 'viewer' });
  const authorization = `Bearer ${secret}`;
  assert.equal((await product.get('open.example.com', '/')).status, 200);
  setDiskFull(product, true);
  const componentOf = async (name: string) => {
    const health = await product.api('GET', '/v1/health');
    return health.body.components.find((one: { name: string }) => one.name === name);
  };
  for (let i = 0; i < 5; i += 1) {
    assert.equal((await product.get('open.example.com', `/full-${i}`)).status, 200);
    assert.equal((await product.get('guarded.example.com', '/')).status, 401);
    assert.equal((await product.get('guarded.example.com', '/', { headers: { authorization } })).status, 200);
    assert.equal(
      (await product.get('guarded.example.com', '/', { headers: { authorization: 'Bearer x' } })).status,
      401,
    );
  }
  const changes: [string, string, object | undefined][] = [
    ['POST', '/v1/proxies', { hostname: 'new.example.com', target_url }],
    ['PATCH', '/v1/proxies/guarded.example.com', { auth: { kind: 'none' } }],
    ['DELETE', '/v1/proxies/guarded.example.com', undefined],
    ['POST', '/v1/tokens', { name: 'x', bundle: 'admin' }],
    ['DELETE', `/v1/tokens/${id}`, undefined],
  ];
  for (const [method, path, body] of changes) {
    const reply = await product.api(method, path, body);
    assert.ok(reply.status >= 500, `${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
  }
  const refused = await callTool(product, product.adminToken, {
    name: 'delete_proxy',
    args: { hostname: 'open.example.com' },
  });
  assert.equal(refused.json.result.isError, true);
  // Refused as a whole: what was not kept is not served either, and the policy is as it was.
  assert.equal((await product.get('guarded.example.com', '/')).status, 401);
  assert.equal((await product.get('guarded.example.com', '/', { headers: { authorization } })).status, 200);
  assert.equal((await product.get('open.example.com', '/')).status, 200);
  await assert.rejects(product.get('new.example.com', '/'));
  for (const name of ['store', 'log_writer']) {
    await eventually(async () => {
      await product.get('open.example.com', '/again');
      return (await componentOf(name)).status !== 'ok' || undefined;
    }, `health_check says that the ${name} is not well`);
  }

  setDiskFull(product, false);
  const created = await product.api('POST', '/v1/proxies', { hostname: 'new.example.com', target_url });
  assert.equal(created.status, 201, JSON.stringify(created.body));
  assert.equal((await product.api('DELETE', `/v1/tokens/${id}`)).status, 200);
  assert.equal((await product.get('guarded.example.com', '/', { headers: { authorization } })).status, 401);
  await eventually(async () => {
    const { body } = await product.api('GET', '/v1/logs?lines=50&kind=system&contains=were%20dropped');
    const messages = (body.records ?? []).map(({ message }: { message: string }) => message);
    return messages.find((message: string) => /\d+ log records were dropped/.test(message));
  }, 'the loss is told in the log');
});

test('incident 26: where no log can be written at all, requests are served and the loss is told', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ohp-e2e-'));
  // Not a folder, and so not to be written into, by anyone.
  writeFileSync(join(dataDir, 'logs'), '');
  await using upstream = await startUpstream();
  await using product = await startProduct({ dataDir });
  await product.api('POST', '/v1/proxies', { hostname: 'open.example.com', target_url: upstream.url });
  assert.equal((await product.get('open.example.com', '/')).status, 200);
  await eventually(async () => {
    const { components } = (await product.api('GET', '/v1/health')).body;
    const writer = components.find(({ name }: { name: string }) => name === 'log_writer');
    return writer.status !== 'ok' || undefined;
  }, 'health_check says that the log can not be written');
  assert.match(product.output(), /log/i);
  assert.equal(
    (await product.api('GET', '/v1/logs')).status,
    503,
    'an empty answer would say that nothing happened',
  );
});
