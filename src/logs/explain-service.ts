/** `explain_request`, `why_denied` and `what_changed`: a few searches each, joined by explain.ts. Called by service.ts. */
import { DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Principal } from '../core/principal.ts';
import type { LogFilter } from './conditions.ts';
import { changeLines, refusalsOf, requestIn, storyOf } from './explain.ts';
import { hostOf, type Term } from './filter.ts';
import { firstThatFit } from './fit.ts';
import { type LeftOut, leftOutHints } from './left-out.ts';
import type { Changes, LogEntry, Refusals, RequestStory } from './schema.ts';
import { parseTime } from './time-range.ts';

const TRACE_LINES = 100;
const CANDIDATES = 200;
const REFUSALS = 200;
const CHANGES = 50;
const EPOCH_HEX_DIGITS = 8;
/** As long as a log can be kept. */
const MAX_AGE_MS = 3650 * DAY;
const BEFORE_MS = HOUR;
/** Around a time that somebody remembers. */
const NEAR_MS = 10 * MINUTE;
/** Wider and wider, so that the nearest of very many is among those that are looked at. */
const NEAREST_MS = [SECOND / 10, SECOND, 10 * SECOND, MINUTE] as const;
const DENIED_SINCE_MS = 24 * HOUR;
const CHANGES_TOLD = 10;
const ENVELOPE_CHARACTERS = 1000;
const CONTROL_NOTE = 'changes of things without a hostname are not shown to who is confined to hostnames';

/** Newest first, confined by who asks; with all that a record says. */
export type Find = (filter: LogFilter, limit: number) => Promise<LogEntry[]>;

interface Asked {
  find: Find;
  /** How far back a search came that the time was too short for; undefined: all came to their end. */
  unfinished: () => number | undefined;
  /** Days that a search had to do without. */
  leftOut: () => readonly LeftOut[];
  principal: Principal;
  now: number;
}

export interface RequestArguments {
  trace_id?: string | undefined;
  hostname?: string | undefined;
  time?: string | undefined;
}

export async function explainRequest(asked: RequestArguments, parts: Asked): Promise<RequestStory> {
  const nearest = asked.trace_id === undefined ? await nearestRequest(asked, parts) : undefined;
  const trace = asked.trace_id?.toLowerCase() ?? nearest?.trace_id ?? '';
  const around = nearest && {
    since: Date.parse(nearest.time) - NEAR_MS,
    until: Date.parse(nearest.time) + NEAR_MS,
  };
  const entries = (await recordsOf(trace, around, parts)).reverse();
  const [first] = entries;
  if (!first) throw notFound(trace, parts);
  const request = entries.find(({ id }) => id === nearest?.id) ?? requestIn(entries);
  const { hostname, time } = request ?? first;
  const end = Date.parse(time) + 1;
  const range = { since: end - BEFORE_MS, until: end };
  const [changes, trouble] = await Promise.all([
    changesIn(parts, range, hostname),
    parts.find({ ...range, level: 'warn', kind: 'tls', hostname }, CHANGES),
  ]);
  const story = storyOf(entries, request, {
    changes: changes.filter(({ trace_id }) => trace_id !== trace),
    trouble,
  });
  return { ...story, ...hintOf(parts) };
}

/** Looked for first where it was made: the days since then may be many, and compressed. */
async function recordsOf(
  trace: string,
  around: { since: number; until: number } | undefined,
  { find, unfinished, now }: Asked,
): Promise<LogEntry[]> {
  const made = around ?? madeAround(trace, now);
  const found = made ? await find({ traceId: trace, ...made }, TRACE_LINES) : [];
  const isOver = found.length > 0 || around !== undefined || unfinished() !== undefined;
  return isOver ? found : find({ traceId: trace }, TRACE_LINES);
}

/** A trace of this system begins with its second (`core/ids`), and a long answer is logged at its end. */
function madeAround(trace: string, now: number): { since: number; until: number } | undefined {
  const made = Number.parseInt(trace.slice(0, EPOCH_HEX_DIGITS), 16) * SECOND;
  return made <= now && made > now - MAX_AGE_MS ? { since: made - MINUTE, until: made + DAY } : undefined;
}

