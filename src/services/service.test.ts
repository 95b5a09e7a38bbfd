import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { bundles, expandPermissions } from '../core/permissions.ts';
import { admin, blog, IMAGE, nothing, setUpServices } from './services.fixture.ts';

const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);
const code = (error: unknown) => (error instanceof AppError ? error.code : String(error));

const running = {
  containers: ['blog.1 running'],
  networks: ['ohp-default'],
  volumes: ['ohp-blog-data'],
  services: ['blog done 1'],
};

test('a service is created, with what it needs, and told without a value of its environment', async () => {
  const { call, world, database } = await setUpServices();
  const made = await call('create_service', blog);
  assert.deepEqual(await world(), running);
  assert.deepEqual(made.environment_names, ['PASSWORD']);
  assert.equal(made.container.state, 'running');
  assert.deepEqual(made.container.ports, [
    { container_port: 80, protocol: 'tcp', host_address: '127.0.0.1', host_port: 18_080 },
  ]);
  assert.deepEqual(await call('get_service', { name: 'blog' }), made);
  const rows = await database.read.selectFrom('services').selectAll().execute();
  assert.doesNotMatch(JSON.stringify([made, rows]), /canary-value/);
});

test('the command of a service is for who may set it', async () => {
  const { call } = await setUpServices();
  assert.deepEqual((await call('create_service', blog)).command, blog.command);
  const viewer = { ...admin, permissions: expandPermissions(bundles.viewer) };
  const seen = await call('get_service', { name: 'blog' }, viewer);
  assert.equal(seen.command, undefined);
  assert.equal(seen.image, IMAGE);
  await assert.rejects(call('stop_service', { name: 'blog' }, viewer), refusedAs('FORBIDDEN'));
});

test('the list has services by their names, also those without a container, and what is not ours beside them', async () => {
  const { call, driver } = await setUpServices();
  await call('create_service', blog);
  await call('create_service', { ...blog, name: 'gone', ports: [], volumes: [] });
  driver.addForeign({ name: 'other', image: IMAGE, labels: { service: 'blog' } });
  await driver.remove('gone.1', { force: true, volumes: false });
  const rows = async (input: object) =>
    (await call('list_services', input)).services.map((row: any) => [row.name, row.state, row.managed]);
  assert.deepEqual(await rows({}), [
    ['blog', 'running', true],
    ['gone', 'missing', true],
    ['other', 'created', false],
  ]);
  assert.deepEqual(await rows({ managed: false }), [['other', 'created', false]]);
  assert.equal((await call('start_service', { name: 'gone' })).container.state, 'running');
  await assert.rejects(call('get_service', { name: 'other' }), refusedAs('NOT_FOUND'));
});

test('a creation that was cut off is undone by the next call of the same name too', async () => {
  const { call, world, faults } = await setUpServices();
  faults.fails = (_, verb) => verb === 'start' || verb === 'remove';
  await assert.rejects(
    call('create_service', blog),
    refusedAs('UPSTREAM_FAILED', /undone by the next call or start/),
  );
  assert.deepEqual((await world()).services, ['blog create 1']);
  await call('create_service', blog);
  assert.deepEqual(await world(), running);
});

test('an update makes a new container in the place of the old one; values that are not named stay', async () => {
  const { call, world, driver } = await setUpServices();
  await call('create_service', blog);
  const updated = await call('update_service', {
    name: 'blog',
    version: 1,
    environment: { MORE: 'x' },
    networks: ['other'],
  });
  assert.deepEqual(updated.environment_names, ['PASSWORD', 'MORE']);
  assert.deepEqual(await world(), {
    containers: ['blog.2 running'],
    networks: ['ohp-other'],
    volumes: ['ohp-blog-data'],
    services: ['blog done 2'],
  });
  assert.deepEqual((await driver.inspect('blog.2')).environmentNames, ['PASSWORD', 'MORE']);
  await assert.rejects(
    call('update_service', { name: 'blog', version: 1, cpus: 1 }),
    refusedAs('PRECONDITION_FAILED'),
  );
  await assert.rejects(call('update_service', { name: 'blog' }), refusedAs('INVALID_INPUT'));
  const without = await call('update_service', { name: 'blog', environment: { PASSWORD: null } });
  assert.deepEqual(without.environment_names, ['MORE']);
});

