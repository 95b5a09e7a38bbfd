/**
 * What is decided of a request by its line, its host and where it comes from. One place, so that the steps of the
 * gateway, which act on it, and `test_route`, which tells of it, can't disagree. Pure.
 */
import type { AuthPolicy, McpPolicy, OAuthPolicy } from '../proxies/auth-policy.ts';
import { scopesToAskFor } from '../proxies/mcp-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import {
  type Match,
  matchRequest,
  pathOf,
  type RoutingTable,
  schemeDecision,
  upstreamPath,
} from './match.ts';
import { authorityOf, comparablePath } from './normalise.ts';
import {
  answersMcp,
  describedPath,
  isLoopbackAddress,
  isProbePath,
  isSitePath,
  mcpPaths,
  type OwnKind,
  ownKindOf,
} from './own.ts';

const METHOD = /^[A-Z][A-Z-]{0,31}$/;
/** A reverse proxy makes no tunnels, and TRACE would show what was added for the upstream. */
export const methodsNotServed: ReadonlySet<string> = new Set(['CONNECT', 'TRACE']);

export const isMethodServed = (method: string): boolean =>
  METHOD.test(method) && !methodsNotServed.has(method);

/** A bare loopback address is the control plane's only for who is on this machine. `controlHosts` is canonical. */
export function isControlHost(
  controlHosts: ReadonlySet<string>,
  hostname: string,
  isLocal: boolean,
): boolean {
  return controlHosts.has(hostname) || (isLocal && isLoopbackAddress(hostname));
}

/** Host and path are canonical (`normalise.ts`). */
export interface Asked {
  readonly hostname: string;
  /** What the upstream would get. */
  readonly method: string;
  readonly path: string;
}

export type ServedBy =
  | { readonly kind: 'proxied'; readonly match: Match }
  /** Sign-in of browsers. */
  | { readonly kind: 'site'; readonly match: Match }
  /** Metadata of something protected, which `match` is then; the policy is the one that it tells of. */
  | { readonly kind: 'metadata'; readonly match: Match; readonly policy: OAuthPolicy }
  /** Without a match no proxy has a part in it. */
  | { readonly kind: OwnKind | 'control' | 'probe'; readonly match: Match | undefined };

/** What is answered before it is asked how it came: a challenge of ACME and a probe come by any scheme. */
export const comesAnyhow = (kind: ServedBy['kind']): boolean => kind === 'acme' || kind === 'probe';

export interface ServingRules {
  readonly table: RoutingTable;
  /** Setting `mcp.hosts`, canonical; empty: every served hostname. */
  readonly mcpHosts: readonly string[];
}

/** Who serves a request: this system itself, or a proxy's target. Undefined: nobody. */
export function servedBy(
  { hostname, method, path }: Asked,
  isControl: boolean,
  { table, mcpHosts }: ServingRules,
): ServedBy | undefined {
  const own = ownKindOf(path);
  if (own === 'acme') return { kind: own, match: undefined };
  if (isControl) return { kind: own ?? (isProbePath(path) ? 'probe' : 'control'), match: undefined };
  const match = matchRequest(table, hostname, method, path);
  if (!match) return undefined;
  if (isSitePath(path) && table.asksForSignIn(hostname)) return { kind: 'site', match };
  const isMcpHere = answersMcp(match.proxy, hostname, mcpHosts);
  const described = describedBy({ hostname, path }, isMcpHere, table);
  if (described) return described;
  return own && isMcpHere ? { kind: own, match } : { kind: 'proxied', match };
}

/**
 * The rules for tools that a request for this path is under. All below the path is meant too, and letters of either
 * case, as upstreams route (Express, ASP.NET): whoever spells it otherwise must not get around the rules.
 */
export function toolRulesAt(auth: AuthPolicy, path: string): McpPolicy | undefined {
  if (auth.kind !== 'oauth' || !auth.mcp) return undefined;
  const stem = auth.mcp.path.replace(/\/$/, '').toLowerCase();
  const compared = comparablePath(path).toLowerCase();
  return compared === stem || compared.startsWith(`${stem}/`) ? auth.mcp : undefined;
}

