/** How much one client address may have under way, and how often it and one principal may ask the control plane. */
import { rateKey } from '../client-address.ts';
import { gatewayLimits } from '../settings.ts';
import type { Transit } from '../transit.ts';
import { SECOND } from '../../core/clock.ts';

/** One client over HTTP/2 could take all that an upstream has. A trusted proxy in front carries the requests of many. */
export function limitUnderWay(transit: Transit): boolean {
  const { connection, core } = transit;
  const max = gatewayLimits.fullConnectionsPerAddress * core.settings.maxStreamsPerConnection;
  if (connection.address.requests <= max || connection.peer.isTrusted) return false;
  return tooMany(transit, SECOND, 'requests of this address at once');
}

export function limitAddress(transit: Transit): boolean {
  const { core, clientAddress } = transit;
  const wait = core.rates.callsPerAddress.take(rateKey(clientAddress));
  return wait > 0 ? tooMany(transit, wait, 'requests of this address') : false;
}

/** Everyone without a credential is one principal, so there the address is what counts. */
export function limitPrincipal(transit: Transit): boolean {
  const { core, principal } = transit;
  if (principal.kind === 'anonymous') return false;
  const wait = core.rates.callsPerPrincipal.take(principal.id);
  return wait > 0 ? tooMany(transit, wait, 'requests with this credential') : false;
}

export function tooMany(transit: Transit, waitMs: number, what: string): true {
  const seconds = Math.max(1, Math.ceil(waitMs / SECOND));
  return transit.refuse({
    status: 429,
    code: 'RATE_LIMITED',
    message: `Too many ${what}. Try again in ${seconds} s.`,
    headers: { 'retry-after': String(seconds) },
  });
}
