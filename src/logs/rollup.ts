/**
 * Counts of requests by minute and by hour, kept beside the records in the same transaction: what charts and sums over a
 * day are read from. Written by store.ts in the writer thread; what is counted here can't be told apart any further.
 */
import type { Database, Statement } from 'better-sqlite3';
import { HOUR, MINUTE } from '../core/clock.ts';
import { columns } from './row.ts';
import { NO_STEP, stepOf, stepSql } from './steps.ts';

export const SPANS = [MINUTE, HOUR] as const;
/** In the place of the hostnames beyond the limits: no request has them. */
export const OTHERS = '*';
export const OTHER_STRANGERS = '?';
/** Of hostnames that somebody was served for, and of those that strangers made up, in one hour. */
const MAX_SERVED = 5000;
const MAX_STRANGE = 200;
const CLASS_WIDTH = 100;
/** What the gateway says of a request that nobody took. */
const REFUSED = 'refused';

export const ROLLUP_SCHEMA = `
  create table rollup (
    span bigint not null, start bigint not null, hostname text not null, route text not null, class integer not null,
    step integer not null, count bigint not null, bytes_in bigint not null, bytes_out bigint not null,
    primary key (span, start, hostname, route, class, step)) without rowid;`;

const UPSERT = `insert into rollup values (?, ?, ?, ?, ?, ?, ?, ?, ?)
  on conflict do update set count = count + excluded.count, bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out`;

export const ROUTE_SQL = `coalesce(json_extract(detail, '$.route'), '')`;
export const CLASS_SQL = `coalesce(status / ${CLASS_WIDTH}, 0)`;

/** A file of an earlier version of this system has none. */
export const hasRollup = (connection: Database, file: 'main' | 'plain' = 'main'): boolean =>
  connection.prepare(`select 1 from ${file}.sqlite_master where name = 'rollup'`).get() !== undefined;

/** Fills it from the records of a file that had none. */
export function fillRollup(connection: Database): void {
  connection.exec(`insert into rollup
    select ${MINUTE}, time - time % ${MINUTE}, coalesce(hostname, ''), ${ROUTE_SQL} as route, ${CLASS_SQL} as class,
      ${stepSql('duration_ms')} as step, count(*), coalesce(sum(bytes_in), 0), coalesce(sum(bytes_out), 0)
    from records where kind = 'access' group by 1, 2, 3, 4, 5, 6`);
  connection.exec(`insert into rollup
    select ${HOUR}, start - start % ${HOUR}, hostname, route, class, step, sum(count), sum(bytes_in), sum(bytes_out)
    from rollup where span = ${MINUTE} group by 1, 2, 3, 4, 5, 6`);
}

interface Sum {
  start: number;
  hostname: string;
  route: string;
  class: number;
  step: number;
  count: number;
  bytesIn: number;
  bytesOut: number;
}

const at = Object.fromEntries(columns.map((name, index) => [name, index])) as Record<
  (typeof columns)[number],
  number
>;

const numberAt = (row: readonly unknown[], name: (typeof columns)[number]): number | undefined => {
  const value = row[at[name]];
  return typeof value === 'number' ? value : undefined;
};

export class Rollup {
  readonly #upsert: Statement;
  readonly #served = new NamesOfAnHour(MAX_SERVED);
  readonly #strange = new NamesOfAnHour(MAX_STRANGE);

  constructor(connection: Database) {
    this.#upsert = connection.prepare(UPSERT);
  }

  /** Rows in the order of `columns`, then the detail. Inside the transaction that writes them. */
  add(rows: readonly (readonly unknown[])[]): void {
    for (const { start, count, bytesIn, bytesOut, ...key } of this.#sums(rows).values())
      for (const span of SPANS) {
        const begins = start - (start % span);
        this.#upsert.run([
          span,
          begins,
          key.hostname,
          key.route,
          key.class,
          key.step,
          count,
          bytesIn,
          bytesOut,
        ]);
      }
  }

  #sums(rows: readonly (readonly unknown[])[]): Map<string, Sum> {
    const sums = new Map<string, Sum>();
    for (const row of rows) {
      const time = numberAt(row, 'time');
      if (row[at.kind] !== 'access' || time === undefined) continue;
      const sum = this.#keyOf(row, time);
      const name = `${sum.start} ${sum.hostname} ${sum.route} ${sum.class} ${sum.step}`;
      const known = sums.get(name);
      if (!known) sums.set(name, sum);
      else {
        known.count += 1;
        known.bytesIn += sum.bytesIn;
        known.bytesOut += sum.bytesOut;
      }
    }
    return sums;
  }

  #keyOf(row: readonly unknown[], time: number): Sum {
    const detail = row[columns.length];
    const duration = numberAt(row, 'duration_ms');
    return {
      start: time - (time % MINUTE),
      hostname: this.#nameOf(row[at.hostname], detail, time),
      route: memberOf(detail, 'route'),
      class: Math.floor((numberAt(row, 'status') ?? 0) / CLASS_WIDTH),
      step: duration === undefined ? NO_STEP : stepOf(duration),
      count: 1,
      bytesIn: numberAt(row, 'bytes_in') ?? 0,
      bytesOut: numberAt(row, 'bytes_out') ?? 0,
    };
  }

  /** A name that somebody was served for counts by itself, whatever strangers make up. */
  #nameOf(hostname: unknown, detail: unknown, time: number): string {
    if (typeof hostname !== 'string') return '';
    const hour = time - (time % HOUR);
    if (this.#served.has(hostname, hour)) return hostname;
    if (memberOf(detail, 'request') === REFUSED)
      return this.#strange.admits(hostname, hour) ? hostname : OTHER_STRANGERS;
    return this.#served.admits(hostname, hour) ? hostname : OTHERS;
  }
}

/** Who makes names up by the thousand does not fill the file. */
class NamesOfAnHour {
  readonly #max: number;
  readonly #names = new Set<string>();
  #hour = 0;

  constructor(max: number) {
    this.#max = max;
  }

  has(name: string, hour: number): boolean {
    if (hour !== this.#hour) this.#names.clear();
    this.#hour = hour;
    return this.#names.has(name);
  }

  admits(name: string, hour: number): boolean {
    if (this.has(name, hour)) return true;
    if (this.#names.size >= this.#max) return false;
    this.#names.add(name);
    return true;
  }
}

/** Of a detail as text, which is not parsed here: in JSON no text of a stranger has these characters in this order. */
function memberOf(detail: unknown, key: string): string {
  if (typeof detail !== 'string') return '';
  const mark = `"${key}":"`;
  const start = detail.indexOf(mark);
  if (start === -1) return '';
  const end = detail.indexOf('"', start + mark.length);
  return end === -1 ? '' : detail.slice(start + mark.length, end);
}
