/** The contract on a real Podman, which speaks Docker's API. */
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

if (withoutPodman) test('a real Podman', { skip: withoutPodman }, () => {});
else
  suite('a real Podman', () => {
    let podman: TestEngine;
    let registry: Registry | undefined;
    before(async () => {
      if (!withoutRegistry) {
        registry = await startRegistry();
        await registry.addImage('contract/pulled', '1');
      }
      podman = await startPodman({ ...(registry && { insecureRegistry: registry.host }) });
      await podman.addImage(IMAGE);
    });
    after(async () => {
      await podman[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
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
  });
