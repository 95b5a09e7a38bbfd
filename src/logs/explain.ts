/**
 * What the records say about a request, a refusal or a stretch of time, told in order, each line with the id of the record
 * that proves it. From entries as `present.ts` gives them: cleaned and cut. Pure.
 */
import { SECOND } from '../core/clock.ts';
import { firstThatFit } from './fit.ts';
import type { LogEntry, Refusals, RequestStory, StoryLine } from './schema.ts';

/** Of the steps together, as JSON. */
const MAX_CHARACTERS = 5000;
const MAX_CHANGES = 10;
const FIRST_FAILED_STATUS = 400;
const FIRST_SERVER_ERROR = 500;

/** What the gateway notes of a request, where it does. */
interface Facts {
  scheme?: string;
  protocol?: string;
  proxy?: string;
  route?: string;
  target?: string;
  tries?: number;
  reason?: string;
  tool?: string;
}

function factsOf({ detail = {} }: LogEntry): Facts {
  const facts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(detail))
    if (typeof value === 'string' || typeof value === 'number') facts[name] = value;
  return facts as Facts;
}

const lineOf = (entry: LogEntry, text: string): StoryLine => ({ time: entry.time, id: entry.id, text });

/** Of everything but requests, which are told by their parts. */
function textOf({ level, kind, component, message, operation, outcome, ...entry }: LogEntry): string {
  const of = entry.hostname === undefined ? '' : ` for ${entry.hostname}`;
  const who = entry.principal === undefined ? '' : ` by ${entry.principal}`;
  if (kind === 'audit') return `operation ${operation ?? message}${of}${who}: ${outcome ?? 'OK'}`;
  return `${component ?? kind} (${level}): ${message}`;
}

const toldLine = (entry: LogEntry): StoryLine => lineOf(entry, textOf(entry));

/** Entries of one trace, oldest first. */
export function storyOf(
  entries: readonly LogEntry[],
  request: LogEntry | undefined,
  before: { changes: readonly LogEntry[]; trouble: readonly LogEntry[] },
): RequestStory {
  const others = entries.filter((entry) => entry !== request && isRequest(entry)).length;
  const steps = request ? inOrder(entries, request) : entries.map(toldLine);
  return {
    ...(request && { request: withoutDetail(request) }),
    verdict: request ? verdictOf(request) : 'No record of a request has this trace; its other records follow',
    ...(others > 0 && { other_requests: others }),
    steps: firstThatFit(steps, MAX_CHARACTERS),
    changes_before: before.changes.slice(0, MAX_CHANGES).map(toldLine),
    trouble_before: before.trouble.slice(0, MAX_CHANGES).map(toldLine),
  };
}

/**
 * A request has its record at its end, when those of what it did stand already: what was called is told behind who asked,
 * and what went wrong behind where it went.
 */
function inOrder(entries: readonly LogEntry[], request: LogEntry): StoryLine[] {
  const at = entries.indexOf(request);
  const startedAt = Date.parse(request.time) - (request.duration_ms ?? 0);
  const isWithin = (entry: LogEntry, i: number) => i < at && Date.parse(entry.time) >= startedAt;
  const within = entries.filter(isWithin);
  const calls = within.filter(({ kind }) => kind === 'audit');
  const rest = within.filter(({ kind }) => kind !== 'audit');
  return [
    ...entries
      .slice(0, at)
      .filter((entry) => !within.includes(entry))
      .map(toldLine),
    ...[arrivalOf(request), matchOf(request), callerOf(request), ...askedOf(request)].map((text) =>
      lineOf(request, text),
    ),
    ...calls.map(toldLine),
    ...targetLine(request).map((text) => lineOf(request, text)),
    ...rest.map(toldLine),
    lineOf(request, endOf(request)),
    ...entries.slice(at + 1).map(toldLine),
  ];
}

const isRequest = ({ kind, status }: LogEntry): boolean => kind === 'access' || status !== undefined;

/** Of several with one trace, which a caller may choose, one that failed. */
export function requestIn(entries: readonly LogEntry[]): LogEntry | undefined {
  const requests = entries.filter(isRequest);
  const failed = requests.find(
    ({ status = 0, outcome = 'OK' }) => outcome !== 'OK' || status >= FIRST_FAILED_STATUS,
  );
  return failed ?? requests[0];
}

