/**
 * What spans say of a request and of a try at an upstream. Never a header field, a query, a body or a credential.
 * @see {@link https://opentelemetry.io/docs/specs/semconv/http/http-spans/ | OpenTelemetry, conventions for HTTP spans}
 */
import type { OpenSpan, SpanFacts } from '../core/spans.ts';
import { type Match, upstreamPath } from '../routes/match.ts';
import { isHttp2Request } from './client.ts';
import type { Plan } from './snapshot.ts';
import type { Transit } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';

export interface Attempt {
  readonly span: OpenSpan;
  readonly plan: Plan;
  /** How many came before it. */
  readonly before: number;
}

const METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'QUERY',
]);
const FIRST_ERROR = 400;
const FIRST_SERVER_ERROR = 500;
const DEFAULT_PORTS = { http: 80, https: 443 } as const;

/** Of the request, for its server. What the client is to blame for is no error of ours. */
export function requestFacts(transit: Transit): SpanFacts {
  const { method, match, status, outcome, told } = transit;
  const name = METHODS.has(method) ? method : 'HTTP';
  const route = match?.route?.path;
  const isError = status >= FIRST_SERVER_ERROR || (status === 0 && outcome !== 'OK');
  const fault = outcome === 'OK' ? String(status) : outcome;
  return {
    name: route === undefined ? name : `${name} ${route}`,
    kind: 'server',
    isError,
    attributes: {
      ...methodOf(method),
      ...placeOf(transit),
      'http.response.status_code': known(status),
      'error.type': isError ? fault : undefined,
      'client.address': transit.clientAddress,
      'network.peer.address': transit.peer.address,
      'network.protocol.name': 'http',
      'network.protocol.version': isHttp2Request(transit.request) ? '2' : '1.1',
      'user.id': transit.principal.id,
      ...matchFacts(match),
      'ohp.request': transit.kind ?? 'refused',
      'ohp.outcome': outcome,
      'ohp.operation': told?.().operation,
    },
  };
}

const matchFacts = (match: Match | undefined) =>
  match && {
    'http.route': match.route?.path,
    'ohp.auth': match.auth.kind,
    'ohp.proxy': match.proxy.id,
    'ohp.route': match.route?.id,
  };

/** What was asked for; nothing of what could not be read. */
const placeOf = ({ scheme, path, hostname, port }: Transit) => ({
  'url.scheme': scheme,
  ...(path !== '' && { 'url.path': path }),
  ...(hostname !== '' && { 'server.address': hostname, 'server.port': port ?? DEFAULT_PORTS[scheme] }),
});

/** 0: there was none. */
const known = (status: number): number | undefined => (status === 0 ? undefined : status);

/** Of one try, for its client. */
export function attemptFacts(
  transit: Transit,
  { plan, before }: Attempt,
  error: Error | undefined,
): SpanFacts {
  const { method, isExtendedConnect } = transit;
  const { target, match } = plan;
  const status = error ? 0 : transit.upstreamStatus;
  const sent = isExtendedConnect ? 'GET' : method;
  const fault = error ? refusalOf(error).code : status === 0 ? 'CANCELLED' : undefined;
  const isError = fault !== undefined || status >= FIRST_ERROR;
  return {
    name: METHODS.has(sent) ? sent : 'HTTP',
    kind: 'client',
    isError,
    attributes: {
      ...methodOf(sent),
      'url.full': urlOf(transit, plan),
      'server.address': target.hostname,
      'server.port': target.port,
      'http.response.status_code': known(status),
      'http.request.resend_count': before === 0 ? undefined : before,
      'error.type': isError ? (fault ?? String(status)) : undefined,
      'network.protocol.name': 'http',
      'network.protocol.version': '1.1',
      'ohp.proxy': match.proxy.id,
      'ohp.route': match.route?.id,
    },
  };
}

/** Where a try goes, without the query. */
export const urlOf = ({ path }: Transit, { target, match }: Plan): string =>
  `${target.origin}${upstreamPath(match, path)}`;

/** What nobody standardised is not told: a stranger may have written it. */
const methodOf = (method: string) => ({ 'http.request.method': METHODS.has(method) ? method : '_OTHER' });
