/** One schema for everything that is logged. Plain data: it crosses threads, and later processes, unchanged. */
export const recordKinds = ['access', 'audit', 'mcp', 'tls', 'system'] as const;
export type RecordKind = (typeof recordKinds)[number];

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Components have a log level each, changed at run time by `set_log_level`. */
export const components = [
  'gateway',
  'tls',
  'mcp',
  'audit',
  'certificates',
  'store',
  'services',
  'commands',
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
