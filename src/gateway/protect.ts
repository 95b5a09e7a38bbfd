/**
 * What `protect_proxy` asks of a request: who it is, by an access token or by the cookie of a browser, and whether the
 * policy lets it in. The same for a request that is forwarded here and for one that a front of the operator's asks
 * about (`answer-verify`). Who it is and whom a policy names is not known here: `core.protection` is asked.
 */
import type { Audience } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import { mayTouch } from '../core/principal.ts';
import type { OAuthPolicy } from '../proxies/auth-policy.ts';
import { METADATA_PATH } from '../routes/own.ts';
import { baseUrlOf, credentialOf, type Credential, siteIssuerOf } from './bearer.ts';
import type { Site } from './core.ts';
import type { Transit } from './transit.ts';

/** A request to something protected. */
export interface Visit {
  readonly policy: OAuthPolicy;
  readonly site: Site;
  readonly method: string;
  /** Canonical. */
  readonly path: string;
  readonly query: string;
  readonly isUpgrade: boolean;
  /** False for fronts that can't hand on a redirect. */
  readonly mayRedirect: boolean;
}

/** Where the request at hand is for. A class, because one of these is made for nearly every request. */
class RequestSite implements Site {
  readonly hostname: string;
  readonly origin: string;
  readonly isSecure: boolean;
  readonly #transit: Transit;

  constructor(transit: Transit) {
    this.hostname = transit.hostname;
    this.origin = baseUrlOf(transit);
    this.isSecure = transit.scheme === 'https';
    this.#transit = transit;
  }

  /** Few requests need it. */
  get issuer(): string {
    return siteIssuerOf(this.#transit);
  }
}

/** Of the request at hand. Made once for each policy that it is asked about. */
export function visitOf(transit: Transit, policy: OAuthPolicy): Visit {
  if (transit.visit?.policy === policy) return transit.visit;
  const { method, path, query, upgrade } = transit;
  const site = new RequestSite(transit);
  const visit: Visit = {
    policy,
    site,
    method,
    path,
    query,
    isUpgrade: upgrade !== undefined,
    mayRedirect: true,
  };
  transit.visit = visit;
  return visit;
}

export const audienceOfVisit = ({ site, path }: Visit): Audience => ({
  origin: site.origin,
  path,
  isControl: false,
});

/** By whole segments of the path as it is forwarded: what some upstream may take for the same is not public. */
export const isPublic = ({ public_paths }: OAuthPolicy, path: string): boolean =>
  public_paths.some((open) => {
    const stem = open.endsWith('/') ? open.slice(0, -1) : open;
    return path === open || path.startsWith(`${stem}/`);
  });

export type Arrival =
  | { readonly by: 'token'; readonly credential: Credential }
  | { readonly by: 'session'; readonly principal: Principal }
  /** A browser that can be sent to sign in. */
  | { readonly by: 'navigation' }
  | { readonly by: 'nothing' };

/** How a request says who it is. A credential decides where it is sent, whatever cookies come with it. */
export function arrivalOf(transit: Transit, visit: Visit): Arrival {
  const { mode } = visit.policy;
  if (mode !== 'redirect') {
    const credential = credentialOf(transit);
    if (credential.kind !== 'none') return { by: 'token', credential };
    if (mode === 'bearer') return { by: 'nothing' };
  }
  const principal = transit.core.protection.sessionOf(transit.headers.cookie, visit.site);
  if (principal && !isFromElsewhere(transit, visit)) return { by: 'session', principal };
  return visit.mayRedirect && isNavigation(transit, visit) ? { by: 'navigation' } : { by: 'nothing' };
}

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * `SameSite` lets siblings through: `a.example.com` and `b.example.com` are one site. A page of another origin changes
 * nothing in the name of who is signed in here, and opens no socket.
 */
function isFromElsewhere({ headers }: Transit, { method, isUpgrade, site }: Visit): boolean {
  if (SAFE.has(method) && !isUpgrade) return false;
  const { origin, 'sec-fetch-site': from } = headers;
  if (origin !== undefined) return origin !== site.origin;
  return from === 'cross-site' || from === 'same-site';
}

/** Somebody looks at a page, rather than a script asking for data. @see {@link https://www.w3.org/TR/fetch-metadata/} */
function isNavigation({ headers }: Transit, { method, isUpgrade }: Visit): boolean {
  if (isUpgrade || (method !== 'GET' && method !== 'HEAD')) return false;
  const { accept, authorization, 'sec-fetch-mode': mode, 'sec-fetch-dest': dest } = headers;
  if (authorization !== undefined || headers['x-requested-with'] !== undefined) return false;
  if ((mode ?? 'navigate') !== 'navigate' || (dest ?? 'document') !== 'document') return false;
  return /(?:^|,)\s*(?:text\/html|application\/xhtml\+xml)\s*(?:[;,]|$)/i.test(accept ?? '');
}

export type Admission = 'in' | 'lacks-scopes' | 'out';

export function admissionOf(transit: Transit, visit: Visit, principal: Principal): Admission {
  const { protection } = transit.core;
  const { policy, site } = visit;
  if (principal.kind === 'anonymous' || !protection.allows(policy, principal)) return 'out';
  if (principal.kind === 'token' && !mayTouch(principal, site.hostname)) return 'out';
  return protection.lacksScopes(policy, principal) ? 'lacks-scopes' : 'in';
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-5.1 | RFC 9728 §5.1} and RFC 6750 §3 */
export function challengeOf(
  { policy, site, path }: Visit,
  error?: 'invalid_token' | 'insufficient_scope',
  scopes: readonly string[] = policy.scopes,
): string {
  // RFC 9110 §11.6.1: a 401 names a way to authenticate. Of a cookie there is none that programs know.
  if (policy.mode === 'redirect') return `Cookie realm="${site.origin}"`;
  const parts = [
    ...(error === undefined ? [] : [`error="${error}"`]),
    `scope="${scopes.join(' ')}"`,
    `resource_metadata="${site.origin}${METADATA_PATH}${path}"`,
  ];
  return `Bearer ${parts.join(', ')}`;
}

/** Of a gateway that was given none: nobody is let in. */
export const closed = {
  sessionOf: () => undefined,
  allows: () => false,
  lacksScopes: () => true,
  names: () => false,
  mark: () => '',
  identityOf: () => [],
  beginSignIn: () => ({ location: '/', cookies: [] }),
};
