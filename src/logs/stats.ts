/**
 * Counts, rates and percentiles of what is in the log, in all, by group and over time. From the counts by minute and hour
 * (rollup.ts) where they can tell what is asked, from the records otherwise. Runs in the reader thread only.
 */
import type { Database } from 'better-sqlite3';
import { HOUR, MINUTE } from '../core/clock.ts';
import { cleanText } from '../core/untrusted.ts';
import type { LeftOut } from './left-out.ts';
import { type LogFilter, whereOf, whereOfHosts } from './conditions.ts';
import { logLevels } from '../core/record.ts';
import { type Budget, type DayRange, type LogFiles, namedIn, Windows } from './query.ts';
import { countedIn, hasRollup, OTHER_STRANGERS, OTHERS, OTHERS_SHOWN, ROUTE_SQL } from './rollup.ts';
import { percentile, StepCounts, stepSql } from './steps.ts';

/** Groups that are counted apart; what comes after them is in the sum only. */
const MAX_GROUPS = 10_000;
const KEY_LENGTH = 120;
const CLASS_WIDTH = 100;
const CLIENT_ERROR = 4;
const SERVER_ERROR = 5;
const SECOND_MS = 1000;

const keySql = {
  host: `coalesce(hostname, '')`,
  route: ROUTE_SQL,
  status: `coalesce(status, '')`,
  status_class: `coalesce(status / ${CLASS_WIDTH}, 0)`,
  method: `coalesce(method, '')`,
  principal: `coalesce(principal, '')`,
  client: `coalesce(client_address, '')`,
  operation: `coalesce(operation, '')`,
  tool: `coalesce(json_extract(detail, '$.tool'), '')`,
  outcome: `coalesce(outcome, '')`,
  level: 'level',
  kind: 'kind',
} as const;
export type StatsGroup = keyof typeof keySql;
export const statsGroups = Object.keys(keySql) as [StatsGroup, ...StatsGroup[]];
const rollupKeys: Partial<Record<StatsGroup, string>> = {
  host: 'hostname',
  route: 'route',
  status: `case status when 0 then '' else status end`,
  status_class: `status / ${CLASS_WIDTH}`,
};

export const statsSorts = ['count', 'server_errors', 'p95_ms', 'bytes_out'] as const;
export type StatsSort = (typeof statsSorts)[number];

export interface StatsQuestion {
  filter: LogFilter & { since: number; until: number };
  groupBy: StatsGroup | undefined;
  sortBy: StatsSort;
  /** Groups that are told, the first ones of the order. */
  top: number;
  /** Milliseconds; undefined: not over time. */
  interval: number | undefined;
}

/** Milliseconds with one decimal; absent where no record has a duration. */
export interface Figures {
  count: number;
  per_second: number;
  client_errors: number;
  server_errors: number;
  bytes_in: number;
  bytes_out: number;
  p50_ms?: number;
  p95_ms?: number;
  p99_ms?: number;
}

export interface StatsAnswer {
  total: Figures;
  groups: ({ name: string } & Figures)[];
  /** Of all, also of those that are not told. */
  groupCount: number;
  /** There were more than could be counted apart. */
  groupsCut: boolean;
  buckets: ({ time: number } & Figures)[];
  source: 'rollup' | 'records' | 'both';
  /** Set when the time ended before the records did. */
  countedBackTo: number | undefined;
  leftOut?: readonly LeftOut[];
}

interface Part {
  key: string | number | null;
  slot: number;
  status: number;
  count: number;
  bytes_in: number;
  bytes_out: number;
  /** As `StepCounts` writes them. */
  steps: string;
}

class Sum {
  count = 0;
  clientErrors = 0;
  serverErrors = 0;
  bytesIn = 0;
  bytesOut = 0;
  readonly steps = new StepCounts();

  add(part: Part): void {
    this.count += part.count;
    const kind = Math.floor(part.status / CLASS_WIDTH);
    if (kind === CLIENT_ERROR) this.clientErrors += part.count;
    if (kind === SERVER_ERROR) this.serverErrors += part.count;
    this.bytesIn += part.bytes_in;
    this.bytesOut += part.bytes_out;
    this.steps.addText(part.steps);
  }

  figures(milliseconds: number): Figures {
    const at = (share: number): number | undefined => {
      const found = percentile(this.steps, share);
      return found === undefined ? undefined : rounded(found);
    };
    const [p50, p95, p99] = [at(0.5), at(0.95), at(0.99)];
    return {
      count: this.count,
      per_second: rounded((this.count * SECOND_MS) / milliseconds, 100),
      client_errors: this.clientErrors,
      server_errors: this.serverErrors,
      bytes_in: this.bytesIn,
      bytes_out: this.bytesOut,
      ...(p50 !== undefined && { p50_ms: p50, p95_ms: p95 ?? p50, p99_ms: p99 ?? p50 }),
    };
  }
}

