/**
 * Answers questions to the log files, newest record first. Runs in the reader thread only. A question is answered in
 * windows of time, so that one that finds little stops within its budget and says how far back it looked.
 */
import type { Database } from 'better-sqlite3';
import { DAY, MINUTE, SECOND } from '../core/clock.ts';
import type { RecordKind } from '../core/record.ts';
import { type LogFilter, type Position, statementOf, withNames } from './conditions.ts';
import { DayFiles } from './day-files.ts';
import type { LeftOut } from './left-out.ts';

const FIRST_WINDOW_MS = MINUTE;
const MIN_WINDOW_MS = SECOND;
const WINDOW_FACTOR = 4;
const SHORT_STEP_MS = 20;
const LONG_STEP_MS = 100;

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

/** A day of a range, and what of it is in the range. */
export interface DayRange {
  since: number;
  until: number;
  /** These as `DayFiles` has them; what the other two throw is to be thrown within `read`. */
  read: <T>(ask: () => T) => T | undefined;
  records: (isLate: () => boolean) => Database | 'late' | undefined;
  counts: () => Database | undefined;
}

export class LogFiles {
  readonly #files: DayFiles;

  constructor(directory: string, reserveBytes?: number) {
    this.#files = new DayFiles(directory, reserveBytes);
  }

  /** Days that the last question had to do without. */
  leftOut(): LeftOut[] {
    return this.#files.leftOut();
  }

  search({ filter, limit, after }: Search, budget: Budget): Found {
    const rows: LogRow[] = [];
    const stop = budget.now() + budget.milliseconds;
    const isLate = () => budget.now() > stop;
    const windows = new Windows(budget.now);
    const searchDay = (day: DayRange): Found | undefined => {
      const connection = day.records(isLate);
      if (connection === undefined) return undefined;
      if (connection === 'late') return { rows, next: { time: day.until, id: 0 }, searchedBackTo: day.until };
      const { sql, values, widest } = statementOf(namedIn(connection, filter), after);
      const statement = connection.prepare<unknown[], LogRow>(sql);
      for (const { begin, end } of windows.of(connection, day, widest)) {
        if (isLate()) return { rows, next: { time: end, id: 0 }, searchedBackTo: end };
        // One more than wanted tells whether there is another page.
        rows.push(...statement.all(begin, end, ...values, limit + 1 - rows.length));
        if (rows.length > limit) return pageOf(rows, limit);
      }
      return undefined;
    };
    for (const day of this.daysOf(filter, after)) {
      const found = day.read(() => searchDay(day));
      if (found) return found;
    }
    return { rows, next: undefined, searchedBackTo: undefined };
  }

  /** The days of a range that can be read, newest first; each opened when it is its turn. */
  daysOf({ since = 0, until = Infinity }: LogFilter, after?: Position): DayRange[] {
    // Ids count from 1: before the first of a moment there is only what is older.
    const newest = Math.min(until, after ? after.time + Math.min(after.id, 1) : Infinity);
    return this.#files
      .days()
      .map((day) => {
        const start = Date.parse(day);
        return {
          since: Math.max(since, start),
          until: Math.min(newest, start + DAY),
          read: <T>(ask: () => T) => this.#files.read(day, ask),
          records: (isLate: () => boolean) => this.#files.records(day, isLate),
          counts: () => this.#files.counts(day),
        };
      })
      .filter((range) => range.until > range.since);
  }

  close(): void {
    this.#files.close();
  }
}

export const namedIn = (connection: Database, filter: LogFilter): LogFilter =>
  withNames(filter, (sql, values) =>
    connection
      .prepare<unknown[], string>(sql)
      .pluck()
      .all(...values),
  );

/** What a question looks at, one piece of a day after the other and newest first; wider while that is quick. */
export class Windows {
  #span = FIRST_WINDOW_MS;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  *of(records: Database, { since, until }: { since: number; until: number }, widest: number) {
    for (let end = endIn(records, until); end > since; ) {
      const started = this.#now();
      const begin = Math.max(since, end - this.#span);
      yield { begin, end };
      end = begin;
      this.#span = nextSpan(this.#span, this.#now() - started, widest);
    }
  }
}

/** Where the records of a range end: of a day that goes on there are none of its hours to come. */
function endIn(records: Database, until: number): number {
  const found = records.prepare<[], { last: number | null }>('select max(time) as last from records').get();
  return Math.min(until, (found?.last ?? -Infinity) + 1);
}

function pageOf(rows: readonly LogRow[], limit: number): Found {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: last && { time: last.time, id: last.id }, searchedBackTo: undefined };
}

function nextSpan(span: number, tookMs: number, widest: number): number {
  if (tookMs < SHORT_STEP_MS) return Math.min(span * WINDOW_FACTOR, widest);
  return tookMs > LONG_STEP_MS ? Math.max(span / WINDOW_FACTOR, MIN_WINDOW_MS) : span;
}
