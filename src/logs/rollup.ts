/**
 * Counts of requests by minute and by hour, kept beside the records: what charts and sums over a day are read from. Written
 * by store.ts in the writer thread; what is counted here can't be told apart any further. They are written when a minute is
 * over, not with each record: `counted` says up to which record they go, in the same transaction, and who reads them counts
 * the few records after it (stats.ts). So it says up to which time the hours have their minutes, which they get by quarters.
 * After a crash nothing is missing and nothing is there twice.
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
/** Minutes are summed up to hours when so many are over. */
const SUMMED_AT_ONCE = 15 * MINUTE;
/** Records that whoever asks has to count, and a start after a crash: some 20 ms. */
const MAX_UNCOUNTED = 20_000;
/** What the gateway says of a request that nobody took. */
const REFUSED = 'refused';

/** `steps`: how many took how long, as `steps.ts` writes them; one row holds them all, so that a day has few rows. */
export const ROLLUP_SCHEMA = `
  create table sums (
    span bigint not null, start bigint not null, hostname text not null, route text not null, status integer not null,
    count bigint not null, bytes_in bigint not null, bytes_out bigint not null, steps text not null,
    primary key (span, start, hostname, route, status)) without rowid;`;

/** Of the file of a day alone: what is packed is counted to its end. */
const COUNTED_SCHEMA = `create table counted (
  one integer primary key check (one = 1), id bigint not null, summed_up bigint not null);`;
const COUNT_UP_TO = 'insert or replace into counted select 1, coalesce(max(id), 0), ? from records';

const KEY = 'span = ? and start = ? and hostname = ? and route = ? and status = ?';
const FIND = `select count, bytes_in as bytesIn, bytes_out as bytesOut, steps from sums where ${KEY}`;
const WRITE = `insert into sums values (?, ?, ?, ?, ?, ?, ?, ?, ?)
  on conflict do update set count = excluded.count, bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out,
    steps = excluded.steps`;
const BY_HOURS = `select start - start % ${HOUR} as hour, hostname, route, status, sum(count) as count,
    sum(bytes_in) as bytesIn, sum(bytes_out) as bytesOut, string_agg(steps, ' ') as steps
  from sums where span = ${MINUTE} and start >= ? and start < ? group by 1, 2, 3, 4`;
const FILL_ROWS = 2000;

export const ROUTE_SQL = `coalesce(json_extract(detail, '$.route'), '')`;

const hasTable = (connection: Database, name: string, file: 'main' | 'plain' = 'main'): boolean =>
  connection.prepare(`select 1 from ${file}.sqlite_master where name = ?`).get(name) !== undefined;

/** A file of an earlier version of this system has none. */
export const hasRollup = (connection: Database, file?: 'plain'): boolean =>
  hasTable(connection, 'sums', file);

/** It has what a `Rollup` needs. */
export const isPrepared = (connection: Database): boolean =>
  hasRollup(connection) && hasTable(connection, 'counted');

interface Counted {
  /** Records after this one are in no count of the file yet. */
  id: number;
  /** Milliseconds since 1970: minutes before are in the sums of their hours, later ones are not. */
  summedUp: number;
}

/** A packed day, and one of an earlier version, is counted and summed up to its end. */
const TO_THE_END: Counted = { id: Infinity, summedUp: Infinity };

export function countedIn(connection: Database): Counted {
  if (!hasTable(connection, 'counted')) return TO_THE_END;
  const found = connection.prepare<[], Counted>('select id, summed_up as summedUp from counted').get();
  return found ?? { id: 0, summedUp: 0 };
}

/** Makes what is missing in a file. An earlier version counted each record as it came, or none. */
export function prepareRollup(connection: Database): void {
  const isCounted = hasRollup(connection);
  connection.exec(
    isCounted ? COUNTED_SCHEMA : `drop table if exists counted; ${ROLLUP_SCHEMA} ${COUNTED_SCHEMA}`,
  );
  if (isCounted) connection.prepare(COUNT_UP_TO).run(newestOf(connection) + MINUTE);
}

const newestOf = (connection: Database): number =>
  connection
    .prepare<unknown[], { newest: number | null }>('select max(start) as newest from sums where span = ?')
    .get(MINUTE)?.newest ?? 0;

interface Sum {
  hostname: string;
  route: string;
  status: number;
  count: number;
  bytesIn: number;
  bytesOut: number;
  steps: StepCounts;
}

/** As the file has it. */
type Kept = Omit<Sum, 'steps'> & { steps: string };
type KeptOfAnHour = Kept & { hour: number };

const at = Object.fromEntries(columns.map((name, index) => [name, index])) as Record<
  (typeof columns)[number],
  number
>;

const numberAt = (row: readonly unknown[], name: (typeof columns)[number]): number | undefined => {
  const value = row[at[name]];
  return typeof value === 'number' ? value : undefined;
};

type Sums = Map<string, Sum>;

export class Rollup {
  readonly #connection: Database;
  readonly #find: Statement<unknown[], Kept>;
  readonly #write: Statement;
  readonly #countUpTo: Statement;
  readonly #served = new NamesOfAnHour(MAX_SERVED);
  readonly #strange = new NamesOfAnHour(MAX_STRANGE);
  /** Not written yet, by minute and key. */
  #uncounted = new Map<number, Sums>();
  #uncountedRecords = 0;
  /** Of the file, when it was opened: of what is younger it has what was written here. */
  readonly #newestBefore: number;
  #newestMinute: number;
  /** As in the file. */
  #summedUp: number;
  /** What the file has of the minute that was written last, so that it need not be asked. */
  #written = { start: 0, sums: new Map<string, Sum>() as Sums };

