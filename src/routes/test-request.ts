/**
 * What a request would get, told without sending it: the decisions of the gateway itself (`decide.ts`) on the table
 * that serves. A name of loopback is asked for by this machine, any other by a client elsewhere. Pure. Called by
 * `RouteService.test`.
 */
import { AppError } from '../core/errors.ts';
import { isConfined, mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import {
  asksForCertificate,
  comesAnyhow,
  httpsUrl,
  isControlHost,
  isMethodServed,
  type Location,
  passageOf,
  type Ports,
  servedBy,
  type ServedBy,
  type ServingRules,
  toolRulesOf,
} from './decide.ts';
import type { TargetState } from '../proxies/load-balancing.ts';
import { originOf } from '../proxies/target-url.ts';
import { isOwnOrigin, type Match, upstreamPath } from './match.ts';
import { isLoopbackAddress } from './own.ts';
import { normaliseTarget, parseAuthority } from './normalise.ts';
import type { RouteTest } from './schema.ts';

export interface TestSettings extends ServingRules {
  controlHosts: ReadonlySet<string>;
  /** Where this process listens: what a redirect to HTTPS names. */
  ports: Ports;
  /** How the targets of a proxy stand, where it has several. */
  targetStates: (proxyId: string) => readonly TargetState[] | undefined;
  /** Where services are that these URLs name, for who may know. */
  leadingTo: (urls: readonly string[]) => Pick<RouteTest, 'leads_to'>;
}

interface TestedRequest extends Location {
  scheme: 'http' | 'https';
  method: string;
  isLocal: boolean;
}

/** Not `URL`: it would resolve what the gateway has to see as the client sends it. A fragment is never sent. */
const REQUEST_URL = /^(https?):\/\/([^/?#]*)([^#]*)/i;
const OUTSIDE = 'decided by a proxy or route outside of what this credential may see';

const NEEDS_HTTPS = 'the control plane and MCP need HTTPS, except from this machine';

const NEEDS_CERTIFICATE = 'client_auth of the proxy asks for certificates, which come over HTTPS only';

const nothing = {
  hostname: null,
  path: null,
  mcp_answers: false,
  redirect_to: null,
  proxy: null,
  route: null,
  auth: null,
  target_url: null,
} as const;

/** @throws AppError when the text is no URL, or names a hostname that the principal may not touch. */
export function testRequest(
  url: string,
  method: string,
  principal: Principal,
  settings: TestSettings,
): RouteTest {
  const [, scheme = '', authority = '', rest = ''] = REQUEST_URL.exec(url) ?? [];
  if (scheme === '')
    throw new AppError('INVALID_INPUT', 'url: has to be a whole URL such as https://app.example.com/api?x=1');
  // In the order of the gateway's steps.
  if (!isMethodServed(method))
    return {
      ...nothing,
      outcome: 'not_served',
      reason: `${method} is a method that the gateway refuses (405)`,
    };
  const host = parseAuthority(authority);
  if (!host) return badRequest('its host is not a hostname or address the gateway accepts');
  const { hostname } = host;
  requireHostname(principal, hostname);
  const target = normaliseTarget(rest.startsWith('/') ? rest : `/${rest}`);
  if (!target) return badRequest('its path or query is one the gateway refuses (400)');
  const request = { scheme: schemeOf(scheme), method, isLocal: isLocalName(hostname), ...host, ...target };
  const served = servedBy(request, isControlHost(settings.controlHosts, hostname, request.isLocal), settings);
  const facts = { ...nothing, hostname, path: target.path };
  if (!served) return { ...facts, outcome: 'not_served', reason: `no enabled proxy serves ${hostname}` };
  const answer = answerOf(served, request, settings);
  return { ...facts, ...answer, ...partsOf(served, request, answer, settings), ...hidden(served, principal) };
}

const schemeOf = (text: string): 'http' | 'https' => (text.toLowerCase() === 'http' ? 'http' : 'https');

const badRequest = (reason: string): RouteTest => ({ ...nothing, outcome: 'bad_request', reason });

/** @see {@link https://www.rfc-editor.org/rfc/rfc6761#section-6.3 | RFC 6761 §6.3} */
const isLocalName = (hostname: string): boolean =>
  hostname === 'localhost' || hostname.endsWith('.localhost') || isLoopbackAddress(hostname);

type Answer = Pick<RouteTest, 'outcome' | 'reason' | 'mcp_answers' | 'redirect_to'>;

function answerOf(served: ServedBy, request: TestedRequest, { ports }: TestSettings): Answer {
  const { kind, match } = served;
  const isOwn = kind !== 'proxied';
  const passage = comesAnyhow(kind) ? 'serve' : passageOf({ ...request, match }, isOwn);
  const mcp_answers = kind === 'mcp' && passage !== 'unserved';
  const told = { mcp_answers, redirect_to: null };
  switch (passage) {
    case 'serve':
      return { ...told, ...withCertificate(served, request) };
    case 'redirect':
      return {
        ...told,
        outcome: 'redirect',
        reason: redirectReasonOf(match, isOwn),
        redirect_to: httpsUrl(request, ports),
      };
    case 'unserved':
      return { ...told, outcome: 'not_served', reason: `enable_${request.scheme} of the proxy is false` };
    case 'unsafe':
      return { ...told, outcome: 'not_served', reason: isClosed(match) ? NEEDS_CERTIFICATE : NEEDS_HTTPS };
  }
}

const isClosed = (match: Match | undefined): boolean =>
  match !== undefined && asksForCertificate(match.proxy);

function redirectReasonOf(match: Match | undefined, isOwn: boolean): string {
  if (isClosed(match)) return NEEDS_CERTIFICATE;
  return isOwn ? NEEDS_HTTPS : 'redirect_to_https of the proxy is true';
}

function withCertificate(served: ServedBy, request: TestedRequest): Pick<RouteTest, 'outcome' | 'reason'> {
  const { outcome, reason } = servedAs(served, request);
  const { client_auth: auth } = served.match?.proxy ?? {};
  if (auth === undefined || auth.mode === 'off') return { outcome, reason };
  const who =
    auth.mode === 'require'
      ? 'only to clients with a certificate'
      : 'unless a client shows a bad certificate';
  return { outcome, reason: `${reason}; ${who} (client_auth of the proxy)` };
}

function servedAs(
  served: ServedBy,
  { hostname, scheme, path }: TestedRequest,
): Pick<RouteTest, 'outcome' | 'reason'> {
  const { kind, match } = served;
  const where = scheme === 'http' ? ', in the clear for this machine only' : '';
  switch (kind) {
    case 'acme':
      return { outcome: 'system', reason: 'certificate challenges stay here' };
    case 'probe':
      return { outcome: 'system', reason: 'a probe of the control host' };
    case 'control':
      return { outcome: 'system', reason: `${hostname} is the control host${where}` };
    case 'metadata':
      return {
        outcome: 'system',
        reason: `metadata of ${'policy' in served ? 'what is protected' : 'the MCP endpoint'}${where}`,
      };
    case 'site':
      return { outcome: 'system', reason: `sign-in of browsers${where}` };
    case 'mcp':
      return {
        outcome: 'mcp',
        reason: `${match ? 'serve_mcp of the proxy is true' : `${hostname} is the control host`}${where}`,
      };
    case 'proxied':
      return { outcome: 'forward', reason: reasonOf(served.match, path) };
  }
}

const TOOL_RULES = '; rules for tools of MCP apply (mcp in auth)';

function reasonOf(match: Match, path: string): string {
  const rules = toolRulesOf(match, path) ? TOOL_RULES : '';
  return `${matchReasonOf(match)}${rules}`;
}

function matchReasonOf(match: Match): string {
  if (!match.route) return 'no route matches: the proxy decides';
  const found = `route ${match.route.id} matches`;
  const setsHeaders = Object.keys(match.proxy.request_headers.set).length > 0;
  return setsHeaders && !isOwnOrigin(match)
    ? `${found}; its target is of another origin than the proxy's, so no header that the proxy sets goes there`
    : found;
}

const queryOf = (query: string): string => (query === '' ? '' : `?${query}`);

/** Proxy, route and target, where they have a part in it: the target for what reaches it, at once or redirected. */
function partsOf(
  { kind, match }: ServedBy,
  { path, query }: TestedRequest,
  { outcome }: Answer,
  { targetStates, leadingTo }: TestSettings,
): Partial<RouteTest> {
  if (!match) return {};
  const { proxy, route, auth, targetUrl } = match;
  const told = { proxy: { id: proxy.id, hostname: proxy.hostname } };
  if (kind !== 'proxied' || outcome === 'not_served') return told;
  return {
    ...told,
    route: route
      ? { id: route.id, hostname: route.hostname, path: route.path, priority: route.priority }
      : null,
    auth,
    target_url: `${originOf(targetUrl)}${upstreamPath(match, path)}${queryOf(query)}`,
    ...(targetUrl === proxy.target_url && availableOf(targetStates(proxy.id))),
    ...leadingTo([targetUrl]),
  };
}

function availableOf(states: readonly TargetState[] | undefined): Pick<RouteTest, 'targets'> {
  if (!states) return {};
  const inUse = states.filter(({ state }) => state !== 'drained');
  const well = inUse.filter(({ state }) => state !== 'unhealthy');
  // Those that are out are asked where nobody else is left.
  return { targets: (well.length > 0 ? well : inUse).map(({ url, state }) => ({ url, state })) };
}

/** A wildcard's proxy or a global route may decide for a hostname without being the principal's to see. */
function hidden({ match }: ServedBy, principal: Principal): Partial<RouteTest> {
  if (!match) return {};
  const seesProxy = mayTouch(principal, match.proxy.hostname);
  const seesRoute = !isConfined(principal) || (match.route?.hostname !== null && seesProxy);
  return {
    ...(!seesProxy && { proxy: null }),
    ...(!seesRoute && {
      route: null,
      auth: null,
      target_url: null,
      targets: undefined,
      leads_to: undefined,
      reason: OUTSIDE,
    }),
  };
}
