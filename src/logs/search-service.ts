/**
 * `search_logs`: a text anywhere in the records, over all that is kept; how often, and in what kinds of lines. In short
 * pieces, so that other questions to the log are answered between them. Called by service.ts.
 */
import { type Clock, SECOND } from '../core/clock.ts';
import { decodeCursor, encodeCursor, toTimestamp } from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Position } from './conditions.ts';
import { firstThatFit } from './fit.ts';
import { type LeftOut, leftOutHints } from './left-out.ts';
import type { LogSearch } from './schema.ts';
import { addPattern, type Pattern, type TextAnswer, type TextQuestion } from './search.ts';

const LIST = 'log search';
/** What a caller waits for at most; the rest is behind the cursor. */
const SEARCH_MS = 10 * SECOND;
const DEFAULT_PATTERNS = 20;
const MAX_DAYS = 31;
const ENVELOPE_CHARACTERS = 1500;

/** Arguments of `search_logs`, as they come; `contains` is its text. */
export interface SearchArguments {
  text: string;
  filter?: string | undefined;
  since?: string | undefined;
  until?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

interface Searching {
  search: (question: TextQuestion) => Promise<TextAnswer>;
  clock: Clock;
  context: Pick<OperationContext, 'progress'>;
}

export async function searchLogs(
  asked: SearchArguments,
  filter: TextQuestion['filter'],
  { search, clock, context }: Searching,
): Promise<LogSearch> {
  const patterns = new Map<string, Pattern>();
  const days = new Map<string, number>();
  const stop = clock.now() + SEARCH_MS;
  let hits = 0;
  const leftOut = new Map<string, LeftOut>();
  let before = positionOf(asked.cursor);
  do {
    const answer = await search({ filter, before });
    hits += answer.hits;
    for (const pattern of answer.patterns) addPattern(patterns, pattern);
    for (const { day, hits: some } of answer.days) days.set(day, (days.get(day) ?? 0) + some);
    for (const one of answer.leftOut ?? []) leftOut.set(one.day, one);
    before = answer.next;
    if (before !== undefined)
      context.progress?.({ progress: hits, message: `${hits} hits back to ${toTimestamp(before.time)}` });
  } while (before !== undefined && clock.now() < stop);
  const found = { hits, patterns: [...patterns.values()], days: [...days], leftOut: [...leftOut.values()] };
  return answerOf(found, asked.limit, before);
}

function positionOf(cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined;
  const [time, id] = decodeCursor(LIST, ['number', 'number'], cursor);
  return { time, id };
}

function answerOf(
  {
    hits,
    patterns,
    days,
    leftOut,
  }: { hits: number; patterns: Pattern[]; days: [string, number][]; leftOut: LeftOut[] },
  limit: number | undefined,
  next: Position | undefined,
): LogSearch {
  const newest = patterns.sort((a, b) => b.last - a.last || b.count - a.count);
  const room = limit === undefined ? limits.resultCharactersDefault : limits.resultCharacters;
  const shown = newest.slice(0, limit ?? DEFAULT_PATTERNS).map(({ first, last, hostname, ...rest }) => ({
    ...rest,
    ...(hostname !== undefined && { hostname }),
    first: toTimestamp(first),
    last: toTimestamp(last),
  }));
  const fitting = firstThatFit(shown, room - ENVELOPE_CHARACTERS);
  const hints = [
    next !== undefined &&
      `Searched back to ${toTimestamp(next.time)} in the time allowed; next_cursor goes on with what is older and counts it anew, a filter or since makes it less`,
    fitting.length < newest.length && 'Only the newest kinds of lines are told; limit tells more of them',
    ...leftOutHints(leftOut),
  ].filter((hint) => hint !== false);
  return {
    hits,
    patterns: fitting,
    pattern_count: newest.length,
    days: days.slice(0, MAX_DAYS).map(([day, some]) => ({ day, hits: some })),
    ...(next !== undefined && { next_cursor: encodeCursor(LIST, [next.time, next.id]) }),
    ...(hints.length > 0 && { truncated: true, hint: hints.join('. ') }),
  };
}
