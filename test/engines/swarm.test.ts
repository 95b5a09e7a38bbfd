/** A real swarm of one node: the contract, services of the running product on it, and that nothing outside the policy runs there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import test, { after, before, suite } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { engineContract, refusedAs } from '../../src/services/engine.contract.ts';
import type { ContainerEngine } from '../../src/services/engine.ts';
import { openEngine } from '../../src/services/open-engine.ts';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE, startSwarm, type TestEngine, withoutDocker } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { foreignService, policyOf } from './policy.ts';

const POLICY = {
  orchestrator: 'swarm',
  nodes_hardened: true,
  bind_addresses: ['0.0.0.0'],
  max_containers: 40,
};
const RUNS = 40;
/** Who asks all the time takes the time of the swarm. */
const BETWEEN_VISITS_MS = 10;
/** One after the other, on a machine that has other things to do. */
const ROLLED_MS = 300_000;
const HOST = 'blog.example.com';
const serving =
  'echo "$GREETING from $HOSTNAME, $(cat /run/secrets/word)" > /tmp/index.html; exec httpd -f -p 8080 -h /tmp';

const mostly = <Usual, Hostile>(usual: Usual, ...hostile: Hostile[]): fc.Arbitrary<Usual | Hostile> =>
  fc.oneof(
    { arbitrary: fc.constant<Usual | Hostile>(usual), weight: 9 },
    { arbitrary: fc.constantFrom<Usual | Hostile>(...hostile), weight: 1 },
  );

/** Of a service that was let through, as the swarm tells it. */
function assertConfined(spec: any): void {
  const shown = JSON.stringify(spec);
  const { TaskTemplate: task, EndpointSpec: endpoint, Mode: mode } = spec;
  const { ContainerSpec: container, Resources: resources } = task;
  assert.deepEqual(container.CapabilityDrop, ['ALL'], shown);
  for (const capability of container.CapabilityAdd ?? [])
    assert.ok(['CHOWN', 'SETUID'].includes(capability), shown);
  for (const key of ['Sysctls', 'Hosts', 'Groups', 'Configs', 'Ulimits'])
    assert.deepEqual(Object.keys(container[key] ?? {}), [], `${key}: ${shown}`);
  for (const { Type, Source } of container.Mounts ?? [])
    assert.ok(Type === 'volume' && Source === 'ohp-kept', shown);
  assert.equal(task.Networks.length, 1, shown);
  assert.ok(resources.Limits.MemoryBytes <= 2 ** 31 && resources.Limits.Pids <= 1024, shown);
  assert.ok(resources.Limits.MemoryBytes > 0 && resources.Limits.NanoCPUs <= 2e9, shown);
  for (const { PublishMode, PublishedPort = 1024 } of endpoint.Ports ?? [])
    assert.ok(PublishMode === 'host' && PublishedPort >= 1024, shown);
  assert.equal(mode.Replicated.Replicas, 0, 'made, not started');
  assert.doesNotMatch(shown, /canary/);
}