function withoutDetail({ detail: _detail, ...entry }: LogEntry): LogEntry {
  return entry;
}

function arrivalOf(entry: LogEntry): string {
  const { scheme, protocol } = factsOf(entry);
  const { method = '', hostname = '', path = '', client_address: client, trace_id: trace } = entry;
  const over = [scheme, protocol].filter((part) => part !== undefined).join(', ');
  const from = `${client ?? 'an unknown address'}${over === '' ? '' : ` (${over})`}`;
  return `arrived from ${from}: ${method} ${hostname}${path}, trace ${trace ?? 'unknown'}`;
}

function matchOf(entry: LogEntry): string {
  const { proxy, route } = factsOf(entry);
  if (proxy === undefined)
    return 'no proxy took it: it was for this system, or for a name that is not served';
  return `matched proxy ${proxy}${route === undefined ? '' : `, route ${route}`}`;
}

const callerOf = ({ principal = 'anonymous' }: LogEntry): string =>
  principal === 'anonymous' ? 'came without a credential that is known' : `known as ${principal}`;

function askedOf(entry: LogEntry): string[] {
  const { tool } = factsOf(entry);
  if (entry.operation === undefined) return [];
  return [`asked for ${entry.operation}${tool === undefined ? '' : `, tool ${tool}`}`];
}

function targetLine(entry: LogEntry): string[] {
  const { target, tries } = factsOf(entry);
  if (target === undefined) return [];
  return [`went to ${target}${tries === undefined ? '' : `, after ${tries} tries`}`];
}

function endOf({ status, outcome, duration_ms: duration, bytes_out: bytes }: LogEntry): string {
  const took = duration === undefined ? '' : ` after ${duration} ms`;
  const sent = bytes === undefined ? '' : `, ${bytes} bytes`;
  return `answered ${status ?? 'nothing'} (${outcome ?? 'OK'})${took}${sent}`;
}

function verdictOf(entry: LogEntry): string {
  const { status = 0, outcome = 'OK', duration_ms: duration } = entry;
  const { target, reason } = factsOf(entry);
  const why = reason === undefined ? '' : `: ${reason}`;
  const took = duration === undefined ? '' : ` in ${(duration / SECOND).toFixed(3)} s`;
  if (outcome !== 'OK')
    return target === undefined
      ? `Refused by this system with ${status} (${outcome})${why}; no target was asked`
      : `This system gave up on the target ${target} and answered ${status} (${outcome})${why}`;
  if (status < FIRST_FAILED_STATUS) return `Answered ${status}${took}; nothing went wrong here`;
  const whose = target === undefined ? 'this system' : `the target ${target}`;
  return `${status >= FIRST_SERVER_ERROR ? 'Failed' : 'Refused'} with ${status} by ${whose} itself${took}${why}`;
}

/** Refusals of requests and operations, newest first, alike ones together. */
export function refusalsOf(entries: readonly LogEntry[]): Refusals['refusals'] {
  const alike = new Map<string, LogEntry[]>();
  for (const entry of entries) {
    const { status, outcome, hostname, operation, principal } = entry;
    const key = JSON.stringify([status, outcome, hostname, operation, principal, factsOf(entry).reason]);
    alike.set(key, [...(alike.get(key) ?? []), entry]);
  }
  return [...alike.values()].slice(0, MAX_CHANGES).map((of) => {
    const [last] = of as [LogEntry, ...LogEntry[]];
    const { hostname, path, principal, client_address, status, operation, outcome = 'OK', trace_id } = last;
    return {
      count: of.length,
      ...(operation === undefined ? { hostname, path, status } : { operation }),
      principal,
      client_address,
      outcome,
      reason: factsOf(last).reason ?? last.message,
      last: last.time,
      trace_id,
      ids: of.slice(0, 3).map(({ id }) => id),
    };
  });
}

export const changeLines = (entries: readonly LogEntry[]): StoryLine[] =>
  entries.map((entry) => lineOf(entry, textOf(entry)));
