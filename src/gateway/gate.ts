/** The gate's second word on a request, for a surface that learns only from the body what is asked. */
import type { Gate } from '../core/exchange.ts';
import { scopeChallenge } from './bearer.ts';
import { rateKey } from './client-address.ts';
import type { Transit } from './transit.ts';

export function gateOf(transit: Transit): Gate {
  const { core, principal, clientAddress } = transit;
  const network = rateKey(clientAddress);
  const isKnown = principal.kind !== 'anonymous';
  return {
    caller: isKnown ? principal.id : `network ${network}`,
    charge(calls) {
      const { callsPerAddress, callsPerPrincipal } = core.rates;
      const ofPrincipal = isKnown ? callsPerPrincipal.wait(principal.id, calls) : 0;
      // All or nothing: what is refused costs neither of the two.
      const wait = Math.max(ofPrincipal, callsPerAddress.wait(network, calls));
      if (wait > 0) return wait;
      if (isKnown) callsPerPrincipal.take(principal.id, calls);
      return callsPerAddress.take(network, calls);
    },
    challenge: (scopes) => scopeChallenge(transit, scopes),
  };
}
