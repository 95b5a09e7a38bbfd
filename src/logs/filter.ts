/**
 * The language of `get_logs(filter)`: `status>=500 host:*.example.com since:1h -path:/health "text"`. Every term has to
 * hold; commas are alternatives, `-` in front says not. Text → terms; conditions.ts makes SQL of them. Pure.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { parseHostnamePattern } from '../core/hostname.ts';
import { parseArguments } from '../core/input.ts';
import { logLevels, recordKinds } from '../core/record.ts';
import { type Operator, refuse, type Token, tokensOf } from './filter-tokens.ts';
import { levelNamed, levelRank } from './levels.ts';
import { parseTime } from './time-range.ts';

const MAX_FILTER = 1000;
const MAX_TERMS = 20;
const MAX_SHOWN = 40;
const CLASS_WIDTH = 100;

export type Column =
  | 'level'
  | 'kind'
  | 'component'
  | 'message'
  | 'trace_id'
  | 'hostname'
  | 'method'
  | 'path'
  | 'status'
  | 'duration_ms'
  | 'bytes_in'
  | 'bytes_out'
  | 'client_address'
  | 'principal'
  | 'user_agent'
  | 'operation'
  | 'outcome';

/** `from` and `to` are included, `above` and `below` are not. */
export interface Range {
  from?: number;
  above?: number;
  to?: number;
  below?: number;
}

export type Term = {
  negated: boolean;
  /** `!=`: the record has to say something there; what `-` leaves in may say nothing. */
  present: boolean;
} & (
  | { match: 'is' | 'begins' | 'contains' | 'host'; column: Column; values: readonly string[] }
  | { match: 'within'; column: Column; ranges: readonly Range[] }
  /** Anywhere in what a record says in words. */
  | { match: 'words'; values: readonly string[] }
);

export interface ParsedFilter {
  terms: Term[];
  since: number | undefined;
  until: number | undefined;
  /** `kind:all`: what is left out otherwise, too. */
  everything: boolean;
}

export const filterField = z
  .string()
  .max(MAX_FILTER)
  .refine((value) => !value.includes('\0'), 'has a zero byte in it')
  .optional()
  .describe('Such as: status>=500 host:*.example.com since:1h -path:/health "text". Commas: or; -: not');

/**
 * Milliseconds since 1970 in `since` and `until`; times like 15m count back from `now`.
 * @throws AppError INVALID_INPUT that says at which character, what was found and what is allowed.
 */
export function parseFilter(text: string, now: number): ParsedFilter {
  const tokens = tokensOf(text);
  if (tokens.length > MAX_TERMS) throw refuse(tokens[MAX_TERMS]?.at ?? 1, `more than ${MAX_TERMS} terms`);
  const parsed: ParsedFilter = { terms: [], since: undefined, until: undefined, everything: false };
  for (const token of tokens) take(parsed, token, now);
  return parsed;
}

const followed = z.object({ filter: filterField });

/** For what is told from now on. @throws AppError INVALID_INPUT as for `get_logs`, and for a time. */
export function requireFollowable(filter: string | undefined): void {
  parseArguments('follow', followed, { filter });
  const { since, until } = parseFilter(filter ?? '', 0);
  if (since !== undefined || until !== undefined)
    throw new AppError(
      'INVALID_INPUT',
      'filter: since and until are not for what is followed, which begins now',
    );
}

function take(parsed: ParsedFilter, token: Token, now: number): void {
  const { field, at, negated, values } = token;
  if (field === 'since' || field === 'until') {
    if (parsed[field] !== undefined) throw refuse(at, `${field} is there twice`);
    parsed[field] = timeOf(field, token, now);
  } else if (field === 'kind' && !negated && values.length === 1 && values[0]?.text === 'all')
    parsed.everything = true;
  else parsed.terms.push(termOf(token));
}

