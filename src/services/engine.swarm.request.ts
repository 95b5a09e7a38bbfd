/**
 * A plan in the words of a swarm. As in `engine.docker.request.ts` every field that could give more than the plan says is
 * written with its fixed value. A service of a swarm has no word for privileges, devices, links, IPC and PID of the machine;
 * for new privileges its nodes have to be set (`services.nodes_hardened`).
 *
 * @see {@link https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Service/operation/ServiceCreate}
 */
import { SECOND } from '../core/clock.ts';
import { FIXED, healthCheckOf, MIB, NANO_CPUS, NS_PER_MS, TEMPORARY_MIB } from './engine.docker.request.ts';
import { VERSION_LABEL } from './engine.swarm.answers.ts';
import { scaleSchema } from './engine.schema.ts';
import type { ContainerPlan } from './engine.ts';
import { MANAGED_LABEL } from './policy.ts';

/**
 * How long a part has to stay up before the next is replaced. Also the delay between two: by itself a swarm goes on at once
 * when a part has failed, and only then goes back, with nothing left that serves.
 */
const MONITOR_MS = 2 * SECOND;
const RESTART_DELAY_MS = 2 * SECOND;
/** Readable by the user of the program, whoever it is; the folder is of this container alone. */
const SECRET_MODE = 0o444;

/** Of the service: how many there are to be when it is started, and when what happened. */
export const SCALE_LABEL = 'ohp.scale';

export interface SecretRef {
  id: string;
  name: string;
  file: string;
}

export interface Placed {
  /** With its digest, where it came from a registry: else each node would look for itself. */
  image: string;
  /** By `node.id`, for what only that node has. */
  node: string | undefined;
  secrets: readonly SecretRef[];
  version: string;
  /** That run now; 0 when it is new or stopped. */
  replicas: number;
}

/** No dot may be in a name there. Of `name.generation` no two become one. */
export const swarmName = (name: string): string => name.replaceAll('.', '-');

export function serviceBodyOf(plan: ContainerPlan, placed: Placed) {
  const { placement, update } = plan.scale ?? scaleSchema.parse({});
  const here = placed.node === undefined ? [] : [`node.id==${placed.node}`];
  const change = {
    Parallelism: update.parallelism,
    Order: update.order,
    Monitor: MONITOR_MS * NS_PER_MS,
    MaxFailureRatio: 0,
  };
  return {
    Name: swarmName(plan.name),
    Labels: plan.labels,
    TaskTemplate: {
      Runtime: 'container',
      ContainerSpec: containerOf(plan, placed),
      Resources: {
        Limits: {
          NanoCPUs: Math.round(plan.cpus * NANO_CPUS),
          MemoryBytes: plan.memoryBytes,
          Pids: plan.pids,
        },
        Reservations: {},
      },
      RestartPolicy: restartOf(plan.restart),
      Placement: { Constraints: [...placement, ...here] },
      Networks: plan.networks.map((Target) => ({ Target, Aliases: plan.aliases })),
      LogDriver: { Name: FIXED.LogConfig.Type, Options: FIXED.LogConfig.Config },
      ForceUpdate: 0,
    },
    Mode: { Replicated: { Replicas: placed.replicas } },
    UpdateConfig: {
      ...change,
      Delay: Math.max(update.delayMs, MONITOR_MS) * NS_PER_MS,
      FailureAction: update.onFailure,
    },
    RollbackConfig: { ...change, Delay: 0, FailureAction: 'pause' },
    // By name in turn, and each port at its own node: neither needs the mesh of the swarm.
    EndpointSpec: {
      Mode: 'dnsrr',
      Ports: plan.ports.map(({ containerPort, protocol, hostPort }) => ({
        Protocol: protocol,
        TargetPort: containerPort,
        ...(hostPort > 0 && { PublishedPort: hostPort }),
        PublishMode: 'host',
      })),
    },
  };
}

function containerOf(plan: ContainerPlan, { image, secrets, version }: Placed) {
  return {
    Image: image,
    Labels: { [VERSION_LABEL]: version },
    ...(plan.entrypoint && { Command: plan.entrypoint }),
    ...(plan.command && { Args: plan.command }),
    ...(plan.user !== undefined && { User: plan.user }),
    ...(plan.workingFolder !== undefined && { Dir: plan.workingFolder }),
    Env: Object.entries(plan.environment).map(([name, value]) => `${name}=${value}`),
    TTY: false,
    OpenStdin: false,
    Groups: [],
    Hosts: [],
    DNSConfig: {},
    Sysctls: {},
    Configs: [],
    // Engines before 1.44 do not know it, which is why the nodes are set.
    Privileges: { NoNewPrivileges: true },
    CapabilityDrop: FIXED.CapDrop,
    CapabilityAdd: plan.addCapabilities,
    ReadOnly: plan.readOnlyRoot,
    // Nodes cut it to whole seconds.
    StopGracePeriod: Math.ceil(plan.stopTimeoutMs / SECOND) * SECOND * NS_PER_MS,
    Healthcheck: healthCheckOf(plan.healthCheck),
    Mounts: [...plan.mounts.flatMap((mount) => volumeOf(mount, plan)), ...plan.temporary.map(temporaryOf)],
    Secrets: secrets.map(({ id, name, file }) => ({
      SecretID: id,
      SecretName: name,
      File: { Name: file, UID: '0', GID: '0', Mode: SECRET_MODE },
    })),
  };
}

/** The policy lets no folder through to a swarm. */
function volumeOf(mount: ContainerPlan['mounts'][number], { labels }: ContainerPlan) {
  if (mount.kind === 'folder') return [];
  return [
    {
      Type: 'volume',
      Source: mount.name,
      Target: mount.target,
      ReadOnly: mount.readOnly,
      // Of one that was taken away meanwhile, and is made again with the task.
      VolumeOptions: {
        Labels: { [MANAGED_LABEL]: labels[MANAGED_LABEL] ?? '' },
        DriverConfig: { Name: 'local' },
      },
    },
  ];
}

const temporaryOf = (target: string) => ({
  Type: 'tmpfs',
  Target: target,
  TmpfsOptions: { SizeBytes: TEMPORARY_MIB * MIB },
});

const CONDITIONS = {
  no: 'none',
  always: 'any',
  'unless-stopped': 'any',
  'on-failure': 'on-failure',
} as const;

function restartOf(restart: ContainerPlan['restart']) {
  return {
    Condition: CONDITIONS[restart.policy],
    Delay: RESTART_DELAY_MS * NS_PER_MS,
    MaxAttempts: restart.policy === 'on-failure' ? restart.maxRetries : 0,
  };
}
