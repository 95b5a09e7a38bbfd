/** Finds the principal of a request, or asks for a credential. Whether it may is `authorise`'s business. */
import { rateKey } from '../client-address.ts';
import { type Credential, credentialOf, isOwnCredential, mcpChallenge } from '../bearer.ts';
import type { Transit } from '../transit.ts';
import { tooMany } from './limit-rate.ts';

/** Control plane on its own host: who sends nothing is anonymous, and `dispatch` decides what that is enough for. */
export function authenticateControl(transit: Transit): boolean {
  const credential = credentialOf(transit);
  return credential.kind === 'none'
    ? false
    : identifyPrincipal(transit, credential, 'Bearer error="invalid_token"');
}

export function authenticateMcp(transit: Transit): boolean {
  const { settings } = transit.core;
  const credential = credentialOf(transit);
  if (credential.kind !== 'none')
    return identifyPrincipal(transit, credential, mcpChallenge(transit, settings, true));
  return settings.mcp.access === 'public' ? false : askFor(transit, mcpChallenge(transit, settings, false));
}

/** A proxy's or route's own policy. Where there is none, the credential is the upstream's, unless it is one of ours. */
export function authenticateProxied(transit: Transit): boolean {
  const { match, headers, core } = transit;
  if (match?.auth.kind === 'none') {
    const { authorization } = headers;
    transit.passesCredential =
      authorization === undefined || !isOwnCredential(authorization, core.authenticate);
    return false;
  }
  transit.passesCredential = false;
  const credential = credentialOf(transit);
  const scope = match?.auth.kind === 'token' ? ` scope="${match.auth.permission}"` : '';
  return credential.kind === 'none'
    ? askFor(transit, `Bearer${scope}`)
    : identifyPrincipal(
        transit,
        credential,
        `Bearer error="invalid_token"${scope === '' ? '' : `,${scope}`}`,
      );
}

function identifyPrincipal(transit: Transit, credential: Credential, challenge: string): boolean {
  const { core, clientAddress } = transit;
  const key = rateKey(clientAddress);
  const wait = core.rates.failuresPerAddress.wait(key);
  if (wait > 0) return tooMany(transit, wait, 'refused credentials from this address');
  const principal = credential.kind === 'bearer' ? core.authenticate(credential.text) : undefined;
  if (principal) {
    transit.principal = principal;
    return false;
  }
  core.rates.failuresPerAddress.take(key);
  return transit.refuse({
    status: 401,
    code: 'UNAUTHENTICATED',
    message: 'The credential is not, or no longer, valid.',
    headers: { 'www-authenticate': challenge },
  });
}

function askFor(transit: Transit, challenge: string): true {
  return transit.refuse({
    status: 401,
    code: 'UNAUTHENTICATED',
    message: 'A credential is needed: send Authorization: Bearer <token>.',
    headers: { 'www-authenticate': challenge },
  });
}
