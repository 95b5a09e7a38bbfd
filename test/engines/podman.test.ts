/** A real Podman, which speaks Docker's API: the contract, and services of the running product. */
import assert from 'node:assert/strict';
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
        meanwhile: () => testAddress(() => services),
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

function testAddress(open: () => Services): void {
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
