/**
 * What a stored credential, or what identifies a visitor, is sent to may not be changed by who may not change the target: a
 * service that proxies and routes lead to is a target with a name, and every way to lead that name elsewhere is one way.
 */
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import type { Permission } from '../../src/core/permissions.ts';
import { refusedAs } from '../../src/services/engine.contract.ts';
import { serviceOperations } from '../../src/services/operations.ts';
import { admin, blog, eagerClock, IMAGE, setUpServices } from '../../src/services/services.fixture.ts';
import { callTool, configFile, generous, grant, outcomeOf } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

type World = Awaited<ReturnType<typeof setUpServices>>;

const HOST = 'shop.example.com';
const by = (...permissions: Permission[]) => ({
  ...admin,
  id: 'tok_2',
  permissions: new Set<Permission>(['services:read', 'services:write', ...permissions]),
});
const api = { name: 'api', url: 'http://10.0.0.8/v1' };
const publish = { ports: [{ container_port: 80, host_port: 18_081 }] };

interface Way {
  /** What is there before; targets lead to `to`, or to service://blog:80. */
  before?: (world: World) => Promise<unknown>;
  to?: string;
  /** Each is refused; the last is what is done where it may be. */
  inputs: readonly object[];
}

const withBlog = ({ call }: World) => call('create_service', blog);
const withApi = ({ call }: World) => call('create_external_service', api);
const changes = [
  { command: ['sleep', '2000'] },
  { entrypoint: ['sleep', '1000'] },
  { image: 'docker.io/contract/image:test' },
  { environment: { PASSWORD: 'other' } },
  { environment: { LD_PRELOAD: '/data/mine.so' } },
  { volumes: [] },
  { health_check: { command: ['true'] } },
  { temporary_paths: ['/tmp'] },
  { user: '1000' },
  { working_directory: '/data' },
  { networks: ['others'] },
  { capabilities: ['CHOWN'] },
  { read_only_root: true },
  publish,
].map((change) => ({ name: 'blog', ...change }));

/** With another value of its secret than its container has, which the next one takes. */
async function withOtherSecret({ call }: World) {
  await call('set_secret', { name: 'upstream', value: 'http://mine.example.com' });
  await call('create_service', { ...blog, environment: { UPSTREAM: { secret: 'upstream' } } });
  await call('set_secret', { name: 'upstream', value: 'http://other.example.com' });
}
/** It writes what another one serves. */
const writer = { ...blog, name: 'writer', ports: [] };
async function withBlogAndAnother(world: World) {
  await withBlog(world);
  await world.call('create_service', { ...writer, volumes: [] });
}
/** As somebody made it who may, beside what it writes for. */
async function withBlogAndWriter(world: World) {
  await withBlog(world);
  await world.call('create_service', writer);
}

/** By the operation: each that can have somebody else answer for a name, or where targets lead. */
const WAYS: Readonly<Record<string, readonly Way[]>> = {
  create_service: [
    { inputs: [blog] },
    { inputs: [{ ...blog, name: 'other' }], to: 'http://127.0.0.1:18080' },
    { inputs: [{ ...blog, name: 'other' }], to: 'http://localhost:18080/deep' },
    { before: withBlog, inputs: [writer] },
    { before: withBlog, inputs: [writer], to: 'http://127.0.0.1:18080' },
  ],
  update_service: [
    { before: withBlog, inputs: changes },
    { before: withBlog, inputs: changes, to: 'http://127.0.0.1:18080' },
    { before: withBlog, inputs: [{ name: 'blog', ...publish }], to: 'http://127.0.0.1:18081' },
    { before: withOtherSecret, inputs: [{ name: 'blog', memory_bytes: 8_388_608 }] },
    { before: withBlogAndAnother, inputs: [{ name: 'writer', volumes: writer.volumes }] },
    { before: withBlogAndWriter, inputs: [{ name: 'writer', command: ['sleep', '2000'] }] },
  ],
  delete_service: [
    { before: withBlog, inputs: [{ name: 'blog', force: true }] },
    { before: withBlog, inputs: [{ name: 'blog', force: true }], to: 'http://127.0.0.1:18080' },
    { before: withApi, inputs: [{ name: 'api', force: true }], to: 'service://api' },
  ],
  create_external_service: [{ inputs: [api], to: 'service://api' }],
  update_external_service: [
    { before: withApi, inputs: [{ ...api, url: 'http://10.0.0.9' }], to: 'service://api' },
  ],
};

/** Of the others that change something: what answers for a name is the same after them. */
const LEAD_NOWHERE_ELSE = new Set([
  'start_service',
  'stop_service',
  'restart_service',
  'clean_up_services',
  'pull_image',
  'set_secret',
  'delete_secret',
]);

