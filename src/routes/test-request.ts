/**
 * What a request would get, told without sending it: the same normalising and matching that serves, on the table that
 * serves. Pure. Called by `RouteService.test`.
 */
import { AppError } from '../core/errors.ts';
import { isConfined, mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import {
  type Match,
  matchRequest,
  type RoutingTable,
  schemeDecision,
  servesMcp,
  upstreamPath,
} from './match.ts';
import { normaliseTarget, parseAuthority } from './normalise.ts';
import type { RouteTest } from './schema.ts';

export interface TestSettings {
  table: RoutingTable;
  controlHosts: ReadonlySet<string>;
  /** Setting `mcp.hosts`: empty means every served hostname. */
  mcpHosts: readonly string[];
  /** The port that a redirect to HTTPS names. */
  httpsPort: number;
}

interface TestedRequest {
  scheme: 'http' | 'https';
  method: string;
  hostname: string;
  port: number | undefined;
  path: string;
  query: string;
}

const HTTP_PORT = 80;
/** Not a hostname that can be proxied: the control plane, for this machine. */
const LOOPBACK = /^127\.|^::1$/;
const HTTPS_PORT = 443;
/** Not `URL`: it would resolve what the gateway has to see as the client sends it. A fragment is never sent. */
const REQUEST_URL = /^(https?):\/\/([^/?#]*)([^#]*)/i;
const CHALLENGE = '/.well-known/acme-challenge/';
const OUTSIDE = 'decided by a proxy or route outside of what this credential may see';
const METADATA = /^\/\.well-known\/oauth-protected-resource(?:\/mcp\/?)?$/;

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
  const host = parseAuthority(authority);
  if (!host) return badRequest('its host is not a hostname or address the gateway accepts');
  const { hostname } = host;
  requireHostname(principal, hostname);
  const target = normaliseTarget(rest.startsWith('/') ? rest : `/${rest}`);
  if (!target) return badRequest('its path or query is one the gateway refuses (400)');
  const request = { scheme: schemeOf(scheme), method, ...host, ...target };
  const { match, ...verdict } = decide(request, settings);
  const facts = { ...nothing, ...verdict, hostname, path: target.path };
  return match ? { ...facts, ...factsOf(match, request, verdict), ...hidden(match, principal) } : facts;
}

const schemeOf = (text: string): 'http' | 'https' => (text.toLowerCase() === 'http' ? 'http' : 'https');

const badRequest = (reason: string): RouteTest => ({ ...nothing, outcome: 'bad_request', reason });

type Verdict = Pick<RouteTest, 'outcome' | 'reason'> &
  Partial<Pick<RouteTest, 'mcp_answers' | 'redirect_to'>> & {
    /** Absent when no proxy has a part in it. */
    match?: Match;
  };

/** In the order of the gateway's own steps. */
function decide(request: TestedRequest, { table, controlHosts, mcpHosts, httpsPort }: TestSettings): Verdict {
  const { hostname, path, method, scheme } = request;
  if (path.startsWith(CHALLENGE)) return { outcome: 'system', reason: 'certificate challenges stay here' };
  if (controlHosts.has(hostname) || LOOPBACK.test(hostname)) return decideControl(request);
  const match = matchRequest(table, hostname, method, path);
  if (!match) return { outcome: 'not_served', reason: `no enabled proxy serves ${hostname}` };
  const decision = schemeDecision(match.proxy, scheme);
  if (decision === 'refuse')
    return { outcome: 'not_served', reason: `enable_${scheme} of the proxy is false`, match };
  const mcp_answers = servesMcp(match.proxy, hostname, path, mcpHosts);
  const isOwn = mcp_answers || (METADATA.test(path) && servesMcp(match.proxy, hostname, '/mcp', mcpHosts));
  if (isOwn && scheme === 'http') return { ...decidePlain(request, httpsPort), mcp_answers, match };
  if (mcp_answers) return { outcome: 'mcp', reason: 'serve_mcp of the proxy is true', mcp_answers, match };
  if (isOwn) return { outcome: 'system', reason: 'metadata of the MCP endpoint', match };
  if (decision === 'redirect')
    return {
      outcome: 'redirect',
      reason: 'redirect_to_https of the proxy is true',
      redirect_to: httpsUrl(request, httpsPort),
      match,
    };
  const reason = match.route ? `route ${match.route.id} matches` : 'no route matches: the proxy decides';
  return { outcome: 'forward', reason, match };
}

function decideControl({ hostname, path, scheme }: TestedRequest): Verdict {
  const mcp_answers = path === '/mcp' || path === '/mcp/';
  const where = scheme === 'http' ? ', in the clear for this machine only' : '';
  return {
    outcome: mcp_answers ? 'mcp' : 'system',
    reason: `${hostname} is the control host${where}`,
    mcp_answers,
  };
}

/** What asks for credentials is not served in the clear to other machines. */
function decidePlain(request: TestedRequest, httpsPort: number): Verdict {
  return request.method === 'GET' || request.method === 'HEAD'
    ? { outcome: 'redirect', reason: 'MCP needs HTTPS', redirect_to: httpsUrl(request, httpsPort) }
    : { outcome: 'not_served', reason: 'MCP needs HTTPS, except from this machine' };
}

/** Who named a port of ours is sent to another one of ours; who named none came through a front. */
function httpsUrl({ hostname, port, path, query }: TestedRequest, httpsPort: number): string {
  const isFront = port === undefined || port === HTTP_PORT || httpsPort === HTTPS_PORT;
  return `https://${authorityOf(hostname)}${isFront ? '' : `:${httpsPort}`}${path}${queryOf(query)}`;
}

const authorityOf = (hostname: string): string => (hostname.includes(':') ? `[${hostname}]` : hostname);
const queryOf = (query: string): string => (query === '' ? '' : `?${query}`);

/** The target is told for what reaches it, at once or after the redirect. */
function factsOf(
  match: Match,
  { path, query }: TestedRequest,
  { outcome, mcp_answers }: Verdict,
): Partial<RouteTest> {
  const { proxy, route, auth } = match;
  const told = { proxy: { id: proxy.id, hostname: proxy.hostname } };
  if (mcp_answers || (outcome !== 'forward' && outcome !== 'redirect')) return told;
  return {
    ...told,
    route: route
      ? { id: route.id, hostname: route.hostname, path: route.path, priority: route.priority }
      : null,
    auth,
    target_url: `${new URL(match.targetUrl).origin}${upstreamPath(match, path)}${queryOf(query)}`,
  };
}

/** A wildcard's proxy or a global route may decide for a hostname without being the principal's to see. */
function hidden({ proxy, route }: Match, principal: Principal): Partial<RouteTest> {
  const seesProxy = mayTouch(principal, proxy.hostname);
  const seesRoute = !isConfined(principal) || (route?.hostname !== null && seesProxy);
  return {
    ...(!seesProxy && { proxy: null }),
    ...(!seesRoute && { route: null, auth: null, target_url: null, reason: OUTSIDE }),
  };
}
