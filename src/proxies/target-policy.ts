/**
 * Which addresses may never be a target: what nothing connects to (`core/addresses.ts`), nor this process's own ports.
 * SSRF by targets is refused here and nowhere else. Pure. Callers: the services of
 * proxies and routes on write, for literal addresses; the gateway at connect time, for every resolved address.
 */
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { serviceOf } from './target-url.ts';
import { type Address, forbiddenAddress, readAddress, unwrap } from '../core/addresses.ts';

export interface OwnAddress {
  address: string;
  port: number;
}

/** Why a resolved address may not be a target; undefined when it may. What can't be read may not. */
export function addressFault(address: string, port: number, own: readonly OwnAddress[]): string | undefined {
  const fault = forbiddenAddress(address);
  const read = readAddress(address);
  if (fault !== undefined || !read) return fault;
  return isOwn(unwrap(read), port, own)
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

/** Loopback counts whatever the bind address: a control port is never a target there. */
function isOwn(address: Address, port: number, own: readonly OwnAddress[]): boolean {
  return own.some(
    (listener) =>
      listener.port === port && (address.range() === 'loopback' || isSame(address, listener.address)),
  );
}

function isSame(address: Address, text: string): boolean {
  const other = readAddress(text);
  return other !== undefined && unwrap(other).toNormalizedString() === address.toNormalizedString();
}

function isUnspecified(text: string): boolean {
  return readAddress(text)?.range() === 'unspecified';
}
