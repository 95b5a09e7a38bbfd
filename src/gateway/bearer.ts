/** The bearer credential of a request, and the challenge that asks for one. */
import type { Authenticate } from '../core/exchange.ts';
import type { GatewaySettings } from './settings.ts';
import type { Transit } from './transit.ts';
import { METADATA_PATH } from './well-known.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc6750#section-2.1 | RFC 6750 §2.1} */
const BEARER = /^bearer +([A-Za-z0-9\-._~+/]+=*) *$/i;
const MAX_CREDENTIAL = 8192;
/** Credentials of this system by their looks; they are never passed on, whoever they were sent to, in whatever form. */
const OWN_CREDENTIAL = /^bearer\s+ohp_|ohp_[0-9A-Za-z]{49}/i;
const BEARER_TEXT = /^bearer\s+(\S+)\s*$/i;

/** `invalid`: something was sent that is not one bearer credential. Only the header counts, never the query. */
export type Credential = { kind: 'none' } | { kind: 'bearer'; text: string } | { kind: 'invalid' };

const NONE: Credential = { kind: 'none' };
const INVALID: Credential = { kind: 'invalid' };

export function credentialOf({ headers, rawHeaders }: Transit): Credential {
  const { authorization } = headers;
  if (authorization === undefined) return NONE;
  // Node keeps the first of several; another reader might keep the last.
  if (authorization.length > MAX_CREDENTIAL || countOf(rawHeaders, 'authorization') > 1) return INVALID;
  const text = BEARER.exec(authorization)?.[1];
  return text === undefined ? INVALID : { kind: 'bearer', text };
}

/** The administrator's token may look like anything, so what has another look is asked for. */
export function isOwnCredential(authorization: string, authenticate: Authenticate): boolean {
  if (OWN_CREDENTIAL.test(authorization)) return true;
  const text = BEARER_TEXT.exec(authorization)?.[1];
  return text !== undefined && authenticate(text) !== undefined;
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

/** Of the very form in which `/mcp` was asked for: clients compare `resource` with their own URL to the letter. */
export function metadataUrl(transit: Transit): string {
  return `${baseUrlOf(transit)}${METADATA_PATH}${transit.path}`;
}

export function baseUrlOf({ core, scheme, hostname, authority }: Transit): string {
  return core.hosts.baseUrl(scheme, hostname, authority);
}
