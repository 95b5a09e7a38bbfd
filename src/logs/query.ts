/**
 * Answers questions to the log files, newest record first. Runs in the reader thread only. A question is answered in
 * windows of time, so that one that finds little stops within its budget and says how far back it looked.
 */
import BetterSqlite3, { type Database } from 'better-sqlite3';
import { DAY, MINUTE, SECOND } from '../core/clock.ts';
import type { RecordKind } from '../core/record.ts';
import { type LogFilter, type Position, statementOf } from './conditions.ts';
import { pathOf, readableDays, SCHEMA_VERSION } from './store.ts';

export const FIRST_WINDOW_MS = MINUTE;
const MIN_WINDOW_MS = SECOND;
const WINDOW_FACTOR = 4;
const SHORT_STEP_MS = 20;
const LONG_STEP_MS = 100;
const BUSY_TIMEOUT_MS = 1000;
const MAX_OPEN_DAYS = 8;
const SKIPPED = new Set(['SQLITE_CANTOPEN', 'SQLITE_NOTADB']);

/** As the file has it: what is null was not said. */
export interface LogRow {
  id: number;
  time: number;
  level: number;
  kind: RecordKind;
  component: string;
  message: string;
  trace_id: string | null;
  hostname: string | null;
  method: string | null;
  path: string | null;
  status: number | null;
  duration_ms: number | null;
  bytes_in: number | null;
  bytes_out: number | null;
  client_address: string | null;
  principal: string | null;
  user_agent: string | null;
  operation: string | null;
  outcome: string | null;
  detail: string | null;
}

export interface Search {
  filter: LogFilter;
  limit: number;
  after: Position | undefined;
}

export interface Found {
  rows: LogRow[];
  /** Set when there may be more: older rows begin after it. */
  next: Position | undefined;
  /** Set when the budget ended the search before the files did. */
  searchedBackTo: number | undefined;
}

/** What a search may spend, and the clock that it is measured by. */
export interface Budget {
  milliseconds: number;
  now: () => number;
}

export class LogFiles {
  readonly #directory: string;
  readonly #open = new Map<string, Database>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  search({ filter, limit, after }: Search, budget: Budget): Found {
    const { sql, values } = statementOf(filter, after);
    const rows: LogRow[] = [];
    const stop = budget.now() + budget.milliseconds;
    let span = FIRST_WINDOW_MS;
    for (const { day, since, until } of this.#days(filter, after)) {
      const statement = this.#connect(day)?.prepare<unknown[], LogRow>(sql);
      for (let end = until; statement && end > since; ) {
        const started = budget.now();
        if (started > stop) return { rows, next: { time: end, id: 0 }, searchedBackTo: end };
        const begin = Math.max(since, end - span);
        // One more than wanted tells whether there is another page.
        rows.push(...statement.all(begin, end, ...values, limit + 1 - rows.length));
        if (rows.length > limit) return pageOf(rows, limit);
        end = begin;
        span = nextSpan(span, budget.now() - started);
      }
    }
    return { rows, next: undefined, searchedBackTo: undefined };
  }

  /** The days of a range that can be read, newest first; each opened when it is its turn. */
  *daysOf(filter: LogFilter): Generator<{ since: number; until: number; connection: Database }> {
    for (const { day, since, until } of this.#days(filter, undefined)) {
      const connection = this.#connect(day);
      if (connection) yield { since, until, connection };
    }
  }

  close(): void {
    for (const day of this.#open.keys()) this.#close(day);
  }

  #days({ since = 0, until = Infinity }: LogFilter, after: Position | undefined) {
    const days = readableDays(this.#directory);
    const present = new Set(days);
    for (const day of this.#open.keys()) if (!present.has(day)) this.#close(day);
    const newest = Math.min(until, after ? after.time + 1 : Infinity);
    return days
      .map((day) => {
        const start = Date.parse(day);
        return { day, since: Math.max(since, start), until: Math.min(newest, start + DAY) };
      })
      .filter((range) => range.until > range.since);
  }

  /** Undefined while the file has no table yet, or has one of another version. */
  #connect(day: string): Database | undefined {
    const known = this.#open.get(day);
    if (known) return known;
    const connection = openForReading(pathOf(this.#directory, day));
    if (!connection) return undefined;
    const [longestOpen] = this.#open.keys();
    if (longestOpen !== undefined && this.#open.size >= MAX_OPEN_DAYS) this.#close(longestOpen);
    this.#open.set(day, connection);
    return connection;
  }

  #close(day: string): void {
    this.#open.get(day)?.close();
    this.#open.delete(day);
  }
}

function openForReading(path: string): Database | undefined {
  let connection: Database | undefined;
  try {
    // Opened for writing so that the last one to close leaves no -wal behind; nothing here writes.
    connection = new BetterSqlite3(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
    connection.pragma('query_only = ON');
    if (connection.pragma('user_version', { simple: true }) === SCHEMA_VERSION) return connection;
  } catch (cause) {
    if (!isSkipped(cause)) throw cause;
  }
  connection?.close();
  return undefined;
}

/** Deleted by retention a moment ago, or no database: the writer sets such a file aside. */
function isSkipped(cause: unknown): boolean {
  return cause instanceof BetterSqlite3.SqliteError && SKIPPED.has(cause.code);
}

function pageOf(rows: readonly LogRow[], limit: number): Found {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: last && { time: last.time, id: last.id }, searchedBackTo: undefined };
}

export function nextSpan(span: number, tookMs: number): number {
  if (tookMs < SHORT_STEP_MS) return Math.min(span * WINDOW_FACTOR, DAY);
  return tookMs > LONG_STEP_MS ? Math.max(span / WINDOW_FACTOR, MIN_WINDOW_MS) : span;
}
