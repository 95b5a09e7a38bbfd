/** A real Podman, which speaks Docker's API: the contract, and services of the running product. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import test, { after, before, suite } from 'node:test';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { engineContract } from '../../src/services/engine.contract.ts';
import { openEngine } from '../../src/services/open-engine.ts';
import {
  IMAGE,
  type Registry,
  startPodman,
  startRegistry,
  type TestEngine,
  withoutPodman,
  withoutRegistry,
} from '../support/docker.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { foreigner, policyOf } from './policy.ts';
import { type Registries, restrictedPulls, startRegistries } from './registries.contract.ts';
import { Services, serviceOperations } from './services.contract.ts';

if (withoutPodman) test('a real Podman', { skip: withoutPodman }, () => {});
else
  suite('a real Podman', () => {
    let podman: TestEngine;
    let registry: Registry | undefined;
    let registries: Registries | undefined;
    before(async () => {
      if (!withoutRegistry) {
        registry = await startRegistry();
        await registry.addImage('contract/pulled', '1');
        registries = await startRegistries(registry);
      }
      podman = await startPodman(
        registry && registries && [registry.host, registries.restricted.host, registries.stranger.host],
      );
      await podman.addImage(IMAGE);
    });
    after(async () => {
      await podman[Symbol.asyncDispose]();
      await registries?.[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });
    // First: the contract leaves what somebody else made.
    suite('services', () => {
      let services: Services;
      before(async () => {
        services = await Services.start(podman);
      });
      after(() => services[Symbol.asyncDispose]());
      // Podman leaves them to timers of systemd.
      serviceOperations(() => services, {
        healthChecks: false,
        meanwhile: () => meanwhile(() => services),
      });
    });
    engineContract('Podman behind the guard', async () => ({
      engine: openEngine(
        { docker: { socket: podman.socket }, policy: policyOf(registry?.host) },
        { clock: systemClock, log: silentLog },
      ),
      image: IMAGE,
      pullable: registry && `${registry.host}/contract/pulled:1`,
      networks: true,
      addForeign: foreigner(podman),
    }));
    restrictedPulls(() => ({ engine: podman, registries }));
  });

function meanwhile(open: () => Services): void {
  test('a service whose health check says nothing is undone, with why that may be', async () => {
    const services = open();
    const health_check = { command: ['sh', '-c', 'exit 1'], interval_ms: 100, start_period_ms: 60_000 };
    const sick = { name: 'sick', image: IMAGE, command: ['sleep', '1000'], health_check };
    const refused = await services.call('POST', '', { ...sick, healthy_within_ms: 500 }, 504);
    assert.match(JSON.stringify(refused), /without systemd Podman runs none\).*nothing of it is left/s);
  });

  test('a guarded port lets in who may connect, cuts off who may not, and is at no other address', async () => {
    const services = open();
    const host_port = await freePort();
    const command = 'echo guarded > /tmp/index.html; httpd -f -p 8080 -h /tmp';
    const port = { container_port: 8080, host_port, host_address: '127.0.0.1', allow_sources: ['127.0.0.1'] };
    const door = { name: 'door', image: IMAGE, command: ['sh', '-c', command], temporary_paths: ['/tmp'] };
    await services.call('POST', '', { ...door, ports: [port], stop_timeout_ms: 200 }, 201);
    const page = async (localAddress: string) => {
      const asking = request({ host: '127.0.0.1', port: host_port, localAddress, agent: false });
      asking.end();
      try {
        const [reply] = await once(asking, 'response');
        return (await text(reply)).trim();
      } catch {
        return 'cut off';
      }
    };
    const answered = async () => ((await page('127.0.0.1')) === 'guarded' ? true : undefined);
    await eventually(answered, 'the page behind the guarded port');
    assert.equal(await page('127.0.0.2'), 'cut off');
    const { container } = await services.call('GET', '/door');
    assert.deepEqual(
      container.ports.map((one: any) => [one.host_address, one.host_port === host_port]),
      [['127.0.0.1', false]],
    );
    await services.call('DELETE', '/door');
    assert.equal(await page('127.0.0.1'), 'cut off');
  });

  test('a service with no port published is reached by its name, at the address of its container', async () => {
    const services = open();
    const command = ['sh', '-c', 'echo inside > /tmp/index.html; httpd -f -p 8080 -h /tmp'];
    const inside = { name: 'inside', image: IMAGE, command, temporary_paths: ['/tmp'], stop_timeout_ms: 200 };
    await services.call('POST', '', inside, 201);
    const hostname = 'inside.example.com';
    await services.product.api('POST', '/v1/proxies', { hostname, target_url: 'service://inside:8080' });
    assert.equal(await services.page(hostname), 'inside');
    await services.product.api('DELETE', `/v1/proxies/${hostname}`);
    await services.call('DELETE', '/inside');
  });
}
