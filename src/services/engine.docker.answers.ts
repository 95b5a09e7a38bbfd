/** What Docker and Podman answer, checked, and in words of ours. What is not named here does not get further. */
import { z } from 'zod';
import { SECOND } from '../core/clock.ts';
import {
  filled,
  imageIdOf,
  keys,
  labels,
  moment,
  number,
  strings,
  unlessZero,
} from './engine.docker.forms.ts';
import type { DriverContainer, DriverDetails } from './engine.driver.ts';
import type { ContainerStats } from './engine.ts';

const NANO_CPUS = 1_000_000_000;
const PERCENT = 100;

export const versionSchema = z.object({ Version: z.string() });

export const containersSchema = z.array(
  z
    .object({
      Id: z.string(),
      Names: strings,
      Image: z.string(),
      ImageID: z.string().default(''),
      State: z.string(),
      Status: z.string(),
      Created: z.number(),
      Labels: labels,
      Ports: z
        .array(
          z.object({
            IP: z.string().optional(),
            PrivatePort: z.int(),
            PublicPort: z.int().optional(),
            Type: z.string(),
          }),
        )
        .nullish(),
    })
    .transform(
      (found): DriverContainer => ({
        id: found.Id,
        names: found.Names.map(withoutSlash),
        image: found.Image,
        imageId: imageIdOf(found.ImageID),
        state: found.State,
        status: found.Status,
        createdAt: found.Created * SECOND,
        labels: found.Labels,
        ports: (found.Ports ?? []).map((port) => ({
          containerPort: port.PrivatePort,
          protocol: port.Type,
          hostAddress: port.IP,
          hostPort: port.PublicPort,
        })),
      }),
    ),
);