if (withoutDocker) test('a real swarm', { skip: withoutDocker }, () => {});
// Independent of each other, and a swarm is waited for most of the time.
else
  suite('a real swarm', { concurrency: 3 }, () => {
    let docker: TestEngine;
    let engine: ContainerEngine;
    let product: Product;
    before(async () => {
      docker = await startSwarm();
      await docker.addImage(IMAGE);
      engine = openEngine(
        { docker: { socket: docker.socket }, policy: policyOf(undefined, POLICY) },
        { clock: systemClock, log: silentLog },
      );
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({
            ...generous,
            services: { ...POLICY, images: ['docker.io/contract/*'], installation: 'product' },
          }),
          OHP_DOCKER_SOCKET: docker.socket,
        },
      });
      await engine.createNetwork({ name: 'ohp-net' });
    });
    after(async () => {
      await product[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
    });

    engineContract('Docker Swarm', async () => ({
      engine,
      image: IMAGE,
      pullable: undefined,
      networks: true,
      addForeign: foreignService(docker),
      swarm: { network: 'ohp-net' },
    }));

    const call = async (method: string, path: string, body?: object, status = 200) => {
      const reply = await product.api(method, `/v1/services${path}`, body);
      assert.equal(reply.status, status, JSON.stringify(reply.body));
      return reply.body;
    };
    /** What so many visits in turn see, each once. */
    const pages = async (visits: number): Promise<string[]> => {
      const seen = new Set<string>();
      for (let visit = 0; visit < visits; visit++) seen.add((await product.get(HOST, '/')).body.trim());
      return [...seen].sort();
    };
    /** Visits one after the other while `work` is done. Answers the statuses that were no page. */
    const visited = async (work: () => Promise<unknown>): Promise<number[]> => {
      let isDone = false;
      const others: number[] = [];
      const visiting = (async () => {
        while (!isDone) {
          const { status } = await product.get(HOST, '/');
          if (status !== 200) others.push(status);
          await pause(BETWEEN_VISITS_MS);
        }
      })();
      try {
        await work();
      } finally {
        isDone = true;
        await visiting;
      }
      return others;
    };
    const secrets = async (): Promise<unknown> =>
      (await docker.api('GET', '/secrets?filters={"label":["ohp.managed=product"]}')).body;
    const tasks = async (): Promise<string[]> => {
      const { body } = await docker.api('GET', '/tasks');
      return body
        .filter(
          ({ Spec, DesiredState }: any) =>
            DesiredState === 'running' && Spec.ContainerSpec.Env?.includes('GREETING=second'),
        )
        .map(({ ID }: { ID: string }) => ID)
        .sort();
    };

    suite('services of the product', { concurrency: 1 }, () => {
      test('replicas run, and requests go to each of them', async () => {
        const made = await call(
          'POST',
          '',
          {
            name: 'blog',
            image: IMAGE,
            command: ['sh', '-c', serving],
            environment: { GREETING: 'first' },
            secret_files: { word: 'canary-word' },
            temporary_paths: ['/tmp'],
            ports: [{ container_port: 8080, host_address: '0.0.0.0' }],
            replicas: 2,
            placement: ['node.role==manager'],
            health_check: { command: ['cat', '/tmp/index.html'], interval_ms: 200, start_period_ms: 5000 },
            stop_timeout_ms: 200,
          },
          201,
        );
        assert.deepEqual(made.container.replicas, { wanted: 2, running: 2 });
        assert.deepEqual(made.file_names, ['word']);
        assert.doesNotMatch(JSON.stringify({ ...made, command: [] }), /canary/);
        await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: 'service://blog:8080' });
        const seen = await pages(4);
        assert.equal(seen.length, 2, seen.join());
        for (const page of seen) assert.match(page, /^first from [0-9a-f]{12}, canary-word$/);
      });

      test('an update goes from one to the next; one that fails leaves the version before', async () => {
        const others = await visited(async () => {
          const broken = { command: ['sh', '-c', 'echo broken; exit 3'] };
          const refused = await call('PATCH', '/blog', broken, 502);
          assert.match(JSON.stringify(refused), /exit \(3\).*broken.*version 1 is back/s);
          for (const page of await pages(4)) assert.match(page, /^first from .*canary-word$/);
          const updated = await call('PATCH', '/blog', {
            environment: { GREETING: 'second' },
            command: ['sh', '-c', serving.replace(', $(cat /run/secrets/word)', '')],
            secret_files: null,
          });
          assert.equal(updated.version, 2);
          assert.deepEqual(updated.container.replicas, { wanted: 2, running: 2 });
        });
        assert.deepEqual(others, [], 'every visitor was served meanwhile');
        const { body: found } = await docker.api('GET', '/services?filters={"name":["blog-1"]}');
        // What comes before its time can't be made to come every time.
        assert.ok(found[0].Spec.UpdateConfig.Delay > 0, 'the next is not ended before one has failed');
        const seen = await pages(4);
        assert.equal(seen.length, 2);
        for (const page of seen) assert.match(page, /^second from [0-9a-f]{12}$/);
        assert.deepEqual(await secrets(), [], 'secrets of versions before are gone');
      });

      test('more of them come to those that run, which go on', async () => {
        const before = await tasks();
        await call('PATCH', '/blog', { replicas: 3 });
        const now = await tasks();
        assert.equal(now.length, 3);
        assert.ok(before.every((id) => now.includes(id)));
        assert.equal((await pages(6)).length, 3);
      });

      test('going back gives what was there, not what a secret is by now', async () => {
        const setSecret = (value: string) => product.api('PUT', '/v1/secrets/greeting', { value });
        await setSecret('third');
        const greeting = { environment: { GREETING: { secret: 'greeting' } } };
        await call('PATCH', '/blog', { ...greeting, healthy_within_ms: ROLLED_MS });
        await setSecret('canary-fourth');
        const slow = { health_check: { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 } };
        const refused = await call('PATCH', '/blog', { ...slow, healthy_within_ms: 3000 }, 504);
        assert.match(JSON.stringify(refused), /version 4 is back as it was/);
        await eventually(async () => {
          const { container } = await call('GET', '/blog');
          return container.replicas.running === 3 ? true : undefined;
        }, 'three that run');
        for (const page of await pages(6)) assert.match(page, /^third from/);
        const back = { environment: { GREETING: 'second' }, healthy_within_ms: ROLLED_MS };
        await call('PATCH', '/blog', back);
      });

      test('a kill -9 in the middle of an update leaves what the next start undoes', async () => {
        const { version } = await call('GET', '/blog');
        const slow = { health_check: { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 } };
        const cut = product.api('PATCH', '/v1/services/blog', slow).catch(() => undefined);
        const isNew = async () => {
          const { body } = await docker.api('GET', '/services?filters={"name":["blog-1"]}');
          return body[0].Spec.TaskTemplate.ContainerSpec.Healthcheck.Test.includes('exit 1');
        };
        await eventually(async () => ((await isNew()) ? true : undefined), 'the new version at the swarm');
        await product.kill();
        await cut;
        product = await product.restart();
        // Waits its turn, which is when nothing is unfinished any more.
        await call('POST', '/blog/start');
        assert.equal(await isNew(), false);
        const found = await eventually(async () => {
          const body = await call('GET', '/blog');
          return body.container.replicas.running === 3 ? body : undefined;
        }, 'three that run');
        assert.equal(found.unfinished, undefined);
        assert.equal(found.version, version);
        for (const page of await pages(3)) assert.match(page, /^second from/);
      });

      test('a deleted service leaves nothing at the swarm', async () => {
        await product.api('DELETE', `/v1/proxies/${HOST}`);
        await call('DELETE', '/blog');
        const { body: services } = await docker.api(
          'GET',
          '/services?filters={"label":["ohp.managed=product"]}',
        );
        const { body: networks } = await docker.api('GET', '/networks');
        const names = networks.map(({ Name }: { Name: string }) => Name);
        assert.deepEqual([services, await secrets()], [[], []]);
        assert.ok(!names.includes('product-default'), names.join());
      });
    });

    test('whatever is let through has nothing outside the policy, as the swarm and its containers say', async () => {
      const specs = fc.record(
        {
          networks: mostly(['ohp-net'], [], ['host'], ['bridge'], ['ingress'], ['none']),
          mounts: mostly(
            [{ kind: 'volume', name: 'ohp-kept', target: '/data' }],
            [{ kind: 'volume', name: 'theirs', target: '/data' }],
            [{ kind: 'folder', source: '/', target: '/host' }],
            [{ kind: 'folder', source: docker.socket, target: '/run/docker.sock' }],
          ),
          ports: mostly(
            [{ containerPort: 80, hostAddress: '0.0.0.0' }],
            [{ containerPort: 80 }],
            [{ containerPort: 80, hostAddress: '192.0.2.1' }],
            [{ containerPort: 80, hostAddress: '0.0.0.0', hostPort: 80 }],
          ),
          addCapabilities: mostly(['CHOWN'], ['SYS_ADMIN'], ['ALL'], ['CHOWN', 'MKNOD']),
          memoryBytes: mostly(8_388_608, 2 ** 40),
          scale: mostly(
            { replicas: 3, placement: ['node.role==manager'] },
            { replicas: 1000 },
            { placement: ['engine.labels.x==y'] },
            { placement: ['node.role==a;b'] },
          ),
          secrets: mostly({ word: 'canary-secret' }, { '../etc/passwd': 'x' }),
          Privileges: mostly(undefined, {}, { CredentialSpec: null }),
        },
        { requiredKeys: ['networks', 'Privileges'] },
      );
      await engine.createVolume({ name: 'ohp-kept' });
      await docker.api('POST', '/volumes/create', { Name: 'theirs' });
      let made = 0;
      await fc.assert(
        fc.asyncProperty(specs, async (spec) => {
          const { Privileges, ...known } = spec;
          const wanted = {
            ...known,
            ...(Privileges && { Privileges }),
            name: `hostile-${made}`,
            image: IMAGE,
          } as never;
          const id = await engine.create(wanted).then(
            (created) => created.id,
            (cause: unknown) => assert.ok(refusedAs('INVALID_INPUT')(cause) || refusedAs('CONFLICT')(cause)),
          );
          if (id === undefined) return;
          made++;
          assertConfined((await docker.api('GET', `/services/${id}`)).body.Spec);
          await engine.remove(id);
        }),
        { numRuns: RUNS },
      );
      assert.ok(made > 0 && made < RUNS, String(made));
      const { id } = await engine.create({
        name: 'confined',
        image: IMAGE,
        command: ['sleep', '1000'],
        networks: ['ohp-net'],
        stopTimeoutMs: 100,
        addCapabilities: ['CHOWN'],
        mounts: [{ kind: 'volume', name: 'ohp-kept', target: '/data' }],
        secrets: { word: 'canary-secret' },
      });
      await engine.start(id);
      assert.doesNotMatch(
        JSON.stringify([await engine.inspect(id), await engine.list({ all: true })]),
        /canary/,
      );
      const filters = JSON.stringify({ label: [`com.docker.swarm.service.id=${id}`] });
      const { body: running } = await docker.api('GET', `/containers/json?filters=${filters}`);
      const { body: container } = await docker.api('GET', `/containers/${running[0].Id}/json`);
      const { HostConfig: host } = container;
      assert.deepEqual(
        [
          host.Privileged,
          host.CapDrop,
          host.CapAdd,
          host.IpcMode,
          host.CgroupnsMode,
          host.PidMode,
          host.UTSMode,
        ],
        [false, ['ALL'], ['CHOWN'], 'private', 'private', '', ''],
      );
      for (const key of ['Devices', 'DeviceRequests', 'Binds', 'Links', 'VolumesFrom', 'GroupAdd', 'Sysctls'])
        assert.deepEqual(Object.keys(host[key] ?? {}), [], key);
      assert.ok(host.Memory > 0 && host.PidsLimit > 0 && host.NanoCpus > 0);
      const status = readFileSync(`/proc/${container.State.Pid}/status`, 'utf8');
      assert.match(status, /^NoNewPrivs:\s*1$/m, 'the word of the nodes is kept');
      await engine.remove(id, { force: true });
    });
  });