async function leadingTo({ database }: World, target_url: string, kind: string): Promise<void> {
  const document = JSON.stringify({ target_url });
  await database.change({}, async (tx) => {
    if (kind === 'proxy')
      await tx.insertInto('proxies').values({ id: 'prx_1', hostname: HOST, document, version: 1 }).execute();
    else
      await tx.insertInto('routes').values({ id: 'rte_1', hostname: null, document, version: 1 }).execute();
  });
}

test('incident 13: each operation on services is known to change where a name leads, or not to', () => {
  const changing = serviceOperations.filter(({ effect }) => effect !== 'read').map(({ name }) => name);
  assert.deepEqual(changing.sort(), [...Object.keys(WAYS), ...LEAD_NOWHERE_ELSE].sort());
});

const KINDS = [
  { kind: 'proxy', needs: 'proxies:write', other: 'routes:write', user: HOST },
  { kind: 'route', needs: 'routes:write', other: 'proxies:write', user: 'rte_1' },
] as const;

for (const [name, ways] of Object.entries(WAYS))
  for (const { kind, needs, other, user } of KINDS)
    test(`incident 13: ${name} leads what a ${kind} leads to elsewhere only for who may change its target`, async () => {
      for (const { before, to = 'service://blog:80', inputs } of ways) {
        const world = await setUpServices();
        await before?.(world);
        await leadingTo(world, to, kind);
        const there = await world.world();
        for (const input of inputs)
          for (const principal of [by(), by(other)])
            await assert.rejects(
              world.call(name, input, principal),
              refusedAs('FORBIDDEN', new RegExp(`${user} go to the service .* ${needs}$`)),
              JSON.stringify(input),
            );
        assert.deepEqual(await world.world(), there);
        await world.call(name, inputs.at(-1), by(needs));
      }
    });

test('incident 13: who may change services only may do so where nobody leads to them', async () => {
  for (const [name, ways] of Object.entries(WAYS))
    for (const { before, inputs } of ways) {
      const world = await setUpServices();
      await before?.(world);
      await leadingTo(world, 'service://another:80', 'proxy');
      await world.call(name, inputs.at(-1), by());
    }
});

test('incident 13: how much of it there is, and when, is for who may change services', async () => {
  const world = await setUpServices();
  await world.call('create_service', blog);
  await leadingTo(world, 'service://blog:80', 'proxy');
  const amounts = {
    memory_bytes: 8_388_608,
    cpus: 0.5,
    pids: 20,
    stop_timeout_ms: 100,
    restart: { policy: 'no' },
  };
  assert.equal((await world.call('update_service', { name: 'blog', ...amounts }, by())).version, 2);
  for (const verb of ['stop_service', 'start_service', 'restart_service'])
    await world.call(verb, { name: 'blog' }, by());
});

test('incident 13: another image of the same tag answers only by who may lead requests there', async () => {
  const world = await setUpServices();
  await world.call('create_service', { ...blog, image: 'contract/pulled:1' });
  await leadingTo(world, 'service://blog:80', 'proxy');
  const moved = world.open({
    inspectImage: async (reference: string) => ({
      ...(await world.engine.inspectImage(reference)),
      id: `sha256:${'b'.repeat(64)}`,
    }),
  });
  const amounts = { name: 'blog', pids: 20 };
  const ways = [
    { input: { ...amounts, pull: 'always' }, keeper: world.services },
    { input: amounts, keeper: moved },
  ];
  const there = await world.world();
  for (const { input, keeper } of ways)
    await assert.rejects(
      world.call('update_service', input, by(), keeper),
      refusedAs('FORBIDDEN', /proxies:write/),
    );
  assert.deepEqual(await world.world(), there);
  for (const { input, keeper } of ways)
    await world.call('update_service', input, by('proxies:write'), keeper);
});

test('incident 13: a tag that moves while an update is under way lets no other image answer', async () => {
  for (const verb of ['stop', 'create'] as const) {
    const world = await setUpServices();
    await world.call('create_service', blog);
    await leadingTo(world, 'service://blog:80', 'proxy');
    const { driver } = world;
    const { imageId } = await driver.inspect('blog.1');
    const there = await world.world();
    const done = driver[verb] as (...args: unknown[]) => Promise<unknown>;
    const moving = async (...args: unknown[]) => {
      driver.moveTag(IMAGE);
      return done(...args);
    };
    Object.assign(driver, { [verb]: moving });
    const update = { name: 'blog', pids: 20 };
    await assert.rejects(
      world.call('update_service', update, by()),
      refusedAs('CONFLICT', /another image .* version 1 is back as it was/),
    );
    assert.deepEqual(await world.world(), there);
    assert.equal((await driver.inspect('blog.1')).imageId, imageId);
    await world.call('update_service', update, by('proxies:write'));
  }
});

