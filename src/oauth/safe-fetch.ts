/**
 * Fetches what a stranger named: metadata and keys of clients, and endpoints of providers. Only HTTPS, only public addresses, and the address that
 * was judged is the one that is connected to. Redirects, time and size are bounded by who calls.
 * @see draft-ietf-oauth-client-id-metadata-document §6 on server-side request forgery
 */
import { lookup, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agent, fetch as send, type RequestInit } from 'undici';
import { SECOND } from '../core/clock.ts';

const CONNECT_MS = 2 * SECOND;
const CONNECTIONS = 8;

export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

export interface SafeFetchOptions {
  /** Hostnames of one's own network that may be asked all the same. */
  readonly privateHosts: readonly string[];
  /** Origins of this machine that are asked over plain HTTP. */
  readonly plainOrigins?: readonly string[] | undefined;
  /** PEM of the authorities that are trusted; tests have their own. */
  readonly authorities?: string | undefined;
  /** The name service; tests have their own. */
  readonly resolve?: Resolve | undefined;
}

export type Resolve = (
  hostname: string,
  answer: (error: Error | null, addresses: LookupAddress[]) => void,
) => void;

const PUBLIC: ReadonlySet<string> = new Set(['unicast']);
/** Link-local is nobody's network: there the metadata services of clouds are. */
const OWN_NETWORK: ReadonlySet<string> = new Set([
  ...PUBLIC,
  'loopback',
  'private',
  'uniqueLocal',
  'carrierGradeNat',
]);

/** Undefined when anybody on the internet may have this address; for a trusted name, one's own network too. */
export function addressFault(address: string, isTrusted = false): string | undefined {
  const range = ipaddr.process(address).range();
  const allowed = isTrusted ? OWN_NETWORK : PUBLIC;
  return allowed.has(range) ? undefined : `${address} is no address to fetch from (${range})`;
}

export function createSafeFetch({
  privateHosts,
  plainOrigins = [],
  authorities,
  resolve = (hostname, answer) => lookup(hostname, { all: true }, answer),
}: SafeFetchOptions): typeof globalThis.fetch & AsyncDisposable {
  const trusted = new Set(privateHosts);
  const find: LookupFunction = (hostname, { all }, callback) => {
    resolve(hostname, (error, addresses) => {
      const fault = error ?? faultOf(hostname, addresses, trusted.has(hostname));
      if (fault) return callback(fault, []);
      const [first] = addresses;
      return all === true
        ? callback(null, addresses)
        : callback(null, first?.address ?? '', first?.family ?? 0);
    });
  };
  const agent = new Agent({
    connections: CONNECTIONS,
    connect: { lookup: find, timeout: CONNECT_MS, ...(authorities !== undefined && { ca: authorities }) },
  });
  const safeFetch = async (
    input: string | URL | Request,
    init?: globalThis.RequestInit,
  ): Promise<Response> => {
    const url = new URL(input instanceof Request ? input.url : input);
    if (url.protocol !== 'https:' && !plainOrigins.includes(url.origin))
      throw new AddressRefused(`${url.protocol} is not https`);
    refusePrivate(url, trusted);
    // The types of Node's own undici and of the package are the same in all that is used here.
    const options = { ...init, dispatcher: agent, redirect: 'manual' } as unknown as RequestInit;
    return (await send(url, options)) as unknown as Response;
  };
  return Object.assign(safeFetch, { [Symbol.asyncDispose]: () => agent.destroy() });
}

/** An address in the URL itself is never looked up. */
function refusePrivate({ hostname }: URL, trusted: ReadonlySet<string>): void {
  const bare = hostname.replace(/^\[|\]$/g, '');
  const fault = ipaddr.isValid(bare) ? addressFault(bare, trusted.has(bare)) : undefined;
  if (fault !== undefined) throw new AddressRefused(fault);
}

/** One address that may not be asked condemns the whole answer. */
function faultOf(
  hostname: string,
  addresses: readonly LookupAddress[],
  isTrusted: boolean,
): AddressRefused | undefined {
  for (const { address } of addresses) {
    const fault = addressFault(address, isTrusted);
    if (fault !== undefined) return new AddressRefused(`${hostname}: ${fault}`);
  }
  return addresses.length === 0 ? new AddressRefused(`${hostname} has no address`) : undefined;
}