function notFound(trace: string, { unfinished, leftOut }: Asked): AppError {
  const backTo = unfinished();
  if (backTo !== undefined)
    return new AppError(
      'UNAVAILABLE',
      `the log of that time is compressed or large, and was read back to ${toTimestamp(backTo)} in the time allowed; ask again, which goes on`,
    );
  return new AppError(
    'NOT_FOUND',
    [
      `no record has the trace ${JSON.stringify(trace)}; it may be older than the log is kept, or of a hostname that this credential may not see`,
      ...leftOutHints(leftOut()),
    ].join('. '),
  );
}

/** An answer that is not whole says so. */
function hintOf(
  { unfinished, leftOut }: Asked,
  ...more: (string | false)[]
): { truncated?: true; hint?: string } {
  const backTo = unfinished();
  const late =
    backTo !== undefined && `The time allowed was up: nothing before ${toTimestamp(backTo)} was looked at`;
  const without = leftOutHints(leftOut());
  const hints = [late, ...without, ...more].filter((hint) => hint !== false);
  return {
    ...((late !== false || without.length > 0) && { truncated: true as const }),
    ...(hints.length > 0 && { hint: hints.join('. ') }),
  };
}

async function nearestRequest(
  { hostname, time }: RequestArguments,
  { find, now, leftOut }: Asked,
): Promise<LogEntry> {
  if (hostname === undefined || time === undefined)
    throw new AppError('INVALID_INPUT', 'trace_id is needed, or hostname and time together');
  const host = hostIn(hostname);
  const at = parseTime('time', time, now);
  const distance = (entry: LogEntry): number => Math.abs(Date.parse(entry.time) - at);
  for (const span of NEAREST_MS) {
    const found = await find(
      { hostname: host, kind: 'access', since: at - span, until: at + span + 1 },
      CANDIDATES,
    );
    const [nearest] = found
      .filter((entry) => entry.trace_id !== undefined)
      .sort((a, b) => distance(a) - distance(b));
    if (nearest) return nearest;
  }
  throw new AppError(
    'NOT_FOUND',
    [
      `no request for ${host} within a minute of ${toTimestamp(at)}; get_logs with filter "host:${host}" shows when there were some`,
      ...leftOutHints(leftOut()),
    ].join('. '),
  );
}

function hostIn(text: string): string {
  const host = hostOf(text);
  if (host !== undefined) return host;
  throw new AppError(
    'INVALID_INPUT',
    `hostname: ${JSON.stringify(text)} is not a hostname; use app.example.com`,
  );
}

/** What was done and went well, but reads: of the hostname and of nothing in particular, or of everything. */
const changesIn = (
  { find }: Asked,
  range: { since: number; until: number },
  hostnameOrNone?: string,
): Promise<LogEntry[]> =>
  find({ ...range, kind: 'audit', terms: [OK], withoutRoutine: true, hostnameOrNone }, CHANGES);

const OK: Term = { negated: false, present: false, match: 'is', column: 'outcome', values: ['OK'] };
export interface DeniedArguments {
  principal?: string | undefined;
  hostname?: string | undefined;
  client_address?: string | undefined;
  time?: string | undefined;
}

export async function whyDenied(asked: DeniedArguments, parts: Asked): Promise<Refusals> {
  const at = asked.time === undefined ? undefined : parseTime('time', asked.time, parts.now);
  const range =
    at === undefined
      ? { since: parts.now - DENIED_SINCE_MS, until: parts.now + 1 }
      : { since: at - NEAR_MS, until: at + NEAR_MS };
  const who = { ...range, ...whoOf(asked) };
  const found = await parts.find({ ...who, refused: true }, REFUSALS);
  const refused = withoutTold(found);
  const refusals = refusalsOf(refused);
  const oldest = refused.at(-1);
  const before = oldest === undefined ? range.until : Date.parse(oldest.time);
  const changes = await changesIn(parts, { since: before - BEFORE_MS, until: before + 1 }, who.hostname);
  const isFull = found.length === REFUSALS;
  const advice = refusals[0] ? adviceOf(refusals[0]) : await nothingFound(asked, who, parts);
  return {
    since: toTimestamp(range.since),
    until: toTimestamp(range.until),
    refusals,
    changes_before: changeLines(changes).slice(0, CHANGES_TOLD),
    ...(isFull && { truncated: true }),
    ...hintOf(
      parts,
      advice,
      isFull && `Of the newest ${REFUSALS} only; narrow with time, hostname or principal`,
    ),
  };
}

