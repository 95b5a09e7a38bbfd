/** A real swarm of one node: the contract, services of the running product on it, and that nothing outside the policy runs there. */
import assert from 'node:assert/strict';
import test, { after, before, suite } from 'node:test';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { engineContract } from '../../src/services/engine.contract.ts';
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
const HOST = 'blog.example.com';
const serving =
  'echo "$GREETING from $HOSTNAME, $(cat /run/secrets/word)" > /tmp/index.html; exec httpd -f -p 8080 -h /tmp';

if (withoutDocker) test('a real swarm', { skip: withoutDocker }, () => {});
else
  suite('a real swarm', () => {
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
    /** Each task that runs, as its own page says. */
    const pages = async (): Promise<string[]> => {
      const { container } = await call('GET', '/blog');
      const { body: proxy } = await product.api('GET', `/v1/proxies/${HOST}`);
      const urls = container.ports.map(
        ({ host_address, host_port }: { host_address: string; host_port: number }) =>
          `http://${host_address}:${host_port}`,
      );
      const method = proxy?.hostname === undefined ? 'POST' : 'PATCH';
      const path = method === 'POST' ? '/v1/proxies' : `/v1/proxies/${HOST}`;
      const { status, body } = await product.api(method, path, {
        ...(method === 'POST' && { hostname: HOST }),
        target_url: urls[0],
        load_balancing: { targets: urls.slice(1).map((url: string) => ({ url })) },
      });
      assert.ok(status < 300, JSON.stringify(body));
      const found = await Promise.all(
        Array.from({ length: 2 * urls.length }, async () => (await product.get(HOST, '/')).body.trim()),
      );
      return [...new Set(found)].sort();
    };
    const tasks = async (): Promise<string[]> => {
      const { body } = await docker.api('GET', '/tasks');
      return body
        .filter(
          ({ Spec, DesiredState }: any) =>
            DesiredState === 'running' && Spec.ContainerSpec.Args.includes(serving),
        )
        .map(({ ID }: { ID: string }) => ID)
        .sort();
    };

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
      assert.deepEqual(made.secret_names, ['word']);
      assert.doesNotMatch(JSON.stringify({ ...made, command: [] }), /canary/);
      const seen = await pages();
      assert.equal(seen.length, 2, seen.join());
      for (const page of seen) assert.match(page, /^first from [0-9a-f]{12}, canary-word$/);
    });

    test('an update goes from one to the next; one that fails leaves the version before', async () => {
      const rolling_update = { parallelism: 2 };
      const updated = await call('PATCH', '/blog', { environment: { GREETING: 'second' }, rolling_update });
      assert.equal(updated.version, 2);
      assert.deepEqual(updated.container.replicas, { wanted: 2, running: 2 });
      const refused = await call('PATCH', '/blog', { command: ['sh', '-c', 'echo broken; exit 3'] }, 502);
      assert.match(JSON.stringify(refused), /exit code 3.*broken.*version 2 is back/s);
      const seen = await pages();
      assert.equal(seen.length, 2);
      for (const page of seen) assert.match(page, /^second from .*canary-word$/);
    });

    test('more of them come to those that run, which go on', async () => {
      await call('PATCH', '/blog', { secret_files: null });
      const { body: secrets } = await docker.api('GET', '/secrets');
      assert.deepEqual(secrets, [], 'secrets of versions before are gone');
      const before = await tasks();
      await call('PATCH', '/blog', { replicas: 3 });
      const now = await tasks();
      assert.equal(now.length, 3);
      assert.ok(before.every((id) => now.includes(id)));
      assert.equal((await pages()).length, 3);
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
      await eventually(async () => ((await isNew()) ? undefined : true), 'the version before at the swarm');
      const found = await eventually(async () => {
        const { body } = await product.api('GET', '/v1/services/blog');
        return body.unfinished === undefined && body.container?.replicas.running === 3 ? body : undefined;
      }, 'the version before');
      assert.equal(found.version, version);
      for (const page of await pages()) assert.match(page, /^second from/);
    });

    test('a deleted service leaves nothing at the swarm', async () => {
      await product.api('DELETE', `/v1/proxies/${HOST}`);
      await call('DELETE', '/blog');
      const { body: services } = await docker.api(
        'GET',
        '/services?filters={"label":["ohp.managed=product"]}',
      );
      const { body: secrets } = await docker.api('GET', '/secrets');
      const { body: networks } = await docker.api('GET', '/networks');
      const names = networks.map(({ Name }: { Name: string }) => Name);
      assert.deepEqual([services, secrets], [[], []]);
      assert.ok(!names.includes('product-default'), names.join());
    });
  });
