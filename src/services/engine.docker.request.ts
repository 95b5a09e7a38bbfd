/**
 * A plan in Docker's words. Every field that could give a container more than the plan says is written here with its fixed
 * value, so that neither the engine's defaults nor the image decide.
 *
 * @see {@link https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate}
 */
import type { ContainerPlan } from './engine.ts';

export const NS_PER_MS = 1_000_000;
export const NANO_CPUS = 1_000_000_000;
const MS_PER_SECOND = 1000;
export const MIB = 1024 * 1024;
const SHM_BYTES = 64 * MIB;
export const TEMPORARY_MIB = 64;
/** Logs of one container on the disk are this many files of this size at most. */
const LOG_FILES = '3';
const LOG_FILE_SIZE = '10m';

export function createBodyOf(plan: ContainerPlan) {
  const [network] = plan.networks;
  const ports = Object.groupBy(plan.ports, ({ containerPort, protocol }) => `${containerPort}/${protocol}`);
  return {
    Image: plan.image,
    ...(plan.entrypoint && { Entrypoint: plan.entrypoint }),
    ...(plan.command && { Cmd: plan.command }),
    ...(plan.user !== undefined && { User: plan.user }),
    ...(plan.workingFolder !== undefined && { WorkingDir: plan.workingFolder }),
    Env: Object.entries(plan.environment).map(([name, value]) => `${name}=${value}`),
    Labels: plan.labels,
    Tty: false,
    OpenStdin: false,
    StopTimeout: Math.ceil(plan.stopTimeoutMs / MS_PER_SECOND),
    Healthcheck: healthCheckOf(plan.healthCheck),
    ExposedPorts: Object.fromEntries(Object.keys(ports).map((port) => [port, {}])),
    HostConfig: {
      ...FIXED,
      NetworkMode: network ?? 'none',
      PortBindings: Object.fromEntries(
        Object.entries(ports).map(([port, places = []]) => [
          port,
          places.map(({ hostAddress, hostPort }) => ({
            HostIp: hostAddress,
            HostPort: hostPort === 0 ? '' : String(hostPort),
          })),
        ]),
      ),
      RestartPolicy: {
        Name: plan.restart.policy,
        MaximumRetryCount: plan.restart.policy === 'on-failure' ? plan.restart.maxRetries : 0,
      },
      Memory: plan.memoryBytes,
      // With swap: as much as without.
      MemorySwap: plan.memoryBytes,
      NanoCpus: Math.round(plan.cpus * NANO_CPUS),
      PidsLimit: plan.pids,
      ReadonlyRootfs: plan.readOnlyRoot,
      CapAdd: plan.addCapabilities,
      Mounts: plan.mounts.map(mountOf),
      Tmpfs: Object.fromEntries(
        plan.temporary.map((path) => [path, `rw,noexec,nosuid,nodev,size=${TEMPORARY_MIB}m`]),
      ),
    },
    ...(network !== undefined && {
      NetworkingConfig: { EndpointsConfig: { [network]: { Aliases: plan.aliases } } },
    }),
  };
}

export const FIXED = {
  Privileged: false,
  PublishAllPorts: false,
  AutoRemove: false,
  CapDrop: ['ALL'],
  SecurityOpt: ['no-new-privileges:true'],
  IpcMode: 'private',
  PidMode: '',
  UTSMode: '',
  CgroupnsMode: 'private',
  // That of the engine: `host` would leave its user namespace.
  UsernsMode: '',
  ShmSize: SHM_BYTES,
  Binds: [],
  VolumesFrom: [],
  Links: [],
  Devices: [],
  DeviceRequests: [],
  DeviceCgroupRules: [],
  GroupAdd: [],
  Sysctls: {},
  ExtraHosts: [],
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  CgroupParent: '',
  OomKillDisable: false,
  LogConfig: { Type: 'json-file', Config: { 'max-size': LOG_FILE_SIZE, 'max-file': LOG_FILES } },
} as const;

/** `NONE` takes away that of the image, which nobody here asked for. */
export function healthCheckOf(check: ContainerPlan['healthCheck']) {
  if (!check || 'disabled' in check) return { Test: ['NONE'] };
  return {
    Test: ['CMD', ...check.command],
    Interval: check.intervalMs * NS_PER_MS,
    Timeout: check.timeoutMs * NS_PER_MS,
    // Of nothing the engine would take that of the image.
    StartPeriod: Math.max(1, check.startPeriodMs) * NS_PER_MS,
    Retries: check.retries,
  };
}

function mountOf(mount: ContainerPlan['mounts'][number]) {
  const { target, readOnly } = mount;
  return mount.kind === 'folder'
    ? {
        Type: 'bind',
        Source: mount.source,
        Target: target,
        ReadOnly: readOnly,
        BindOptions: { Propagation: 'rprivate' },
      }
    : { Type: 'volume', Source: mount.name, Target: target, ReadOnly: readOnly };
}
