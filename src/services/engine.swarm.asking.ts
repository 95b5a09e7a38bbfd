/** How a swarm is asked for what there is: for the verbs of `engine.swarm.ts`. */
import type { Clock } from '../core/clock.ts';
import { type Asker, createAsker, type DockerEngineOptions, query } from './engine.docker.ts';
import {
  type FoundService,
  type FoundTask,
  nodesSchema,
  serviceSchema,
  servicesSchema,
  tasksSchema,
} from './engine.swarm.answers.ts';
import { swarmName } from './engine.swarm.request.ts';
import type { Around } from './engine.swarm.shown.ts';
import type { RegistryAuth } from './registry-auth.ts';

export interface Swarm {
  asker: Asker;
  clock: Clock;
  registryAuth: RegistryAuth | undefined;
  services(): Promise<FoundService[]>;
  service(ref: string): Promise<FoundService>;
  /** @param id of a service; absent: of all */
  tasks(id?: string): Promise<FoundTask[]>;
  around(): Promise<Around>;
}

export const servicePath = (ref: string, rest = ''): string =>
  `/services/${encodeURIComponent(swarmName(ref))}${rest}`;

export function createSwarm(options: DockerEngineOptions): Swarm {
  const asker = createAsker(options);
  const tasks = (id?: string) => {
    const filters = JSON.stringify(id === undefined ? {} : { service: [id] });
    return asker.ask(tasksSchema, { method: 'GET', path: query('/tasks', { filters }) });
  };
  return {
    asker,
    clock: options.clock,
    registryAuth: options.registryAuth,
    services: () => asker.ask(servicesSchema, { method: 'GET', path: '/services' }),
    service: (ref) =>
      asker.ask(serviceSchema, { method: 'GET', path: servicePath(ref) }, { what: `container ${ref}` }),
    tasks,
    async around() {
      const [found, nodes] = await Promise.all([
        tasks(),
        asker.ask(nodesSchema, { method: 'GET', path: '/nodes' }),
      ]);
      return { tasks: found, nodes: new Map(nodes.map(({ ID, Status }) => [ID, Status.Addr])) };
    },
  };
}
