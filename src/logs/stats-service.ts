/** `get_log_stats`: arguments → question to the reader thread → answer. Called by service.ts. */
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import type { LogFilter } from './conditions.ts';
import { limits } from '../core/limits.ts';
import { parseFilter } from './filter.ts';
import { firstThatFit } from './fit.ts';
import { leftOutHints } from './left-out.ts';
import type { LogStats } from './schema.ts';
import type { Figures, StatsAnswer, StatsGroup, StatsQuestion, StatsSort } from './stats.ts';
import { parseTime } from './time-range.ts';

export const intervals = {
  '1m': MINUTE,
  '5m': 5 * MINUTE,
  '15m': 15 * MINUTE,
  '1h': HOUR,
  '1d': DAY,
} as const;
const DEFAULT_SPAN_MS = DAY;
const DEFAULT_TOP = 20;
const MAX_BUCKETS = 100;
const ENVELOPE_CHARACTERS = 1500;

/** Arguments of `get_log_stats`, as they come. */
export interface StatsArguments {
  filter?: string | undefined;
  since?: string | undefined;
  until?: string | undefined;
  group_by?: StatsGroup | undefined;
  sort_by?: StatsSort | undefined;
  top?: number | undefined;
  interval?: keyof typeof intervals | undefined;
}

export function statsQuestionOf(asked: StatsArguments, principal: Principal, now: number): StatsQuestion {
  const said = parseFilter(asked.filter ?? '', now);
  const { since, until } = wholeMinutes(
    timeOf('since', said.since, asked.since, now) ?? now - DEFAULT_SPAN_MS,
    timeOf('until', said.until, asked.until, now) ?? now + 1,
    now,
  );
  const interval = asked.interval === undefined ? undefined : intervals[asked.interval];
  if (since >= until)
    throw new AppError(
      'INVALID_INPUT',
      `since (${toTimestamp(since)}) has to be before until (${toTimestamp(until)})`,
    );
  if (interval !== undefined && until - since > interval * MAX_BUCKETS)
    throw new AppError(
      'INVALID_INPUT',
      `interval: ${asked.interval} gives more than ${MAX_BUCKETS} steps; take a longer one or a shorter time`,
    );
  const filter: LogFilter & { since: number; until: number } = {
    terms: said.terms,
    since,
    until,
    hostnames: principal.hostnames,
  };
  const namesKind = said.everything || said.terms.some((term) => 'column' in term && term.column === 'kind');
  if (!namesKind) filter.kind = kindOf(asked.group_by);
  const { group_by: groupBy, sort_by: sortBy = 'count', top = DEFAULT_TOP } = asked;
  return { filter, groupBy, sortBy, top, interval };
}

/** As requests are counted beforehand; of the minute that runs, what there is of it. */
function wholeMinutes(since: number, until: number, now: number): { since: number; until: number } {
  const end = Math.ceil(until / MINUTE) * MINUTE;
  return {
    since: Math.floor(since / MINUTE) * MINUTE,
    until: until > now || end > now ? Math.max(until, now + 1) : end,
  };
}

/** What is counted where nobody says it: requests, or what the group is of. */
function kindOf(group: StatsGroup | undefined): LogFilter['kind'] {
  if (group === 'operation') return 'audit';
  return group === 'tool' ? 'mcp' : 'access';
}

/** One place for each: the filter or the argument. */
export function timeOf(
  name: 'since' | 'until',
  ofFilter: number | undefined,
  argument: string | undefined,
  now: number,
): number | undefined {
  if (argument === undefined) return ofFilter;
  if (ofFilter !== undefined)
    throw new AppError('INVALID_INPUT', `${name} is both an argument and in filter; leave one out`);
  return parseTime(name, argument, now);
}

export function statsOfAnswer(
  { top, interval }: StatsArguments,
  { filter }: StatsQuestion,
  answer: StatsAnswer,
): LogStats {
  const { total, groupCount, groupsCut, source, countedBackTo } = answer;
  const isAsked = top !== undefined || interval !== undefined;
  const room = (isAsked ? limits.resultCharacters : limits.resultCharactersDefault) - ENVELOPE_CHARACTERS;
  const groups = firstThatFit(answer.groups, interval === undefined ? room : room / 2);
  const buckets = firstThatFit(answer.buckets.map(bucketOf), room / 2);
  const hints = [
    countedBackTo !== undefined && HINT_TIME,
    groupsCut && HINT_GROUPS,
    (groups.length < answer.groups.length || buckets.length < answer.buckets.length) && HINT_SIZE,
    ...leftOutHints(answer.leftOut),
  ].filter((hint) => hint !== false);
  return {
    since: toTimestamp(countedBackTo ?? filter.since),
    until: toTimestamp(filter.until),
    total,
    ...(groups.length > 0 && { groups, group_count: groupCount }),
    ...(buckets.length > 0 && { buckets }),
    source,
    ...(hints.length > 0 && { truncated: true, hint: hints.join('. ') }),
  };
}

const HINT_TIME =
  'The time allowed was up; narrow with since or filter, or group by host, route or status_class, which are counted beforehand';
const HINT_GROUPS = 'There were too many groups to count all of them; narrow with filter';
const HINT_SIZE =
  'Not all that was counted fits; ask for fewer groups (top), longer steps (interval) or a shorter time';

const bucketOf = ({ time, count, client_errors, server_errors, p95_ms }: { time: number } & Figures) => ({
  time: toTimestamp(time),
  count,
  client_errors,
  server_errors,
  ...(p95_ms !== undefined && { p95_ms }),
});
