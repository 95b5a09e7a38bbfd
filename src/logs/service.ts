/**
 * What can be asked of the log and set on it. Nothing is written here: records come in by sink.ts, from everywhere.
 * Called by operations.ts.
 */
import type { Clock } from '../core/clock.ts';
import { SECOND } from '../core/clock.ts';
import { decodeCursor, encodeCursor, toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import { mayTouch, type Principal } from '../core/principal.ts';
import { type LogLevel, logLevels, type RecordKind } from '../core/record.ts';
import type { LogArchive } from './archive.ts';
import { type AdjustableComponent, levelNamed, levelRank } from './levels.ts';
import type { LogFilter, Position } from './conditions.ts';
import {
  type ChangesArguments,
  type DeniedArguments,
  explainRequest,
  type Find,
  type RequestArguments,
  whatChanged,
  whyDenied,
} from './explain-service.ts';
import { hostOf, parseFilter, requireFollowable, type Term } from './filter.ts';
import { type LeftOut, leftOutHints } from './left-out.ts';
import type { Answer, Presentation } from './present.ts';

import type {
  Changes,
  ComponentLevel,
  LogEntry,
  LogPage,
  LogSearch,
  LogStats,
  LogTail,
  Refusals,
  RequestStory,
} from './schema.ts';
import type { TextQuestion } from './search.ts';
import { type SearchArguments, searchLogs } from './search-service.ts';
import type { LogSink } from './sink.ts';
import { MAX_TAIL, tail } from './tail.ts';
import { type StatsArguments, statsOfAnswer, statsQuestionOf, timeOf } from './stats-service.ts';

const LIST = 'logs';
/** For what is told in fewer words afterwards. */
const IN_FULL: Presentation = { verbose: false, maxCharacters: 1_000_000 };
const WHOLE: Presentation = { verbose: true, maxCharacters: 1_000_000 };
const FIRST_FAILED_STATUS = 400;
const DEFAULT_LINES = 100;
/** For the cursor, the hint and the brackets around the records. */
const ENVELOPE_CHARACTERS = 600;
/** What was written just before the question is found; a writer that hangs holds nobody up for longer. */
const FLUSH_MS = 5 * SECOND;
const HINT_BEHIND = 'The newest records are still being written: ask again in a moment for what came last';
/** What is dropped is settled too, and would be missed by nobody. */
const HINT_LOST = 'Records cannot be written now, and some are lost: health_check says why';

/** Arguments of `get_logs`, as they come. */
export interface LogQuestion {
  filter?: string | undefined;
  lines?: number | undefined;
  level?: string | undefined;
  kind?: RecordKind | 'all' | undefined;
  hostname?: string | undefined;
  status_min?: number | undefined;
  status_max?: number | undefined;
  client_address?: string | undefined;
  principal?: string | undefined;
  path_prefix?: string | undefined;
  trace_id?: string | undefined;
  operation?: string | undefined;
  contains?: string | undefined;
  since?: string | undefined;
  until?: string | undefined;
  verbose?: boolean | undefined;
  cursor?: string | undefined;
}

type Asking = Pick<OperationContext, 'principal' | 'signal'>;

export interface TailArguments {
  filter?: string | undefined;
  follow_ms: number;
  lines: number;
}

export interface LogService {
  /** What the principal may not touch is not there; records without a hostname belong to nobody who is confined. */
  get(question: LogQuestion, context: Asking): Promise<LogPage>;
  /** The newest that were written from a time on (milliseconds since 1970). @throws AppError as `get`. */
  lookFrom(filter: string | undefined, from: number, context: Asking): Promise<LogEntry[]>;
  /** What is written from now on. */
  tail(asked: TailArguments, context: Asking & Pick<OperationContext, 'progress'>): Promise<LogTail>;
  /** A text anywhere: how often, and in what kinds of lines. */
  search(asked: SearchArguments, context: Asking & Pick<OperationContext, 'progress'>): Promise<LogSearch>;
  stats(asked: StatsArguments, context: Asking): Promise<LogStats>;
  explainRequest(asked: RequestArguments, context: Asking): Promise<RequestStory>;
  whyDenied(asked: DeniedArguments, context: Asking): Promise<Refusals>;
  whatChanged(asked: ChangesArguments, context: Asking): Promise<Changes>;
  setLevel(component: AdjustableComponent, level: string): ComponentLevel;
  listLevels(): ComponentLevel[];
}

export interface LogServiceOptions {
  sink: Pick<LogSink, 'flush' | 'setLevel' | 'levels' | 'stats'>;
  archive: Pick<LogArchive, 'query' | 'search' | 'stats'>;
  clock: Clock;
}

export function createLogService({ sink, archive, clock }: LogServiceOptions): LogService {
  /** What an explanation needs to look for. */
  function finding({ principal, signal }: Asking) {
    let searchedBackTo: number | undefined;
    const leftOut = new Map<string, LeftOut>();
    const find: Find = async (filter, limit) => {
      const search = { filter: { ...filter, hostnames: principal.hostnames }, limit, after: undefined };
      const answer = await archive.query({ search, presentation: WHOLE }, signal);
      searchedBackTo = Math.max(answer.searchedBackTo ?? 0, searchedBackTo ?? 0) || undefined;
      for (const one of answer.leftOut ?? []) leftOut.set(one.day, one);
      return answer.records.filter((record) => maySee(principal, record));
    };
    const unfinished = () => searchedBackTo;
    return { find, unfinished, leftOut: () => [...leftOut.values()], principal, now: clock.now() };
  }
  const follow = (text: string | undefined, asking: Asking) =>
    following({ sink, archive, clock }, text, asking);
  return {
    // As a promise: a filter that is none is refused by it.
    lookFrom: async (text, from, asking) => follow(text, asking)(from),
    explainRequest: (asked, context) => upToNow(sink, () => explainRequest(asked, finding(context))),
    whyDenied: (asked, context) => upToNow(sink, () => whyDenied(asked, finding(context))),
    whatChanged: (asked, context) => upToNow(sink, () => whatChanged(asked, finding(context))),
    async get(question, { principal, signal }) {
      const filter = filterOf(question, principal, clock.now());
      const search = { filter, limit: question.lines ?? DEFAULT_LINES, after: positionOf(question.cursor) };
      return upToNow(sink, async () => {
        const answer = await archive.query({ search, presentation: presentationOf(question) }, signal);
        const page = pageOf(answer, principal);
        const isBare = page.records.length === 0 && page.hint === undefined;
        return isBare && filter.withoutRoutine ? { ...page, hint: HINT_ROUTINE } : page;
      });
    },
    async tail({ filter: text, follow_ms: followMs, lines }, context) {
      return tail({ followMs, lines }, { look: follow(text, context), clock, context });
    },
    async search(asked, context) {
      const { text, filter, since, until } = asked;
      const question = filterOf({ filter, since, until, contains: text }, context.principal, clock.now());
      const search = (piece: TextQuestion) => archive.search(piece, context.signal);
      return upToNow(sink, async () => {
        const found = await searchLogs(asked, { ...question, contains: text }, { search, clock, context });
        const isBare = found.hits === 0 && found.hint === undefined && question.withoutRoutine;
        return isBare ? { ...found, hint: HINT_ROUTINE } : found;
      });
    },
    async stats(asked, { principal, signal }) {
      const question = statsQuestionOf(asked, principal, clock.now());
      return upToNow(sink, async () => statsOfAnswer(asked, question, await archive.stats(question, signal)));
    },
    setLevel(component, text) {
      const level = parseLevel(text);
      sink.setLevel(component, level);
      return { component, level };
    },
    listLevels() {
      const levels = sink.levels();
      // The keys of `Levels` are the components.
      return Object.entries(levels).map(([component, level]) => ({ component, level }) as ComponentLevel);
    },
  };
}

/** What `ask` finds when all that was written before is in the files, or with a hint that it is not, or can't be. */
async function upToNow<Answer extends { hint?: string | undefined }>(
  sink: LogServiceOptions['sink'],
  ask: () => Promise<Answer>,
): Promise<Answer> {
  const isWhole = await sink.flush(FLUSH_MS);
  const isFailing = sink.stats().problem !== undefined;
  if (isWhole && !isFailing) return ask();
  const missing = isFailing ? HINT_LOST : HINT_BEHIND;
  const answer = await ask().catch((cause: unknown) => {
    throw notFoundAs(cause, missing);
  });
  return { ...answer, hint: answer.hint === undefined ? missing : `${answer.hint}. ${missing}` };
}

/** Looks for what was written from a time on. @throws AppError INVALID_INPUT for a filter that can't be followed. */
function following(
  { sink, archive, clock }: LogServiceOptions,
  text: string | undefined,
  { principal, signal }: Asking,
): (from: number) => Promise<LogEntry[]> {
  requireFollowable(text);
  // No time in it is counted from now: what it says, it says at each look.
  const filter = filterOf({ filter: text }, principal, clock.now());
  return async (from) => {
    await sink.flush(FLUSH_MS);
    const search = { filter: { ...filter, since: from }, limit: MAX_TAIL, after: undefined };
    const { records } = await archive.query({ search, presentation: IN_FULL }, signal);
    return records.filter((record) => maySee(principal, record));
  };
}

/** What is not there may be among what is not written. */
function notFoundAs(cause: unknown, missing: string): unknown {
  if (!(cause instanceof AppError && cause.code === 'NOT_FOUND')) return cause;
  return new AppError(cause.code, `${cause.message}. ${missing}`, {
    cause,
    ...(cause.details && { details: cause.details }),
  });
}

function filterOf(question: LogQuestion, principal: Principal, now: number): LogFilter {
  const { level, hostname, since, until, status_min: statusMin, status_max: statusMax } = question;
  const said = parseFilter(question.filter ?? '', now);
  const filter: LogFilter = {
    level: level === undefined ? undefined : parseLevel(level),
    kind: question.kind === 'all' ? undefined : question.kind,
    hostname: hostname === undefined ? undefined : parseHost(hostname),
    statusMin,
    statusMax,
    clientAddress: question.client_address?.toLowerCase(),
    principal: question.principal,
    pathPrefix: question.path_prefix,
    traceId: question.trace_id?.toLowerCase(),
    operation: question.operation,
    contains: question.contains,
    since: timeOf('since', said.since, since, now),
    until: timeOf('until', said.until, until, now),
    terms: said.terms,
    withoutRoutine:
      !said.everything &&
      !asksForRoutine(question) &&
      !asksForTrouble(question) &&
      !said.terms.some(namesRoutineOrTrouble),
    hostnames: principal.hostnames,
  };
  refuseEmptyRanges(filter);
  return filter;
}

/** Whoever names the kind, the caller or the request wants all of it. */
function asksForRoutine({ kind, ...question }: LogQuestion): boolean {
  const { operation, principal, client_address: address, path_prefix: path, trace_id: trace } = question;
  if (kind === 'all' || kind === 'audit' || kind === 'mcp') return true;
  return [operation, principal, address, path, trace].some((argument) => argument !== undefined);
}

/** Nothing that went well is of this level or status. */
const asksForTrouble = ({ level = 'debug', status_min: status = 0 }: LogQuestion): boolean =>
  levelRank(parseLevel(level)) >= levelRank('warn') || status >= FIRST_FAILED_STATUS;

const ROUTINE_COLUMNS: ReadonlySet<string> = new Set([
  'operation',
  'principal',
  'client_address',
  'path',
  'trace_id',
]);

/** As the arguments do it. */
function namesRoutineOrTrouble(term: Term): boolean {
  if (term.negated || term.match === 'words') return false;
  if (term.match === 'within') {
    const least =
      { status: FIRST_FAILED_STATUS, level: levelRank('warn') }[term.column as string] ?? Infinity;
    return term.ranges.every(({ from, above }) => (from ?? above ?? -Infinity) >= least);
  }
  if (term.column === 'kind') return term.values.some((kind) => kind === 'audit' || kind === 'mcp');
  return ROUTINE_COLUMNS.has(term.column);
}

/** A range that holds nothing is a mistake, and an empty answer would hide it. */
function refuseEmptyRanges({ since, until, statusMin, statusMax }: LogFilter): void {
  if (since !== undefined && until !== undefined && since >= until)
    throw new AppError('INVALID_INPUT', `since (${show(since)}) has to be before until (${show(until)})`);
  if (statusMin !== undefined && statusMax !== undefined && statusMin > statusMax)
    throw new AppError('INVALID_INPUT', `status_min (${statusMin}) is above status_max (${statusMax})`);
}

const MAX_DATE = 8.64e15;
const show = (time: number): string => toTimestamp(Math.max(-MAX_DATE, time));

export function parseLevel(text: string): LogLevel {
  const level = levelNamed(text);
  if (level) return level;
  throw new AppError(
    'INVALID_INPUT',
    `level: ${JSON.stringify(text)} is not a level; use ${logLevels.join(', ')} (any case)`,
  );
}

function parseHost(text: string): string {
  const host = hostOf(text);
  if (host !== undefined) return host;
  throw new AppError(
    'INVALID_INPUT',
    `hostname: ${JSON.stringify(text)} is not a hostname; use app.example.com, *.example.com or an IP address`,
  );
}

function positionOf(cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined;
  const [time, id] = decodeCursor(LIST, ['number', 'number'], cursor);
  return { time, id };
}

function presentationOf({ lines, verbose = false }: LogQuestion): Presentation {
  const characters = lines === undefined ? limits.resultCharactersDefault : limits.resultCharacters;
  return { verbose, maxCharacters: characters - ENVELOPE_CHARACTERS };
}

function pageOf({ records, next, searchedBackTo, cut, leftOut }: Answer, principal: Principal): LogPage {
  const page: LogPage = { records: records.filter((record) => maySee(principal, record)) };
  if (next) page.next_cursor = encodeCursor(LIST, [next.time, next.id]);
  const hints = leftOutHints(leftOut);
  if (cut) hints.unshift(HINT_SIZE);
  else if (searchedBackTo !== undefined)
    hints.unshift(
      `Searched back to ${toTimestamp(searchedBackTo)} in the time allowed; go on with next_cursor, or narrow with since`,
    );
  return hints.length === 0 ? page : { ...page, truncated: true, hint: hints.join('. ') };
}

const HINT_ROUTINE =
  'Nothing but, perhaps, reads and MCP calls of this system that went well; kind all shows these too';
const HINT_SIZE =
  'Size limit reached; narrow with level, kind, hostname, status_min, contains or since, or go on with next_cursor';

/** The search is confined already; the rule of the core decides again here. */
function maySee(principal: Principal, { hostname }: LogEntry): boolean {
  if (principal.hostnames === undefined) return true;
  return hostname !== undefined && mayTouch(principal, hostname);
}
