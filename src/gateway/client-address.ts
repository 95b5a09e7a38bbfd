/**
 * Who is at the other end. Forwarded headers are believed only when the peer itself is a trusted proxy, and then
 * only back to the first address that is not one.
 */
import ipaddr from 'ipaddr.js';
import { AppError } from '../core/errors.ts';
import { gatewayLimits } from './settings.ts';

type Address = ReturnType<typeof ipaddr.parse>;
type Range = [Address, number];

const IPV6_NETWORK_BITS = 64;
const IPV6_NETWORK_PARTS = IPV6_NETWORK_BITS / 16;

export interface Peer {
  /** Canonical text: IPv4 also where the socket says IPv4-mapped IPv6. */
  readonly address: string;
  readonly isLoopback: boolean;
  readonly isTrusted: boolean;
}

export class TrustedPeers {
  readonly #ranges: readonly Range[];

  /** @throws AppError INVALID_INPUT that names the entry that is neither an address nor a range. */
  constructor(ranges: readonly string[]) {
    this.#ranges = ranges.map((text) => parseRange(text, 'gateway.trusted_proxies'));
  }

  peer(remoteAddress: string | undefined): Peer {
    const address = parseAddress(remoteAddress ?? '');
    if (!address) return { address: 'unknown', isLoopback: false, isTrusted: false };
    return {
      address: address.toString(),
      isLoopback: address.range() === 'loopback',
      isTrusted: this.#isTrusted(address),
    };
  }

  /**
   * The client's address for a request that came through `peer`. When X-Forwarded-For and Forwarded tell different
   * stories one of them was written by a stranger, and the peer itself is what is certain.
   */
  clientAddress(peer: Peer, xForwardedFor: string | undefined, forwarded: string | undefined): string {
    if (!peer.isTrusted || (xForwardedFor === undefined && forwarded === undefined)) return peer.address;
    const byList = xForwardedFor === undefined ? undefined : this.#firstStranger(listOf(xForwardedFor));
    const byForwarded = forwarded === undefined ? undefined : this.#firstStranger(forwardedFor(forwarded));
    if (byList !== undefined && byForwarded !== undefined && byList !== byForwarded) return peer.address;
    return byList ?? byForwarded ?? peer.address;
  }

  /** From the nearest hop outwards; what can't be read ends the search at the last that could. */
  #firstStranger(hops: readonly string[]): string | undefined {
    let found: string | undefined;
    for (const hop of hops.slice(-gatewayLimits.forwardedHops).reverse()) {
      const address = parseAddress(withoutPort(hop));
      if (!address) return found;
      found = address.toString();
      if (!this.#isTrusted(address)) return found;
    }
    return found;
  }

  #isTrusted(address: Address): boolean {
    return isWithin(this.#ranges, address);
  }
}

const isWithin = (ranges: readonly Range[], address: Address): boolean =>
  ranges.some(([range, bits]) => range.kind() === address.kind() && address.match(range, bits));

/** Whether the other end of a socket is among these addresses and ranges. What can't be read is not. */
export function addressRanges(texts: readonly string[]): (remoteAddress: string | undefined) => boolean {
  const ranges = texts.map((text) => parseRange(text, 'allow_sources'));
  return (remoteAddress) => {
    const address = parseAddress(remoteAddress ?? '');
    return address !== undefined && isWithin(ranges, address);
  };
}

function parseRange(text: string, where: string): Range {
  const range = rangeIn(text);
  if (range) return range;
  throw new AppError('INVALID_INPUT', `${where}: ${JSON.stringify(text)} ${NO_RANGE}`);
}

const NO_RANGE = 'has to be an IP address or a range such as 10.0.0.0/8';

/** Why a text can't be a trusted proxy, or a source that is allowed; undefined when it can. */
export const rangeFault = (text: string): string | undefined =>
  rangeIn(text) === undefined ? NO_RANGE : undefined;

function rangeIn(text: string): Range | undefined {
  const address = parseAddress(text);
  if (address) return [address, address.kind() === 'ipv4' ? 32 : 128];
  if (!ipaddr.isValidCIDR(text)) return undefined;
  const [range, bits] = ipaddr.parseCIDR(text);
  const isMapped = range instanceof ipaddr.IPv6 && range.isIPv4MappedAddress() && bits >= MAPPED_BITS;
  return isMapped ? [range.toIPv4Address(), bits - MAPPED_BITS] : [range, bits];
}

/** Before an IPv4 address in IPv6. @see {@link https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2 | RFC 4291 §2.5.5.2} */
const MAPPED_BITS = 96;

/** `ipaddr.isValid` also takes `127.1` and octal; only what a socket or a header would say is taken here. */
function parseAddress(text: string): Address | undefined {
  const [bare = ''] = text.split('%');
  const isAddress = bare.includes(':') ? ipaddr.IPv6.isValid(bare) : ipaddr.IPv4.isValidFourPartDecimal(bare);
  return isAddress ? ipaddr.process(bare) : undefined;
}

const listOf = (header: string): string[] => header.split(',').map((part) => part.trim());

const FOR = /(?:^|;)\s*for\s*=\s*("[^"]*"|[^;,\s]*)/i;

/** @see {@link https://www.rfc-editor.org/rfc/rfc7239#section-4 | RFC 7239 §4} */
function forwardedFor(header: string): string[] {
  return listOf(header).map((element) => (FOR.exec(element)?.[1] ?? '').replace(/^"(.*)"$/, '$1'));
}

/** `192.0.2.1:80`, `[2001:db8::1]:80` and `[2001:db8::1]` lose what is not address. */
function withoutPort(text: string): string {
  if (text.startsWith('[')) return text.slice(1, text.indexOf(']'));
  return text.includes('.') ? (text.split(':')[0] ?? '') : text;
}

/** One client has a whole /64 of IPv6 for itself; it counts as one. */
export function rateKey(address: string): string {
  if (!address.includes(':') || !ipaddr.IPv6.isValid(address)) return address;
  return ipaddr.IPv6.parse(address).parts.slice(0, IPV6_NETWORK_PARTS).join(':');
}
