/**
 * Answers questions to the log files, newest record first. Runs in the reader thread only. A question is answered in
 * windows of time, so that one that finds little stops within its budget and says how far back it looked.
 */
import BetterSqlite3, { type Database } from 'better-sqlite3';
import { DAY, MINUTE, SECOND } from '../core/clock.ts';
import type { LogLevel, RecordKind } from '../core/record.ts';
import { levelRank } from './levels.ts';
import { pathOf, readableDays, SCHEMA_VERSION } from './store.ts';

const FIRST_WINDOW_MS = MINUTE;
const MIN_WINDOW_MS = SECOND;
const WINDOW_FACTOR = 4;
const SHORT_STEP_MS = 20;
const LONG_STEP_MS = 100;
const BUSY_TIMEOUT_MS = 1000;
const MAX_OPEN_DAYS = 8;
const SKIPPED = new Set(['SQLITE_CANTOPEN', 'SQLITE_NOTADB']);

/** Every part that is present has to hold. */
export interface LogFilter {
  /** This level and above. */
  level?: LogLevel | undefined;
  kind?: RecordKind | undefined;
  /** Canonical; `*.example.com` is every name below it. */
  hostname?: string | undefined;
  statusMin?: number | undefined;
  statusMax?: number | undefined;
  clientAddress?: string | undefined;
  principal?: string | undefined;
  pathPrefix?: string | undefined;
  traceId?: string | undefined;
  operation?: string | undefined;
  /** In message, path, user agent or detail; the case of ASCII letters doesn't matter. */
  contains?: string | undefined;
  /** Milliseconds since 1970; `since` is included, `until` is not. */
  since?: number | undefined;
  until?: number | undefined;
  /** Without what only says that somebody looked: see `isRoutine`. */
  withoutRoutine?: boolean | undefined;
  /** Confinement: canonical patterns; undefined means everything, an empty list nothing. */
  hostnames?: readonly string[] | undefined;
}

/** Where a page ended: the next one begins with what is older. Row ids count from 1 in every file. */
export interface Position {
  time: number;
  id: number;
}

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

function nextSpan(span: number, tookMs: number): number {
  if (tookMs < SHORT_STEP_MS) return Math.min(span * WINDOW_FACTOR, DAY);
  return tookMs > LONG_STEP_MS ? Math.max(span / WINDOW_FACTOR, MIN_WINDOW_MS) : span;
}

interface Condition {
  sql: string;
  values: readonly (string | number)[];
  /** The condition can be answered by an index; of several, the least number says which is used. */
  index?: number;
}

/** Values come after the window's two bounds and before the limit. */
export function statementOf(filter: LogFilter, after?: Position): { sql: string; values: unknown[] } {
  const conditions = conditionsOf(filter);
  const driver = conditions
    .filter(({ index }) => index !== undefined)
    .sort((a, b) => (a.index ?? 0) - (b.index ?? 0))[0];
  if (after) conditions.push({ sql: '(time < ? or id < ?)', values: [after.time, after.id] });
  // Unary plus keeps SQLite, which has no statistics of a growing file, from preferring another index.
  const where = conditions.map((it) => (it.index === undefined || it === driver ? it.sql : `+${it.sql}`));
  const sql = `select * from records where ${['time >= ? and time < ?', ...where].join(' and ')}
    order by time desc, id desc limit ?`;
  return { sql, values: conditions.flatMap(({ values }) => values) };
}

