/** Finds the principal of a request, or asks for a credential. Whether it may is `authorise`'s business. */
import type { Audience } from '../../core/exchange.ts';
import type { OAuthPolicy } from '../../proxies/auth-policy.ts';
import { rateKey } from '../client-address.ts';
import {
  audienceOf,
  challengeFor,
  type Credential,
  credentialOf,
  isOwnCredential,
  mcpChallenge,
  principalOf,
} from '../bearer.ts';
import { arrivalOf, audienceOfVisit, challengeOf, isPublic, type Visit, visitOf } from '../protect.ts';
import type { Transit } from '../transit.ts';
import { tooMany } from './limit-rate.ts';

/** Control plane on its own host: who sends nothing is anonymous, and `dispatch` decides what that is enough for. */
export function authenticateControl(transit: Transit): boolean {
  const credential = credentialOf(transit);
  return credential.kind === 'none'
    ? false
    : identifyPrincipal(transit, credential, () => 'Bearer error="invalid_token"');
}

export function authenticateMcp(transit: Transit): boolean {
  const { settings } = transit.core;
  const credential = credentialOf(transit);
  if (credential.kind !== 'none')
    return identifyPrincipal(transit, credential, () => mcpChallenge(transit, settings, true));
  return settings.mcp.access === 'public' ? false : askFor(transit, mcpChallenge(transit, settings, false));
}

/** A proxy's or route's own policy. Where there is none, the credential is the upstream's, unless it is one of ours. */
export function authenticateProxied(transit: Transit): boolean {
  const auth = transit.match?.auth;
  switch (auth?.kind) {
    case 'none':
      leaveToUpstream(transit);
      return false;
    case 'oauth':
      return authenticateOAuth(transit, auth);
    case 'token':
      return authenticateToken(transit, ` scope="${auth.permission}"`);
    case undefined:
      return authenticateToken(transit, '');
    default:
      // The types know no other kind; what was read from a newer store might be one, and `authorise` denies it.
      return authenticateToken(transit, '');
  }
}

function leaveToUpstream(transit: Transit): void {
  const { authorization } = transit.headers;
  transit.passesCredential =
    authorization === undefined || !isOwnCredential(authorization, transit.core.authenticate);
}

function authenticateToken(transit: Transit, scope: string): boolean {
  transit.passesCredential = false;
  const credential = credentialOf(transit);
  return credential.kind === 'none'
    ? askFor(transit, `Bearer${scope}`)
    : identifyPrincipal(
        transit,
        credential,
        () => `Bearer error="invalid_token"${scope === '' ? '' : `,${scope}`}`,
      );
}

function authenticateOAuth(transit: Transit, policy: OAuthPolicy): boolean {
  // Where only the cookie counts, an `Authorization` is between the client and the upstream.
  if (isPublic(policy, transit.path) || policy.mode === 'redirect') leaveToUpstream(transit);
  else transit.passesCredential = false;
  return isPublic(policy, transit.path) ? false : authenticateVisit(transit, visitOf(transit, policy));
}

/** True when it was answered: refused, or sent to sign in. */
export function authenticateVisit(transit: Transit, visit: Visit): boolean {
  const arrival = arrivalOf(transit, visit);
  switch (arrival.by) {
    case 'token':
      return identifyPrincipal(
        transit,
        arrival.credential,
        () => challengeOf(visit, 'invalid_token'),
        audienceOfVisit(visit),
      );
    case 'session':
      transit.principal = arrival.principal;
      return false;
    case 'navigation':
      return sendToSignIn(transit, visit);
    case 'nothing':
      return askFor(transit, challengeOf(visit), visit.policy.mode === 'redirect' ? SIGN_IN : undefined);
  }
}

const SIGN_IN = 'Nobody is signed in here. Open this hostname in a browser to sign in.';

function sendToSignIn(transit: Transit, { site, path, query }: Visit): true {
  const { core, response, headers } = transit;
  const returnTo = query === '' ? path : `${path}?${query}`;
  const { location, cookies } = core.protection.beginSignIn(site, returnTo, headers.cookie);
  transit.status = 302;
  response.writeHead(302, {
    ...transit.closing(),
    location,
    'set-cookie': [...cookies],
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'content-length': '0',
    'x-trace-id': transit.traceId,
  });
  transit.end();
  transit.discardBody();
  return true;
}

/**
 * Failures of an address throttle failures and nothing else: whoever shares it with someone who guesses keeps their way
 * in. What the guesses cost is bounded all the same, since each of them is hashed and may have a signature to verify.
 */
function identifyPrincipal(
  transit: Transit,
  credential: Credential,
  challenge: () => string,
  audience: Audience = audienceOf(transit),
): boolean {
  const { core, clientAddress } = transit;
  const key = rateKey(clientAddress);
  const { failuresPerAddress, checksPerAddress } = core.rates;
  const wait = failuresPerAddress.wait(key);
  if (wait > 0 && checksPerAddress.take(key) > 0) return tooManyFailures(transit, wait);
  const principal = principalOf(transit, credential, audience);
  if (principal) {
    transit.principal = principal;
    return false;
  }
  if (wait > 0) return tooManyFailures(transit, wait);
  failuresPerAddress.take(key);
  return transit.refuse({
    status: 401,
    code: 'UNAUTHENTICATED',
    message: 'The credential is not, or no longer, valid.',
    headers: { 'www-authenticate': challengeFor(credential, challenge()) },
  });
}

const tooManyFailures = (transit: Transit, wait: number): true =>
  tooMany(transit, wait, 'refused credentials from this address');

function askFor(
  transit: Transit,
  challenge: string,
  message = 'A credential is needed: send Authorization: Bearer <token>.',
): true {
  return transit.refuse({
    status: 401,
    code: 'UNAUTHENTICATED',
    message,
    headers: { 'www-authenticate': challenge },
  });
}
