/**
 * Rows as a caller gets them: only what is there, text of strangers cleaned and cut, and no more in all than was asked
 * for. Runs in the reader thread, off the request path.
 */
import { type LogLevel, logLevels, type RecordKind } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Position } from './conditions.ts';
import type { LeftOut } from './left-out.ts';
import type { Found, LogRow } from './query.ts';
import { recordId } from './row.ts';
import type { LogEntry } from './schema.ts';

const MESSAGE_LENGTH = 300;
const PATH_LENGTH = 200;
const NAME_LENGTH = 120;
const AGENT_LENGTH = 200;
const DETAIL_LENGTH = 1000;
const DETAIL_KEYS = 40;
const DETAIL_DEPTH = 4;

export interface Presentation {
  /** Also bytes, user agent and detail. */
  verbose: boolean;
  /** Of all records together, as JSON. */
  maxCharacters: number;
}

export interface Answer {
  records: LogEntry[];
  next: Position | undefined;
  searchedBackTo: number | undefined;
  /** Rows were left out because of their size; they are on the next page. */
  cut: boolean;
  leftOut?: readonly LeftOut[];
}

export function present(found: Found, { verbose, maxCharacters }: Presentation): Answer {
  const records: LogEntry[] = [];
  let left = maxCharacters;
  let last: LogRow | undefined;
  for (const row of found.rows) {
    const entry = withoutAbsent(verbose ? { ...entryOf(row), ...extrasOf(row) } : entryOf(row));
    left -= JSON.stringify(entry).length + 1;
    if (left < 0 && last)
      return { records, next: { time: last.time, id: last.id }, searchedBackTo: undefined, cut: true };
    records.push(entry);
    last = row;
  }
  return { records, next: found.next, searchedBackTo: found.searchedBackTo, cut: false };
}

function withoutAbsent(entry: LogEntry): LogEntry {
  for (const key of Object.keys(entry) as (keyof LogEntry)[]) if (entry[key] === undefined) delete entry[key];
  return entry;
}

/** What a record's kind says already is not repeated. */
const impliedComponent: Record<RecordKind, string | undefined> = {
  access: 'gateway',
  audit: 'audit',
  mcp: 'mcp',
  tls: 'tls',
  system: undefined,
};

function entryOf(row: LogRow): LogEntry {
  return {
    time: new Date(row.time).toISOString(),
    level: levelAt(row.level),
    kind: row.kind,
    component: row.component === impliedComponent[row.kind] ? undefined : row.component,
    message: cleanText(row.message, MESSAGE_LENGTH),
    hostname: clean(row.hostname, NAME_LENGTH),
    method: clean(row.method, NAME_LENGTH),
    path: clean(row.path, PATH_LENGTH),
    status: row.status ?? undefined,
    duration_ms: row.duration_ms === null ? undefined : Math.round(row.duration_ms * 10) / 10,
    client_address: clean(row.client_address, NAME_LENGTH),
    principal: clean(row.principal, NAME_LENGTH),
    operation: clean(row.operation, NAME_LENGTH),
    outcome: clean(row.outcome, NAME_LENGTH),
    trace_id: clean(row.trace_id, NAME_LENGTH),
    id: recordId(row),
  };
}

function extrasOf(row: LogRow): Partial<LogEntry> {
  return {
    bytes_in: row.bytes_in ?? undefined,
    bytes_out: row.bytes_out ?? undefined,
    user_agent: clean(row.user_agent, AGENT_LENGTH),
    detail: row.detail === null ? undefined : cleanObject(JSON.parse(row.detail), 1),
  };
}

const levelAt = (rank: number): LogLevel => logLevels[rank] ?? 'info';

const clean = (text: string | null, maxLength: number): string | undefined =>
  text === null ? undefined : cleanText(text, maxLength);

function cleanObject(value: object, depth: number): Record<string, unknown> {
  const entries = Object.entries(value).slice(0, DETAIL_KEYS);
  return Object.fromEntries(
    entries.map(([key, inner]) => [cleanText(key, NAME_LENGTH), cleanValue(inner, depth + 1)]),
  );
}

function cleanValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return cleanText(value, DETAIL_LENGTH);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > DETAIL_DEPTH) return '…';
  if (Array.isArray(value)) return value.slice(0, DETAIL_KEYS).map((inner) => cleanValue(inner, depth + 1));
  return cleanObject(value, depth);
}
