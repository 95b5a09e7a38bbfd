/** Where a hostname leads, as plain data for `explain_certificate`: addresses, aliases, and what can't be reached by a CA. */
import ipaddr from 'ipaddr.js';
import { cleanText } from '../../core/untrusted.ts';
import type { Lookup, Resolver } from './resolver.ts';

/** Of one type that are told. */
const MAX_ADDRESSES = 16;

export interface FoundAddress {
  readonly address: string;
  /** Undefined for an address that anybody on the internet can reach; what it is otherwise. */
  readonly special: string | undefined;
}

export interface AddressReport {
  readonly hostname: string;
  /** Names that its aliases (CNAME) lead to, in order. */
  readonly aliases: readonly string[];
  readonly ipv4: AddressAnswer;
  readonly ipv6: AddressAnswer;
}

export interface AddressAnswer {
  /** `none`: the name exists without such an address. `no_name`: it does not exist. The others: it could not be found out. */
  readonly state: 'found' | 'none' | 'no_name' | 'error' | 'timeout' | 'unreachable';
  readonly addresses: readonly FoundAddress[];
  /** Why it could not be found out, clean. */
  readonly reason?: string | undefined;
}

/** @throws AppError CANCELLED, nothing else. */
export async function readAddresses(
  resolver: Resolver,
  hostname: string,
  signal: AbortSignal,
): Promise<AddressReport> {
  const [v4, v6] = await Promise.all([
    resolver.lookup(hostname, 'A', signal),
    resolver.lookup(hostname, 'AAAA', signal),
  ]);
  const aliases = [v4, v6].map((found) => found.aliases).find((names) => names.length > 0) ?? [];
  return {
    hostname,
    aliases: aliases.map((name) => cleanText(name)),
    ipv4: answerOf(v4),
    ipv6: answerOf(v6),
  };
}

function answerOf(found: Lookup<'A'> | Lookup<'AAAA'>): AddressAnswer {
  switch (found.kind) {
    case 'found': {
      const addresses = found.records.slice(0, MAX_ADDRESSES).map(({ address }) => described(address));
      return { state: 'found', addresses };
    }
    case 'no_data':
      return { state: 'none', addresses: [] };
    case 'no_name':
      return { state: 'no_name', addresses: [] };
    case 'error':
    case 'timeout':
    case 'unreachable':
      return { state: found.kind, addresses: [], reason: cleanText(found.reason) };
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc6890 | RFC 6890} */
const SPECIAL: Readonly<Record<string, string>> = {
  loopback: 'this machine only (loopback)',
  private: 'a private network (RFC 1918)',
  uniqueLocal: 'a private network (unique local, RFC 4193)',
  linkLocal: 'one network link (link-local)',
  carrierGradeNat: 'the network of a provider (carrier-grade NAT, RFC 6598)',
  unspecified: 'no address (unspecified)',
  multicast: 'a group (multicast)',
  broadcast: 'all of a network (broadcast)',
  reserved: 'reserved, for documentation or the like',
};

function described(text: string): FoundAddress {
  const read = ipaddr.parse(text);
  const range = ipaddr.process(text).range();
  const special = range === 'unicast' ? undefined : (SPECIAL[range] ?? `reserved (${range})`);
  return { address: read.toString(), special };
}