const rounded = (value: number, parts = 10): number => Math.round(value * parts) / parts;

export function statsOf(files: LogFiles, question: StatsQuestion, budget: Budget): StatsAnswer {
  const counting = new Counting(question);
  const sources = new Set<'rollup' | 'records'>();
  const stop = budget.now() + budget.milliseconds;
  let countedBackTo: number | undefined;
  const countDay = (day: DayRange): number | undefined => {
    const { since, until } = day;
    if (budget.now() > stop) return until;
    const counts = readsRollup(question) ? day.counts() : undefined;
    if (counts && rollupTells(counts, question, since, until)) {
      sources.add('rollup');
      // One view of the file: what is written meanwhile would be counted twice, or not at all.
      counts.transaction(() => countRollup(counts, counting, since, until))();
      return undefined;
    }
    const records = day.records(() => budget.now() > stop);
    if (records === undefined) return undefined;
    sources.add('records');
    if (records === 'late') return until;
    return countRecords(records, counting, { since, until, stop, now: budget.now });
  };
  for (const day of files.daysOf(question.filter)) {
    countedBackTo = day.read(() => countDay(day));
    if (countedBackTo !== undefined) break;
  }
  return counting.answer(sources.size > 1 ? 'both' : ([...sources][0] ?? 'rollup'), countedBackTo);
}

class Counting {
  readonly question: StatsQuestion;
  readonly #total = new Sum();
  readonly #groups = new Map<string, Sum>();
  readonly #slots = new Map<number, Sum>();
  #groupsCut = false;

  constructor(question: StatsQuestion) {
    this.question = question;
  }

  add(part: Part): void {
    const { groupBy, interval } = this.question;
    this.#total.add(part);
    if (groupBy !== undefined) this.#group(String(part.key ?? ''))?.add(part);
    if (interval !== undefined) sumAt(this.#slots, part.slot).add(part);
  }

  answer(source: StatsAnswer['source'], countedBackTo: number | undefined): StatsAnswer {
    const { filter, groupBy, interval, sortBy, top } = this.question;
    const length = filter.until - (countedBackTo ?? filter.since);
    const groups = [...this.#groups].map(([key, sum]) => ({
      name: nameOf(groupBy, key),
      ...sum.figures(length),
    }));
    groups.sort((a, b) => (b[sortBy] ?? 0) - (a[sortBy] ?? 0) || b.count - a.count);
    return {
      total: this.#total.figures(length),
      groups: groups.slice(0, top),
      groupCount: groups.length,
      groupsCut: this.#groupsCut,
      buckets: [...this.#slots]
        .sort(([a], [b]) => a - b)
        .map(([time, sum]) => ({ time, ...sum.figures(interval ?? length) })),
      source,
      countedBackTo,
    };
  }

  #group(key: string): Sum | undefined {
    if (this.#groups.has(key) || this.#groups.size < MAX_GROUPS) return sumAt(this.#groups, key);
    this.#groupsCut = true;
    return undefined;
  }
}

/** As people say it. */
function nameOf(group: StatsGroup | undefined, key: string): string {
  if (group === 'level') return logLevels[Number(key)] ?? key;
  if (group === 'status_class') return key === '0' ? '' : `${key}xx`;
  if (group === 'host' && key === OTHERS) return OTHERS_SHOWN;
  if (group === 'host' && key === OTHER_STRANGERS) return '(others, not served)';
  return cleanText(key, KEY_LENGTH);
}

function sumAt<Key>(sums: Map<Key, Sum>, key: Key): Sum {
  const known = sums.get(key);
  if (known) return known;
  const sum = new Sum();
  sums.set(key, sum);
  return sum;
}

/** It tells hosts, routes and classes of requests, by minutes. */
function readsRollup({ filter, groupBy, interval = MINUTE }: StatsQuestion): boolean {
  const {
    kind,
    since: _since,
    until: _until,
    hostname: _name,
    hostnames: _names,
    terms = [],
    ...others
  } = filter;
  return (
    kind === 'access' &&
    (groupBy === undefined || rollupKeys[groupBy] !== undefined) &&
    interval % MINUTE === 0 &&
    terms.every((term) => term.match === 'host' && !term.present) &&
    Object.values(others).every((value) => value === undefined || value === false)
  );
}

const namesHosts = ({ filter }: StatsQuestion): boolean =>
  filter.hostname !== undefined || filter.hostnames !== undefined || (filter.terms ?? []).length > 0;

