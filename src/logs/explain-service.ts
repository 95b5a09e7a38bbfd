/** `explain_request`, `why_denied` and `what_changed`: a few searches each, joined by explain.ts. Called by service.ts. */
import { HOUR, MINUTE } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Principal } from '../core/principal.ts';
import type { LogFilter } from './conditions.ts';
import { changeLines, refusalsOf, requestIn, storyOf } from './explain.ts';
import { hostOf, type Term } from './filter.ts';
import type { Changes, LogEntry, Refusals, RequestStory } from './schema.ts';
import { parseTime } from './time-range.ts';

const TRACE_LINES = 100;
const CANDIDATES = 200;
const REFUSALS = 200;
const CHANGES = 50;
const BEFORE_MS = HOUR;
/** Around a time that somebody remembers. */
const NEAR_MS = 10 * MINUTE;
const NEAREST_MS = MINUTE;
const DENIED_SINCE_MS = 24 * HOUR;
const [UNAUTHORIZED, FORBIDDEN] = [401, 403];
const CONTROL_NOTE = 'changes of things without a hostname are not shown to who is confined to hostnames';

/** Newest first, confined by who asks; with all that a record says. */
export type Find = (filter: LogFilter, limit: number) => Promise<LogEntry[]>;

interface Asked {
  find: Find;
  principal: Principal;
  now: number;
}

export interface RequestArguments {
  trace_id?: string | undefined;
  hostname?: string | undefined;
  time?: string | undefined;
}

export async function explainRequest(asked: RequestArguments, parts: Asked): Promise<RequestStory> {
  const trace = asked.trace_id?.toLowerCase() ?? (await nearestTrace(asked, parts));
  const entries = (await parts.find({ traceId: trace }, TRACE_LINES)).reverse();
  const [first] = entries;
  if (!first)
    throw new AppError(
      'NOT_FOUND',
      `no record has the trace ${JSON.stringify(trace)}; it may be older than the log is kept, or of a hostname that this credential may not see`,
    );
  const { hostname, time } = requestIn(entries) ?? first;
  const end = Date.parse(time) + 1;
  const range = { since: end - BEFORE_MS, until: end };
  const [changes, trouble] = await Promise.all([
    changesIn(parts, range, hostname),
    parts.find({ ...range, level: 'warn', kind: 'tls', hostname }, CHANGES),
  ]);
  return storyOf(entries, { changes: changes.filter(({ trace_id }) => trace_id !== trace), trouble });
}

async function nearestTrace({ hostname, time }: RequestArguments, { find, now }: Asked): Promise<string> {
  if (hostname === undefined || time === undefined)
    throw new AppError('INVALID_INPUT', 'trace_id is needed, or hostname and time together');
  const host = hostIn(hostname);
  const at = parseTime('time', time, now);
  const found = await find(
    { hostname: host, kind: 'access', since: at - NEAREST_MS, until: at + NEAREST_MS },
    CANDIDATES,
  );
  const distance = (entry: LogEntry): number => Math.abs(Date.parse(entry.time) - at);
  const nearest = found
    .filter((entry) => entry.trace_id !== undefined)
    .sort((a, b) => distance(a) - distance(b))[0];
  if (nearest?.trace_id !== undefined) return nearest.trace_id;
  throw new AppError(
    'NOT_FOUND',
    `no request for ${host} within a minute of ${toTimestamp(at)}; get_logs with filter "host:${host}" shows when there were some`,
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
async function changesIn(
  { find, principal }: Asked,
  range: { since: number; until: number },
  hostname?: string,
): Promise<LogEntry[]> {
  const done = { ...range, kind: 'audit', terms: [OK], withoutRoutine: true } as const;
  const found = await find(done, CHANGES);
  if (hostname === undefined) return found;
  return found.filter(
    (entry) => entry.hostname === hostname || (entry.hostname === undefined && !principal.hostnames),
  );
}

const OK: Term = { negated: false, present: false, match: 'is', column: 'outcome', values: ['OK'] };
const REFUSED_STATUS: Term = {
  negated: false,
  present: false,
  match: 'within',
  column: 'status',
  ranges: [UNAUTHORIZED, FORBIDDEN].map((status) => ({ from: status, to: status })),
};
const REFUSED_OUTCOME: Term = {
  negated: false,
  present: false,
  match: 'is',
  column: 'outcome',
  values: ['FORBIDDEN', 'UNAUTHENTICATED'],
};

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
  const [requests, operations] = await Promise.all([
    parts.find({ ...who, terms: [REFUSED_STATUS] }, REFUSALS),
    parts.find({ ...who, kind: 'audit', terms: [REFUSED_OUTCOME] }, REFUSALS),
  ]);
  const refusals = refusalsOf([...requests, ...operations]);
  const changes = await changesIn(
    parts,
    { since: range.since - BEFORE_MS, until: range.until },
    who.hostname,
  );
  return {
    since: toTimestamp(range.since),
    until: toTimestamp(range.until),
    refusals,
    changes_before: changeLines(changes).slice(0, 10),
    ...(refusals.length === 0 ? { hint: await nothingFound(asked, who, parts) } : adviceOf(refusals)),
  };
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
    find({ ...who, principal: 'anonymous', terms: [REFUSED_STATUS] }, 1),
  ]);
  const seen = any.length > 0 ? 'was let in there and then' : 'was not seen there and then';
  const [stranger] = strangers;
  const unknown = stranger
    ? `; a request without a known credential was refused (${stranger.id}): why_denied(principal: "anonymous") tells why`
    : '';
  return `${JSON.stringify(asked.principal.slice(0, limits.shortText))} ${seen}, and not refused${unknown}`;
}

function adviceOf(refusals: Refusals['refusals']): Pick<Refusals, 'hint'> {
  const [{ outcome, operation } = { outcome: '', operation: undefined }] = refusals;
  if (outcome === 'UNAUTHENTICATED')
    return {
      hint: 'UNAUTHENTICATED: no credential, or one that is unknown, expired or revoked. diagnose_connector tells what a client does; list_tokens which tokens there are',
    };
  if (operation !== undefined)
    return {
      hint: 'FORBIDDEN: the credential is known and lacks the permission, or is confined to other hostnames',
    };
  return {
    hint: 'FORBIDDEN: known, and not let in by the policy of the hostname. get_proxy shows its auth, explain_request(trace_id) the whole request',
  };
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
  const [changes, system] = await Promise.all([
    changesIn(parts, { since, until }, hostname),
    parts.find({ since, until, level: 'warn', hostname, terms: [NOT_OF_REQUESTS] }, CHANGES),
  ]);
  return {
    since: toTimestamp(since),
    until: toTimestamp(until),
    changes: changeLines(changes),
    trouble: changeLines(system),
    ...(changes.length === CHANGES && {
      truncated: true,
      hint: 'The newest 50; narrow with until or hostname',
    }),
    ...(parts.principal.hostnames && { hint: CONTROL_NOTE }),
  };
}

const NOT_OF_REQUESTS: Term = {
  negated: false,
  present: false,
  match: 'is',
  column: 'kind',
  values: ['system', 'tls'],
};
