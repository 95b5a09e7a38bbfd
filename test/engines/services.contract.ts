/**
 * Services of the running product on a real engine: each operation end to end, with traffic through the gateway. Run on Docker
 * and on Podman.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { configFile, generous, send } from '../support/callers.ts';
import { IMAGE, type TestEngine } from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';

/** Led to by the port of the machine, and by the name of the service. */
const HOST = 'blog.example.com';
const NAMED_HOST = 'named.example.com';
const MEMORY_BYTES = 64 * 1024 ** 2;
/** Ends at once when it is asked to. */
const serving = `trap 'exit 0' TERM; echo "$GREETING" > /data/index.html; echo "said $GREETING"; httpd -f -p 8080 -h /data & wait`;

export class Services implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly port: number;
  product: Product;

  private constructor(engine: TestEngine, port: number, product: Product) {
    this.engine = engine;
    this.port = port;
    this.product = product;
  }

  static async start(engine: TestEngine, images: readonly string[] = []): Promise<Services> {
    const services = { images: ['docker.io/contract/*', ...images] };
    const product = await startProduct({
      env: { OHP_CONFIG: configFile({ ...generous, services }), OHP_DOCKER_SOCKET: engine.socket },
    });
    return new Services(engine, await freePort(), product);
  }

  async call(method: string, path: string, body?: object, status = 200) {
    const reply = await this.product.api(method, `/v1/services${path}`, body);
    assert.equal(reply.status, status, JSON.stringify(reply.body));
    return reply.body;
  }

  async page(host = HOST): Promise<string> {
    return (await this.product.get(host, '/')).body.trim();
  }

  soon(text: string): Promise<true> {
    const isThere = async () => (await this.page()) === text && (await this.page(NAMED_HOST)) === text;
    return eventually(async () => ((await isThere()) ? true : undefined), `the page ${text}`);
  }

  async containers(): Promise<string[]> {
    const { body } = await this.engine.api('GET', '/containers/json?all=true');
    return body.map((one: { Names: string[]; State: string }) => `${one.Names[0]} ${one.State}`).sort();
  }

  async volumes(): Promise<string[]> {
    const { body } = await this.engine.api('GET', '/volumes');
    return (body.Volumes ?? []).map(({ Name }: { Name: string }) => Name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.product[Symbol.asyncDispose]();
  }
}

export interface Differences {
  /** Whether the engine runs health checks by itself here. */
  healthChecks: boolean;
  /** Further tests, while `blog` serves `second`. */
  meanwhile?: () => void;
}

export function serviceOperations(open: () => Services, { healthChecks, meanwhile }: Differences): void {
  beginning(open, healthChecks);
  changes(open);
  meanwhile?.();
  end(open);
}

function beginning(open: () => Services, healthChecks: boolean): void {
  test('create, serve, look at it', async () => {
    const services = open();
    const { product, port } = services;
    const made = await services.call(
      'POST',
      '',
      {
        name: 'blog',
        image: IMAGE,
        command: ['sh', '-c', serving],
        environment: { GREETING: 'canary-hello' },
        ports: [{ container_port: 8080, host_port: port }],
        volumes: [{ name: 'blog-data', path: '/data' }],
        ...(healthChecks && {
          health_check: {
            command: ['sh', '-c', 'cat /data/index.html > /dev/null'],
            interval_ms: 200,
            start_period_ms: 5000,
          },
        }),
        stop_timeout_ms: 200,
        memory_bytes: MEMORY_BYTES,
        idempotency_key: 'blog-once-and-once',
      },
      201,
    );
    assert.equal(made.container.health, healthChecks ? 'healthy' : 'none');
    assert.doesNotMatch(JSON.stringify({ ...made, command: [] }), /canary/);
    await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: `http://127.0.0.1:${port}` });
    await product.api('POST', '/v1/proxies', { hostname: NAMED_HOST, target_url: 'service://blog:8080' });
    assert.equal(await services.page(), 'canary-hello');
    assert.equal(await services.page(NAMED_HOST), 'canary-hello');
    const { services: listed } = await services.call('GET', '?managed=true');
    assert.deepEqual(
      listed.map(({ name, state }: { name: string; state: string }) => [name, state]),
      [['blog', 'running']],
    );
    const { lines } = await services.call('GET', '/blog/logs');
    assert.equal(lines[0].text, 'said canary-hello');
    const stats = await services.call('GET', '/blog/stats');
    assert.ok(stats.memory_bytes > 0 && stats.pids > 0, JSON.stringify(stats));
    assert.equal(stats.memory_limit_bytes, MEMORY_BYTES);
  });
}

