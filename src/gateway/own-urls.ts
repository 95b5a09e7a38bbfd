/** Where the control plane answers, as a person can type it. What is told has to work. Pure; `app.ts` asks. */
import type { AddressInfo } from 'node:net';
import { isLoopbackAddress } from '../routes/own.ts';
import { authorityOf } from '../routes/normalise.ts';
import type { Addresses } from './listen.ts';
import type { GatewaySettings } from './settings.ts';

export interface OwnUrls {
  /** Origin over plain HTTP, for clients on this machine; undefined where it answers nobody. */
  readonly plain: string | undefined;
  /** Origin over HTTPS. */
  readonly secure: string;
  /** A front of the operator's stands there, with a certificate of its own. */
  readonly isFronted: boolean;
  /** Why `secure` can't be reached as the settings are; undefined when it can, as far as this process can know. */
  readonly unreachable: string | undefined;
}

const EVERY_ADDRESS: readonly string[] = ['0.0.0.0', '::'];
/** Where `localhost` leads. @see {@link https://www.rfc-editor.org/rfc/rfc6761#section-6.3 | RFC 6761 §6.3} */
const LOCALHOST_ADDRESSES: readonly string[] = ['127.0.0.1', '::1', ...EVERY_ADDRESS];

export function ownUrls(
  settings: Pick<GatewaySettings, 'controlHosts' | 'publicUrl'>,
  { http, https }: Addresses,
): OwnUrls {
  const { controlHosts, publicUrl } = settings;
  const reached = controlHosts.find((host) => leadsTo(host, https));
  const host = reached ?? controlHosts[0] ?? 'localhost';
  const isFronted = publicUrl !== undefined;
  return {
    plain: plainUrl(controlHosts, http),
    secure: isFronted ? new URL(publicUrl).origin : `https://${authorityOf(host, https.port, 'https')}`,
    isFronted,
    unreachable:
      reached === undefined && !isFronted
        ? `${host} does not lead to ${https.address}: set control.hosts to a name that does`
        : undefined,
  };
}

/** Of other names only DNS knows. */
function leadsTo(host: string, { address }: AddressInfo): boolean {
  const isLocalhost = host === 'localhost' || host.endsWith('.localhost');
  return !isLocalhost || LOCALHOST_ADDRESSES.includes(address);
}

/** `localhost` where that is a control host; else an address of loopback, which is one for whoever comes from there. */
function plainUrl(controlHosts: readonly string[], { address, port }: AddressInfo): string | undefined {
  const own = EVERY_ADDRESS.includes(address) ? '127.0.0.1' : address;
  if (!isLoopbackAddress(own)) return undefined;
  const isNamed = controlHosts.includes('localhost') && LOCALHOST_ADDRESSES.includes(own);
  return `http://${authorityOf(isNamed ? 'localhost' : own, port, 'http')}`;
}
