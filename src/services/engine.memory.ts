/**
 * An engine in memory, for tests of what stands above it and for faults that a real one does not have on demand. Passes
 * the same contract suite. A container "runs" when its command has `sleep` in it; else it ends with the number after `exit`, or 0.
 * What it says is what stands after `echo` in its command.
 */
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, on } from 'node:events';
import { AppError } from '../core/errors.ts';
import type { Clock } from '../core/clock.ts';
import type {
  ContainerDriver,
  DriverDetails,
  DriverNetwork,
  DriverVolume,
  LogPlan,
  ThingPlan,
} from './engine.driver.ts';
import type { Cancellable, ContainerPlan, EngineEvent, ImageDetails, LogLine } from './engine.ts';
import { parseImageReference } from './image-reference.ts';

const LAYER_BYTES = 1000;
const KILLED = 137;
const ID_BYTES = 32;
const SUBNET = '10.88.0.';

export interface MemoryEngineOptions {
  clock: Clock;
  /** References that can be pulled. */
  registry?: readonly string[];
  /** References that are here. */
  images?: readonly string[];
  /** Called before each verb; what it throws is what the verb throws. */
  before?: (verb: keyof ContainerDriver, ref: string) => void | Promise<void>;
}

interface Kept {
  details: DriverDetails;
  plan: ContainerPlan;
  lines: LogLine[];
}

interface World {
  clock: Clock;
  containers: Map<string, Kept>;
  images: Map<string, ImageDetails>;
  networks: Map<string, DriverNetwork>;
  volumes: Map<string, DriverVolume>;
  events: EventEmitter;
  past: EngineEvent[];
  addresses: number;
}

type Foreign = Pick<ContainerPlan, 'name' | 'image'> &
  Partial<Pick<ContainerPlan, 'labels' | 'ports' | 'command'>>;

export interface MemoryEngine extends ContainerDriver {
  /** As when its program ends by itself. */
  crash(ref: string, exitCode: number): void;
  /** What its health check found. */
  setHealth(ref: string, health: DriverDetails['health']): void;
  /** As when it was pulled again after its tag was moved. */
  moveTag(reference: string): void;
  /** As when somebody else made it, with another tool. Answers its id. */
  addForeign(container: Foreign): string;
}

export function createMemoryEngine(options: MemoryEngineOptions): MemoryEngine {
  const { clock, registry = [], images = [], before } = options;
  const world: World = {
    clock,
    containers: new Map(),
    images: new Map(images.map((name) => [canonical(name), imageOf(canonical(name), clock)])),
    networks: new Map(),
    volumes: new Map(),
    events: new EventEmitter({ captureRejections: false }).setMaxListeners(0),
    past: [],
    addresses: 1,
  };
  const pullable = new Set(registry.map(canonical));
  const driver: ContainerDriver = {
    ping: async () => ({ connected: true, version: '0.0-memory' }),
    ...containerVerbs(world),
    ...imageVerbs(world, pullable),
    ...thingVerbs(world),
    events: ({ since, signal } = {}) => eventsOf(world, since, signal),
  };
  return {
    ...(before ? intercepted(driver, before) : driver),
    crash: (ref, exitCode) => stop(world, find(world, ref), exitCode),
    setHealth(ref, health) {
      const kept = find(world, ref);
      kept.details.health = health;
      emit(world, kept, `health_status: ${health}`);
    },
    moveTag(reference) {
      const name = canonical(reference);
      world.images.set(name, { ...imageOf(name, clock), id: `sha256:${newId()}` });
    },
    addForeign: (container) => add(world, foreign(container)),
  };
}

