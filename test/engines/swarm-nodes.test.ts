/** A real swarm of two nodes: replicas of the running product on both, and that requests follow them. */
import assert from 'node:assert/strict';
import test, { after, before, suite } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { IMAGE } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { NODES, startSwarmNodes, type SwarmNodes, withoutNodes } from '../support/swarm-nodes.ts';

const HOST = 'blog.example.com';
const POLICY = {
  orchestrator: 'swarm',
  nodes_hardened: true,
  bind_addresses: ['0.0.0.0'],
};
const VISITS = 6;
/** Ends at once when it is asked to. */
const serving = `trap 'exit 0' TERM; echo "$HOSTNAME" > /tmp/index.html; httpd -f -p 8080 -h /tmp & wait`;

if (withoutNodes) test('a real swarm of two nodes', { skip: withoutNodes }, () => {});
else
  suite('a real swarm of two nodes', () => {
    let swarm: SwarmNodes;
    let product: Product;
    before(async () => {
      swarm = await startSwarmNodes();
      const services = { ...POLICY, images: [`${swarm.registry}/contract/*`] };
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({ ...generous, services }),
          OHP_DOCKER_SOCKET: swarm.manager.socket,
        },
      });
    });
    after(async () => {
      await product?.[Symbol.asyncDispose]();
      await swarm?.[Symbol.asyncDispose]();
    });

    /** The nodes that requests are led to, one for each replica. */
    const ledTo = async (): Promise<string[]> => {
      const { body } = await product.api('GET', `/v1/proxies/${HOST}`);
      return (
        JSON.stringify(body.leads_to)
          .match(/10\.213\.77\.\d+/g)
          ?.sort() ?? []
      );
    };
    const pages = async (): Promise<string[]> => {
      const seen = new Set<string>();
      for (let visit = 0; visit < VISITS; visit++) {
        const { status, body } = await product.get(HOST, '/');
        assert.equal(status, 200);
        seen.add(body.trim());
      }
      return [...seen].sort();
    };

    test('a replica runs at each node, and requests go to both', async () => {
      const blog = {
        name: 'blog',
        image: `${swarm.registry}/${IMAGE}`,
        command: ['sh', '-c', serving],
        temporary_paths: ['/tmp'],
        ports: [{ container_port: 8080, host_address: '0.0.0.0' }],
        replicas: 2,
        health_check: { command: ['cat', '/tmp/index.html'], interval_ms: 200, start_period_ms: 5000 },
        stop_timeout_ms: 200,
      };
      const made = await product.api('POST', '/v1/services', blog);
      assert.equal(made.status, 201, JSON.stringify(made.body));
      await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: 'service://blog:8080' });
      assert.deepEqual(await ledTo(), NODES);
      assert.equal((await pages()).length, 2);
    });

    test('replicas of a node that is drained come up at the other, and requests with them', async () => {
      const { manager, worker } = swarm;
      const [before, { body: nodes }] = [await pages(), await manager.api('GET', '/nodes')];
      const node = nodes.find(({ Status }: any) => Status.Addr === NODES[1]);
      const path = `/nodes/${node.ID}/update?version=${node.Version.Index}`;
      const { status } = await manager.api('POST', path, { ...node.Spec, Availability: 'drain' });
      assert.equal(status, 200);
      await eventually(async () => {
        // Whom it serves meanwhile it serves from the other.
        await pages();
        return JSON.stringify(await ledTo()) === JSON.stringify([NODES[0], NODES[0]]) ? true : undefined;
      }, 'both at the manager');
      const now = await pages();
      assert.equal(now.length, 2);
      assert.equal(now.filter((page) => before.includes(page)).length, 1, 'who was at the manager goes on');
      await eventually(async () => {
        const { body } = await worker.api('GET', '/containers/json');
        return body.length === 0 ? true : undefined;
      }, 'nothing that runs at the worker');
    });
  });
