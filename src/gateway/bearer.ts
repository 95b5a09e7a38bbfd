/** The bearer credential of a request, and the challenge that asks for one. */
import { bearerIn, PROOF_ALGORITHMS, provenIn } from '../core/bearer.ts';
import type { Audience, Authenticate } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { METADATA_PATH } from '../routes/own.ts';
import type { GatewaySettings } from './settings.ts';
import type { Transit } from './transit.ts';

/** Credentials of this system by their looks; they are never passed on, whoever they were sent to, in whatever form. */
const OWN_CREDENTIAL = /^bearer\s+ohp_|ohp_[0-9A-Za-z]{49}/i;
/** A target may take for a separator what this system does not. */
const LOOSE_SCHEME = /^(?:bearer|dpop)\s+/i;

/**
 * `proven`: with a proof of the key that it belongs to (RFC 9449); `invalid`: something was sent that is not one
 * credential. Only the header counts, never the query.
 */
export type Credential =
  | { kind: 'none' }
  | { kind: 'bearer'; text: string }
  | { kind: 'proven'; text: string; proof: string | undefined }
  | { kind: 'invalid' };

const NONE: Credential = { kind: 'none' };
const INVALID: Credential = { kind: 'invalid' };

export function credentialOf({ headers, rawHeaders }: Transit): Credential {
  const { authorization } = headers;
  if (authorization === undefined) return NONE;
  // Node keeps the first of several; another reader might keep the last.
  if (countOf(rawHeaders, 'authorization') > 1) return INVALID;
  const text = bearerIn(authorization);
  return text === undefined ? provenCredential(authorization, headers, rawHeaders) : { kind: 'bearer', text };
}

function provenCredential(
  authorization: string,
  headers: Transit['headers'],
  rawHeaders: readonly string[],
): Credential {
  const text = provenIn(authorization);
  if (text === undefined) return INVALID;
  // RFC 9449 §4.3, number 1: there is not more than one.
  const proof = countOf(rawHeaders, 'dpop') === 1 ? headers['dpop'] : undefined;
  return { kind: 'proven', text, proof: typeof proof === 'string' ? proof : undefined };
}

/** Who the credential is of, for this part of what is served. */
export function principalOf(
  { core, method }: Transit,
  credential: Credential,
  audience: Audience,
): Principal | undefined {
  switch (credential.kind) {
    case 'bearer':
      return core.authenticate(credential.text, audience);
    case 'proven': {
      const { text, proof } = credential;
      return core.authenticate(text, audience, { method, url: `${audience.origin}${audience.path}`, proof });
    }
    case 'none':
    case 'invalid':
      return undefined;
  }
}

/** Whoever sent a proof is told which ones are understood. @see RFC 9449 §7.1 */
export const challengeFor = (credential: Credential, challenge: string): string =>
  credential.kind === 'proven'
    ? challenge.replace(/^Bearer /, `DPoP algs="${PROOF_ALGORITHMS.join(' ')}", `)
    : challenge;

/** The administrator's token may look like anything, so what has another look is asked for. */
export function isOwnCredential(authorization: string, authenticate: Authenticate): boolean {
  if (OWN_CREDENTIAL.test(authorization)) return true;
  const text = bearerIn(authorization.replace(LOOSE_SCHEME, 'Bearer '));
  return text !== undefined && authenticate(text, 'any') !== undefined;
}

export function countOf(rawHeaders: readonly string[], lowerCase: string): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name?.length === lowerCase.length && name.toLowerCase() === lowerCase) count++;
  }
  return count;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-5.1 | RFC 9728 §5.1} and RFC 6750 §3 */
export function mcpChallenge(transit: Transit, settings: GatewaySettings, wasSent: boolean): string {
  const parts = [`resource_metadata="${metadataUrl(transit)}"`];
  if (settings.mcp.scopes.length > 0) parts.push(`scope="${settings.mcp.scopes.join(' ')}"`);
  if (wasSent) parts.push('error="invalid_token"');
  return `Bearer ${parts.join(', ')}`;
}

/** For a credential that lacks scopes, or for none. @see RFC 6750 §3.1; MCP 2026-07-28, Authorization, Scope Challenge Handling */
export function scopeChallenge(transit: Transit, scopes: readonly string[]): string {
  const error = transit.principal.kind === 'anonymous' ? [] : ['error="insufficient_scope"'];
  const scope = scopes.length > 0 ? [`scope="${scopes.join(' ')}"`] : [];
  const parts = [...error, ...scope, `resource_metadata="${metadataUrl(transit)}"`];
  return `Bearer ${parts.join(', ')}`;
}

/** Of the very form in which `/mcp` was asked for: clients compare `resource` with their own URL to the letter. */
export function metadataUrl(transit: Transit): string {
  return `${baseUrlOf(transit)}${METADATA_PATH}${transit.path}`;
}

/** Whom an access token of this request has to be for. */
export function audienceOf(transit: Transit): Audience {
  const { kind, path } = transit;
  return { origin: baseUrlOf(transit), path, isControl: kind === 'mcp' || kind === 'control' };
}

/** Who grants tokens for this hostname: on the control host itself, under the URL that the client uses. */
export function issuerOf(transit: Transit): string {
  const { core, match } = transit;
  return match ? core.hosts.issuer(core.ports.https) : baseUrlOf(transit);
}

/** Where a browser signs in for a protected hostname. In the clear only where that is all that is in use. */
export function siteIssuerOf({ core, scheme }: Pick<Transit, 'core' | 'scheme'>): string {
  return core.hosts.siteIssuer(scheme, core.ports);
}

export function baseUrlOf({ core, scheme, hostname, authority }: Transit): string {
  return core.hosts.baseUrl(scheme, hostname, authority);
}
