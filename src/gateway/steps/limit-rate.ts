/** How often one client address, and one principal, may ask the control plane. */
import { rateKey } from '../client-address.ts';
import type { Transit } from '../transit.ts';
import { SECOND } from '../../core/clock.ts';

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