/** A call over MCP is told by its audit record. */
function withoutTold(found: readonly LogEntry[]): LogEntry[] {
  const audited = new Set(
    found.flatMap(({ kind, trace_id: trace }) => (kind === 'audit' && trace ? [trace] : [])),
  );
  return found.filter(
    ({ kind, trace_id: trace }) => kind !== 'mcp' || trace === undefined || !audited.has(trace),
  );
}

const whoOf = ({ principal, hostname, client_address: address }: DeniedArguments): LogFilter => ({
  principal,
  hostname: hostname === undefined ? undefined : hostIn(hostname),
  clientAddress: address?.toLowerCase(),
});

/** A credential that is not known is nobody's: such refusals are found without the name. */
async function nothingFound(asked: DeniedArguments, who: LogFilter, { find }: Asked): Promise<string> {
  if (asked.principal === undefined)
    return 'Nobody was refused there and then; widen time, or leave hostname out';
  const [any, strangers] = await Promise.all([
    find(who, 1),
    find({ ...who, principal: 'anonymous', refused: true }, 1),
  ]);
  const seen = any.length > 0 ? 'was let in there and then' : 'was not seen there and then';
  const [stranger] = strangers;
  const unknown = stranger
    ? `; a request without a known credential was refused (${stranger.id}): why_denied(principal: "anonymous") tells why`
    : '';
  return `${JSON.stringify(asked.principal.slice(0, limits.shortText))} ${seen}, and not refused${unknown}`;
}

function adviceOf({ outcome, operation, principal = 'anonymous' }: Refusals['refusals'][number]): string {
  if (outcome === 'OK')
    return 'The target refused it, not this system: its own log tells why. explain_request(trace_id) tells the whole request';
  if (outcome === 'UNAUTHENTICATED')
    return 'UNAUTHENTICATED: no credential, or one that is unknown, expired or revoked. diagnose_connector tells what a client does; list_tokens which tokens there are';
  if (operation !== undefined)
    return 'FORBIDDEN: the credential is known and lacks the permission, or is confined to other hostnames';
  const who =
    principal === 'anonymous'
      ? 'refused whoever asks'
      : 'known, and not let in by the policy of the hostname';
  return `FORBIDDEN: ${who}. get_proxy shows its auth, explain_request(trace_id) the whole request`;
}

export interface ChangesArguments {
  since: string;
  until?: string | undefined;
  hostname?: string | undefined;
}

export async function whatChanged(asked: ChangesArguments, parts: Asked): Promise<Changes> {
  const since = parseTime('since', asked.since, parts.now);
  const until = asked.until === undefined ? parts.now + 1 : parseTime('until', asked.until, parts.now);
  if (since >= until) throw new AppError('INVALID_INPUT', 'since has to be before until');
  const hostname = asked.hostname === undefined ? undefined : hostIn(asked.hostname);
  const [found, system] = await Promise.all([
    changesIn(parts, { since, until }, hostname),
    parts.find({ since, until, level: 'warn', hostname, terms: [NOT_OF_REQUESTS] }, CHANGES),
  ]);
  const room = (limits.resultCharactersDefault - ENVELOPE_CHARACTERS) / 2;
  const changes = firstThatFit(changeLines(found), room);
  const trouble = firstThatFit(changeLines(system), room);
  const isCut = found.length === CHANGES || changes.length < found.length || trouble.length < system.length;
  return {
    since: toTimestamp(since),
    until: toTimestamp(until),
    changes,
    trouble,
    ...(isCut && { truncated: true }),
    ...hintOf(
      parts,
      isCut && 'The newest ones only; narrow with until or hostname',
      parts.principal.hostnames !== undefined && CONTROL_NOTE,
    ),
  };
}

const NOT_OF_REQUESTS: Term = {
  negated: false,
  present: false,
  match: 'is',
  column: 'kind',
  values: ['system', 'tls'],
};
