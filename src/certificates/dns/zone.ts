/** Where a record belongs: what an alias hands on (RFC 1034 §3.6.2), the zone by its SOA record, and who answers for it. */
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { isWithin, parentOf } from './name.ts';
import type { Failure, Resolver } from './resolver.ts';

/** From one zone to the next; more is a loop. */
const MAX_DELEGATIONS = 8;
/** Name servers of one zone that are asked, and addresses of one of them. */
const MAX_SERVERS = 16;
const MAX_ADDRESSES = 8;

/**
 * The name that `name` stands for by CNAME, itself without one. `_acme-challenge` is delegated so.
 * @throws AppError UNAVAILABLE when the DNS can't be asked, PRECONDITION_FAILED for a loop.
 */
export async function ownerOf(resolver: Resolver, name: string, signal: AbortSignal): Promise<string> {
  let owner = name;
  const seen = new Set([name]);
  for (;;) {
    const found = await resolver.lookup(owner, 'CNAME', signal);
    if (found.kind === 'no_data' || found.kind === 'no_name') return owner;
    if (found.kind !== 'found') throw unanswered(`the CNAME record of ${owner}`, found);
    owner = found.records[0]?.target ?? owner;
    if (seen.has(owner) || seen.size > MAX_DELEGATIONS)
      throw new AppError(
        'PRECONDITION_FAILED',
        `${name} is delegated by CNAME records that go in circles or through more than ${MAX_DELEGATIONS} names (${cleanText([...seen].join(' → '))})`,
      );
    seen.add(owner);
  }
}

export interface Zone {
  readonly name: string;
  /** The server that takes changes, by the SOA record (RFC 2136 §4.3). */
  readonly primary: string;
}

/** The nearest name above with a SOA record. @throws AppError UNAVAILABLE, PRECONDITION_FAILED. */
export async function zoneOf(resolver: Resolver, name: string, signal: AbortSignal): Promise<Zone> {
  for (let at: string | undefined = name; at !== undefined && at !== ''; at = parentOf(at)) {
    const found = await resolver.lookup(at, 'SOA', signal);
    // An alias has no zone of its own: what was found is the zone of another name.
    const [soa] = found.kind === 'found' && found.aliases.length === 0 ? found.records : [];
    if (soa) return { name: at, primary: soa.primary };
    if (found.kind === 'error' || found.kind === 'timeout' || found.kind === 'unreachable')
      throw unanswered(`the SOA record of ${at}`, found);
  }
  throw new AppError(
    'PRECONDITION_FAILED',
    `no zone was found for ${cleanText(name)}: neither it nor a name above it has a SOA record`,
  );
}

export interface NameServer {
  readonly name: string;
  /** Empty when none could be found; then `fault` says why. */
  readonly addresses: readonly string[];
  readonly fault?: string | undefined;
}

/** All that answer for the zone. @throws AppError UNAVAILABLE, PRECONDITION_FAILED. */
export async function nameServersOf(
  resolver: Resolver,
  zone: string,
  signal: AbortSignal,
): Promise<NameServer[]> {
  const found = await resolver.lookup(zone, 'NS', signal);
  if (found.kind === 'no_data' || found.kind === 'no_name')
    throw new AppError('PRECONDITION_FAILED', `${cleanText(zone)} has no name servers (NS records)`);
  if (found.kind !== 'found') throw unanswered(`the NS records of ${zone}`, found);
  const names = [...new Set(found.records.map(({ target }) => target))].sort().slice(0, MAX_SERVERS);
  return Promise.all(names.map((name) => nameServer(resolver, name, signal)));
}

async function nameServer(resolver: Resolver, name: string, signal: AbortSignal): Promise<NameServer> {
  const [v4, v6] = await Promise.all([
    resolver.lookup(name, 'A', signal),
    resolver.lookup(name, 'AAAA', signal),
  ]);
  const addresses = [v4, v6].flatMap((found) =>
    found.kind === 'found' ? found.records.map(({ address }) => address) : [],
  );
  if (addresses.length > 0) return { name, addresses: addresses.slice(0, MAX_ADDRESSES) };
  const failure = [v4, v6].find((found) => 'reason' in found);
  const fault = failure && 'reason' in failure ? failure.reason : 'it has no address';
  return { name, addresses: [], fault };
}

function unanswered(what: string, { kind, reason }: Failure): AppError {
  const message = `${cleanText(what)} could not be looked up: ${cleanText(reason)}`;
  return new AppError(kind === 'timeout' ? 'TIMEOUT' : 'UNAVAILABLE', message);
}

/** The longest of these zones that the name is in. */
export function nearestZone(name: string, zones: readonly string[]): string | undefined {
  return zones
    .filter((zone) => isWithin(name, zone))
    .sort((a, b) => b.length - a.length)
    .at(0);
}