function changes(open: () => Services): void {
  test('an update goes to the new container; one that fails leaves the old one serving', async () => {
    const services = open();
    const updated = await services.call('PATCH', '/blog', { environment: { GREETING: 'second' } });
    assert.equal(updated.version, 2);
    assert.equal(await services.page(), 'second');
    assert.equal(await services.page(NAMED_HOST), 'second');
    const failing = { command: ['sh', '-c', 'echo broken; exit 3'] };
    const refused = await services.call('PATCH', '/blog', failing, 502);
    assert.match(JSON.stringify(refused), /(?:exit code 3|started again).*broken.*version 2 is back/s);
    await services.soon('second');
    assert.deepEqual(await services.containers(), ['/blog.2 running']);
  });

  test('stop, start and restart are seen by visitors', async () => {
    const services = open();
    const { product, port } = services;
    const followed = send(product, {
      path: '/v1/services/blog/logs?follow_ms=60000',
      token: product.adminToken,
      headers: { accept: 'text/event-stream' },
    });
    await services.call('POST', '/blog/stop', {});
    assert.match((await followed).text, /"message":"said second"/);
    assert.equal((await product.get(HOST, '/')).status, 502);
    assert.equal((await product.get(NAMED_HOST, '/')).status, 503);
    await services.call('POST', '/blog/start', {});
    await services.soon('second');
    await services.call('POST', '/blog/restart', {});
    await services.soon('second');
    const run = async (command: string) => {
      const { status, body } = await product.api('POST', '/v1/commands', { command });
      assert.equal(status, 200, JSON.stringify(body));
      return body.stdout;
    };
    assert.match(await run('docker ps'), new RegExp(`:${port}->8080/tcp +blog\n`));
    assert.match(await run('docker logs --tail 1 blog'), /^said second\n$/);
    assert.match(await run('docker images'), /contract\/image:test/);
  });
}

function end(open: () => Services): void {
  test('deleting is refused while a proxy leads there; what it leaves is told, then taken away', async () => {
    const services = open();
    const { product } = services;
    const cleanUp = async (plan?: string) => {
      const { status, body } = await product.api('POST', '/v1/services-clean-up', { plan, volumes: true });
      assert.equal(status, 200, JSON.stringify(body));
      return body;
    };
    const refused = await services.call('DELETE', '/blog', undefined, 412);
    assert.match(JSON.stringify(refused), /blog\.example\.com/);
    assert.deepEqual((await cleanUp()).found, [], 'what a service has is never left over');
    for (const hostname of [HOST, NAMED_HOST]) await product.api('DELETE', `/v1/proxies/${hostname}`);
    await services.call('DELETE', '/blog');
    assert.deepEqual(await services.containers(), []);
    const { plan, removed, found } = await cleanUp();
    assert.deepEqual(
      [removed, found.map(({ kind, name }: { kind: string; name: string }) => [kind, name])],
      [false, [['volume', 'ohp-blog-data']]],
    );
    assert.deepEqual(await services.volumes(), ['ohp-blog-data'], 'told, not taken away');
    assert.equal((await cleanUp(plan)).removed, true);
    assert.deepEqual(await services.volumes(), []);
  });
}
