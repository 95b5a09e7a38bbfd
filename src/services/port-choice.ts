/**
 * Gives ports of services their numbers: what the caller names, what the service has already, or the next free of
 * `services.ports`. A number that turns out to be taken by something else on the machine is passed over, a few times.
 */
import { AppError, toAppError } from '../core/errors.ts';
import type { Reader } from '../store/database.ts';
import {
  canonicalAddress,
  type Claim,
  claimedIn,
  overlaps,
  type Place,
  type PortRange,
  takenIn,
  toldPort,
} from './claims.ts';
import { INNER_ADDRESS, isGuarded } from './guarded.ts';
import type { PortProbe } from './port-probe.ts';
import type { KeptPort, KeptSettings } from './schema.ts';

/** Numbers that are tried for one service, beyond those that it needs. */
const MAX_TAKEN = 20;

export interface PortParts {
  readonly range: PortRange;
  /** Each replica has a port of its own then, which its node chooses. */
  readonly isSwarm?: boolean | undefined;
  /** Where this system listens itself. */
  readonly own: () => readonly { address: string; port: number }[];
  /** Absent where the engine is on another machine: then only it can tell. */
  readonly probe?: PortProbe | undefined;
  /** Where guarded ports may be; absent where the engine is on another machine, which they can't reach. */
  readonly guardable?: Guardable | undefined;
}

/** As `services.bind_addresses` and `services.min_port`: no engine asks for what this process opens itself. */
export interface Guardable {
  readonly addresses: readonly string[];
  readonly minPort: number;
}

interface Choosing {
  readonly ports: PortParts;
  readonly db: Reader;
  /** Of the service that is changed. */
  readonly before: readonly KeptPort[];
}

/** Runs `work` with every port numbered; again with others when numbers that were given out here are taken. */
export async function withPorts<Result>(
  choosing: Choosing,
  settings: KeptSettings,
  work: (settings: KeptSettings) => Promise<Result>,
): Promise<Result> {
  refuseGuards(choosing.ports, settings.ports);
  if (choosing.ports.isSwarm === true) return work(settings);
  const taken = new Set<number>();
  for (;;) {
    const { ports, given } = await numbered(choosing, settings.ports, taken);
    try {
      return await work({ ...settings, ports });
    } catch (cause) {
      const found = takenIn(toAppError(cause).details);
      const other = given.filter((number) => number === (found?.port ?? number));
      if (!found || other.length === 0 || taken.size >= MAX_TAKEN) throw cause;
      for (const number of other) taken.add(number);
    }
  }
}

async function numbered(
  { ports: parts, db, before }: Choosing,
  wanted: readonly KeptPort[],
  taken: Set<number>,
): Promise<{ ports: KeptPort[]; given: number[] }> {
  const left = [...before];
  const kept = wanted.map((port) => withNumbersOf(left, port));
  refuseTwice(kept);
  refuseOwn(parts, kept);
  const given: number[] = [];
  if (kept.every(isNumbered)) return { ports: kept, given };
  const used = new Set(await claimedIn(db, parts.range));
  for (const { port } of kept.flatMap(claimsOfPort)) used.add(port);
  const next = async (place: Omit<Place, 'port'>) => {
    const number = await nextFree(parts, place, { used, taken });
    used.add(number);
    given.push(number);
    return number;
  };
  const ports: KeptPort[] = [];
  for (const port of kept) {
    const { host_address, protocol } = port;
    const address = canonicalAddress(host_address);
    const host_port = port.host_port || (await next({ address, protocol }));
    const inner = { address: INNER_ADDRESS, protocol };
    ports.push({
      ...port,
      host_port,
      ...(isGuarded(port) && { inner_port: port.inner_port ?? (await next(inner)) }),
    });
  }
  return { ports, given };
}