function intercepted(
  driver: ContainerDriver,
  before: NonNullable<MemoryEngineOptions['before']>,
): ContainerDriver {
  const wrap = (verb: keyof ContainerDriver) => {
    const run = driver[verb] as (...args: unknown[]) => unknown;
    const refOf = (first: unknown): string =>
      typeof first === 'string'
        ? first
        : typeof first === 'object' && first !== null && 'name' in first
          ? String(first.name)
          : '';
    if (verb === 'logs' || verb === 'pullImage' || verb === 'events')
      return async function* wrapped(...args: unknown[]) {
        await before(verb, refOf(args[0]));
        yield* run(...args) as AsyncIterable<unknown>;
      };
    return async (...args: unknown[]) => {
      await before(verb, refOf(args[0]));
      return run(...args);
    };
  };
  // The same keys with the same signatures: each function is wrapped, none is left out.
  return Object.fromEntries(
    (Object.keys(driver) as (keyof ContainerDriver)[]).map((verb) => [verb, wrap(verb)]),
  ) as unknown as ContainerDriver;
}

type ContainerVerbs = Pick<
  ContainerDriver,
  'list' | 'inspect' | 'create' | 'start' | 'stop' | 'restart' | 'remove' | 'logs' | 'stats'
>;

function containerVerbs(world: World): ContainerVerbs {
  return {
    async list({ all }) {
      const kept = [...world.containers.values()].map(({ details }) => details);
      return structuredClone(kept.filter(({ running }) => all || running));
    },
    inspect: async (ref) => structuredClone(find(world, ref).details),
    async create(plan) {
      if (!world.images.has(plan.image)) throw new AppError('NOT_FOUND', `there is no image ${plan.image}`);
      if (findByName(world, plan.name))
        throw new AppError('CONFLICT', `there is a container ${plan.name} already`);
      return { id: add(world, plan), warnings: [] };
    },
    async start(ref) {
      start(world, find(world, ref));
    },
    async stop(ref) {
      stop(world, find(world, ref), KILLED);
    },
    async restart(ref) {
      const kept = find(world, ref);
      stop(world, kept, KILLED);
      start(world, kept);
    },
    async remove(ref) {
      const kept = find(world, ref);
      stop(world, kept, KILLED);
      world.containers.delete(kept.details.id);
      emit(world, kept, 'destroy');
    },
    logs: (ref, plan) => logsOf(world, ref, plan),
    async stats(ref) {
      const { details } = find(world, ref);
      return {
        time: world.clock.now(),
        cpuNs: 1,
        cpuPercent: 0,
        memoryBytes: 1,
        memoryLimitBytes: details.memoryBytes,
        pids: 1,
        networkInBytes: 0,
        networkOutBytes: 0,
        diskReadBytes: 0,
        diskWriteBytes: 0,
      };
    },
  };
}

type ImageVerbs = Pick<ContainerDriver, 'pullImage' | 'listImages' | 'inspectImage' | 'removeImage'>;

function imageVerbs(world: World, pullable: ReadonlySet<string>): ImageVerbs {
  return {
    async *pullImage(reference, { signal }: Cancellable) {
      if (!pullable.has(reference))
        throw new AppError('NOT_FOUND', `${reference} is not in its registry, or not for everybody`);
      for (const doneBytes of [0, LAYER_BYTES]) {
        if (signal?.aborted === true) return;
        yield { layer: 'layer1', status: 'Downloading', doneBytes, totalBytes: LAYER_BYTES };
      }
      world.images.set(reference, imageOf(reference, world.clock));
      yield { layer: 'layer1', status: 'Pull complete' };
    },
    listImages: async () => structuredClone([...world.images.values()]),
    async inspectImage(reference) {
      const found = world.images.get(canonical(reference));
      if (!found) throw new AppError('NOT_FOUND', `there is no image ${reference}`);
      return structuredClone(found);
    },
    async removeImage(reference) {
      if (!world.images.has(reference)) throw new AppError('NOT_FOUND', `there is no image ${reference}`);
      if ([...world.containers.values()].some(({ details }) => details.image === reference))
        throw new AppError('CONFLICT', `${reference} is used by a container`);
      world.images.delete(reference);
    },
  };
}

type ThingVerbs = Pick<
  ContainerDriver,
  'createNetwork' | 'listNetworks' | 'removeNetwork' | 'createVolume' | 'listVolumes' | 'removeVolume'
>;

