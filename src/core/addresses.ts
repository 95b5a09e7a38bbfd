/**
 * Which addresses nothing here ever connects to because a setting, a proxy or the DNS says so, in any spelling:
 * link-local ones, those where the metadata services of clouds are, and those that mean nothing. Loopback and private
 * networks are allowed: services and upstreams are there (so is 100.64.0.0/10, where overlay networks live). Pure.
 * Callers: `core/dial.ts` and `proxies/target-policy.ts`, which knows more of targets.
 */
import ipaddr from 'ipaddr.js';

type Range = readonly [range: string, reason: string];

const METADATA = 'is the metadata service of a cloud';
const LINK_LOCAL = 'is link-local';
const MULTICAST = 'is multicast';
const RESERVED = 'is reserved';
const UNSPECIFIED = 'is unspecified';

/** @see {@link https://www.rfc-editor.org/rfc/rfc6890 | RFC 6890} */
const forbiddenIpv4 = parsed([
  ['0.0.0.0/8', UNSPECIFIED],
  ['169.254.169.254/32', METADATA],
  ['169.254.0.0/16', LINK_LOCAL],
  ['100.100.100.200/32', METADATA],
  ['168.63.129.16/32', METADATA],
  ['192.0.0.0/24', RESERVED],
  ['192.88.99.0/24', RESERVED],
  ['224.0.0.0/4', MULTICAST],
  ['255.255.255.255/32', 'is the broadcast address'],
  ['240.0.0.0/4', RESERVED],
]);

const forbiddenIpv6 = parsed([
  ['::/128', UNSPECIFIED],
  ['fe80::/10', LINK_LOCAL],
  ['fec0::/10', RESERVED],
  ['ff00::/8', MULTICAST],
  ['fd00:ec2::/32', METADATA],
  ['fd20:ce::254/128', METADATA],
  ['fd00:c1::a9fe:a9fe/128', METADATA],
  // Forms that hide an IPv4 address in a way that depends on the network (RFC 8215, RFC 4380).
  ['64:ff9b:1::/48', RESERVED],
  ['2001::/32', RESERVED],
  ['100::/64', RESERVED],
]);

function parsed(ranges: readonly Range[]) {
  return ranges.map(([range, reason]) => ({ range: ipaddr.parseCIDR(range), reason }));
}

/** Why this address is not connected to; undefined when it may be. What can't be read may not. */
export function forbiddenAddress(text: string): string | undefined {
  const read = readAddress(text);
  if (!read) return `${JSON.stringify(text)} is not an IP address`;
  const reason = forbidden(read) ?? forbidden(unwrap(read));
  return reason && `${read.toString()} ${reason}`;
}

export type Address = ReturnType<typeof ipaddr.parse>;

export function readAddress(text: string): Address | undefined {
  const [bare = ''] = text.split('%'); // An interface (`fe80::1%eth0`) changes nothing in the verdict.
  return ipaddr.isValid(bare) ? ipaddr.parse(bare) : undefined;
}

function forbidden(address: Address): string | undefined {
  const ranges = address.kind() === 'ipv4' ? forbiddenIpv4 : forbiddenIpv6;
  return ranges.find(({ range }) => range[0].kind() === address.kind() && address.match(range))?.reason;
}

/** Bytes before an IPv4 address inside an IPv6 address, and where they begin. */
const wrappings = [
  { name: 'mapped, RFC 4291 §2.5.5.2', at: 0, prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] },
  { name: 'translated, RFC 2765 §2.1', at: 0, prefix: [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0] },
  { name: 'NAT64, RFC 6052 §2.1', at: 0, prefix: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] },
  { name: '6to4, RFC 3056 §2', at: 0, prefix: [0x20, 0x02] },
  { name: 'ISATAP, RFC 5214 §6.1', at: 8, prefix: [0, 0, 0x5e, 0xfe] },
  { name: 'ISATAP, RFC 5214 §6.1', at: 8, prefix: [2, 0, 0x5e, 0xfe] },
] as const;
const COMPATIBLE_PREFIX = Array.from({ length: 12 }, () => 0);
const IPV4_BYTES = 4;

/** The IPv4 address that an IPv6 address stands for; itself when it stands for none. */
export function unwrap(address: Address): Address {
  if (address.kind() === 'ipv4') return address;
  const bytes = address.toByteArray();
  const wrapping = wrappings.find(({ at, prefix }) => prefix.every((byte, i) => bytes[at + i] === byte));
  if (wrapping) return ipv4At(bytes, wrapping.at + wrapping.prefix.length);
  // Compatible, RFC 4291 §2.5.5.1; `::` and `::1` are addresses of their own.
  const isCompatible = COMPATIBLE_PREFIX.every((byte, i) => bytes[i] === byte);
  return isCompatible && address.range() !== 'loopback' && address.range() !== 'unspecified'
    ? ipv4At(bytes, COMPATIBLE_PREFIX.length)
    : address;
}

const ipv4At = (bytes: readonly number[], start: number): Address =>
  ipaddr.fromByteArray(bytes.slice(start, start + IPV4_BYTES));

const OWN_RANGES: ReadonlySet<string> = new Set(['loopback', 'private', 'uniqueLocal', 'carrierGradeNat']);

/** Loopback and private networks, 100.64.0.0/10 among them. What can't be read is elsewhere. */
export function isOwnNetwork(text: string): boolean {
  const read = readAddress(text);
  return read !== undefined && OWN_RANGES.has(unwrap(read).range());
}
