/**
 * The engine of this installation: what the policy lets through to Docker, in this process or by the broker's socket, which
 * then has a policy of its own. Loaded when it is first asked for: a start needs nothing of it.
 */
import type { Clock } from '../core/clock.ts';
import { lazy } from '../core/lazy.ts';
import type { Log } from '../core/record.ts';
import type { ContainerEngine } from './engine.ts';
import type { Policy } from './policy.ts';

export interface EngineSettings {
  /** Where Docker is; asked by who has no broker, and by the broker. */
  docker: { socket: string };
  policy: Policy;
}

export interface EngineParts {
  clock: Clock;
  log: Log;
}

export function openEngine(settings: EngineSettings, parts: EngineParts): ContainerEngine {
  return whenAsked(async () => localEngine(settings, parts));
}

/** With the engine's socket in this very process. */
async function localEngine(settings: EngineSettings, parts: EngineParts): Promise<ContainerEngine> {
  const { createDockerDriver } = await import('./engine.docker.ts');
  const { guard } = await import('./guard.ts');
  const { docker, policy } = settings;
  const driver = createDockerDriver({ target: { socket: docker.socket }, ...parts });
  return guard(driver, { policy, sockets: [docker.socket], local: true });
}

function whenAsked(open: () => Promise<ContainerEngine>): ContainerEngine {
  const engine = lazy(open);
  return {
    ping: async () => (await engine()).ping(),
    list: async (options) => (await engine()).list(options),
    inspect: async (ref) => (await engine()).inspect(ref),
    create: async (spec) => (await engine()).create(spec),
    start: async (ref) => (await engine()).start(ref),
    stop: async (ref, options) => (await engine()).stop(ref, options),
    restart: async (ref, options) => (await engine()).restart(ref, options),
    remove: async (ref, options) => (await engine()).remove(ref, options),
    async *logs(ref, options) {
      yield* (await engine()).logs(ref, options);
    },
    stats: async (ref) => (await engine()).stats(ref),
    async *pullImage(reference, options) {
      yield* (await engine()).pullImage(reference, options);
    },
    listImages: async () => (await engine()).listImages(),
    inspectImage: async (reference) => (await engine()).inspectImage(reference),
    removeImage: async (reference) => (await engine()).removeImage(reference),
    createNetwork: async (spec) => (await engine()).createNetwork(spec),
    listNetworks: async () => (await engine()).listNetworks(),
    removeNetwork: async (ref) => (await engine()).removeNetwork(ref),
    createVolume: async (spec) => (await engine()).createVolume(spec),
    listVolumes: async () => (await engine()).listVolumes(),
    removeVolume: async (name) => (await engine()).removeVolume(name),
    async *events(options) {
      yield* (await engine()).events(options);
    },
  };
}
