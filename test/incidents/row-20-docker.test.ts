/**
 * What a request, an image or somebody else's container says becomes a mount, a privilege or a namespace of the machine
 * (docker CVE-2026-55887), or the engine's socket is reached from outside. A real engine behind the broker's own process,
 * asked in raw JSON over its socket; what came of it is what the engine itself says.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { after, before, suite } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { refusedAs } from '../../src/services/engine.contract.ts';
import type { ContainerEngine } from '../../src/services/engine.ts';
import { openEngine } from '../../src/services/open-engine.ts';
import { policySchema } from '../../src/services/policy.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { IMAGE, startDocker, type TestEngine, withoutDocker } from '../support/docker.ts';
import { startProduct } from '../support/product.ts';

const RUNS = 40;
const MAX_MEMORY = 64 * 1024 * 1024;
const CAPABILITIES = ['CHOWN', 'SETUID'];

function withEngine(): void {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'ohp-row-20-')));
  const folder = join(base, 'services');
  let docker: TestEngine;
  let broker: BrokerProcess;
  let engine: ContainerEngine;
  before(async () => {
    mkdirSync(join(folder, 'blog/inner'), { recursive: true });
    symlinkSync('/', join(folder, 'to-root'));
    symlinkSync('blog', join(folder, 'to-blog'));
    writeFileSync(join(folder, 'file'), '');
    docker = await startDocker();
    await docker.addImage(IMAGE);
    await docker.api('POST', '/volumes/create', { Name: 'theirs' });
    broker = await startBroker(docker.socket, {
      images: ['docker.io/contract/*'],
      folder,
      capabilities: CAPABILITIES,
      memory_bytes: MAX_MEMORY,
      max_memory_bytes: MAX_MEMORY,
    });
    engine = openEngine(
      { docker: { socket: '/nowhere' }, broker: { socket: broker.socket }, policy: policySchema.parse({}) },
      { clock: systemClock, log: silentLog },
    );
    await engine.createVolume({ name: 'ours' });
    await engine.createNetwork({ name: 'ohp-net' });
  });
  after(async () => {
    await broker[Symbol.asyncDispose]();
    await docker[Symbol.asyncDispose]();
    rmSync(base, { recursive: true, force: true });
  });

  /** Nothing that the engine says of the container is outside the policy. */
  function assertConfined(found: any): void {
    const { HostConfig: host, Config: config, Mounts: mounts, NetworkSettings: networks } = found;
    const shown = JSON.stringify(host);
    const none = (value: unknown) =>
      value === null || value === undefined || value === '' || Object.keys(value as object).length === 0;
    assert.deepEqual([host.Privileged, host.PublishAllPorts, host.AutoRemove], [false, false, false], shown);
    assert.deepEqual(host.CapDrop, ['ALL']);
    for (const capability of host.CapAdd ?? []) assert.ok(CAPABILITIES.includes(capability), shown);
    assert.deepEqual(host.SecurityOpt, ['no-new-privileges:true']);
    assert.deepEqual([host.IpcMode, host.CgroupnsMode], ['private', 'private']);
    for (const key of ['PidMode', 'UTSMode', 'UsernsMode', 'CgroupParent', 'Cgroup'])
      assert.ok(none(host[key]), `${key}: ${shown}`);
    for (const key of [
      'Binds',
      'Devices',
      'DeviceRequests',
      'DeviceCgroupRules',
      'Links',
      'VolumesFrom',
      'Sysctls',
      'GroupAdd',
      'ExtraHosts',
    ])
      assert.ok(none(host[key]), `${key}: ${shown}`);
    assert.ok(['none', 'ohp-net'].includes(host.NetworkMode), shown);
    for (const network of Object.keys(networks.Networks))
      assert.ok(['none', 'ohp-net'].includes(network), shown);
    assert.equal(host.Runtime, 'runc');
    assert.ok(host.Memory > 0 && host.Memory <= MAX_MEMORY && host.MemorySwap <= MAX_MEMORY, shown);
    assert.ok(
      host.PidsLimit > 0 && host.PidsLimit <= 1024 && host.NanoCpus > 0 && host.NanoCpus <= 2e9,
      shown,
    );
    for (const { Type: type, Source: source, Name: name, Destination: target } of mounts) {
      assert.ok(
        type === 'volume' ? name === 'ours' : source === join(folder, 'blog'),
        JSON.stringify(mounts),
      );
      assert.doesNotMatch(target, /^\/(?:proc|sys|dev)(?:\/|$)|^\/$/);
    }
    for (const bindings of Object.values<any>(host.PortBindings ?? {}))
      for (const { HostIp } of bindings) assert.ok(['127.0.0.1', '::1'].includes(HostIp), shown);
    assert.deepEqual(config.Healthcheck.Test, ['NONE']);
    assert.equal(config.Labels['ohp.managed'], 'ohp');
  }

  async function create(body: string): Promise<{ status: number; id: string | undefined; words: string }> {
    const asking = request({
      socketPath: broker.socket,
      path: '/v1/create',
      method: 'POST',
      agent: false,
      headers: { 'content-type': 'application/json' },
    });
    const answered = new Promise<any>((resolve, reject) =>
      asking.once('response', resolve).once('error', reject),
    );
    asking.end(body);
    const response = await answered;
    const words = await text(response);
    return { status: response.statusCode, id: JSON.parse(words).answer?.id, words };
  }

  const rarely = <T, U>(usual: fc.Arbitrary<T>, hostile: fc.Arbitrary<U>): fc.Arbitrary<T | U> =>
    fc.oneof({ arbitrary: usual, weight: 12 }, { arbitrary: hostile as fc.Arbitrary<T | U>, weight: 1 });
  const dockersWords = fc.constantFrom(
    { HostConfig: { Privileged: true } },
    { Privileged: true },
    { privileged: true },
    { Binds: ['/:/host'] },
    { HostConfig: { Binds: ['/:/host'], PidMode: 'host' } },
    { networkMode: 'host' },
    { CapAdd: ['ALL'] },
    { devices: ['/dev/sda'] },
    { Mounts: [{ Type: 'bind', Source: '/', Target: '/host' }] },
  );
  const hostileSpec = fc
    .record({
      image: rarely(
        fc.constantFrom(IMAGE, `docker.io/${IMAGE}`),
        fc.constantFrom('evil/x', 'a'.repeat(64), `${IMAGE}\0`),
      ),
      labels: fc.dictionary(fc.constantFrom('a', 'ohp.managed', 'ohp.labels'), fc.string({ maxLength: 10 }), {
        maxKeys: 2,
      }),
      environment: fc.dictionary(
        fc.constantFrom('A', 'LD_PRELOAD', 'DOCKER_HOST'),
        fc.constantFrom('', 'x'),
        { maxKeys: 2 },
      ),
      networks: fc.array(
        rarely(fc.constant('ohp-net'), fc.constantFrom('host', 'bridge', 'container:x', 'none')),
        { maxLength: 1 },
      ),
      addCapabilities: fc.array(
        rarely(fc.constantFrom(...CAPABILITIES), fc.constantFrom('ALL', 'SYS_ADMIN', 'cap_chown')),
        { maxLength: 2 },
      ),
      mounts: fc.array(
        fc.oneof(
          fc.record({
            kind: fc.constant('folder'),
            source: rarely(
              fc.constantFrom('blog', './blog', 'to-blog', join(folder, 'blog'), 'blog/../blog'),
              fc.constantFrom(
                'to-root',
                '..',
                '/',
                '/etc',
                'file',
                'blog/inner',
                '/var/run',
                folder,
                'b\u200blog',
              ),
            ),
            target: rarely(fc.constantFrom('/x', '/y'), fc.constantFrom('/', '/proc', '/a/..', '/x:/host')),
            readOnly: fc.boolean(),
          }),
          fc.record({
            kind: fc.constant('volume'),
            name: rarely(fc.constant('ours'), fc.constantFrom('theirs', '/', '../x', 'new-one')),
            target: fc.constantFrom('/v', '/w'),
          }),
        ),
        { maxLength: 2 },
      ),
      memoryBytes: fc.option(rarely(fc.constantFrom(2 ** 24, MAX_MEMORY), fc.constantFrom(2 ** 40, -1, 0)), {
        nil: undefined,
      }),
      readOnlyRoot: fc.boolean(),
      user: fc.option(fc.constantFrom('0', '1000:1000'), { nil: undefined }),
    })
    .chain((spec) => rarely(fc.constant({}), dockersWords).map((more) => ({ ...spec, ...more })));

  test('property: whatever the broker lets through, the engine says that it is inside the policy', async () => {
    const counts = { made: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(hostileSpec, async (spec) => {
        const name = `ohp-row20-${counts.made + counts.refused}`;
        const { status, id, words } = await create(JSON.stringify([{ name, ...spec }]));
        if (id === undefined) {
          counts.refused++;
          assert.equal(status, 400, words);
          assert.equal((await docker.api('GET', `/containers/${name}/json`)).status, 404);
          return;
        }
        counts.made++;
        assertConfined((await docker.api('GET', `/containers/${id}/json`)).body);
        await docker.api('DELETE', `/containers/${id}?v=true`);
      }),
      { numRuns: RUNS },
    );
    assert.ok(counts.made > RUNS / 8 && counts.refused > 0, JSON.stringify(counts));
  });

  test('a program inside has no capability, gets no new privilege, and sees only what was mounted', async () => {
    const script = 'cat /proc/self/status /proc/self/mountinfo; echo done';
    const { id } = await engine.create({
      name: 'ohp-inside',
      image: IMAGE,
      command: ['/bin/sh', '-c', script],
      mounts: [{ kind: 'folder', source: 'blog', target: '/blog', readOnly: true }],
    });
    await engine.start(id);
    const lines: string[] = [];
    for await (const line of engine.logs(id, { follow: true })) lines.push(line.text);
    const said = lines.join('\n');
    assert.match(said, /CapEff:\s*0000000000000000/);
    assert.match(said, /CapBnd:\s*0000000000000000/);
    assert.match(said, /NoNewPrivs:\s*1/);
    assert.match(said, /Seccomp:\s*2/);
    assert.ok(said.includes(' /blog ro'), said);
    assert.ok(!said.includes('docker.sock'));
    await engine.remove(id, { force: true });
  });

  test('what an image says of itself changes nothing: labels, health check, exposed ports, environment', async () => {
    await docker.addImage('contract/hostile:1', [
      'LABEL ohp.labels={"service.id":"svc_stolen"} ohp.hostname=bank.example.com io.podman.annotations.privileged=TRUE',
      'HEALTHCHECK --interval=1s CMD touch /health-ran',
      'EXPOSE 22',
      'ENV LD_PRELOAD=/evil.so',
      'VOLUME /etc',
      'USER 0:0',
    ]);
    const { id } = await engine.create({ name: 'ohp-hostile', image: 'contract/hostile:1' });
    const { body: found } = await docker.api('GET', `/containers/${id}/json`);
    const [volume, ...further] = found.Mounts;
    assert.deepEqual(further, []);
    assert.match(`${volume.Type} ${volume.Name}`, /^volume [0-9a-f]{64}$/);
    assertConfined({ ...found, Mounts: [] });
    const shown = await engine.inspect(id);
    assert.deepEqual(
      [shown.labels, shown.health, shown.ports.filter(({ hostPort }) => hostPort)],
      [{}, 'none', []],
    );
    assert.deepEqual(shown.proposals, { 'ohp.hostname': 'bank.example.com' });
    await engine.remove(id);
    const { body: volumes } = await docker.api('GET', '/volumes');
    assert.ok(
      !volumes.Volumes.some(({ Name }: { Name: string }) => Name === volume.Name),
      'nothing is left of it',
    );
  });

  test('an image that carries our label is not used, and a container of it is not ours', async () => {
    await docker.addImage('contract/disguised:1', ['LABEL ohp.managed=ohp']);
    await assert.rejects(
      engine.create({ name: 'ohp-disguised', image: 'contract/disguised:1' }),
      refusedAs('INVALID_INPUT', /label ohp\.managed/),
    );
    await docker.api('POST', '/containers/create?name=ohp-victim', {
      Image: 'contract/disguised:1',
      HostConfig: { NetworkMode: 'none' },
    });
    await assert.rejects(
      engine.remove('ohp-victim', { force: true }),
      refusedAs('FORBIDDEN', /not made here/),
    );
    assert.equal((await docker.api('GET', '/containers/ohp-victim/json')).status, 200);
  });
}

