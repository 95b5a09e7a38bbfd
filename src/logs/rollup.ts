/**
 * Counts of requests by minute and by hour, kept beside the records in the same transaction: what charts and sums over a
 * day are read from. Written by store.ts in the writer thread; what is counted here can't be told apart any further.
 */
import type { Database, Statement } from 'better-sqlite3';
import { HOUR, MINUTE } from '../core/clock.ts';
import { columns } from './row.ts';
import { NO_STEP, StepCounts, stepOf } from './steps.ts';

export const SPANS = [MINUTE, HOUR] as const;
/** In the place of the hostnames beyond the limits: no request has them. */
export const OTHERS = '*';
export const OTHER_STRANGERS = '?';
/** As people read the first. */
export const OTHERS_SHOWN = '(others)';
/** Of hostnames that somebody was served for, and of those that strangers made up, in one hour. */
const MAX_SERVED = 5000;
const MAX_STRANGE = 200;
const NOTHING = { count: 0, bytesIn: 0, bytesOut: 0 };
/** What the gateway says of a request that nobody took. */
const REFUSED = 'refused';

/** `steps`: how many took how long, as `steps.ts` writes them; one row holds them all, so that a day has few rows. */
export const ROLLUP_SCHEMA = `
  create table sums (
    span bigint not null, start bigint not null, hostname text not null, route text not null, status integer not null,
    count bigint not null, bytes_in bigint not null, bytes_out bigint not null, steps text not null,
    primary key (span, start, hostname, route, status)) without rowid;`;

const KEY = 'span = ? and start = ? and hostname = ? and route = ? and status = ?';
const FIND = `select count, bytes_in as bytesIn, bytes_out as bytesOut, steps from sums where ${KEY}`;
const WRITE = `insert into sums values (?, ?, ?, ?, ?, ?, ?, ?, ?)
  on conflict do update set count = excluded.count, bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out,
    steps = excluded.steps`;
const FILL_ROWS = 2000;

export const ROUTE_SQL = `coalesce(json_extract(detail, '$.route'), '')`;

/** A file of an earlier version of this system has none. */
export const hasRollup = (connection: Database, file: 'main' | 'plain' = 'main'): boolean =>
  connection.prepare(`select 1 from ${file}.sqlite_master where name = 'sums'`).get() !== undefined;

/** Fills it from the records of a file that had none. */
export function fillRollup(connection: Database): void {
  const rollup = new Rollup(connection);
  const some = connection
    .prepare<unknown[], unknown[]>(
      `select ${[...columns, 'detail', 'id'].join(', ')} from records where id > ? order by id limit ${FILL_ROWS}`,
    )
    .raw();
  for (let last: unknown = 0; last !== undefined; ) {
    const rows = some.all(last);
    rollup.add(rows);
    last = rows.at(-1)?.at(-1);
  }
}

function newestIn(connection: Database): number {
  const found = connection
    .prepare<unknown[], { newest: number | null }>('select max(start) as newest from sums where span = ?')
    .get(MINUTE);
  return found?.newest ?? 0;
}

interface Sum {
  hostname: string;
  route: string;
  status: number;
  count: number;
  bytesIn: number;
  bytesOut: number;
  steps: StepCounts;
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
  readonly #find: Statement<unknown[], Omit<Sum, 'steps'> & { steps: string }>;
  readonly #write: Statement;
  readonly #served = new NamesOfAnHour(MAX_SERVED);
  readonly #strange = new NamesOfAnHour(MAX_STRANGE);
  /** What the file has of the minute and the hour that are written to, by key. */
  readonly #current = SPANS.map((span) => ({ span, start: 0, sums: new Map<string, Sum>() }));

  /** Nothing of the file is younger than this, but what was written here. */
  readonly #newest: number;

  constructor(connection: Database) {
    this.#newest = newestIn(connection);
    this.#find = connection.prepare(FIND);
    this.#write = connection.prepare(WRITE);
  }

  /**
   * Rows in the order of `columns`, then the detail. Inside the transaction that writes them: when that fails, this
   * object knows more than the file and has to go.
   */
  add(rows: readonly (readonly unknown[])[]): void {
    for (const [start, sums] of this.#sums(rows))
      for (const [key, sum] of sums)
        for (const span of SPANS) this.#merge(span, start - (start % span), key, sum);
  }

  #merge(span: number, start: number, key: string, sum: Sum): void {
    const known = this.#known(span, start, key, sum);
    known.count += sum.count;
    known.bytesIn += sum.bytesIn;
    known.bytesOut += sum.bytesOut;
    known.steps.addAll(sum.steps);
    const { hostname, route, status, count, bytesIn, bytesOut, steps } = known;
    this.#write.run([span, start, hostname, route, status, count, bytesIn, bytesOut, steps.text()]);
  }

  #known(span: number, start: number, key: string, { hostname, route, status }: Sum): Sum {
    const current = this.#current.find((other) => other.span === span);
    if (current && start > current.start) {
      current.start = start;
      current.sums.clear();
    }
    const kept = current?.start === start ? current.sums : undefined;
    const known = kept?.get(key);
    if (known) return known;
    const isNew = kept !== undefined && start > this.#newest;
    const found = isNew ? undefined : this.#find.get([span, start, hostname, route, status]);
    const sum = { hostname, route, status, ...(found ?? NOTHING), steps: new StepCounts(found?.steps) };
    kept?.set(key, sum);
    return sum;
  }

  #sums(rows: readonly (readonly unknown[])[]): Map<number, Map<string, Sum>> {
    const minutes = new Map<number, Map<string, Sum>>();
    for (const row of rows) {
      const time = numberAt(row, 'time');
      if (row[at.kind] !== 'access' || time === undefined) continue;
      const start = time - (time % MINUTE);
      const sums = minutes.get(start) ?? new Map<string, Sum>();
      minutes.set(start, sums);
      this.#count(sums, row, time);
    }
    return minutes;
  }

  #count(sums: Map<string, Sum>, row: readonly unknown[], time: number): void {
    const detail = row[columns.length];
    const hostname = this.#nameOf(row[at.hostname], detail, time);
    const route = memberOf(detail, 'route');
    const status = numberAt(row, 'status') ?? 0;
    const key = `${status} ${route} ${hostname}`;
    const sum = sums.get(key) ?? { hostname, route, status, ...NOTHING, steps: new StepCounts() };
    sums.set(key, sum);
    const duration = numberAt(row, 'duration_ms');
    sum.count += 1;
    sum.bytesIn += numberAt(row, 'bytes_in') ?? 0;
    sum.bytesOut += numberAt(row, 'bytes_out') ?? 0;
    sum.steps.add(duration === undefined ? NO_STEP : stepOf(duration), 1);
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
