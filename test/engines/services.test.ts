/** Services of the running product on a real Docker Engine. */
import assert from 'node:assert/strict';
import test, { after, before, suite } from 'node:test';
import { send } from '../support/callers.ts';
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
import { Services, serviceOperations } from './services.contract.ts';

if (withoutDocker) test('services on a real Docker Engine', { skip: withoutDocker }, () => {});
else
  suite('services on a real Docker Engine', () => {
    let docker: TestEngine;
    let registry: Registry | undefined;
    let services: Services;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      if (!withoutRegistry) {
        registry = await startRegistry();
        await registry.addImage('contract/pulled', '1');
      }
      services = await Services.start(docker, registry && [`${registry.host}/**`]);
    });
    after(async () => {
      await services[Symbol.asyncDispose]();
      await docker[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });
    serviceOperations(() => services, {
      healthChecks: true,
      meanwhile: () => {
        testNetworks(() => services);
        testTakenPort(() => services);
        testPull(
          () => services,
          () => registry,
        );
        testKill(() => services);
      },
    });
  });

function testNetworks(open: () => Services): void {
  test('services in one network reach each other by name, and no other network', async () => {
    const services = open();
    const ask = (name: string, networks: string[]) => ({
      name,
      image: IMAGE,
      command: ['sh', '-c', 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc -w 3 blog 8080; echo end; sleep 1000'],
      networks,
      volumes: [{ name: `${name}-data`, path: '/data' }],
      stop_timeout_ms: 200,
    });
    await services.call('POST', '', ask('near', ['default']), 201);
    await services.call('POST', '', ask('far', ['elsewhere']), 201);
    const said = (name: string) =>
      eventually(async () => {
        const { lines } = await services.call('GET', `/${name}/logs`);
        const words: string[] = lines.map(({ text }: { text: string }) => text);
        return words.includes('end') ? words : undefined;
      }, `the words of ${name}`);
    assert.ok((await said('near')).includes('second'));
    assert.ok(!(await said('far')).includes('second'));
    await services.call('DELETE', '/near?delete_volumes=true');
    await services.call('DELETE', '/far?delete_volumes=true');
    const { body: networks } = await services.engine.api('GET', '/networks');
    const names = networks.map(({ Name }: { Name: string }) => Name);
    assert.ok(names.includes('ohp-default') && !names.includes('ohp-elsewhere'), names.join());
    assert.deepEqual(await services.volumes(), ['ohp-blog-data']);
  });
}

function testTakenPort(open: () => Services): void {
  test('a port that is taken leaves nothing of a creation', async () => {
    const services = open();
    const before = await services.containers();
    const { status } = await services.product.api('POST', '/v1/services', {
      name: 'second',
      image: IMAGE,
      command: ['sleep', '1000'],
      ports: [{ container_port: 80, host_port: services.port }],
      networks: ['second'],
    });
    assert.ok(status >= 409, String(status));
    assert.deepEqual(await services.containers(), before);
    await services.call('GET', '/second', undefined, 404);
  });
}

function testPull(open: () => Services, registry: () => Registry | undefined): void {
  test('an image is pulled from its registry, told layer by layer', { skip: withoutRegistry }, async () => {
    const { product } = open();
    const reply = await send(product, {
      method: 'POST',
      path: '/v1/image-pulls',
      token: product.adminToken,
      headers: { accept: 'text/event-stream' },
      body: { image: `${registry()?.host}/contract/pulled:1` },
    });
    assert.equal(reply.status, 200, reply.text);
    const complete = reply.text.match(/layer [0-9a-f]{12}: Pull complete/g) ?? [];
    assert.equal(new Set(complete).size, 2, reply.text);
    assert.match(reply.text, /"size_bytes":\d+/);
  });
}

function testKill(open: () => Services): void {
  test('a service outlives a kill -9 in the middle of a creation only as what the next start undoes', async () => {
    const services = open();
    const { product } = services;
    const slow = {
      name: 'slow',
      image: IMAGE,
      command: ['sleep', '1000'],
      health_check: { command: ['sh', '-c', 'exit 1'], interval_ms: 100_000 },
      volumes: [{ name: 'slow-data', path: '/data' }],
    };
    const runs = async () => (await services.containers()).includes('/slow.1 running');
    const cut = product.api('POST', '/v1/services', slow).catch(() => undefined);
    await eventually(async () => ((await runs()) ? true : undefined), 'the container of slow');
    await product.kill();
    await cut;
    services.product = await product.restart();
    await eventually(async () => ((await runs()) ? undefined : true), 'the end of slow');
    await eventually(
      async () =>
        (await services.product.api('GET', '/v1/services/slow')).status === 404 ? true : undefined,
      'no record of slow',
    );
    assert.deepEqual(await services.volumes(), ['ohp-blog-data']);
    assert.equal(await services.page(), 'second');
  });
}