function thingVerbs(world: World): ThingVerbs {
  const uses = (of: (plan: ContainerPlan) => boolean) =>
    [...world.containers.values()].some(({ plan }) => of(plan));
  return {
    async createNetwork({ name, labels, internal }: ThingPlan & { internal: boolean }) {
      if (world.networks.has(name)) throw new AppError('CONFLICT', `there is a network ${name} already`);
      const made = { id: newId(), name, driver: 'bridge', internal, labels };
      world.networks.set(name, made);
      return structuredClone(made);
    },
    listNetworks: async () => structuredClone([...world.networks.values()]),
    async removeNetwork(id) {
      const found = [...world.networks.values()].find((network) => network.id === id);
      if (!found) throw new AppError('NOT_FOUND', `there is no network ${id}`);
      if (uses(({ networks }) => networks.includes(found.name)))
        throw new AppError('CONFLICT', `the network ${found.name} is used by a container`);
      world.networks.delete(found.name);
    },
    async createVolume({ name, labels }) {
      const made = world.volumes.get(name) ?? {
        name,
        driver: 'local',
        labels,
        createdAt: world.clock.now(),
      };
      world.volumes.set(name, made);
      return structuredClone(made);
    },
    listVolumes: async () => structuredClone([...world.volumes.values()]),
    async removeVolume(name) {
      if (!world.volumes.has(name)) throw new AppError('NOT_FOUND', `there is no volume ${name}`);
      if (uses(({ mounts }) => mounts.some((mount) => mount.kind === 'volume' && mount.name === name)))
        throw new AppError('CONFLICT', `the volume ${name} is used by a container`);
      world.volumes.delete(name);
    },
  };
}

const newId = (): string => randomBytes(ID_BYTES).toString('hex');
const canonical = (reference: string): string => parseImageReference(reference)?.canonical ?? reference;

function imageOf(reference: string, clock: Clock): ImageDetails {
  return {
    id: `sha256:${createHash('sha256').update(reference).digest('hex')}`,
    references: [reference],
    digests: [],
    sizeBytes: LAYER_BYTES,
    createdAt: clock.now(),
    exposedPorts: [],
    volumes: [],
    entrypoint: [],
    command: ['/bin/sh'],
    environmentNames: ['PATH'],
    hasHealthCheck: false,
    labels: {},
    architecture: 'amd64',
    os: 'linux',
  };
}

function findByName(world: World, ref: string): Kept | undefined {
  return [...world.containers.values()].find(({ details }) => details.names.includes(ref));
}

function find(world: World, ref: string): Kept {
  const found = world.containers.get(ref) ?? findByName(world, ref);
  if (!found) throw new AppError('NOT_FOUND', `there is no container ${ref}`);
  return found;
}

function add(world: World, plan: ContainerPlan): string {
  const id = newId();
  const details: DriverDetails = {
    id,
    names: [plan.name],
    image: plan.image,
    imageId: world.images.get(plan.image)?.id ?? '',
    state: 'created',
    status: 'Created',
    ports: [],
    createdAt: Math.floor(world.clock.now() / 1000) * 1000,
    labels: { ...plan.labels },
    running: false,
    health: 'none',
    exitCode: 0,
    outOfMemory: false,
    restarts: 0,
    environmentNames: Object.keys(plan.environment),
    networks: plan.networks.map((name) => ({ name, aliases: plan.aliases })),
    mounts: [
      ...plan.mounts.map((mount) => ({
        kind: mount.kind,
        source: mount.kind === 'folder' ? mount.source : mount.name,
        target: mount.target,
        readOnly: mount.readOnly,
      })),
      ...plan.temporary.map((target) => ({ kind: 'temporary' as const, target, readOnly: false })),
    ],
    memoryBytes: plan.memoryBytes,
    cpus: plan.cpus,
    pids: plan.pids,
    restart: plan.restart.policy,
    user: plan.user,
    readOnlyRoot: plan.readOnlyRoot,
  };
  const kept = { details, plan, lines: [] };
  world.containers.set(id, kept);
  emit(world, kept, 'create');
  return id;
}