/** Where hostnames were too many to be counted apart, the records have to be asked for one that is not among them. */
function rollupTells(connection: Database, question: StatsQuestion, since: number, until: number): boolean {
  if (!hasRollup(connection)) return false;
  if (!namesHosts(question)) return true;
  const ranges = spansOf(since - (since % HOUR), until, { interval: HOUR, ...countedIn(connection) });
  const others = connection.prepare<unknown[], { hostname: string }>(
    'select distinct hostname from sums where span = ? and start >= ? and start < ? and hostname in (?, ?)',
  );
  const found = ranges.flatMap((range) => others.all(...range, OTHERS, OTHER_STRANGERS));
  if (found.length === 0) return true;
  if (found.some(({ hostname }) => hostname === OTHERS)) return false;
  const { where, values } = whereOfHosts(question.filter);
  const known = connection.prepare(
    `select 1 from sums where ${['span = ? and start >= ? and start < ?', ...where].join(' and ')} limit 1`,
  );
  return ranges.some((range) => known.get(...range, ...values) !== undefined);
}

type Span = [span: number, from: number, to: number];

function countRollup(connection: Database, counting: Counting, since: number, until: number): void {
  const { groupBy, interval } = counting.question;
  const { where, values, ofOneHost } = whereOfHosts(counting.question.filter);
  const slot = interval === undefined ? '0' : `start - start % ${interval}`;
  const statement = connection.prepare<unknown[], Part>(
    `select ${(groupBy && rollupKeys[groupBy]) ?? "''"} as key, ${slot} as slot, status, sum(count) as count,
      sum(bytes_in) as bytes_in, sum(bytes_out) as bytes_out, string_agg(steps, ' ') as steps
    from sums where ${['span = ?', ofOneHost ? EACH_START : 'start >= ? and start < ?', ...where].join(' and ')}
    group by 1, 2, 3`,
  );
  const { id, summedUp } = countedIn(connection);
  for (const [span, from, to] of spansOf(since - (since % MINUTE), until, { interval, summedUp }))
    for (const part of statement.iterate(span, from, ...(ofOneHost ? [to, span] : [to]), ...values))
      counting.add(part);
  if (id !== Infinity) countUncounted(connection, counting, { id, since, until });
}

/** Records that came after the last ones that are in the counts. */
function countUncounted(
  connection: Database,
  counting: Counting,
  { id, since, until }: { id: number; since: number; until: number },
): void {
  const { filter, groupBy, interval } = counting.question;
  const { where, values } = whereOfHosts(filter);
  const minute = `time - time % ${MINUTE}`;
  // The limit keeps SQLite from looking in an index for what is among the last rows.
  const from = `(select * from records where id > ? and kind = 'access' limit -1)`;
  const statement = connection.prepare<unknown[], Part>(
    selectParts(from, [`${minute} >= ? and ${minute} < ?`, ...where], { groupBy, interval }),
  );
  for (const part of statement.iterate(id, since - (since % MINUTE), until, ...values)) counting.add(part);
}

/** One step in the key for each minute or hour: between two of them are the rows of every other hostname. */
const EACH_START = `start in (with recursive starts(start, until, step) as (
  select ?, ?, ? union all select start + step, until, step from starts where start + step < until)
  select start from starts where start < until)`;

/** Whole hours by hours, the one that is summed up in part as far as it is, and what is before and after by minutes. */
function spansOf(
  since: number,
  until: number,
  { interval = HOUR, summedUp }: { interval?: number | undefined; summedUp: number },
): Span[] {
  const isWithin = summedUp <= until;
  const first = Math.ceil(since / HOUR) * HOUR;
  const last = isWithin ? Math.ceil(summedUp / HOUR) * HOUR : Math.floor(until / HOUR) * HOUR;
  if (first >= last || interval % HOUR !== 0) return [[MINUTE, since, until]];
  return [
    [MINUTE, since, first],
    [HOUR, first, last],
    [MINUTE, isWithin ? summedUp : last, until],
  ];
}

/** Newest first, in windows; returns how far it came when the time was up. */
function countRecords(
  connection: Database,
  counting: Counting,
  { since, until, stop, now }: { since: number; until: number; stop: number; now: () => number },
): number | undefined {
  const { filter, groupBy, interval } = counting.question;
  const { where, values, widest } = whereOf(namedIn(connection, filter));
  const statement = connection.prepare<unknown[], Part>(
    selectParts('records', ['time >= ? and time < ?', ...where], { groupBy, interval }),
  );
  for (const { begin, end } of new Windows(now).of(connection, { since, until }, widest)) {
    if (now() > stop) return end;
    for (const part of statement.iterate(begin, end, ...values)) counting.add(part);
  }
  return undefined;
}

function selectParts(
  from: string,
  where: readonly string[],
  { groupBy, interval }: Pick<StatsQuestion, 'groupBy' | 'interval'>,
): string {
  const slot = interval === undefined ? '0' : `time - time % ${interval}`;
  return `select ${groupBy ? keySql[groupBy] : "''"} as key, ${slot} as slot, coalesce(status, 0) as status,
      ${stepSql('duration_ms')} || ':' || count(*) as steps, count(*) as count, coalesce(sum(bytes_in), 0) as bytes_in,
      coalesce(sum(bytes_out), 0) as bytes_out
    from ${from} where ${where.join(' and ')}
    group by 1, 2, 3, ${stepSql('duration_ms')}`;
}
