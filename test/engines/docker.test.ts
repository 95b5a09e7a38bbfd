/** The contract on a real Docker Engine. */
import test, { after, before, suite } from 'node:test';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { engineContract } from '../../src/services/engine.contract.ts';
import { openEngine } from '../../src/services/open-engine.ts';
import {
  IMAGE,
  type Registry,
  startDocker,
  startRegistry,
  type TestEngine,
  withoutDocker,
  withoutRegistry,
} from '../support/docker.ts';
import { foreigner, policyOf } from './policy.ts';

if (withoutDocker) test('a real Docker Engine', { skip: withoutDocker }, () => {});
else
  suite('a real Docker Engine', () => {
    let docker: TestEngine;
    let registry: Registry | undefined;
    before(async () => {
      docker = await startDocker();
      await docker.addImage(IMAGE);
      if (withoutRegistry) return;
      registry = await startRegistry();
      await registry.addImage('contract/pulled', '1');
    });
    after(async () => {
      await docker[Symbol.asyncDispose]();
      await registry?.[Symbol.asyncDispose]();
    });
    engineContract('Docker behind the guard', async () => ({
      engine: openEngine(
        { docker: { socket: docker.socket }, policy: policyOf(registry?.host) },
        { clock: systemClock, log: silentLog },
      ),
      image: IMAGE,
      pullable: registry && `${registry.host}/contract/pulled:1`,
      networks: true,
      addForeign: foreigner(docker),
    }));
  });
