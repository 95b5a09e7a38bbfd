/**
 * How often a text is in the records, and in what kinds of lines: counted, newest first, for as long as the budget lasts.
 * Runs in the reader thread only; search-service.ts joins what one piece after another found.
 */
import { type LogLevel, logLevels } from '../core/record.ts';
import type { LeftOut } from './left-out.ts';
import { type LogFilter, type Position, whereOf } from './conditions.ts';
import { patternOf, type PatternRow } from './pattern.ts';
import { type Budget, type DayRange, type LogFiles, namedIn, Windows } from './query.ts';
import { dayOf } from './folder.ts';
import { recordId } from './row.ts';

/** Kinds of lines that are told apart; more count as one. */
export const MAX_PATTERNS = 500;
export const IDS_EACH = 3;
/** Hits between two looks at the clock. */
const ROWS_A_LOOK = 256;
export const OTHER_LINES = '(other lines)';

export interface TextQuestion {
  /** `contains` is the text. */
  filter: LogFilter & { contains: string };
  /** Where the piece before ended. */
  before: Position | undefined;
}

/** Hits of one kind. */
export interface Pattern {
  pattern: string;
  count: number;
  /** Milliseconds since 1970. */
  first: number;
  last: number;
  level: LogLevel;
  hostname: string | undefined;
  /** Of the newest records. */
  ids: string[];
}

export interface TextAnswer {
  hits: number;
  patterns: Pattern[];
  /** Hits of each day that has some, newest first. */
  days: { day: string; hits: number }[];
  /** Set when the budget ended before the files did. */
  next: Position | undefined;
  leftOut?: readonly LeftOut[];
}

interface HitRow extends PatternRow {
  id: number;
  time: number;
  level: number;
}

const WANTED = 'id, time, level, message, hostname, path, method, status, user_agent, detail';

export function searchText(files: LogFiles, { filter, before }: TextQuestion, budget: Budget): TextAnswer {
  const finding = new Finding(filter.contains);
  const stop = budget.now() + budget.milliseconds;
  const windows = new Windows(budget.now);
  const isLate = () => budget.now() > stop;
  let rows = 0;
  const searchDay = (day: DayRange): Position | undefined => {
    const records = day.records(isLate);
    if (records === undefined) return undefined;
    if (records === 'late') return { time: day.until, id: 0 };
    const { sql, values, widest } = hitsOf(namedIn(records, filter), before);
    const statement = records.prepare<unknown[], HitRow>(sql);
    for (const { begin, end } of windows.of(records, day, widest)) {
      if (isLate()) return { time: end, id: 0 };
      for (const row of statement.iterate(begin, end, ...values)) {
        finding.add(row);
        rows += 1;
        if (rows % ROWS_A_LOOK === 0 && isLate()) return { time: row.time, id: row.id };
      }
    }
    return undefined;
  };
  for (const day of files.daysOf(filter, before)) {
    const next = day.read(() => searchDay(day));
    if (next) return finding.answer(next);
  }
  return finding.answer(undefined);
}

function hitsOf(filter: LogFilter, before: Position | undefined) {
  const { where, values, widest } = whereOf(filter);
  if (before) {
    where.push('(time < ? or id < ?)');
    values.push(before.time, before.id);
  }
  const sql = `select ${WANTED} from records where ${['time >= ? and time < ?', ...where].join(' and ')}
    order by time desc, id desc`;
  return { sql, values, widest };
}

class Finding {
  readonly #text: string;
  readonly #patterns = new Map<string, Pattern>();
  readonly #days = new Map<string, number>();
  #hits = 0;

  constructor(text: string) {
    this.#text = text;
  }

  add(row: HitRow): void {
    this.#hits += 1;
    const day = dayOf(row.time);
    this.#days.set(day, (this.#days.get(day) ?? 0) + 1);
    addPattern(this.#patterns, {
      pattern: patternOf(row, this.#text),
      count: 1,
      first: row.time,
      last: row.time,
      level: logLevels[row.level] ?? 'info',
      hostname: row.hostname ?? undefined,
      ids: [recordId(row)],
    });
  }

  answer(next: Position | undefined): TextAnswer {
    return {
      hits: this.#hits,
      patterns: [...this.#patterns.values()],
      days: [...this.#days].map(([day, hits]) => ({ day, hits })),
      next,
    };
  }
}

/** Older ones to newer ones: the facts of the newest stay. */
export function addPattern(patterns: Map<string, Pattern>, found: Pattern): void {
  const isNew = !patterns.has(found.pattern);
  const name = isNew && patterns.size >= MAX_PATTERNS ? OTHER_LINES : found.pattern;
  const known = patterns.get(name);
  if (!known) {
    patterns.set(name, { ...found, pattern: name });
    return;
  }
  known.count += found.count;
  known.first = Math.min(known.first, found.first);
  known.last = Math.max(known.last, found.last);
  if (known.hostname !== found.hostname) known.hostname = undefined;
  known.ids.push(...found.ids.slice(0, Math.max(0, IDS_EACH - known.ids.length)));
}
