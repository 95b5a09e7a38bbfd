/** What is asked of the engine for a service. What is made there carries the service's id, by which it is found again. */
import type { Container, ContainerSpec } from './engine.ts';
import { INNER_ADDRESS, isGuarded } from './guarded.ts';
import type { ServiceRecord } from './record.ts';
import type { KeptPort, ServiceSettings } from './schema.ts';

export const SERVICE_LABEL = 'service';
export const GENERATION_LABEL = 'generation';
/** On networks and volumes that were made for services. */
export const forServices = { for: 'services' } as const;

export const isForServices = ({ managed, labels }: Pick<Container, 'managed' | 'labels'>): boolean =>
  managed && labels.for === forServices.for;

export interface Naming {
  /** Of `services.installation`. */
  installation: string;
  /** Networks and volumes of others, which keep their names. */
  adopted: ReadonlySet<string>;
}

/** Of a network or volume, at the engine. */
export const engineName = ({ installation, adopted }: Naming, name: string): string =>
  adopted.has(name) ? name : `${installation}-${name}`;

/** The name of a service has no dot: no two can mean the same container. */
const containerName = ({ name, generation }: ServiceRecord): string => `${name}.${generation}`;

export const isOf = ({ id }: ServiceRecord, { managed, labels }: Container): boolean =>
  managed && labels[SERVICE_LABEL] === id;

export const isCurrent = ({ generation }: ServiceRecord, { labels }: Container): boolean =>
  labels[GENERATION_LABEL] === String(generation);

/** Of its container. */
export const labelsOf = ({ id, generation }: ServiceRecord): Record<string, string> => ({
  [SERVICE_LABEL]: id,
  [GENERATION_LABEL]: String(generation),
});

/** @param environment with the values of secrets in it */
export function specOf(
  record: ServiceRecord,
  naming: Naming,
  environment: Readonly<Record<string, string>>,
): ContainerSpec {
  const { name, settings } = record;
  const { image, entrypoint, command, cpus, pids, user } = settings;
  return {
    name: containerName(record),
    image,
    entrypoint,
    command,
    environment: { ...environment },
    cpus,
    pids,
    user,
    labels: labelsOf(record),
    ports: settings.ports.map(publishedAt),
    mounts: settings.volumes.map((volume) => mountOf(volume, naming)),
    temporary: settings.temporary_paths,
    memoryBytes: settings.memory_bytes,
    restart: restartOf(settings.restart),
    healthCheck: settings.health_check && checkOf(settings.health_check),
    networks: settings.networks.map((network) => engineName(naming, network)),
    aliases: settings.networks.length > 0 ? [name] : [],
    workingFolder: settings.working_directory,
    readOnlyRoot: settings.read_only_root,
    addCapabilities: settings.capabilities,
    stopTimeoutMs: settings.stop_timeout_ms,
    scale: scaleOf(settings),
    secrets: settings.secret_files ?? {},
  };
}

/** Only where something of it is asked for: an engine of one machine refuses it. */
function scaleOf({ replicas, placement, rolling_update: update }: ServiceSettings): ContainerSpec['scale'] {
  if (replicas === undefined && placement === undefined && update === undefined) return undefined;
  return {
    replicas,
    placement,
    update: update && {
      parallelism: update.parallelism,
      delayMs: update.delay_ms,
      order: update.order,
      onFailure: update.on_failure,
    },
  };
}

/** A guarded one never anywhere else, with a number or without: a policy or an engine that can't do that refuses it. */
function publishedAt(port: KeptPort): NonNullable<ContainerSpec['ports']>[number] {
  const { container_port: containerPort, protocol, inner_port = 0 } = port;
  return isGuarded(port)
    ? { containerPort, protocol, hostAddress: INNER_ADDRESS, hostPort: inner_port }
    : { containerPort, protocol, hostAddress: port.host_address, hostPort: port.host_port };
}

function mountOf(
  { name, folder, path, read_only }: ServiceSettings['volumes'][number],
  naming: Naming,
): NonNullable<ContainerSpec['mounts']>[number] {
  const where = { target: path, readOnly: read_only };
  // The schema takes one of the two.
  return folder === undefined
    ? { kind: 'volume', name: engineName(naming, name ?? ''), ...where }
    : { kind: 'folder', source: folder, ...where };
}

function restartOf({ policy, max_retries }: ServiceSettings['restart']): ContainerSpec['restart'] {
  if (policy !== 'on-failure') return { policy };
  return { policy, ...(max_retries !== undefined && { maxRetries: max_retries }) };
}

const checkOf = (check: NonNullable<ServiceSettings['health_check']>) => ({
  command: check.command,
  intervalMs: check.interval_ms,
  timeoutMs: check.timeout_ms,
  startPeriodMs: check.start_period_ms,
  retries: check.retries,
});

/** Those of its settings, and those that it needs while it changes. */
export const networksOf = ({ settings, claimed_networks }: ServiceRecord): string[] => [
  ...settings.networks,
  ...claimed_networks,
];

export const volumesOf = ({ volumes }: ServiceSettings): string[] =>
  volumes.flatMap(({ name }) => (name === undefined ? [] : [name]));