/**
 * The same for a request that is forwarded: a route that leads to where the target speaks MCP is under the rules too,
 * whatever it is called here. Who may write routes and not proxies must not lead around what the proxy asks for.
 */
export function toolRulesOf(match: Match, path: string): McpPolicy | undefined {
  const { auth, route, proxy } = match;
  const rules = toolRulesAt(auth, path);
  if (rules || !route || auth.kind !== 'oauth' || !auth.mcp) return rules;
  const forwarded = upstreamPath(match, path);
  const base = pathOf(proxy.target_url);
  const isBelow = forwarded.toLowerCase().startsWith(`${base.toLowerCase()}/`);
  return (
    toolRulesAt(auth, forwarded) ?? (isBelow ? toolRulesAt(auth, forwarded.slice(base.length)) : undefined)
  );
}

/** What an access token for this path can be asked for; undefined: none is for it. */
export function scopesAt(table: RoutingTable, hostname: string, path: string): readonly string[] | undefined {
  const auth = matchRequest(table, hostname, 'GET', path)?.auth;
  return auth?.kind === 'oauth' && auth.mode !== 'redirect' ? scopesToAskFor(auth) : undefined;
}

/** Of `/mcp` it tells only where that is the target's own. */
function describedBy(
  { hostname, path }: Pick<Asked, 'hostname' | 'path'>,
  isMcpHere: boolean,
  table: RoutingTable,
): ServedBy | undefined {
  const described = describedPath(path);
  if (described === undefined || (isMcpHere && mcpPaths.includes(described))) return undefined;
  const match = matchRequest(table, hostname, 'GET', described === '' ? '/' : described);
  if (match?.auth.kind !== 'oauth' || match.auth.mode === 'redirect') return undefined;
  return { kind: 'metadata', match, policy: match.auth };
}

/**
 * `serve` it as it came; `redirect` it to HTTPS; it is `unserved` over this scheme at all; or it is `unsafe` in the
 * clear and can't be redirected.
 */
export type Passage = 'serve' | 'redirect' | 'unserved' | 'unsafe';

export interface Arrival {
  readonly scheme: 'http' | 'https';
  readonly method: string;
  /** Both ends on this machine: there the control plane answers in the clear. */
  readonly isLocal: boolean;
  /** Undefined where no proxy has a part in it. */
  readonly match: Match | undefined;
}

/** Whether the TLS layer asks clients of this proxy for certificates. */
export const asksForCertificate = ({ client_auth }: Pick<Proxy, 'client_auth'>): boolean =>
  client_auth.mode !== 'off';

/**
 * Whether a request is served over the scheme it came by; `isOwn`: by this system itself. Not for what `comesAnyhow`.
 * What people and agents sign in for is not served in the clear either, except on this machine.
 */
export function passageOf({ scheme, method, isLocal, match }: Arrival, isOwn: boolean): Passage {
  const decision = match ? schemeDecision(match.proxy, scheme) : 'serve';
  if (decision === 'refuse') return 'unserved';
  if (scheme === 'http' && match && asksForCertificate(match.proxy))
    return decision === 'redirect' && !isOwn ? decision : inTheClear(method);
  if (!isOwn && (decision === 'redirect' || match?.auth.kind !== 'oauth')) return decision;
  if (scheme === 'https' || isLocal) return 'serve';
  return inTheClear(method);
}

/**
 * A credential that came in the clear has been seen by others: better that the client notices. A certificate can't be
 * shown in the clear at all, from this machine neither.
 */
const inTheClear = (method: string): Passage =>
  method === 'GET' || method === 'HEAD' ? 'redirect' : 'unsafe';

export interface Ports {
  readonly http: number;
  readonly https: number;
}

export interface Location {
  readonly hostname: string;
  /** As the client wrote it. */
  readonly port: number | undefined;
  readonly path: string;
  readonly query: string;
}

/** Who reached our own HTTP port reaches our own HTTPS port; who came through 80 of a front comes through its 443. */
export function httpsUrl({ hostname, port, path, query }: Location, ports: Ports): string {
  const isOwn = port === ports.http && port !== 80;
  const authority = authorityOf(hostname, isOwn ? ports.https : undefined, 'https');
  return `https://${authority}${path}${query === '' ? '' : `?${query}`}`;
}
