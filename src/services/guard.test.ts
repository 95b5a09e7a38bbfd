import { systemClock } from '../core/clock.ts';
import { engineContract } from './engine.contract.ts';
import { createMemoryEngine } from './engine.memory.ts';
import { guard } from './guard.ts';
import { policySchema } from './policy.ts';

engineContract('engine.memory behind the guard', async () => {
  const image = 'contract/image:test';
  const driver = createMemoryEngine({
    clock: systemClock,
    images: [image],
    registry: ['contract/pulled:1'],
  });
  const policy = policySchema.parse({ images: ['docker.io/contract/*'] });
  return {
    engine: guard(driver, { policy, sockets: [], local: true }),
    image,
    pullable: 'contract/pulled:1',
    networks: true,
    addForeign: async (name) => driver.addForeign({ name, image, labels: { secret: 'canary' } }),
  };
});
