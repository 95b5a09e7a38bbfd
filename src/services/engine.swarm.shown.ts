/** A service of a swarm in the words of the port: one container that there may be several of, on several machines. */
import { z } from 'zod';
import type { DriverContainer, DriverDetails } from './engine.driver.ts';
import { NANO_CPUS } from './engine.docker.request.ts';
import { type FoundService, type FoundTask, VERSION_LABEL } from './engine.swarm.answers.ts';
import { SCALE_LABEL } from './engine.swarm.request.ts';

/** Of a task that goes no further. */
const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);
/** That a node could not start: it is tried again, because what was there before may still be going away. */
const MOST_REJECTED = 1;

export interface Around {
  tasks: readonly FoundTask[];
  /** Addresses of nodes by their ids. */
  nodes: ReadonlyMap<string, string>;
}

const scaleLabel = z.object({
  replicas: z.int(),
  startedAt: z.number().optional(),
  /** Started, or another version: what ended before says nothing of it. */
  changedAt: z.number().optional(),
  finishedAt: z.number().optional(),
});
export type ScaleLabel = z.output<typeof scaleLabel>;

/** What this driver wrote down at the service; of others what there is now. */
export function scaleOf(labels: Readonly<Record<string, string>>, now: number): ScaleLabel {
  try {
    return scaleLabel.parse(JSON.parse(labels[SCALE_LABEL] ?? ''));
  } catch {
    return { replicas: Math.max(1, now) }; // Somebody else made it.
  }
}

const versionOf = (labels: Readonly<Record<string, string>> | undefined): string | undefined =>
  labels?.[VERSION_LABEL];

export interface Situation {
  /** To be there now: 0 when it is stopped. */
  wanted: number;
  /** Of the version that is wanted, the newest first. */
  current: readonly FoundTask[];
  /** Of the version that failed, once the swarm goes back from it; else of the one that is wanted. */
  told: readonly FoundTask[];
  /** That run, of any version. */
  serving: readonly FoundTask[];
  /** How often one of them ended when it should not, since it was changed. */
  failures: number;
  /** Nobody has to wait for more: each is there, or will not be. */
  settled: boolean;
}

export function situationOf(service: FoundService, { tasks }: Pick<Around, 'tasks'>): Situation {
  const wanted = service.Spec.Mode.Replicated?.Replicas ?? 0;
  const version = versionOf(service.Spec.TaskTemplate.ContainerSpec?.Labels);
  const mine = tasks
    .filter(({ ServiceID }) => ServiceID === service.ID)
    .sort((a, b) => (b.CreatedAt ?? 0) - (a.CreatedAt ?? 0));
  const current = mine.filter(({ Spec }) => versionOf(Spec.ContainerSpec?.Labels) === version);
  const up = current.filter(isServing).length;
  const { changedAt = 0 } = scaleOf(service.Spec.Labels, wanted);
  const young = current.filter(({ CreatedAt = 0 }) => CreatedAt >= changedAt);
  const count = (state: string) => young.filter(({ Status }) => Status.State === state).length;
  const rejected = count('rejected');
  const failures = count('failed') + (rejected > MOST_REJECTED ? rejected : 0);
  const stuck = current.some(({ Status }) => Status.State === 'pending' && Status.Err !== undefined);
  // Whether its check is content is for who asks to wait for.
  const ended = count('complete');
  return {
    wanted,
    current,
    told: service.UpdateStatus?.State?.startsWith('rollback') ? mine : current,
    serving: mine.filter(isServing),
    failures,
    settled:
      up + (hasCheck(service) ? count('starting') : 0) >= wanted ||
      stuck ||
      failures > 0 ||
      (ended > 0 && up + ended >= wanted),
  };
}

export const isServing = ({ Status, DesiredState }: FoundTask): boolean =>
  Status.State === 'running' && DesiredState === 'running';
export const hasEnded = ({ Status }: FoundTask): boolean => ENDED.has(Status.State);

export function containerOf(service: FoundService, around: Around): DriverContainer {
  const { ID: id, Spec: spec, CreatedAt } = service;
  const situation = situationOf(service, around);
  const { [SCALE_LABEL]: _scale, ...labels } = spec.Labels;
  const state = stateOf(service, situation);
  return {
    id,
    names: [spec.Name],
    image: spec.TaskTemplate.ContainerSpec?.Image ?? '',
    // Labels of images do not become those of a service, so that it does not matter which it is.
    imageId: '',
    state,
    status: situation.wanted === 0 ? state : `${situation.serving.length} of ${situation.wanted} run`,
    createdAt: wholeSecond(CreatedAt ?? 0),
    labels,
    ports: portsOf(service, situation, around),
    replicas: { wanted: situation.wanted, running: situation.serving.length },
  };
}

const SECOND_MS = 1000;
const wholeSecond = (time: number): number => Math.floor(time / SECOND_MS) * SECOND_MS;

function isRunning({ wanted, current, serving }: Situation): boolean {
  if (wanted === 0) return false;
  return serving.length > 0 || current.length === 0 || current.some((task) => !hasEnded(task));
}

