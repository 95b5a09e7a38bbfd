/** A service as a caller sees it: with what the engine says of its container, and without a secret. */
import { toTimestamp } from '../core/collection.ts';
import type { Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Container, ContainerDetails } from './engine.ts';
import type { ServiceRecord } from './record.ts';
import type { KeptPort, Service, ServiceDetails } from './schema.ts';
import { secretsOf } from './secrets.ts';

/** Of 64 hexadecimal digits, as people know it. */
const ID_LENGTH = 12;
/** Ports of one container; a published range can have thousands. */
const MAX_PORTS = 50;
const MAX_NETWORKS = 50;
const MAX_NAME = 128;
const MAX_WORD = 64;
/** The last moment that a date can express. */
const LAST_MOMENT_MS = 8.64e15;

export const shownId = (id: string): string => cleanText(id).slice(0, ID_LENGTH);
export const shownTime = (time: number): string => toTimestamp(Math.min(Math.max(0, time), LAST_MOMENT_MS));

export const shownPorts = (ports: Container['ports']): Service['ports'] =>
  ports.slice(0, MAX_PORTS).map(({ containerPort, protocol, hostAddress, hostPort }) => ({
    container_port: containerPort,
    protocol: cleanText(protocol, MAX_WORD),
    ...(hostAddress !== undefined && { host_address: cleanText(hostAddress, MAX_WORD) }),
    ...(hostPort !== undefined && { host_port: hostPort }),
  }));

/** Commands are for who may set them: they can hold a secret, and no word tells which does. */
export function detailsOf(
  record: ServiceRecord,
  container: ContainerDetails | undefined,
  { permissions }: Principal,
): ServiceDetails {
  const { settings, pending, name, id, desired, owner, version, created_at, updated_at } = record;
  const { environment, secret_files = {}, command, entrypoint, health_check, ports, ...shown } = settings;
  return {
    name,
    id,
    desired,
    ...(pending !== null && { unfinished: pending }),
    ...(container && { container: stateOf(container) }),
    ...shown,
    ports: ports.map(toldPort),
    ...(permissions.has('services:write') && { command, entrypoint, health_check }),
    environment_names: Object.keys(environment),
    environment_secrets: secretsOf({ environment }),
    file_names: Object.keys(secret_files),
    owner,
    version,
    created_at,
    updated_at,
  };
}

/** As it was asked for, so that it can be asked for again; what the engine has is told with the container. */
function toldPort(port: KeptPort): ServiceDetails['ports'][number] {
  const { inner_port: _, ...told } = port;
  return told;
}

function stateOf(found: ContainerDetails): NonNullable<ServiceDetails['container']> {
  const { healthOutput, fault, startedAt, replicas } = found;
  return {
    id: shownId(found.id),
    state: cleanText(found.state, MAX_WORD),
    health: found.health,
    ...(healthOutput !== undefined && { health_output: cleanText(healthOutput) }),
    ...(fault !== undefined && { fault: cleanText(fault) }),
    exit_code: found.exitCode,
    out_of_memory: found.outOfMemory,
    restarts: found.restarts,
    ...(startedAt !== undefined && { started_at: shownTime(startedAt) }),
    ports: shownPorts(found.ports),
    ...(replicas && { replicas }),
    networks: found.networks.slice(0, MAX_NETWORKS).map(({ name, address }) => ({
      name: cleanText(name, MAX_NAME),
      ...(address !== undefined && { address: cleanText(address, MAX_WORD) }),
    })),
  };
}
