import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { createBodyOf } from './engine.docker.request.ts';
import { containerSpecSchema } from './engine.schema.ts';
import type { ContainerSpec } from './engine.ts';
import { decide, type Facts, givenLabels, MANAGED_LABEL, policySchema, proposalsIn } from './policy.ts';

const policy = policySchema.parse({
  images: ['docker.io/library/*'],
  folder: '/srv/services',
  capabilities: ['CHOWN', 'SETUID'],
});
const facts: Facts = { folders: [], volumes: new Set(['ours']), networks: new Set(['net']) };
const spec = (changes: Partial<ContainerSpec> = {}) =>
  containerSpecSchema.parse({ name: 'web', image: 'nginx', ...changes });

const faultsOf = (changes: Partial<ContainerSpec>, given: Facts = facts, by = policy) => {
  const decision = decide(by, spec(changes), given);
  return 'faults' in decision ? decision.faults : [];
};
const planOf = (changes: Partial<ContainerSpec>, given: Facts = facts, by = policy) => {
  const decision = decide(by, spec(changes), given);
  if ('faults' in decision) assert.fail(JSON.stringify(decision.faults));
  return decision.plan;
};

test('without a word about it a container has limits, no network, no capability and no privilege', () => {
  const body = createBodyOf(planOf({}));
  assert.partialDeepStrictEqual(body.HostConfig, {
    NetworkMode: 'none',
    Memory: 512 * 1024 * 1024,
    MemorySwap: 512 * 1024 * 1024,
    NanoCpus: 1_000_000_000,
    PidsLimit: 256,
    Privileged: false,
    CapDrop: ['ALL'],
    CapAdd: [],
    SecurityOpt: ['no-new-privileges:true'],
    Mounts: [],
    Binds: [],
    Devices: [],
    PidMode: '',
    IpcMode: 'private',
    UsernsMode: '',
    CgroupnsMode: 'private',
    PublishAllPorts: false,
  });
  assert.deepEqual(body.Healthcheck, { Test: ['NONE'] });
  assert.equal(body.Image, 'docker.io/library/nginx:latest');
});

test('with settings as they are at first no image may be used, and the refusal says where to allow some', () => {
  const [fault, ...more] = faultsOf({}, facts, policySchema.parse({}));
  assert.deepEqual(more, []);
  assert.match(fault?.allowed ?? '', /none; .*services\.images/);
});

test('each part that is not allowed is told with its place, and all of them at once', () => {
  const faults = faultsOf({
    image: 'evil.example/x',
    memoryBytes: 2 ** 40,
    cpus: 64,
    pids: 100_000,
    addCapabilities: ['CHOWN', 'SYS_ADMIN'],
    ports: [
      { containerPort: 80, hostAddress: '0.0.0.0' },
      { containerPort: 80, hostPort: 80 },
    ],
    mounts: [
      { kind: 'folder', source: '/etc', target: '/data' },
      { kind: 'volume', name: 'theirs', target: '/data' },
    ],
    temporary: ['/proc/x'],
    networks: ['net', 'host'],
  });
  assert.deepEqual(
    faults.map(({ where }) => where),
    [
      'image',
      'memoryBytes',
      'cpus',
      'pids',
      'addCapabilities[1]',
      'ports[0].hostAddress',
      'ports[1].hostPort',
      'mounts[1].target',
      'temporary[0]',
      'mounts[0].source',
      'mounts[1].name',
      'networks[1]',
    ],
  );
  assert.ok(faults.every(({ what, allowed }) => what !== '' && allowed !== ''));
});

test('by digest only, a tag is refused', () => {
  const strict = policySchema.parse({ images: ['docker.io/library/*'], require_digest: true });
  assert.match(faultsOf({}, facts, strict)[0]?.what ?? '', /by tag/);
  assert.deepEqual(faultsOf({ image: `nginx@sha256:${'a'.repeat(64)}` }, facts, strict), []);
});

