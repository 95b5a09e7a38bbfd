/** Services of the running product on a real Docker Engine: each operation end to end, with traffic through the gateway. */
import assert from 'node:assert/strict';
import test, { after, before, suite } from 'node:test';
import { configFile, generous, send } from '../support/callers.ts';
import {
  IMAGE,
  type Registry,
  startDocker,
  startRegistry,
  type TestEngine,
  withoutDocker,
  withoutRegistry,
} from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';

const HOST = 'blog.example.com';
const serving = 'echo "$GREETING" > /data/index.html; echo "said $GREETING"; exec httpd -f -p 8080 -h /data';

if (withoutDocker) test('services on a real Docker Engine', { skip: withoutDocker }, () => {});
else
  suite('services on a real Docker Engine', () => {
    let docker: TestEngine;
    let registry: Registry | undefined;
    let product: Product;
    let port: number;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      if (!withoutRegistry) {
        registry = await startRegistry();
        await registry.addImage('contract/pulled', '1');
      }
      const images = ['docker.io/contract/*', ...(registry ? [`${registry.host}/**`] : [])];
      product = await startProduct({
        env: {
          OHP_CONFIG: configFile({ ...generous, services: { images } }),
          OHP_DOCKER_SOCKET: docker.socket,
        },
      });
      port = await freePort();
    });
    after(async () => {
      await product[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });

    const call = async (method: string, path: string, body?: object, status = 200) => {
      const reply = await product.api(method, `/v1/services${path}`, body);
      assert.equal(reply.status, status, JSON.stringify(reply.body));
      return reply.body;
    };
    const page = async () => (await product.get(HOST, '/')).body.trim();
    const containers = async () => {
      const { body } = await docker.api('GET', '/containers/json?all=true');
      return body.map((one: { Names: string[]; State: string }) => `${one.Names[0]} ${one.State}`).sort();
    };

    test('create, serve, look at it', async () => {
      const made = await call(
        'POST',
        '',
        {
          name: 'blog',
          image: IMAGE,
          command: ['sh', '-c', serving],
          environment: { GREETING: 'canary-hello' },
          ports: [{ container_port: 8080, host_port: port }],
          volumes: [{ name: 'blog-data', path: '/data' }],
          health_check: {
            command: ['sh', '-c', 'cat /data/index.html > /dev/null'],
            interval_ms: 200,
            start_period_ms: 5000,
          },
          stop_timeout_ms: 200,
          memory_bytes: 64 * 1024 ** 2,
          idempotency_key: 'blog-once-and-once',
        },
        201,
      );
      assert.equal(made.container.health, 'healthy');
      assert.doesNotMatch(JSON.stringify({ ...made, command: [] }), /canary/);
      await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: `http://127.0.0.1:${port}` });
      assert.equal(await page(), 'canary-hello');
      const { services } = await call('GET', '?managed=true');
      assert.deepEqual(
        services.map(({ name, state }: { name: string; state: string }) => [name, state]),
        [['blog', 'running']],
      );
      const { lines } = await call('GET', '/blog/logs');
      assert.equal(lines[0].text, 'said canary-hello');
      const stats = await call('GET', '/blog/stats');
      assert.ok(stats.memory_bytes > 0 && stats.pids > 0, JSON.stringify(stats));
      assert.equal(stats.memory_limit_bytes, 64 * 1024 ** 2);
    });

    test('an update goes to the new container; one that fails leaves the old one serving', async () => {
      const updated = await call('PATCH', '/blog', { environment: { GREETING: 'second' } });
      assert.equal(updated.version, 2);
      assert.equal(await page(), 'second');
      const refused = await call('PATCH', '/blog', { command: ['sh', '-c', 'echo broken; exit 3'] }, 502);
      assert.match(
        refused.message ?? refused.error?.message ?? JSON.stringify(refused),
        /exit code 3.*broken.*version 2 is back/s,
      );
      assert.equal(await page(), 'second');
      assert.deepEqual(await containers(), ['/blog.2 running']);
    });

    test('stop, start and restart are seen by visitors', async () => {
      const followed = send(product, {
        path: '/v1/services/blog/logs?follow_ms=60000',
        token: product.adminToken,
        headers: { accept: 'text/event-stream' },
      });
      await call('POST', '/blog/stop', {});
      assert.match((await followed).text, /"message":"said second"/);
      assert.equal((await product.get(HOST, '/')).status, 502);
      await call('POST', '/blog/start', {});
      await eventually(
        async () => ((await page()) === 'second' ? true : undefined),
        'the page after the start',
      );
      await call('POST', '/blog/restart', {});
      await eventually(
        async () => ((await page()) === 'second' ? true : undefined),
        'the page after the restart',
      );
      const run = async (command: string) => {
        const { status, body } = await product.api('POST', '/v1/commands', { command });
        assert.equal(status, 200, JSON.stringify(body));
        return body.stdout;
      };
      assert.match(await run('docker ps'), new RegExp(`:${port}->8080/tcp +blog\n`));
      assert.match(await run('docker logs --tail 1 blog'), /^said second\n$/);
      assert.match(await run('docker images'), /contract\/image:test/);
    });

    test('services in one network reach each other by name, and no other network', async () => {
      const ask = (name: string, networks: string[]) => ({
        name,
        image: IMAGE,
        command: [
          'sh',
          '-c',
          'printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc -w 3 blog 8080; echo end; sleep 1000',
        ],
        networks,
        stop_timeout_ms: 200,
      });
      await call('POST', '', ask('near', ['default']), 201);
      await call('POST', '', ask('far', ['elsewhere']), 201);
      const said = (name: string) =>
        eventually(async () => {
          const { lines } = await call('GET', `/${name}/logs`);
          const words: string[] = lines.map(({ text }: { text: string }) => text);
          return words.includes('end') ? words : undefined;
        }, `the words of ${name}`);
      assert.ok((await said('near')).includes('second'));
      assert.ok(!(await said('far')).includes('second'));
      await call('DELETE', '/near');
      await call('DELETE', '/far');
      const { body: networks } = await docker.api('GET', '/networks');
      const names = networks.map(({ Name }: { Name: string }) => Name);
      assert.ok(names.includes('ohp-default') && !names.includes('ohp-elsewhere'), names.join());
    });

    test('a port that is taken leaves nothing of a creation', async () => {
      const taken = { name: 'second', image: IMAGE, command: ['sleep', '1000'] };
      const before = await containers();
      const ports = [{ container_port: 80, host_port: port }];
      const { status } = await product.api('POST', '/v1/services', { ...taken, ports, networks: ['second'] });
      assert.ok(status >= 409, String(status));
      assert.deepEqual(await containers(), before);
      await call('GET', '/second', undefined, 404);
    });

    test('an image is pulled from its registry, told layer by layer', { skip: withoutRegistry }, async () => {
      const reply = await send(product, {
        method: 'POST',
        path: '/v1/image-pulls',
        token: product.adminToken,
        headers: { accept: 'text/event-stream' },
        body: { image: `${registry?.host}/contract/pulled:1` },
      });
      assert.equal(reply.status, 200, reply.text);
      const complete = reply.text.match(/layer [0-9a-f]{12}: Pull complete/g) ?? [];
      assert.equal(new Set(complete).size, 2, reply.text);
      assert.match(reply.text, /"size_bytes":\d+/);
    });

    test('a service outlives a kill -9 in the middle of a creation only as what the next start undoes', async () => {
      const slow = {
        name: 'slow',
        image: IMAGE,
        command: ['sleep', '1000'],
        health_check: { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 },
        volumes: [{ name: 'slow-data', path: '/data' }],
      };
      const cut = product.api('POST', '/v1/services', slow).catch(() => undefined);
      await eventually(
        async () => ((await containers()).includes('/slow.1 running') ? true : undefined),
        'the container of slow',
      );
      await product.kill();
      await cut;
      product = await product.restart();
      await eventually(
        async () => ((await containers()).includes('/slow.1 running') ? undefined : true),
        'the end of slow',
      );
      await eventually(
        async () => ((await product.api('GET', '/v1/services/slow')).status === 404 ? true : undefined),
        'no record of slow',
      );
      const { body } = await docker.api('GET', '/volumes');
      assert.deepEqual(
        body.Volumes.map(({ Name }: { Name: string }) => Name),
        ['ohp-blog-data'],
      );
      assert.equal(await page(), 'second');
    });

    test('deleting is refused while a proxy leads there; then nothing is left at the engine', async () => {
      const refused = await call('DELETE', '/blog', undefined, 412);
      assert.match(JSON.stringify(refused), /blog\.example\.com/);
      const { body: left } = await product.api('POST', '/v1/services-clean-up', { volumes: true });
      assert.deepEqual(left.found, [], 'what a service has is never left over');
      await product.api('DELETE', `/v1/proxies/${HOST}`);
      await call('DELETE', '/blog?delete_volumes=true');
      assert.deepEqual(await containers(), []);
      const { body } = await docker.api('GET', '/volumes');
      assert.deepEqual(body.Volumes ?? [], []);
    });
  });
