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
  path: string;
  query: string;
}

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
  const hostname = parseAuthority(authority)?.hostname;
  if (hostname === undefined) return badRequest('its host is not a hostname or address the gateway accepts');
  requireHostname(principal, hostname);
  const target = normaliseTarget(rest.startsWith('/') ? rest : `/${rest}`);
  if (!target) return badRequest('its path or query is one the gateway refuses (400)');
  const request = { scheme: scheme.toLowerCase() as 'http' | 'https', method, hostname, ...target };
  const { match, ...verdict } = decide(request, settings);
  const facts = { ...nothing, ...verdict, hostname, path: target.path };
  return match ? { ...facts, ...factsOf(match, request, verdict), ...hidden(match, principal) } : facts;
}

const badRequest = (reason: string): RouteTest => ({ ...nothing, outcome: 'bad_request', reason });

type Verdict = Pick<RouteTest, 'outcome' | 'reason'> &
  Partial<Pick<RouteTest, 'mcp_answers' | 'redirect_to'>> & {
    /** Absent when no proxy has a part in it. */
    match?: Match;
  };

/** In the order of the gateway's own steps. */
function decide(request: TestedRequest, { table, controlHosts, mcpHosts, httpsPort }: TestSettings): Verdict {
  const { hostname, path, method, scheme } = request;
  if (controlHosts.has(hostname)) {
    const isMcp = path === '/mcp' || path === '/mcp/';
    const reason = `${hostname} is the control host`;
    return { outcome: isMcp ? 'mcp' : 'system', reason, mcp_answers: isMcp };
  }
  const match = matchRequest(table, hostname, method, path);
  if (!match) return { outcome: 'not_served', reason: `no enabled proxy serves ${hostname}` };
  if (path.startsWith(CHALLENGE))
    return { outcome: 'system', reason: 'certificate challenges stay here', match };
  const decision = schemeDecision(match.proxy, scheme);
  const mcp_answers = decision !== 'refuse' && servesMcp(match.proxy, hostname, path, mcpHosts);
  if (decision === 'refuse')
    return { outcome: 'not_served', reason: `enable_${scheme} of the proxy is false`, match };
  if (decision === 'redirect')
    return {
      outcome: 'redirect',
      reason: 'redirect_to_https of the proxy is true',
      redirect_to: httpsUrl(request, httpsPort),
      mcp_answers,
      match,
    };
  if (mcp_answers) return { outcome: 'mcp', reason: 'serve_mcp of the proxy is true', mcp_answers, match };
  if (METADATA.test(path) && servesMcp(match.proxy, hostname, '/mcp', mcpHosts))
    return { outcome: 'system', reason: 'metadata of the MCP endpoint', match };
  const reason = match.route ? `route ${match.route.id} matches` : 'no route matches: the proxy decides';
  return { outcome: 'forward', reason, match };
}

function httpsUrl({ hostname, path, query }: TestedRequest, port: number): string {
  return `https://${authorityOf(hostname)}${port === HTTPS_PORT ? '' : `:${port}`}${path}${queryOf(query)}`;
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
