/**
 * The engine of this installation: what the policy lets through to Docker, in this process or by the broker's socket, which
 * then has a policy of its own. Loaded when it is first asked for: a start needs nothing of it.
 */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { lazy } from '../core/lazy.ts';
import type { Log } from '../core/record.ts';
import type { DockerEngineOptions } from './engine.docker.ts';
import type { ContainerDriver } from './engine.driver.ts';
import type { ContainerEngine } from './engine.ts';
import type { Policy } from './policy.ts';
import type { WireTarget } from './wire.ts';

export interface EngineSettings {
  docker: {
    socket: string;
    /** In its place: `name:port`, with PEM files. */
    host?: string | undefined;
    ca_file?: string | undefined;
    cert_file?: string | undefined;
    key_file?: string | undefined;
  };
  /** With a socket everything is asked there, and the rest counts in the settings of the broker only. */
  broker?: { socket?: string | undefined };
  policy: Policy;
  /** Sockets besides the engine's that no container may get to: the broker's own. */
  further?: readonly string[];
}

export interface EngineParts {
  clock: Clock;
  log: Log;
}

export function openEngine(settings: EngineSettings, parts: EngineParts): ContainerEngine {
  const socket = settings.broker?.socket;
  return whenAsked(() => (socket === undefined ? localEngine(settings, parts) : brokerEngine(socket, parts)));
}

async function brokerEngine(socket: string, parts: EngineParts): Promise<ContainerEngine> {
  const { createBrokerEngine } = await import('./engine.broker.ts');
  return createBrokerEngine({ socket, ...parts });
}

/** With the power over the engine in this very process. */
async function localEngine(settings: EngineSettings, parts: EngineParts): Promise<ContainerEngine> {
  const { guard } = await import('./guard.ts');
  const { createRegistryAuth } = await import('./registry-auth.ts');
  const { docker, policy, further = [] } = settings;
  const target = targetOf(docker);
  return guard(await driverOf(policy, { target, registryAuth: createRegistryAuth(policy), ...parts }), {
    policy,
    sockets: [docker.socket, ...further],
    // Folders are looked at in this machine's own tree: at a loopback address a tunnel may lead to another's.
    local: 'socket' in target,
  });
}

async function driverOf(
  { orchestrator, installation }: Policy,
  options: DockerEngineOptions,
): Promise<ContainerDriver> {
  if (orchestrator === 'swarm')
    return (await import('./engine.swarm.ts')).createSwarmDriver({ ...options, installation });
  return (await import('./engine.docker.ts')).createDockerDriver(options);
}

function targetOf({ socket, host, ...files }: EngineSettings['docker']): WireTarget {
  const { ca_file: ca, cert_file: cert, key_file: key } = files;
  if (host === undefined || ca === undefined || cert === undefined || key === undefined) return { socket };
  const colon = host.lastIndexOf(':');
  return {
    host: host.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(host.slice(colon + 1)),
    credentials: async () => ({
      ca: await pemOf('ca_file', ca),
      cert: await pemOf('cert_file', cert),
      key: await pemOf('key_file', key),
    }),
  };
}

async function pemOf(setting: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AppError('UNAVAILABLE', `docker: ${setting} can't be read: ${messageOf(cause)}`, { cause });
  }
}

function whenAsked(open: () => Promise<ContainerEngine>): ContainerEngine {
  const engine = lazy(open);
  return {
    ping: async () => (await engine()).ping(),
    list: async (options) => (await engine()).list(options),
    inspect: async (ref) => (await engine()).inspect(ref),
    check: async (spec) => (await engine()).check(spec),
    create: async (spec) => (await engine()).create(spec),
    roll: async (ref, spec) => (await engine()).roll(ref, spec),
    rollBack: async (ref, labels) => (await engine()).rollBack(ref, labels),
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