const withoutSlash = (name: string): string => name.replace(/^\//, '');

const network = z.object({
  IPAddress: filled,
  GlobalIPv6Address: filled,
  Aliases: strings,
});
const binding = z.object({ HostIp: z.string().nullish(), HostPort: z.string().nullish() });

export const detailsSchema = z
  .object({
    Id: z.string(),
    Name: z.string(),
    Created: moment,
    Image: z.string(),
    RestartCount: number,
    State: z.object({
      Status: z.string(),
      Running: z.boolean(),
      ExitCode: number,
      Error: filled,
      OOMKilled: z.boolean().nullish(),
      StartedAt: moment,
      FinishedAt: moment,
      Health: z
        .object({
          Status: z.string().nullish(),
          Log: z.array(z.object({ Output: z.string().nullish() })).nullish(),
        })
        .nullish(),
    }),
    Config: z.object({
      Image: z.string(),
      Env: strings,
      Labels: labels,
      User: filled,
      Tty: z.boolean().nullish(),
    }),
    HostConfig: z.object({
      Memory: unlessZero,
      NanoCpus: unlessZero,
      PidsLimit: unlessZero,
      ReadonlyRootfs: z.boolean().nullish(),
      RestartPolicy: z.object({ Name: z.string().nullish() }).nullish(),
      Tmpfs: keys,
    }),
    NetworkSettings: z.object({
      Networks: z.record(z.string(), network).nullish(),
      Ports: z.record(z.string(), z.array(binding).nullish()).nullish(),
    }),
    Mounts: z
      .array(
        z.object({
          Type: z.string().nullish(),
          Name: z.string().nullish(),
          Source: z.string().nullish(),
          Destination: z.string(),
          RW: z.boolean(),
        }),
      )
      .nullish(),
  })
  .transform((found) => ({ details: detailsOf(found), tty: found.Config.Tty === true }));

interface FoundState {
  Status: string;
  Running: boolean;
  Health?:
    | {
        Status?: string | null | undefined;
        Log?: { Output?: string | null | undefined }[] | null | undefined;
      }
    | null
    | undefined;
}

function healthOf({ Health: health }: FoundState): Pick<DriverDetails, 'health' | 'healthOutput'> {
  const status = health?.Status;
  const output = health?.Log?.at(-1)?.Output;
  return {
    health: status === 'starting' || status === 'healthy' || status === 'unhealthy' ? status : 'none',
    ...(output && { healthOutput: output }),
  };
}

interface FoundDetails {
  Id: string;
  Name: string;
  Created: number | undefined;
  Image: string;
  RestartCount: number;
  State: FoundState & {
    ExitCode: number;
    Error: string | undefined;
    OOMKilled?: boolean | null | undefined;
    StartedAt: number | undefined;
    FinishedAt: number | undefined;
  };
  Config: { Image: string; Env: string[]; Labels: Record<string, string>; User: string | undefined };
  HostConfig: {
    Memory: number | undefined;
    NanoCpus: number | undefined;
    PidsLimit: number | undefined;
    ReadonlyRootfs?: boolean | null | undefined;
    RestartPolicy?: { Name?: string | null | undefined } | null | undefined;
    Tmpfs: string[];
  };
  NetworkSettings: {
    Networks?: Record<string, z.output<typeof network>> | null | undefined;
    Ports?: Record<string, z.output<typeof binding>[] | null | undefined> | null | undefined;
  };
  Mounts?: FoundMount[] | null | undefined;
}

interface FoundMount {
  Type?: string | null | undefined;
  Name?: string | null | undefined;
  Source?: string | null | undefined;
  Destination: string;
  RW: boolean;
}

function detailsOf(found: FoundDetails): DriverDetails {
  const { State: state, Config: config, HostConfig: host, NetworkSettings: networks } = found;
  return {
    id: found.Id,
    names: [withoutSlash(found.Name)],
    image: config.Image,
    imageId: imageIdOf(found.Image),
    state: state.Status,
    status: state.Status,
    createdAt: found.Created ?? 0,
    labels: config.Labels,
    ports: portsOf(networks.Ports ?? {}),
    running: state.Running,
    ...healthOf(state),
    startedAt: state.StartedAt,
    finishedAt: state.FinishedAt,
    exitCode: state.ExitCode,
    fault: state.Error,
    outOfMemory: state.OOMKilled === true,
    restarts: found.RestartCount,
    environmentNames: config.Env.map((entry) => entry.split('=', 1)[0] ?? ''),
    networks: Object.entries(networks.Networks ?? {}).map(([name, one]) => ({
      name,
      address: one.IPAddress,
      address6: one.GlobalIPv6Address,
      aliases: one.Aliases,
    })),
    mounts: [...(found.Mounts ?? []).map(mountOf), ...temporaryOf(host.Tmpfs, found.Mounts ?? [])],
    memoryBytes: host.Memory,
    cpus: host.NanoCpus === undefined ? undefined : host.NanoCpus / NANO_CPUS,
    pids: host.PidsLimit,
    restart: host.RestartPolicy?.Name || 'no',
    user: config.User,
    readOnlyRoot: host.ReadonlyRootfs === true,
  };
}

function portsOf(
  ports: Record<string, z.output<typeof binding>[] | null | undefined>,
): DriverDetails['ports'] {
  return Object.entries(ports).flatMap(([key, bindings]) => {
    const [containerPort = '', protocol = 'tcp'] = key.split('/');
    const port = { containerPort: Number(containerPort), protocol };
    if (!bindings || bindings.length === 0) return [port];
    return bindings.map(({ HostIp: hostAddress, HostPort: hostPort }) => ({
      ...port,
      ...(hostAddress && { hostAddress }),
      ...(hostPort && { hostPort: Number(hostPort) }),
    }));
  });
}

const mountKinds = { bind: 'folder', volume: 'volume', tmpfs: 'temporary' } as const;

function mountOf(found: FoundMount): DriverDetails['mounts'][number] {
  const type = found.Type ?? '';
  const kind = Object.hasOwn(mountKinds, type) ? mountKinds[type as keyof typeof mountKinds] : 'other';
  const source = kind === 'volume' ? found.Name : found.Source;
  return { kind, ...(source && { source }), target: found.Destination, readOnly: !found.RW };
}

const temporaryOf = (paths: readonly string[], mounts: readonly FoundMount[]): DriverDetails['mounts'] =>
  paths
    .filter((path) => !mounts.some(({ Destination }) => Destination === path))
    .map((target) => ({ kind: 'temporary', target, readOnly: false }));

export const createdSchema = z
  .object({ Id: z.string(), Warnings: strings })
  .transform(({ Id: id, Warnings: warnings }) => ({ id, warnings }));

const traffic = z.object({ rx_bytes: number, tx_bytes: number });
const cpu = z.object({
  cpu_usage: z.object({ total_usage: number }).nullish(),
  system_cpu_usage: number,
  online_cpus: number,
});
const EMPTY_CPU: z.output<typeof cpu> = {
  cpu_usage: { total_usage: 0 },
  system_cpu_usage: 0,
  online_cpus: 1,
};

export const statsSchema = z
  .object({
    read: moment,
    cpu_stats: cpu,
    precpu_stats: cpu.nullish(),
    memory_stats: z.object({
      usage: number,
      limit: unlessZero,
      stats: z.record(z.string(), z.unknown()).nullish(),
    }),
    pids_stats: z.object({ current: number }).nullish(),
    networks: z.record(z.string(), traffic).nullish(),
    blkio_stats: z
      .object({
        io_service_bytes_recursive: z.array(z.object({ op: z.string(), value: number })).nullish(),
      })
      .nullish(),
  })
  .transform((found): ContainerStats => {
    const sum = (key: keyof z.output<typeof traffic>) =>
      Object.values(found.networks ?? {}).reduce((total, one) => total + one[key], 0);
    const disk = (wanted: string) =>
      (found.blkio_stats?.io_service_bytes_recursive ?? [])
        .filter(({ op }) => op.toLowerCase() === wanted)
        .reduce((total, { value }) => total + value, 0);
    return {
      time: found.read ?? 0,
      cpuNs: found.cpu_stats.cpu_usage?.total_usage ?? 0,
      cpuPercent: cpuPercentOf(found.cpu_stats, found.precpu_stats ?? EMPTY_CPU),
      memoryBytes: Math.max(0, found.memory_stats.usage - cacheIn(found.memory_stats.stats ?? {})),
      memoryLimitBytes: found.memory_stats.limit,
      pids: found.pids_stats?.current ?? 0,
      networkInBytes: sum('rx_bytes'),
      networkOutBytes: sum('tx_bytes'),
      diskReadBytes: disk('read'),
      diskWriteBytes: disk('write'),
    };
  });

/** Of one core: 200 is two of them. */
function cpuPercentOf(now: z.output<typeof cpu>, before: z.output<typeof cpu>): number {
  const used = (now.cpu_usage?.total_usage ?? 0) - (before.cpu_usage?.total_usage ?? 0);
  const passed = now.system_cpu_usage - before.system_cpu_usage;
  return passed > 0 && used > 0 ? (used / passed) * Math.max(1, now.online_cpus) * PERCENT : 0;
}

/** What the kernel would give back at once, as `docker stats` leaves it out. */
function cacheIn(stats: Readonly<Record<string, unknown>>): number {
  const found = stats.total_inactive_file ?? stats.inactive_file;
  return typeof found === 'number' ? found : 0;
}