function timeOf(field: 'since' | 'until', { at, negated, operator, values }: Token, now: number): number {
  const [value, ...more] = values;
  if (negated || more.length > 0 || !value || (operator !== ':' && operator !== '='))
    throw refuse(at, `${field} takes one time and no -, such as ${field}:1h`);
  try {
    return parseTime(field, value.text, now);
  } catch (cause) {
    throw refuse(value.at, cause instanceof AppError ? cause.message : 'is no time');
  }
}

interface Field {
  column: Column;
  /** What `:` means; `=` is the whole value everywhere. */
  match: 'is' | 'begins' | 'contains' | 'host' | 'within';
  /** Canonical, or undefined when it is no value of this field. */
  read?: (text: string) => string | undefined;
  range?: (text: string) => Range | undefined;
  allowed: string;
}

const lower = (text: string): string => text.toLowerCase();
const upper = (text: string): string => text.toUpperCase();
const one =
  (of: readonly string[]) =>
  (text: string): string | undefined =>
    of.find((known) => known === text.toLowerCase());

/** By the name that a filter says; what the answer calls them is understood too. */
const fields: ReadonlyMap<string, Field> = new Map(
  Object.entries<Field>({
    level: { column: 'level', match: 'within', range: levelRange, allowed: logLevels.join(', ') },
    kind: { column: 'kind', match: 'is', read: one(recordKinds), allowed: `${recordKinds.join(', ')}, all` },
    component: { column: 'component', match: 'is', read: lower, allowed: 'a component of list_log_levels' },
    host: {
      column: 'hostname',
      match: 'host',
      read: hostOf,
      allowed: 'app.example.com, *.example.com or an address',
    },
    method: { column: 'method', match: 'is', read: upper, allowed: 'a method such as GET' },
    path: { column: 'path', match: 'begins', allowed: 'the beginning of a path; path= is the whole' },
    status: { column: 'status', match: 'within', range: statusRange, allowed: '404, 5xx or 500..503' },
    duration: {
      column: 'duration_ms',
      match: 'within',
      range: durationRange,
      allowed: '250ms, 2s, 1m or 1s..5s',
    },
    bytes_in: {
      column: 'bytes_in',
      match: 'within',
      range: numberRange,
      allowed: 'a number such as 1000, or 1000..2000',
    },
    bytes_out: {
      column: 'bytes_out',
      match: 'within',
      range: numberRange,
      allowed: 'a number such as 1000, or 1000..2000',
    },
    client: { column: 'client_address', match: 'is', read: addressOf, allowed: 'one IP address' },
    principal: { column: 'principal', match: 'is', allowed: 'the id of a caller, or anonymous' },
    agent: { column: 'user_agent', match: 'contains', allowed: 'a part of the user agent' },
    operation: { column: 'operation', match: 'is', allowed: 'an operation or MCP method' },
    outcome: { column: 'outcome', match: 'is', read: upper, allowed: 'OK or an error code' },
    trace: { column: 'trace_id', match: 'is', read: lower, allowed: 'the trace_id of a request' },
    message: { column: 'message', match: 'contains', allowed: 'a part of the message' },
  }),
);
const synonyms: ReadonlyMap<string, string> = new Map([
  ['hostname', 'host'],
  ['duration_ms', 'duration'],
  ['client_address', 'client'],
  ['user_agent', 'agent'],
  ['trace_id', 'trace'],
]);

function termOf({ at, negated, field: name, operator, values }: Token): Term {
  if (name === undefined || operator === undefined)
    return { negated, present: false, match: 'words', values: values.map(({ text }) => text) };
  const field = fields.get(synonyms.get(name) ?? name);
  if (!field)
    throw refuse(
      at,
      `${quote(name)} is no field; fields are ${[...fields.keys(), 'since', 'until'].join(', ')}; text with ${operator} in it goes in "quotes"`,
    );
  const present = operator === '!=';
  const signs = { negated: negated !== present, present };
  if (field.match === 'within') return { ...signs, ...withinTerm(field, operator, values) };
  if (operator.startsWith('>') || operator.startsWith('<'))
    throw refuse(at, `${name} can't be compared by ${operator}; it takes : = !=`);
  const match = operator === ':' || field.match === 'host' ? field.match : 'is';
  return { ...signs, match, column: field.column, values: values.map((value) => valueIn(field, value)) };
}