if (withoutDocker) test('a real engine behind the broker', { skip: withoutDocker }, () => {});
else suite('a real engine behind the broker', withEngine);

test('the engine\u2019s socket is no target of a proxy, in no spelling', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-target-'));
  const socket = join(folder, 'docker.sock');
  let asked = 0;
  const server = createServer((_request, response) => {
    asked++;
    response.end('[]');
  }).listen(socket);
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  await using product = await startProduct({ env: { OHP_DOCKER_SOCKET: socket } });
  const make = async (hostname: string, target_url: string) =>
    (await product.api('POST', '/v1/proxies', { hostname, target_url })).status;
  for (const target of [
    `unix://${socket}`,
    `unix:${socket}`,
    `http+unix://${encodeURIComponent(socket)}/containers/json`,
    `http://${encodeURIComponent(socket)}/`,
    `file://${socket}`,
    'npipe:////./pipe/docker_engine',
    socket,
    'tcp://127.0.0.1:2375',
    'ssh://root@127.0.0.1',
  ])
    assert.equal(await make('sock.example.com', target), 400, target);
  // A host of that name, which some clients take for a socket.
  assert.equal(await make('named.example.com', `http://unix:${socket}:/containers/json`), 201);
  const { status } = await product.get('named.example.com', '/');
  assert.ok(status >= 500, String(status));
  assert.equal(asked, 0);
});
