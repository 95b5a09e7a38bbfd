/**
 * One record for every request, whoever answered it: of kind `access`, or of the kind of the surface that it was for. Never a query, a body, a
 * credential or a header but User-Agent.
 */
import type { Told } from '../core/exchange.ts';
import type { LogLevel, LogRecord } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import { isHttp2Request } from './client.ts';
import { gatewayLimits } from './settings.ts';
import type { Transit } from './transit.ts';

const PRINTABLE = /^[\x20-\x7e]*$/;
const FIRST_SERVER_ERROR = 500;

export function writeAccessRecord(transit: Transit): void {
  const { log, clock, meter } = transit.core;
  const told = transit.told?.();
  const bytes = bytesIn(transit);
  const endedAt = clock.now();
  meter.ended(transit, { endedAt, durationMs: endedAt - transit.startedAt, bytesIn: bytes, told });
  const level = levelOf(transit, told);
  if (log.enabled(told?.component ?? 'gateway', level)) log.write(recordOf(transit, level, told));
}

/** Who was refused is the client's affair; that an upstream failed is the operator's. */
function levelOf({ status, outcome }: Transit, told: Told | undefined): LogLevel {
  if (told !== undefined && told.outcome !== 'OK') return told.outcome === 'INTERNAL' ? 'error' : 'warn';
  return status >= FIRST_SERVER_ERROR && outcome !== 'OK' ? 'warn' : 'info';
}

function recordOf(transit: Transit, level: LogLevel, told: Told | undefined): LogRecord {
  const { core, method, hostname, path, status, startedAt, principal } = transit;
  const time = core.clock.now();
  const outcome = transit.outcome === 'OK' ? (told?.outcome ?? 'OK') : transit.outcome;
  return {
    time,
    kind: told?.kind ?? 'access',
    level,
    component: told?.component ?? 'gateway',
    message: told
      ? `${principal.name} ${told.operation}: ${outcome}`
      : `${method} ${hostname}${path} ${status}`,
    trace_id: transit.traceId,
    span_id: transit.span?.traceId === transit.traceId ? transit.span.spanId : undefined,
    hostname: hostname === '' ? undefined : hostname,
    method,
    path: path === '' ? undefined : path,
    status,
    duration_ms: time - startedAt,
    bytes_in: bytesIn(transit),
    bytes_out: transit.bytesOut,
    client_address: transit.clientAddress,
    principal: principal.id,
    user_agent: userAgentOf(transit.headers['user-agent']),
    operation: told?.operation,
    outcome,
    detail: detailOf(transit, told),
  };
}

function detailOf(transit: Transit, told: Told | undefined): Record<string, unknown> {
  const { kind, request, scheme, match, target, tries, reason, notes } = transit;
  return {
    request: kind ?? 'refused',
    protocol: isHttp2Request(request) ? 'h2' : 'h1',
    scheme,
    proxy: match?.proxy.id,
    route: match?.route?.id,
    target,
    tries: tries > 1 ? tries : undefined,
    reason: reason === undefined ? undefined : cleanText(reason),
    ...notes,
    ...told?.detail,
  };
}

export function bytesIn({ hasBody, body, request }: Transit): number {
  if (body) return body.bytes;
  return hasBody && request.complete ? Number(request.headers['content-length'] ?? 0) : 0;
}

function userAgentOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const cut = text.slice(0, gatewayLimits.userAgent);
  return PRINTABLE.test(cut) ? cut : cleanText(cut, gatewayLimits.userAgent);
}