/** What it was of is not known any more, and its tag is another image by now. */
async function withoutContainer(world: World) {
  await withBlog(world);
  await world.driver.remove('blog.1', { force: true, volumes: true });
  world.driver.moveTag(IMAGE);
}

test('incident 13: a container that is gone is made anew only by who may lead requests there', async () => {
  for (const [verb, change] of [
    ['start_service', {}],
    ['restart_service', {}],
    ['update_service', { pids: 20 }],
  ] as const) {
    const world = await setUpServices();
    await withoutContainer(world);
    await leadingTo(world, 'service://blog:80', 'proxy');
    const input = { name: 'blog', ...change };
    await assert.rejects(world.call(verb, input, by()), refusedAs('FORBIDDEN', /proxies:write/));
    await world.call(verb, input, by('proxies:write'));
    const another = await setUpServices();
    await withoutContainer(another);
    await leadingTo(another, 'service://another:80', 'proxy');
    await another.call(verb, input, by());
  }
});

test('incident 13: who may change services only may have files that somebody leads to read, and change amounts with a secret that stayed', async () => {
  const clock = eagerClock();
  const world = await setUpServices({ clock });
  await withOtherSecret(world);
  await new Promise<void>((resolve) => void clock.after(1, resolve));
  await leadingTo(world, 'service://blog:80', 'proxy');
  await world.call('update_service', { name: 'blog', pids: 30 });
  await world.call('update_service', { name: 'blog', pids: 20 }, by());
  const volumes = writer.volumes.map((volume) => ({ ...volume, read_only: true }));
  await world.call('create_service', { ...writer, volumes }, by());
  await world.call('update_service', { name: 'writer', command: ['sleep', '3'] }, by());
});

test('incident 13: a proxy that is made while an update is under way is led nowhere else by it', async () => {
  const world = await setUpServices();
  await world.call('create_service', blog);
  const slow = world.open({
    async listVolumes() {
      await leadingTo(world, 'service://blog:80', 'proxy');
      return world.engine.listVolumes();
    },
  });
  const change = world.call('update_service', { name: 'blog', command: ['sleep', '2'] }, by(), slow);
  await assert.rejects(change, refusedAs('FORBIDDEN', /proxies:write/));
});

const settings = { ...generous, mcp: { confirm: 'always' } };
const product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
const own = await startUpstream((_request, response) => response.end('own'));
const stranger = await startUpstream();
after(() => Promise.all([product, own, stranger].map((one) => one[Symbol.asyncDispose]())));

test('incident 13: requests stay where they went, with what identifies them, whatever who may change services only tries', async () => {
  const made = await product.api('POST', '/v1/external-services', { name: 'api', url: own.url });
  assert.equal(made.status, 201);
  const request_headers = { set: { 'X-Upstream-Key': 'stored-credential-4712' } };
  const proxy = { hostname: HOST, target_url: 'service://api', request_headers };
  assert.equal((await product.api('POST', '/v1/proxies', proxy)).status, 201);
  const { secret } = await grant(product, { permissions: ['services:read', 'services:write'] });
  const authorization = { authorization: `Bearer ${secret}` };
  const tries = [
    ['PATCH', '/v1/external-services/api', { url: stranger.url }],
    ['DELETE', '/v1/services/api?force=true', undefined],
  ] as const;
  for (const [method, path, body] of tries)
    assert.equal((await product.api(method, path, body, authorization)).status, 403, `${method} ${path}`);
  assert.equal((await product.get(HOST, '/')).body, 'own');
  assert.equal((await product.api('DELETE', '/v1/services/api?force=true')).status, 200);
  const again = { name: 'api', url: stranger.url };
  assert.equal((await product.api('POST', '/v1/external-services', again, authorization)).status, 403);
  assert.equal((await product.get(HOST, '/')).status, 503);
  assert.equal(stranger.requests.length, 0);
  const asked = async (input: object) => {
    const args = { name: 'create_external_service', arguments: input };
    return outcomeOf(await callTool(product, product.adminToken, { name: 'call_operation', args }));
  };
  assert.equal(await asked({ name: 'unheard-of', url: own.url }), 'OK', 'nobody is led anywhere by it');
  assert.equal(await asked(again), 'CONFIRMATION_REQUIRED');
  assert.equal((await product.api('POST', '/v1/external-services', { ...again, url: own.url })).status, 201);
  assert.equal((await product.get(HOST, '/')).body, 'own');
});