function valueIn({ read, allowed }: Field, { at, text }: Token['values'][number]): string {
  const value = read ? read(text) : text;
  if (value !== undefined) return value;
  throw refuse(at, `${quote(text)} can't be had here; ${allowed}`);
}

function withinTerm(
  { column, range, allowed }: Field,
  operator: Operator,
  values: Token['values'],
): { match: 'within'; column: Column; ranges: Range[] } {
  const ranges = values.map(({ at, text }) => {
    const found = range?.(text);
    if (!found || (isEmpty(found) && !isBare(operator)))
      throw refuse(at, `${quote(text)} can't be had here; ${allowed}`);
    return compared(column, operator, found);
  });
  if (ranges.length > 1 && !isBare(operator))
    throw refuse(values[1]?.at ?? 1, `one value only after ${operator}`);
  return { match: 'within', column, ranges };
}

const isBare = (operator: Operator): boolean => operator === ':' || operator === '=' || operator === '!=';
/** Of the two ends that a class or `a..b` has, a comparison takes neither. */
const isEmpty = ({ from, to }: Range): boolean => from !== to;

function compared(column: Column, operator: Operator, { from, to }: Range): Range {
  const number = from ?? 0;
  switch (operator) {
    case '>=':
      return { from: number };
    case '>':
      return { above: number };
    case '<=':
      return { to: number };
    case '<':
      return { below: number };
    case ':':
    case '=':
    case '!=':
      // `level:warn` is what the argument `level` is: this and above.
      return column === 'level' && operator === ':'
        ? { from: number }
        : { ...bound('from', from), ...bound('to', to) };
  }
}

const bound = (end: 'from' | 'to', value: number | undefined): Range =>
  value === undefined ? {} : { [end]: value };

function levelRange(text: string): Range | undefined {
  const level = levelNamed(text);
  return level && { from: levelRank(level), to: levelRank(level) };
}

function statusRange(text: string): Range | undefined {
  const status = /^([1-5])xx$/i.exec(text);
  if (status)
    return { from: Number(status[1]) * CLASS_WIDTH, to: Number(status[1]) * CLASS_WIDTH + CLASS_WIDTH - 1 };
  return /^[1-5]\d\d(?:\.\.[1-5]\d\d)?$/.test(text) ? numberRange(text) : undefined;
}

function numberRange(text: string): Range | undefined {
  return rangeBy(text, /^\d{1,15}$/, Number);
}

const UNITS = { '': 1, ms: 1, s: 1000, m: 60_000 } as const;
const DURATION = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|)$/;
function durationRange(text: string): Range | undefined {
  return rangeBy(text, DURATION, (part) => {
    const [, number, unit = ''] = DURATION.exec(part) ?? [];
    return Number(number) * UNITS[unit as keyof typeof UNITS];
  });
}

function rangeBy(text: string, pattern: RegExp, read: (part: string) => number): Range | undefined {
  const [first = '', last = first, ...more] = text.split('..');
  if (more.length > 0 || !pattern.test(first) || !pattern.test(last)) return undefined;
  const range = { from: read(first), to: read(last) };
  return range.from <= range.to ? range : undefined;
}

/** A name, a wildcard, or an address, as a request may be made to one. */
export function hostOf(text: string): string | undefined {
  return isIP(text) ? text.toLowerCase() : parseHostnamePattern(text);
}

function addressOf(text: string): string | undefined {
  return isIP(text) ? text.toLowerCase() : undefined;
}

const quote = (text: string): string =>
  JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