function foreign({ image, ...more }: Foreign): ContainerPlan {
  return {
    image: canonical(image),
    labels: {},
    environment: {},
    ports: [],
    mounts: [],
    temporary: [],
    memoryBytes: 0,
    cpus: 0,
    pids: 0,
    restart: { policy: 'no' },
    networks: [],
    aliases: [],
    readOnlyRoot: false,
    secrets: {},
    addCapabilities: [],
    stopTimeoutMs: 0,
    ...more,
  };
}

function start(world: World, kept: Kept): void {
  const { details, plan } = kept;
  if (details.running) return;
  const command = (plan.command ?? []).join(' ');
  Object.assign(details, {
    running: true,
    state: 'running',
    status: 'Up 1 second',
    startedAt: world.clock.now(),
  });
  details.health = plan.healthCheck && 'command' in plan.healthCheck ? 'starting' : 'none';
  details.networks = plan.networks.map((name) => ({
    name,
    address: `${SUBNET}${++world.addresses}`,
    aliases: plan.aliases,
  }));
  details.ports = plan.ports.map(({ hostPort, ...port }, index) => ({
    ...port,
    hostPort: hostPort === 0 ? 32_768 + index : hostPort,
  }));
  for (const [, text = '', toError] of command.matchAll(/echo (\S+?)(?=;|\s|$)(\s*>&2)?/g))
    kept.lines.push({ stream: toError ? 'stderr' : 'stdout', time: world.clock.now(), text });
  emit(world, kept, 'start');
  world.events.emit(`lines ${details.id}`);
  if (!command.includes('sleep')) stop(world, kept, Number(/exit (\d+)/.exec(command)?.[1] ?? 0));
}

function stop(world: World, kept: Kept, exitCode: number): void {
  const { details } = kept;
  if (!details.running) return;
  Object.assign(details, {
    running: false,
    state: 'exited',
    status: `Exited (${exitCode})`,
    exitCode,
    finishedAt: world.clock.now(),
    ports: [],
    networks: details.networks.map(({ name, aliases }) => ({ name, aliases })),
  });
  emit(world, kept, 'die');
  world.events.emit(`lines ${details.id}`);
}

function emit(world: World, { details }: Kept, action: string): void {
  const event: EngineEvent = {
    time: world.clock.now(),
    kind: 'container',
    action,
    containerId: details.id,
    containerName: details.names[0],
  };
  world.past.push(event);
  world.events.emit('event', event);
}

async function* logsOf(world: World, ref: string, plan: LogPlan): AsyncGenerator<LogLine> {
  const kept = find(world, ref);
  const { tail, since = 0, follow, stdout, stderr, signal } = plan;
  const wanted = ({ stream, time = 0 }: LogLine) => (stream === 'stdout' ? stdout : stderr) && time >= since;
  const first = kept.lines.filter(wanted);
  let told = kept.lines.length;
  yield* tail === undefined ? first : first.slice(first.length - Math.min(tail, first.length));
  while (follow && kept.details.running && signal?.aborted !== true) {
    await next(world.events, `lines ${kept.details.id}`, signal);
    const more = kept.lines.slice(told).filter(wanted);
    told = kept.lines.length;
    yield* more;
  }
}

async function next(events: EventEmitter, name: string, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => resolve();
  events.once(name, done);
  signal?.addEventListener('abort', done, { once: true });
  await promise;
  events.off(name, done);
  signal?.removeEventListener('abort', done);
}

async function* eventsOf(
  world: World,
  since: number | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<EngineEvent> {
  const cancelled = signal ?? new AbortController().signal;
  if (cancelled.aborted) return;
  const live = on(world.events, 'event', { signal: cancelled });
  const past = since === undefined ? [] : world.past.filter(({ time }) => time >= since);
  try {
    yield* past;
    for await (const [event] of live) yield event as EngineEvent;
  } catch (cause) {
    if (!cancelled.aborted) throw cause;
  }
}