function stateOf(service: FoundService, situation: Situation): string {
  if (situation.serving.length > 0 && situation.wanted > 0) return 'running';
  if (isRunning(situation)) return 'restarting';
  return scaleOf(service.Spec.Labels, 0).startedAt === undefined ? 'created' : 'exited';
}

/** Those of each task that runs, at the node where it runs: whom requests can be led to. */
function portsOf(
  { Spec }: FoundService,
  { serving }: Situation,
  { nodes }: Around,
): DriverContainer['ports'] {
  const declared = Spec.EndpointSpec?.Ports ?? [];
  if (serving.length === 0)
    return declared.map(({ TargetPort, Protocol }) => ({ containerPort: TargetPort, protocol: Protocol }));
  return serving.flatMap(({ NodeID, Status }) => {
    const hostAddress = nodes.get(NodeID);
    if (!hostAddress) return [];
    const found = Status.PortStatus?.Ports ?? [];
    return declared.flatMap(({ TargetPort, Protocol }) => {
      // Told once for IPv4 and then for IPv6, which older engines give two numbers.
      const same = found.filter((port) => port.TargetPort === TargetPort && port.Protocol === Protocol);
      const hostPort = (hostAddress.includes(':') ? same.at(-1) : same[0])?.PublishedPort ?? undefined;
      return hostPort === undefined
        ? []
        : [{ containerPort: TargetPort, protocol: Protocol, hostAddress, hostPort }];
    });
  });
}

const RESTARTS: Readonly<Record<string, string>> = { none: 'no', any: 'always' };
const ROLLS: Readonly<Record<string, DriverDetails['roll']>> = {
  updating: 'running',
  rollback_started: 'running',
  completed: 'done',
  paused: 'paused',
  rollback_paused: 'paused',
  rollback_completed: 'rolled-back',
};

export function detailsOf(
  service: FoundService,
  around: Around,
  networks: ReadonlyMap<string, string>,
): DriverDetails {
  const { TaskTemplate: template } = service.Spec;
  const situation = situationOf(service, around);
  return {
    ...containerOf(service, around),
    running: isRunning(situation),
    ...stateDetails(service, situation),
    outOfMemory: false,
    restarts: situation.failures,
    // Addresses in networks of a swarm are reached from inside only.
    networks: template.Networks.map(({ Target, Aliases }) => ({
      name: networks.get(Target) ?? Target,
      aliases: Aliases,
    })),
    ...givenTo(template),
    roll: ROLLS[service.UpdateStatus?.State ?? ''],
  };
}

function givenTo({ ContainerSpec: spec, Resources, RestartPolicy }: FoundService['Spec']['TaskTemplate']) {
  const condition = RestartPolicy?.Condition ?? 'any';
  const { MemoryBytes: memoryBytes, NanoCPUs: nanoCpus, Pids: pids } = Resources?.Limits ?? {};
  return {
    environmentNames: (spec?.Env ?? []).map((entry) => entry.split('=', 1)[0] ?? ''),
    mounts: (spec?.Mounts ?? []).map(mountOf),
    memoryBytes,
    cpus: nanoCpus === undefined ? undefined : nanoCpus / NANO_CPUS,
    pids,
    restart: RESTARTS[condition] ?? condition,
    user: spec?.User,
    readOnlyRoot: spec?.ReadOnly === true,
  };
}

function stateDetails(service: FoundService, situation: Situation) {
  const { current, told, serving, wanted } = situation;
  const { startedAt, finishedAt } = scaleOf(service.Spec.Labels, wanted);
  const last = current.find(hasEnded);
  const { Err: why, ContainerStatus } =
    (told.find(({ Status }) => Status.Err !== undefined) ?? last)?.Status ?? {};
  const ended = serving.length === 0 ? (last?.Status.Timestamp ?? finishedAt) : undefined;
  return {
    health: healthOf(service, situation),
    healthOutput: why,
    fault: why,
    startedAt: serving[0]?.Status.Timestamp ?? startedAt,
    finishedAt: wanted === 0 ? (finishedAt ?? ended) : ended,
    exitCode: ContainerStatus?.ExitCode ?? 0,
  };
}

/** A swarm calls a task running once its check says so. */
function healthOf(service: FoundService, situation: Situation): DriverDetails['health'] {
  const { wanted, current } = situation;
  const up = current.filter(isServing).length;
  if (wanted > 0 && (up < wanted || ROLLS[service.UpdateStatus?.State ?? ''] === 'running'))
    return 'starting';
  return hasCheck(service) ? 'healthy' : 'none';
}

function hasCheck({ Spec }: FoundService): boolean {
  const test = Spec.TaskTemplate.ContainerSpec?.Healthcheck?.Test ?? [];
  return test.length > 0 && test[0] !== 'NONE';
}

const mountKinds: Readonly<Record<string, DriverDetails['mounts'][number]['kind']>> = {
  bind: 'folder',
  volume: 'volume',
  tmpfs: 'temporary',
};

const mountOf = (mount: {
  Type: string;
  Source: string | undefined;
  Target: string;
  ReadOnly?: boolean | null | undefined;
}): DriverDetails['mounts'][number] => ({
  kind: mountKinds[mount.Type] ?? 'other',
  ...(mount.Source !== undefined && { source: mount.Source }),
  target: mount.Target,
  readOnly: mount.ReadOnly === true,
});