/** Each of the earlier ones once. */
function withNumbersOf(left: KeptPort[], port: KeptPort): KeptPort {
  const at = left.findIndex(
    (one) =>
      one.container_port === port.container_port &&
      one.protocol === port.protocol &&
      one.host_address === port.host_address &&
      (port.host_port === 0 || one.host_port === port.host_port),
  );
  const [earlier] = at < 0 ? [] : left.splice(at, 1);
  const { inner_port: _, ...asked } = port;
  const inner_port = isGuarded(port) ? earlier?.inner_port : undefined;
  return {
    ...asked,
    host_port: port.host_port || (earlier?.host_port ?? 0),
    ...(inner_port !== undefined && { inner_port }),
  };
}

const isNumbered = (port: KeptPort): boolean =>
  port.host_port > 0 && (port.inner_port !== undefined || !isGuarded(port));

async function nextFree(
  { range, own, probe }: PortParts,
  place: Omit<Place, 'port'>,
  { used, taken }: { used: ReadonlySet<number>; taken: Set<number> },
): Promise<number> {
  for (let port = range.first; port <= range.last && taken.size < MAX_TAKEN; port++) {
    if (used.has(port) || taken.has(port) || own().some((one) => one.port === port)) continue;
    if (probe === undefined || (await probe({ ...place, port }))) return port;
    taken.add(port);
  }
  throw new AppError(
    'PRECONDITION_FAILED',
    taken.size < MAX_TAKEN
      ? `no port of services.ports (${range.first}-${range.last}) is free; widen it, or name a host_port`
      : `${MAX_TAKEN} ports of services.ports (${range.first}-${range.last}) are used by something else on this machine; set another range, or name a host_port`,
  );
}

/** Those that have a number. */
export function claimsOfPort(port: KeptPort): Claim[] {
  const { host_address, host_port, protocol, inner_port } = port;
  const outer = { address: canonicalAddress(host_address), port: host_port, protocol };
  return [
    ...(host_port > 0 ? [{ ...outer, kind: isGuarded(port) ? 'guarded' : 'published' } as const] : []),
    ...(inner_port === undefined
      ? []
      : [{ address: INNER_ADDRESS, port: inner_port, protocol, kind: 'inner' } as const]),
  ];
}

function refuseTwice(ports: readonly KeptPort[]): void {
  const claims = ports.flatMap(claimsOfPort);
  const twice = claims.find((claim, index) => claims.slice(0, index).some((other) => overlaps(claim, other)));
  if (twice) throw new AppError('INVALID_INPUT', `ports: ${toldPort(twice)} is there twice`);
}

function refuseOwn({ own }: PortParts, ports: readonly KeptPort[]): void {
  const mine = own().map(
    ({ address, port }): Place => ({ address: canonicalAddress(address), port, protocol: 'tcp' }),
  );
  const wrong = ports.flatMap(claimsOfPort).find((claim) => mine.some((one) => overlaps(claim, one)));
  if (wrong)
    throw new AppError(
      'CONFLICT',
      `ports: ${toldPort(wrong)} is where this system listens itself; name another`,
    );
}

function refuseGuards({ guardable, isSwarm }: PortParts, ports: readonly KeptPort[]): void {
  for (const port of ports.filter(isGuarded)) {
    if (isSwarm === true)
      throw new AppError(
        'PRECONDITION_FAILED',
        'ports: allow_sources and require_token are not for a swarm (services.orchestrator), which publishes at all addresses of its nodes: leave them out and let the firewall of the nodes say who may connect, or publish no port and make a proxy with auth',
      );
    if (!guardable)
      throw new AppError(
        'PRECONDITION_FAILED',
        'ports: allow_sources and require_token need an engine on this machine; docker.host names another',
      );
    const { addresses, minPort } = guardable;
    if (!addresses.includes(port.host_address))
      throw new AppError(
        'FORBIDDEN',
        `ports: a guarded port can't be at ${port.host_address}; services.bind_addresses allows ${addresses.join(', ') || 'none'}`,
      );
    if (port.host_port > 0 && port.host_port < minPort)
      throw new AppError(
        'FORBIDDEN',
        `ports: a guarded port can't be ${port.host_port}; services.min_port is ${minPort}`,
      );
  }
}
