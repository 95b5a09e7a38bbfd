/** One record for every request, whoever answered it. Never a query, a body, a credential or a header but User-Agent. */
import type { LogLevel, LogRecord } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import { isHttp2Request } from './client.ts';
import { gatewayLimits } from './settings.ts';
import type { Transit } from './transit.ts';

const PRINTABLE = /^[\x20-\x7e]*$/;
const FIRST_SERVER_ERROR = 500;

export function writeAccessRecord(transit: Transit): void {
  const { log } = transit.core;
  const level = levelOf(transit);
  if (log.enabled('gateway', level)) log.write(recordOf(transit, level));
}

/** Who was refused is the client's affair; that an upstream failed is the operator's. */
function levelOf({ status, outcome }: Transit): LogLevel {
  return status >= FIRST_SERVER_ERROR && outcome !== 'OK' ? 'warn' : 'info';
}

function recordOf(transit: Transit, level: LogLevel): LogRecord {
  const { core, request, method, hostname, path, status, outcome, startedAt } = transit;
  const time = core.clock.now();
  return {
    time,
    kind: 'access',
    level,
    component: 'gateway',
    message: `${method} ${hostname}${path} ${status}`,
    trace_id: transit.traceId,
    hostname: hostname === '' ? undefined : hostname,
    method,
    path: path === '' ? undefined : path,
    status,
    duration_ms: time - startedAt,
    bytes_in: bytesIn(transit),
    bytes_out: transit.bytesOut,
    client_address: transit.clientAddress,
    principal: transit.principal.id,
    user_agent: userAgentOf(transit.headers['user-agent']),
    outcome,
    detail: {
      request: transit.kind ?? 'refused',
      protocol: isHttp2Request(request) ? 'h2' : 'h1',
      scheme: transit.scheme,
      proxy: transit.match?.proxy.id,
      route: transit.match?.route?.id,
      reason: transit.reason === undefined ? undefined : cleanText(transit.reason),
      ...transit.notes,
    },
  };
}

function bytesIn({ hasBody, body, request }: Transit): number {
  if (body) return body.bytes;
  return hasBody && request.complete ? Number(request.headers['content-length'] ?? 0) : 0;
}

function userAgentOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const cut = text.slice(0, gatewayLimits.userAgent);
  return PRINTABLE.test(cut) ? cut : cleanText(cut, gatewayLimits.userAgent);
}