test('a read-only root is given where it is asked for, or always', () => {
  assert.equal(planOf({}).readOnlyRoot, false);
  assert.equal(planOf({ readOnlyRoot: true }).readOnlyRoot, true);
  const always = policySchema.parse({ images: ['docker.io/library/*'], read_only_root: 'always' });
  assert.equal(planOf({}, facts, always).readOnlyRoot, true);
  assert.deepEqual(
    faultsOf({ readOnlyRoot: false }, facts, always).map(({ where }) => where),
    ['readOnlyRoot'],
  );
});

test('words of the engine are no networks, whatever is adopted or there', () => {
  const adopting = policySchema.parse({
    images: ['docker.io/library/*'],
    adopt_networks: ['host', 'none', 'default', 'bridge'],
  });
  const all = { ...facts, networks: new Set(['host', 'none', 'default', 'ns', 'private']) };
  for (const network of ['host', 'none', 'default', 'ns', 'private'])
    assert.equal(faultsOf({ networks: [network] }, all, adopting).length, 1, network);
  assert.deepEqual(faultsOf({ networks: ['bridge'] }, facts, adopting), []);
});

test('labels of who asks are kept as data, whatever they are called', () => {
  const labels = { 'ohp.managed': 'evil', 'com.docker.compose.project': 'x', '__proto__.x': 'y' };
  const given = Object.fromEntries(Object.entries(labels).filter(([key]) => !key.startsWith('_')));
  const plan = planOf({ labels: given });
  assert.deepEqual(Object.keys(plan.labels).sort(), ['ohp.labels', MANAGED_LABEL]);
  assert.equal(plan.labels[MANAGED_LABEL], 'ohp');
  assert.deepEqual(givenLabels(plan.labels), given);
  assert.deepEqual(givenLabels({ 'ohp.labels': '{"a":1}' }), {});
  assert.deepEqual(givenLabels({ 'ohp.labels': 'no JSON' }), {});
  assert.deepEqual(proposalsIn({ 'ohp.hostname': 'a', 'ohp.managed': 'b', 'ohp.labels': 'c', other: 'd' }), {
    'ohp.hostname': 'a',
  });
});

test('settings that contradict each other, or name what can lead out, are refused', () => {
  const wrong = [
    { memory_bytes: 2 ** 33 },
    { capabilities: ['SYS_ADMIN'] },
    { capabilities: ['ALL'] },
    { capabilities: ['MKNOD'] },
    { images: ['*'] },
    { folder: '/' },
    { folder: 'srv' },
    { bind_addresses: ['everywhere'] },
    { privileged: true },
    { installation: 'a b' },
  ];
  for (const settings of wrong)
    assert.equal(policySchema.safeParse(settings).success, false, JSON.stringify(settings));
});

const hostileText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    'host',
    'container:web',
    'ns:/proc/1/ns/net',
    '/',
    '/etc',
    '../../etc',
    '/var/run/docker.sock',
    '__proto__',
    'ALL',
    'SYS_ADMIN',
    'cap_sys_admin',
    'nginx',
    'ours',
    'net',
    '/data',
    'CHOWN',
    'a\0b',
  ),
);
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const rarely = <T, U>(usual: fc.Arbitrary<T>, hostile: fc.Arbitrary<U>): fc.Arbitrary<T | U> =>
  fc.oneof({ arbitrary: usual, weight: 15 }, { arbitrary: hostile as fc.Arbitrary<T | U>, weight: 1 });
