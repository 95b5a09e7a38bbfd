/**
 * Which addresses may never be a target, in any spelling: SSRF is refused here and nowhere else. Loopback and private
 * networks are allowed, because that is where upstreams live (so is 100.64.0.0/10, where overlay networks live);
 * link-local, metadata and meaningless addresses never, nor this process's own ports. Pure. Callers: the services of
 * proxies and routes on write, for literal addresses; the gateway at connect time, for every resolved address.
 */
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { serviceOf } from './target-url.ts';

export interface OwnAddress {
  address: string;
  port: number;
}

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

/** Why a resolved address may not be a target; undefined when it may. What can't be read may not. */
export function addressFault(address: string, port: number, own: readonly OwnAddress[]): string | undefined {
  const read = read4or6(address);
  if (!read) return `${JSON.stringify(address)} is not an IP address`;
  const unwrapped = unwrap(read);
  const reason = forbidden(read) ?? forbidden(unwrapped);
  if (reason) return `${read.toString()} ${reason}`;
  return isOwn(unwrapped, port, own)
    ? `${read.toString()} port ${port} is served by this system itself`
    : undefined;
}

const LOCALHOST = /^(?:.+\.)?localhost\.?$/;
const LOOPBACK = '127.0.0.1';

/**
 * For a target URL as written: judges literal addresses (which `URL` brings into one spelling) and localhost; other
 * names, and where a service is, are judged when they are connected to.
 */
export function targetFault(url: string, own: readonly OwnAddress[]): string | undefined {
  if (serviceOf(url)) return undefined;
  const parsedUrl = URL.parse(url);
  if (!parsedUrl) return 'it is not a URL';
  const port = portOf(parsedUrl);
  if (port === 0) return 'port 0 is not a port to connect to';
  const hostname = parsedUrl.hostname.replace(/^\[(.*)\]$/, '$1');
  // RFC 6761 §6.3: names below localhost are loopback too.
  if (LOCALHOST.test(hostname)) return addressFault(LOOPBACK, port, own);
  return ipaddr.isValid(hostname) ? addressFault(hostname, port, own) : undefined;
}

const HTTP_PORT = 80;
const HTTPS_PORT = 443;

function portOf({ protocol, port }: URL): number {
  if (port !== '') return Number(port);
  return protocol === 'https:' ? HTTPS_PORT : HTTP_PORT;
}

/** Listeners, with those that listen everywhere spelled out as each address of this machine. */
export function ownAddresses(
  listeners: readonly OwnAddress[],
  interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces(),
): OwnAddress[] {
  const local = Object.values(interfaces).flatMap((list) => (list ?? []).map(({ address }) => address));
  return listeners.flatMap((listener) =>
    isUnspecified(listener.address)
      ? [listener, ...local.map((address) => ({ address, port: listener.port }))]
      : [listener],
  );
}

type Address = ReturnType<typeof ipaddr.parse>;

function read4or6(text: string): Address | undefined {
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
function unwrap(address: Address): Address {
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

/** Loopback counts whatever the bind address: a control port is never a target there. */
function isOwn(address: Address, port: number, own: readonly OwnAddress[]): boolean {
  return own.some(
    (listener) =>
      listener.port === port && (address.range() === 'loopback' || isSame(address, listener.address)),
  );
}

function isSame(address: Address, text: string): boolean {
  const other = read4or6(text);
  return other !== undefined && unwrap(other).toNormalizedString() === address.toNormalizedString();
}

function isUnspecified(text: string): boolean {
  return read4or6(text)?.range() === 'unspecified';
}
