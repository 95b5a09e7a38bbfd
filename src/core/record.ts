/** One schema for everything that is logged. Plain data: it crosses threads, and later processes, unchanged. */
import type { Clock } from './clock.ts';

export const recordKinds = ['access', 'audit', 'mcp', 'tls', 'system'] as const;
export type RecordKind = (typeof recordKinds)[number];

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Components have a log level each, changed by `set_log_level` until the next start. */
export const components = [
  'gateway',
  'tls',
  'mcp',
  'audit',
  'certificates',
  'store',
  'services',
  'commands',
  'oauth',
  'system',
] as const;
export type Component = (typeof components)[number];

/** Never in a record: bodies, credentials, cookies, query strings, private keys. */
export interface LogRecord {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  time: number;
  kind: RecordKind;
  level: LogLevel;
  component: Component;
  message: string;
  trace_id?: string | undefined;
  /** Of the span that tells the same, where there is one: for who takes records elsewhere, not kept in the log. */
  span_id?: string | undefined;
  hostname?: string | undefined;
  method?: string | undefined;
  /** Without its query. */
  path?: string | undefined;
  status?: number | undefined;
  duration_ms?: number | undefined;
  bytes_in?: number | undefined;
  bytes_out?: number | undefined;
  client_address?: string | undefined;
  /** Id of the principal, never a credential. */
  principal?: string | undefined;
  user_agent?: string | undefined;
  /** Which operation (audit) or MCP method. */
  operation?: string | undefined;
  /** `OK` or an error code. */
  outcome?: string | undefined;
  /** Further facts, redacted by who writes them. */
  detail?: Record<string, unknown> | undefined;
}

/** Takes a record and returns at once; never throws, never blocks, drops and counts when it can't keep up. */
export interface Log {
  write(record: LogRecord): void;
  /** Whether a record of this level would be kept, to spare the work of making it. */
  enabled(component: Component, level: LogLevel): boolean;
}

export const silentLog: Log = { write: () => {}, enabled: () => false };

const kindOf: Partial<Record<Component, RecordKind>> = { tls: 'tls', certificates: 'tls', mcp: 'mcp' };

/** A record of level debug. `make` runs only where it is kept: nothing is spent on what nobody reads. */
export function writeDebug(
  { log, clock }: { log: Log; clock: Clock },
  component: Component,
  make: () => Omit<LogRecord, 'time' | 'kind' | 'level' | 'component'>,
): void {
  if (!log.enabled(component, 'debug')) return;
  log.write({
    time: clock.now(),
    kind: kindOf[component] ?? 'system',
    level: 'debug',
    component,
    ...make(),
  });
}