const wordOr = (...usual: string[]) => rarely(fc.constantFrom(...usual), hostileText);
const hostileSpec = fc.record({
  name: wordOr('web', 'a1'),
  image: wordOr('nginx', 'docker.io/library/redis:7'),
  command: maybe(fc.array(wordOr('sh', '--privileged'), { maxLength: 3 })),
  environment: fc.dictionary(wordOr('A', 'B'), wordOr('', 'x'), { maxKeys: 2 }),
  labels: fc.dictionary(fc.constantFrom('a', 'ohp.managed', 'ohp.labels'), wordOr('x'), { maxKeys: 2 }),
  memoryBytes: maybe(rarely(fc.integer({ min: 2 ** 23, max: 2 ** 31 }), fc.double())),
  cpus: maybe(rarely(fc.double({ min: 0.01, max: 2, noNaN: true }), fc.double())),
  pids: maybe(rarely(fc.integer({ min: 1, max: 1024 }), fc.integer())),
  networks: fc.array(wordOr('net'), { maxLength: 2 }),
  addCapabilities: fc.array(wordOr('CHOWN', 'SETUID'), { maxLength: 2 }),
  mounts: fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant('volume'),
        name: wordOr('ours'),
        target: wordOr('/data', '/var/lib/x', '/.x/..y'),
      }),
      fc.record({
        kind: rarely(fc.constant('folder'), fc.constantFrom('bind', 'tmpfs')),
        source: wordOr('blog', '/srv/services/blog', '../x'),
        target: rarely(wordOr('/x', '/y'), fc.constantFrom('/', '/x/', '/proc/1', '/a/../b', '/a:ro')),
        readOnly: fc.boolean(),
      }),
    ),
    { maxLength: 2 },
  ),
  ports: fc.array(
    fc.record({
      containerPort: rarely(fc.constant(80), fc.integer()),
      hostAddress: rarely(
        fc.constantFrom('127.0.0.1', '::1'),
        fc.constantFrom('0.0.0.0', '::', '::ffff:0.0.0.0', 'localhost'),
      ),
      hostPort: rarely(fc.constantFrom(0, 8080), fc.integer({ min: 0, max: 70_000 })),
    }),
    { maxLength: 1 },
  ),
  user: maybe(wordOr('1000', '0:0', 'www-data')),
  readOnlyRoot: maybe(fc.boolean()),
});

test('property: whatever is asked for, what would be created is inside the policy', () => {
  const place = fc.option(fc.constant({ path: '/srv/services/blog' }), {
    nil: { why: 'which is elsewhere' },
  });
  let allowed = 0;
  fc.assert(
    fc.property(hostileSpec, place, (given, found) => {
      const parsed = containerSpecSchema.safeParse(given);
      if (!parsed.success) return;
      const folders = parsed.data.mounts.map(({ kind }) => (kind === 'folder' ? found : undefined));
      const decision = decide(policy, parsed.data, { ...facts, folders });
      if ('faults' in decision) return assert.ok(decision.faults.length > 0);
      allowed++;
      const body = createBodyOf(decision.plan);
      const host = body.HostConfig;
      assert.match(body.Image, /^docker\.io\/library\//);
      assert.ok(host.NetworkMode === 'none' || host.NetworkMode === 'net');
      assert.ok(host.Memory > 0 && host.Memory <= policy.max_memory_bytes && host.MemorySwap === host.Memory);
      assert.ok(host.NanoCpus > 0 && host.NanoCpus <= policy.max_cpus * 1e9);
      assert.ok(host.PidsLimit > 0 && host.PidsLimit <= policy.max_pids);
      assert.ok(host.CapAdd.every((capability) => ['CHOWN', 'SETUID'].includes(capability)));
      for (const mount of host.Mounts) {
        assert.ok(mount.Source === 'ours' || mount.Source === '/srv/services/blog', JSON.stringify(mount));
        assert.doesNotMatch(mount.Target, /^\/(?:proc|sys|dev)(?:\/|$)|\/\.\.?(?:\/|$)|:|^\/$/);
      }
      for (const bindings of Object.values(host.PortBindings))
        for (const { HostIp, HostPort } of bindings) {
          assert.ok(['127.0.0.1', '::1'].includes(HostIp));
          assert.ok(HostPort === '' || Number(HostPort) >= policy.min_port);
        }
      assert.deepEqual(Object.keys(body.Labels).sort(), ['ohp.labels', 'ohp.managed']);
      assert.deepEqual(
        [
          host.Privileged,
          host.CapDrop,
          host.SecurityOpt,
          host.Binds,
          host.Devices,
          host.Links,
          host.VolumesFrom,
        ],
        [false, ['ALL'], ['no-new-privileges:true'], [], [], [], []],
      );
      assert.deepEqual(
        [host.PidMode, host.IpcMode, host.UTSMode, host.UsernsMode, host.CgroupnsMode],
        ['', 'private', '', '', 'private'],
      );
    }),
    { numRuns: 5000 },
  );
  assert.ok(allowed > 100, `${allowed} were allowed`);
});