  /** Inside a transaction; counts what the file has and nobody counted. */
  constructor(connection: Database) {
    this.#connection = connection;
    this.#find = connection.prepare(FIND);
    this.#write = connection.prepare(WRITE);
    this.#countUpTo = connection.prepare(COUNT_UP_TO);
    this.#newestBefore = newestOf(connection);
    this.#newestMinute = this.#newestBefore;
    this.#summedUp = countedIn(connection).summedUp;
    this.#catchUp();
  }

  /**
   * Rows in the order of `columns`, then the detail. Inside the transaction that writes them: when that fails, this
   * object knows more than the file and has to go.
   */
  add(rows: readonly (readonly unknown[])[]): void {
    const before = this.#newestMinute;
    this.#countAll(rows);
    this.#uncountedRecords += rows.length;
    if (this.#newestMinute > before || this.#uncountedRecords >= MAX_UNCOUNTED) this.write();
  }

  /** Everything counted is in the file then. Inside a transaction as well. */
  write(): void {
    if (this.#uncountedRecords === 0) return;
    for (const [start, sums] of [...this.#uncounted].sort(([a], [b]) => a - b))
      this.#writeMinute(start, sums);
    this.#uncounted = new Map();
    this.#uncountedRecords = 0;
    this.#countUpTo.run(this.#summedUp);
  }

  /** Of a day that is over: nobody has to read its minutes for its hours. Inside a transaction as well. */
  sumUpToEnd(): void {
    this.write();
    this.#sumUp(this.#newestMinute + MINUTE);
    this.#countUpTo.run(this.#summedUp);
  }

  #catchUp(): void {
    const some = this.#connection
      .prepare<unknown[], unknown[]>(
        `select ${[...columns, 'detail', 'id'].join(', ')} from records where id > ? order by id limit ${FILL_ROWS}`,
      )
      .raw();
    for (let last: unknown = countedIn(this.#connection).id; last !== undefined; ) {
      const rows = some.all(last);
      this.add(rows);
      last = rows.at(-1)?.at(-1);
    }
    this.write();
  }

  #writeMinute(start: number, sums: Sums): void {
    this.#sumUp(start - (start % SUMMED_AT_ONCE));
    if (start > this.#written.start) this.#written = { start, sums: new Map() };
    const known = start === this.#written.start ? this.#written.sums : undefined;
    for (const [key, sum] of sums) {
      const merged = this.#merge(MINUTE, start, sum, known?.get(key));
      known?.set(key, merged);
      // One that comes late.
      if (start < this.#summedUp) this.#merge(HOUR, start - (start % HOUR), sum);
    }
  }

  #merge(span: number, start: number, sum: Sum, known?: Sum): Sum {
    const { hostname, route, status } = sum;
    const merged = known ?? this.#kept(span, start, sum);
    merged.count += sum.count;
    merged.bytesIn += sum.bytesIn;
    merged.bytesOut += sum.bytesOut;
    merged.steps.addAll(sum.steps);
    const { count, bytesIn, bytesOut, steps } = merged;
    this.#write.run([span, start, hostname, route, status, count, bytesIn, bytesOut, steps.text()]);
    return merged;
  }

  #kept(span: number, start: number, { hostname, route, status }: Sum): Sum {
    const isNew = span === MINUTE && start === this.#written.start && start > this.#newestBefore;
    const found = isNew ? undefined : this.#find.get([span, start, hostname, route, status]);
    return { hostname, route, status, ...(found ?? NOTHING), steps: new StepCounts(found?.steps) };
  }

  /** Adds the minutes before `until` that are in no sum of an hour to those of their hours. */
  #sumUp(until: number): void {
    if (until <= this.#summedUp) return;
    const sums = this.#connection.prepare<unknown[], KeptOfAnHour>(BY_HOURS);
    for (const { hour, steps, ...sum } of sums.all(this.#summedUp, until))
      this.#merge(HOUR, hour, { ...sum, steps: new StepCounts(steps) });
    this.#summedUp = until;
  }

  #countAll(rows: readonly (readonly unknown[])[]): void {
    let [start, sums] = [-Infinity, new Map<string, Sum>() as Sums];
    for (const row of rows) {
      const time = numberAt(row, 'time');
      if (row[at.kind] !== 'access' || time === undefined) continue;
      // The next one is of the same minute nearly always: a remainder of such numbers costs more than all the rest.
      if (time < start || time >= start + MINUTE) {
        start = time - (time % MINUTE);
        if (start > this.#newestMinute) this.#newestMinute = start;
        sums = this.#uncounted.get(start) ?? new Map<string, Sum>();
        this.#uncounted.set(start, sums);
      }
      this.#count(sums, row, start);
    }
  }

  #count(sums: Sums, row: readonly unknown[], minute: number): void {
    const detail = row[columns.length];
    const hostname = this.#nameOf(row[at.hostname], detail, minute);
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
  #nameOf(hostname: unknown, detail: unknown, minute: number): string {
    if (typeof hostname !== 'string') return '';
    const hour = Math.floor(minute / HOUR) * HOUR;
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
