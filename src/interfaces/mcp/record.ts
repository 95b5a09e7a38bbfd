/** One log record per request: what was asked and what came of it. Never arguments, never a session id. */
import type { Clock } from '../../core/clock.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { Log } from '../../core/record.ts';
import { cleanText } from '../../core/untrusted.ts';
import { isRecord } from './message.ts';
import { CLIENT_NAME_CHARACTERS } from './settings.ts';

/** Filled in while a request is served. */
export interface Facts {
  readonly started: number;
  method: string;
  tool?: string | undefined;
  era?: 'modern' | 'legacy' | undefined;
  /** Hash of the session's id. */
  session?: string | undefined;
  client?: string | undefined;
  /** `OK` or an error code. */
  outcome: string;
}

const KNOWN_METHODS: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'server/discover',
  'tools/list',
  'tools/call',
  'subscriptions/listen',
  'notifications/initialized',
  'notifications/cancelled',
]);

export const methodName = (method: string): string =>
  KNOWN_METHODS.has(method) ? method : cleanText(method, CLIENT_NAME_CHARACTERS);

/** `name/version` as the client gave it, safe to print. */
export function clientName(info: unknown): string | undefined {
  if (!isRecord(info) || typeof info.name !== 'string') return undefined;
  const version = typeof info.version === 'string' ? info.version : '';
  return cleanText(`${info.name}/${version}`, CLIENT_NAME_CHARACTERS);
}

export function writeRecord(
  { log, clock }: { log: Log; clock: Clock },
  exchange: Exchange,
  principal: Principal,
  facts: Facts,
): void {
  const { method, tool, era, session, client, outcome } = facts;
  exchange.note({ mcp_method: method, tool, era, session, outcome });
  const level = outcome === 'OK' ? 'info' : outcome === 'INTERNAL' ? 'error' : 'warn';
  if (!log.enabled('mcp', level)) return;
  const now = clock.now();
  const operation = tool ?? method;
  log.write({
    time: now,
    kind: 'mcp',
    level,
    component: 'mcp',
    message: `${principal.name} ${operation}: ${outcome}`,
    trace_id: exchange.traceId,
    hostname: exchange.hostname,
    duration_ms: now - facts.started,
    client_address: exchange.clientAddress,
    principal: principal.id,
    operation,
    outcome,
    detail: { method, tool, era, session, client },
  });
}