test('an update that does not come up is rolled back, and says what the program said', async () => {
  const { call, world } = await setUpServices();
  await call('create_service', blog);
  await assert.rejects(
    call('update_service', {
      name: 'blog',
      command: ['echo broken; exit 3'],
      volumes: [{ name: 'fresh', path: '/x' }],
      networks: ['fresh'],
    }),
    refusedAs('UPSTREAM_FAILED', /exit code 3; it said: broken; version 1 is back as it was/),
  );
  assert.deepEqual(await world(), running);
});

test('an update whose health check fails, or never passes, is rolled back', async () => {
  const { call, world, driver, faults } = await setUpServices();
  await call('create_service', blog);
  const checked = { name: 'blog', health_check: { command: ['true'] }, healthy_within_ms: 5000 };
  await assert.rejects(
    call('update_service', checked),
    refusedAs('TIMEOUT', /not healthy after \d+ ms \(no health check has said anything; .* systemd Podman/),
  );
  assert.deepEqual(await world(), running);
  faults.fails = (_, verb) => {
    if (verb === 'inspect') queueMicrotask(() => makeHealth('unhealthy'));
    return false;
  };
  const makeHealth = (health: 'healthy' | 'unhealthy') => {
    try {
      driver.setHealth('blog.3', health);
    } catch {
      // Not made yet.
    }
  };
  await assert.rejects(call('update_service', checked), refusedAs('UPSTREAM_FAILED', /health check failed/));
  assert.deepEqual(await world(), running);
});

test('stop and start do what they say, also where the engine fails in the middle', async () => {
  const { call, world, faults, open } = await setUpServices();
  await call('create_service', blog);
  faults.fails = (_, verb) => verb === 'stop';
  await assert.rejects(call('stop_service', { name: 'blog' }), refusedAs('UPSTREAM_FAILED'));
  await open().resume();
  assert.deepEqual(await world(), running);
  assert.equal((await call('stop_service', { name: 'blog' })).container.state, 'exited');
  assert.equal((await call('get_service', { name: 'blog' })).desired, 'stopped');
  faults.fails = (_, verb) => verb === 'start';
  await assert.rejects(call('start_service', { name: 'blog' }), refusedAs('UPSTREAM_FAILED'));
  await world();
  await open().resume();
  assert.deepEqual((await world()).containers, ['blog.1 exited']);
  assert.equal((await call('restart_service', { name: 'blog' })).container.state, 'running');
});

test('a stopped service is updated without being started', async () => {
  const { call, world } = await setUpServices();
  await call('create_service', { ...blog, start: false });
  await call('update_service', { name: 'blog', cpus: 0.5 });
  assert.deepEqual((await world()).containers, ['blog.2 created']);
});

test('deleting leaves the volumes, unless it is told; what was cut off is finished at the next start', async () => {
  const { call, world, faults, open, driver } = await setUpServices();
  await call('create_service', blog);
  faults.fails = (_, verb) => verb === 'remove';
  await assert.rejects(call('delete_service', { name: 'blog' }), refusedAs('UPSTREAM_FAILED'));
  assert.deepEqual((await world()).services, ['blog delete 1']);
  await open().resume();
  assert.deepEqual(await world(), { ...nothing, volumes: ['ohp-blog-data'] });
  await call('create_service', blog);
  await call('create_service', { ...blog, name: 'second', ports: [] });
  await driver.remove('second.1', { force: true, volumes: false });
  await call('delete_service', { name: 'blog', delete_volumes: true });
  assert.deepEqual((await world()).volumes, ['ohp-blog-data'], 'another service has it');
  await call('delete_service', { name: 'second', delete_volumes: true });
  assert.deepEqual(await world(), nothing);
});

test('a service that proxies or routes lead to is deleted by force only', async () => {
  const { call, world, database } = await setUpServices();
  await call('create_service', blog);
  const document = (target_url: string, more: object = {}) => JSON.stringify({ target_url, ...more });
  await database.change({}, async (tx) => {
    for (const [id, url] of [
      ['prx_1', 'http://localhost:18080/'],
      ['prx_2', 'http://127.0.0.1:18081'],
    ] as const)
      await tx
        .insertInto('proxies')
        .values({ id, hostname: `${id}.example.com`, document: document(url), version: 1 })
        .execute();
    const load_balancing = { targets: [{ url: 'http://127.0.0.1:18080' }] };
    await tx
      .insertInto('proxies')
      .values({
        id: 'prx_3',
        hostname: 'prx_3.example.com',
        document: document('http://127.0.0.1:18081', { load_balancing }),
        version: 1,
      })
      .execute();
    await tx
      .insertInto('routes')
      .values({ id: 'rte_1', hostname: null, document: document('http://10.88.0.2:80'), version: 1 })
      .execute();
  });
  await assert.rejects(
    call('delete_service', { name: 'blog' }),
    refusedAs(
      'PRECONDITION_FAILED',
      /^requests of prx_1\.example\.com, prx_3\.example\.com, rte_1 go to the service blog/,
    ),
  );
  assert.deepEqual(await world(), running);
  await call('delete_service', { name: 'blog', force: true });
  assert.deepEqual((await world()).services, []);
});

test('the same idempotency key creates once, and calls at once do not get in each other’s way', async () => {
  const { call, world } = await setUpServices();
  const input = { ...blog, idempotency_key: 'once-and-once' };
  const first = await call('create_service', input);
  assert.equal((await call('create_service', input)).id, first.id);
  await assert.rejects(call('create_service', blog), refusedAs('CONFLICT', /use update_service/));
  const outcomes = await Promise.all(
    ['stop', 'start', 'restart', 'delete'].map((verb) =>
      call(`${verb}_service`, { name: 'blog' }).then(() => 'OK', code),
    ),
  );
  assert.deepEqual(outcomes, ['OK', 'OK', 'OK', 'OK']);
  assert.deepEqual((await world()).services, []);
});

test('what the policy refuses is told as the policy tells it, and nothing is left', async () => {
  const { call, world } = await setUpServices();
  const wrong = { ...blog, memory_bytes: 8 * 1024 ** 3, capabilities: ['SYS_ADMIN'] };
  await assert.rejects(call('create_service', wrong), (error: unknown) => {
    assert.ok(refusedAs('INVALID_INPUT', /memoryBytes: .*; allowed: at most/)(error));
    const faults = (error as AppError).details?.faults as { where: string }[];
    assert.deepEqual(
      faults.map(({ where }) => where),
      ['memoryBytes', 'addCapabilities[0]'],
    );
    return true;
  });
  await assert.rejects(
    call('create_service', { ...blog, image: 'evil/image:1' }),
    refusedAs('INVALID_INPUT'),
  );
  await assert.rejects(
    call('create_service', { ...blog, networks: [] }),
    refusedAs('INVALID_INPUT', /^ports:/),
  );
  assert.deepEqual(await world(), nothing);
});

test('names that could be another container’s, a path or an option are refused', async () => {
  const { call } = await setUpServices();
  for (const name of ['a', 'Blog', 'blog.1', '../x', '-x', 'x-', 'x'.repeat(64), 'b log', 'b\0'])
    await assert.rejects(call('create_service', { ...blog, name }), refusedAs('INVALID_INPUT'), name);
});

test('without an engine every change is UNAVAILABLE, says how to connect one, and nothing is written', async () => {
  const { call, world, open } = await setUpServices();
  const away = open({ ping: async () => ({ connected: false, reason: 'none; set OHP_DOCKER_SOCKET' }) });
  await call('create_service', blog);
  for (const [name, input] of [
    ['create_service', { ...blog, name: 'new' }],
    ['stop_service', { name: 'blog' }],
    ['update_service', { name: 'blog', cpus: 1 }],
    ['delete_service', { name: 'blog' }],
    ['pull_image', { image: IMAGE }],
  ] as const)
    await assert.rejects(call(name, input, admin, away), refusedAs('UNAVAILABLE', /OHP_DOCKER_SOCKET/), name);
  assert.deepEqual(await world(), running);
});

test('credentials that are confined to hostnames have nothing to do with containers', async () => {
  const { call } = await setUpServices();
  await call('create_service', blog);
  const confined = { ...admin, hostnames: ['*.example.com'] };
  for (const name of ['list_services', 'get_service', 'get_service_logs', 'delete_service'])
    await assert.rejects(call(name, { name: 'blog' }, confined), refusedAs('FORBIDDEN'), name);
});

test('a start with nothing unfinished asks no engine', async () => {
  const { call, faults, open } = await setUpServices();
  await call('create_service', blog);
  const before = faults.calls;
  await open().resume();
  assert.equal(faults.calls, before);
});

test('what a service says comes cleaned and bounded, the newest first to stay; what it uses is told', async () => {
  const { call, progress } = await setUpServices();
  const words = Array.from({ length: 250 }, (_, i) => `echo ${i}-${'x'.repeat(100)}\u001b[2J`);
  await call('create_service', { ...blog, command: [`${words.join('; ')}; sleep 9`] });
  const told = await call('get_service_logs', { name: 'blog', follow_ms: 50 });
  assert.match(told.lines.at(-1).text, /^249-x+\ufffd\[2J$/);
  assert.ok(told.lines.length < 100 && told.left_out === 100 - told.lines.length, String(told.left_out));
  assert.ok(JSON.stringify(told).length <= 8000);
  assert.match(progress.at(-1)?.message ?? '', /^249-/);
  assert.equal((await call('get_service_logs', { name: 'blog', tail: 3 })).lines.length, 3);
  assert.equal((await call('get_service_stats', { name: 'blog' })).pids, 1);
  await call('stop_service', { name: 'blog' });
  await assert.rejects(call('get_service_stats', { name: 'blog' }), refusedAs('CONFLICT'));
});

test('a pull tells of each layer, and of what may not be pulled', async () => {
  const { call, progress } = await setUpServices();
  const pulled = await call('pull_image', { image: 'contract/pulled:1' });
  assert.equal(pulled.size_bytes, 1000);
  assert.deepEqual(
    progress.map(({ message }) => message),
    [
      'layer layer1: Downloading 0 % of 1000 bytes',
      'layer layer1: Downloading 100 % of 1000 bytes',
      'layer layer1: Pull complete',
    ],
  );
  await assert.rejects(call('pull_image', { image: 'evil/image:1' }), refusedAs('INVALID_INPUT', /allowed:/));
});

test('what services left behind is told first, and taken away only as it was told; nothing of others is in it', async () => {
  const { call, world, database, driver } = await setUpServices();
  await call('create_service', { ...blog, name: 'lost', ports: [], networks: ['lonely'] });
  await call('create_service', { ...blog, volumes: [] });
  driver.addForeign({ name: 'other', image: IMAGE, labels: { service: 'svc_0', for: 'services' } });
  await driver.createNetwork({ name: 'others', internal: false, labels: { for: 'services' } });
  // As when the store comes from an older backup.
  await database.change({}, (tx) => tx.deleteFrom('services').where('name', '=', 'lost').execute());
  const before = await world();
  const told = await call('clean_up_services', {});
  assert.deepEqual(told.found, [
    { kind: 'container', name: 'lost.1', why: 'its service is not kept here any more' },
    { kind: 'network', name: 'ohp-lonely', why: 'no service is in it' },
  ]);
  assert.equal(told.removed, false);
  assert.deepEqual(await world(), before);
  const { plan } = await call('clean_up_services', { volumes: true });
  await assert.rejects(call('clean_up_services', { plan }), refusedAs('PRECONDITION_FAILED', /look again/));
  assert.deepEqual(await world(), before);
  assert.equal((await call('clean_up_services', { plan: told.plan })).removed, true);
  const after = await world();
  assert.deepEqual(after.containers, ['blog.1 running', 'other created']);
  assert.deepEqual(after.networks, ['ohp-default', 'others']);
  assert.deepEqual(after.volumes, ['ohp-blog-data'], 'not without volumes');
  const { plan: last, found } = await call('clean_up_services', { volumes: true });
  assert.deepEqual(
    found.map(({ name }: { name: string }) => name),
    ['ohp-blog-data'],
  );
  await call('clean_up_services', { plan: last, volumes: true });
  assert.deepEqual((await world()).volumes, []);
});

test('a record that can’t be read stops no other service, takes nothing away, and can be deleted', async () => {
  const { call, world, database } = await setUpServices();
  await call('create_service', { ...blog, ports: [], networks: ['lonely'] });
  await database.change({}, (tx) =>
    tx.updateTable('services').set({ document: '{}' }).where('name', '=', 'blog').execute(),
  );
  const { services } = await call('list_services', {});
  assert.deepEqual(
    services.map(({ name, state }: { name: string; state: string }) => [name, state]),
    [
      ['blog', 'unreadable'],
      ['blog.1', 'running'],
    ],
  );
  await assert.rejects(call('get_service', { name: 'blog' }), refusedAs('INTERNAL', /delete_service/));
  await assert.rejects(call('clean_up_services', {}), refusedAs('PRECONDITION_FAILED', /\(blog\)/));
  await call('create_service', { ...blog, name: 'second' });
  await call('delete_service', { name: 'second', delete_volumes: true });
  const kept = await world();
  assert.deepEqual(kept.networks, ['ohp-default', 'ohp-lonely']);
  assert.deepEqual(kept.volumes, ['ohp-blog-data']);
  await call('delete_service', { name: 'blog' });
  assert.deepEqual(await world(), { ...nothing, volumes: ['ohp-blog-data'] });
});

test('an external service is a name for a URL: listed, shown, led elsewhere and deleted as others are', async () => {
  const { call, changed, database } = await setUpServices();
  const url = 'https://api.example.com/v1';
  const made = await call('create_external_service', { name: 'api', url });
  assert.deepEqual(Object.keys(made).sort(), [
    'created_at',
    'id',
    'name',
    'owner',
    'updated_at',
    'url',
    'version',
  ]);
  assert.deepEqual(await call('get_service', { name: 'api' }), made);
  const { services } = await call('list_services', { filter: 'API.example' });
  assert.deepEqual(
    services.map((row: any) => [row.name, row.state, row.managed, row.url]),
    [['api', 'external', true, url]],
  );
  const next = await call('update_external_service', { name: 'api', url: 'http://10.0.0.9', version: 1 });
  assert.deepEqual([next.url, next.version], ['http://10.0.0.9', 2]);
  const proxy = {
    id: 'prx_1',
    hostname: 'a.example.com',
    document: '{"target_url":"service://api/x"}',
    version: 1,
  };
  await database.change({}, async (tx) => void (await tx.insertInto('proxies').values(proxy).execute()));
  await assert.rejects(
    call('delete_service', { name: 'api' }),
    refusedAs('PRECONDITION_FAILED', /a\.example\.com/),
  );
  await call('delete_service', { name: 'api', force: true });
  await assert.rejects(call('get_service', { name: 'api' }), refusedAs('NOT_FOUND'));
  assert.deepEqual(changed, ['api', 'api', 'api']);
});

test('an external service has nothing to start, stop or look into, and a URL that may be a target', async () => {
  const { call } = await setUpServices();
  await call('create_external_service', { name: 'api', url: 'https://api.example.com' });
  const name = 'api';
  for (const verb of [
    'start_service',
    'stop_service',
    'restart_service',
    'get_service_logs',
    'get_service_stats',
  ])
    await assert.rejects(call(verb, { name }), refusedAs('INVALID_INPUT', /is external/), verb);
  await assert.rejects(call('update_service', { name, cpus: 1 }), refusedAs('INVALID_INPUT', /is external/));
  for (const url of [
    'http://169.254.169.254/',
    'service://blog:80',
    'ftp://x.example.com',
    'http://u:p@x.example.com',
  ])
    for (const [verb, of] of [
      ['create_external_service', 'other'],
      ['update_external_service', name],
    ] as const)
      await assert.rejects(call(verb, { name: of, url }), refusedAs('INVALID_INPUT'), `${verb} ${url}`);
  await assert.rejects(
    call('update_external_service', { name: 'blog', url: 'http://10.0.0.1' }),
    refusedAs('NOT_FOUND'),
  );
});

test('one name is one service, container or not', async () => {
  const { call, world } = await setUpServices();
  const url = 'https://api.example.com';
  await call('create_external_service', { name: 'api', url });
  await assert.rejects(
    call('create_external_service', { name: 'api', url }),
    refusedAs('CONFLICT', /external/),
  );
  await assert.rejects(call('create_service', { ...blog, name: 'api' }), refusedAs('CONFLICT', /external/));
  assert.deepEqual(await world(), nothing);
  await call('create_service', blog);
  await assert.rejects(
    call('create_external_service', { name: 'blog', url }),
    refusedAs('CONFLICT', /container/),
  );
});

test('who follows a service is told that another container counts before the old one is cleared away', async () => {
  const { call, changed, driver, faults } = await setUpServices();
  await call('create_service', blog);
  const told: number[] = [];
  faults.fails = (_call, verb) => {
    if (verb === 'remove') told.push(changed.length);
    return false;
  };
  await call('update_service', { name: 'blog', cpus: 0.5 });
  assert.equal((await driver.list({ all: true })).length, 1);
  assert.deepEqual(told, [2]);
});

test('who follows a service is told of every change, also of one that failed', async () => {
  const { call, changed, faults } = await setUpServices();
  await call('create_service', blog);
  faults.calls = 0;
  faults.fails = (_call, verb) => verb === 'stop';
  await assert.rejects(call('stop_service', { name: 'blog' }));
  assert.deepEqual(changed, ['blog', 'blog']);
});

test('a service that a target names by service:// is not deleted from under it', async () => {
  const { call, database } = await setUpServices();
  await call('create_service', blog);
  const add = (id: string, target_url: string) =>
    database.change({}, async (tx) => {
      const document = JSON.stringify({ target_url });
      await tx.insertInto('routes').values({ id, hostname: null, document, version: 1 }).execute();
    });
  await add('rte_other', 'service://blog-2:80');
  await add('rte_blog', 'service://blog:80');
  await assert.rejects(
    call('delete_service', { name: 'blog' }),
    refusedAs('PRECONDITION_FAILED', /of rte_blog go/),
  );
  await call('delete_service', { name: 'blog', force: true });
});

test('services say what leads to them by their names, to those who may list that', async () => {
  const { call, database } = await setUpServices();
  await call('create_service', blog);
  const document = (target_url: string) => JSON.stringify({ target_url });
  await database.change({}, async (tx) => {
    const proxy = (hostname: string, text: string) => ({
      id: `prx_${hostname}`,
      hostname,
      document: text,
      version: 1,
    });
    await tx
      .insertInto('proxies')
      .values([
        proxy('a.example.com', document('service://blog:80/x')),
        proxy('b.example.com', document('service://blogs:80')),
        proxy('c.example.com', document('http://blog/?service://blog')),
        proxy('d.example.com', '{"service://blog'),
      ])
      .execute();
    const route = {
      id: 'rte_1',
      hostname: 'b.example.com',
      document: document('service://blog'),
      version: 1,
    };
    await tx.insertInto('routes').values(route).execute();
  });
  const published_as = [{ hostname: 'a.example.com' }, { hostname: 'b.example.com', route: 'rte_1' }];
  assert.deepEqual((await call('get_service', { name: 'blog' })).published_as, published_as);
  assert.deepEqual((await call('list_services', {})).services[0].published_as, published_as);
  const less = { ...admin, permissions: new Set(['services:read'] as const) };
  assert.equal((await call('get_service', { name: 'blog' }, less)).published_as, undefined);
  assert.equal((await call('list_services', {}, less)).services[0].published_as, undefined);
});

test('without an engine what is kept is listed, with why nothing more is known', async () => {
  const { call, faults } = await setUpServices();
  await call('create_service', blog);
  await call('create_external_service', { name: 'wiki', url: 'http://192.0.2.1:80' });
  faults.fails = (_, verb) => verb === 'list';
  const { services, engine_problem } = await call('list_services', {});
  assert.deepEqual(
    services.map(({ name, state }: { name: string; state: string }) => [name, state]),
    [
      ['blog', 'unknown'],
      ['wiki', 'external'],
    ],
  );
  assert.equal(engine_problem, 'injected at list');
});