function conditionsOf(filter: LogFilter): Condition[] {
  const { traceId, clientAddress, kind, operation, pathPrefix, contains, withoutRoutine } = filter;
  return [
    ...when(traceId, (id) => ({ sql: 'trace_id = ?', values: [id], index: 0 })),
    ...when(clientAddress, (address) => ({ sql: 'client_address = ?', values: [address], index: 1 })),
    ...principalConditions(filter),
    ...troubleConditions(filter),
    ...when(filter.hostname, hostnameCondition),
    ...when(filter.hostnames, confinementCondition),
    ...when(kind, (it) => ({ sql: 'kind = ?', values: [it] })),
    ...when(operation, (it) => ({ sql: 'operation = ?', values: [it] })),
    ...when(pathPrefix, (it) => ({ sql: 'substr(path, 1, length(?)) = ?', values: [it, it] })),
    ...when(contains, containsCondition),
    ...(withoutRoutine ? [notRoutine] : []),
  ];
}

function when<T>(value: T | undefined, make: (value: T) => Condition): Condition[] {
  return value === undefined ? [] : [make(value)];
}

/**
 * What this system logs of being asked: reads that went well, MCP messages that went well or ran an operation (its
 * audit record tells what came of it), and requests for its own endpoints that were answered. Who asks what happened
 * would read little else.
 */
const isRoutine = `case kind
  when 'audit' then outcome = 'OK' and json_extract(detail, '$.effect') = 'read'
  when 'mcp' then outcome = 'OK' or json_extract(detail, '$.tool') is not null
  when 'access' then status < 400 and json_extract(detail, '$.request') in ('control', 'mcp', 'metadata')
  end`;
const notRoutine: Condition = { sql: `(${isRoutine}) is not true`, values: [] };

const ANONYMOUS = 'anonymous';

/** The partial index leaves out anonymous callers; it is used when the statement says the same words. */
function principalConditions({ principal }: LogFilter): Condition[] {
  if (principal === undefined) return [];
  if (principal === ANONYMOUS) return [{ sql: 'principal = ?', values: [principal] }];
  return [
    { sql: "principal <> 'anonymous'", values: [] },
    { sql: 'principal = ?', values: [principal], index: 2 },
  ];
}

/** As above: `level >= 2` and `status >= 400` are the words of partial indexes on time. */
function troubleConditions({ level, statusMin, statusMax }: LogFilter): Condition[] {
  const least = level === undefined ? 0 : levelRank(level);
  const conditions: Condition[] = [];
  if (least >= levelRank('warn')) conditions.push({ sql: 'level >= 2', values: [], index: 4 });
  if (least > 0) conditions.push({ sql: '+level >= ?', values: [least] });
  if (statusMin !== undefined && statusMin >= 400)
    conditions.push({ sql: 'status >= 400', values: [], index: 3 });
  if (statusMin !== undefined) conditions.push({ sql: '+status >= ?', values: [statusMin] });
  if (statusMax !== undefined) conditions.push({ sql: '+status <= ?', values: [statusMax] });
  return conditions;
}

function hostnameCondition(hostname: string): Condition {
  if (!hostname.startsWith('*.')) return { sql: 'hostname = ?', values: [hostname], index: 5 };
  const below = hostname.slice(1);
  return { sql: '(hostname = ? or substr(hostname, -length(?)) = ?)', values: [hostname, below, below] };
}

/** The rule of `core/hostname` `confines`, in SQL: the name itself, or any name below a wildcard. */
function confinementCondition(hostnames: readonly string[]): Condition {
  const below = hostnames.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
  const exact = 'hostname in (select value from json_each(?))';
  if (below.length === 0) return { sql: exact, values: [JSON.stringify(hostnames)], index: 6 };
  return {
    sql: `(${exact} or exists (select 1 from json_each(?) as zone where substr(hostname, -length(zone.value)) = zone.value))`,
    values: [JSON.stringify(hostnames), JSON.stringify(below)],
  };
}

function containsCondition(text: string): Condition {
  const pattern = `%${text.replace(/[\\%_]/g, (found) => `\\${found}`)}%`;
  const columns = ['message', 'path', 'user_agent', 'detail'];
  return {
    sql: `(${columns.map((column) => `${column} like ? escape '\\'`).join(' or ')})`,
    values: columns.map(() => pattern),
  };
}
