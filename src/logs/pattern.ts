/** What kind of line a record is: its message without what differs from one to the next. Pure. */
import { cleanText } from '../core/untrusted.ts';

const PATTERN_LENGTH = 160;
const EXCERPT_LENGTH = 100;
/** Of a message or a path that is looked at; what is longer differs, or does not, before that. */
const READ_LENGTH = 1000;
const MAX_DEPTH = 6;

/** Stands for a number or an id. */
const ANY = '#';
/** An address, or a word with a digit in it that is no plain name of a version: ids, traces, ports, amounts. */
const VARYING =
  /\b(?:[a-z]{3}_)?[0-9a-f]{8,}(?:-[0-9a-f]{4,}){0,4}\b|\b\d+(?:[.:]\d+)*(?:ms|s|m|h|d)?\b|(?<=[/_-])[^/\s"']{0,64}\d[^/\s"']*/gi;

/** What is read of a row for it. */
export interface PatternRow {
  message: string;
  hostname: string | null;
  path: string | null;
  method: string | null;
  status: number | null;
  user_agent: string | null;
  detail: string | null;
}

/** The searched text stays as it stands there; where only agent or detail have it, their part is shown, too. */
export function patternOf(row: PatternRow, text: string): string {
  const wanted = text.toLowerCase();
  const isRequest = row.method !== null && row.status !== null && row.path !== null;
  const line = isRequest
    ? `${row.method} {host}${alike((row.path ?? '').slice(0, READ_LENGTH), wanted)} ${row.status}`
    : alike(withoutHost(row.message.slice(0, READ_LENGTH), row.hostname), wanted);
  const where = has(row.message, wanted) || has(row.path, wanted) ? undefined : excerptOf(row, wanted);
  return cleanText(where === undefined ? line : `${line} … ${where}`, PATTERN_LENGTH);
}

const has = (text: string | null, wanted: string): boolean =>
  text !== null && text.toLowerCase().includes(wanted);

const withoutHost = (message: string, hostname: string | null): string =>
  hostname === null || hostname === '' ? message : message.replaceAll(hostname, '{host}');

function excerptOf({ user_agent: agent, detail }: PatternRow, wanted: string): string | undefined {
  if (has(agent, wanted)) return `agent: ${around(agent ?? '', wanted)}`;
  if (detail === null || !has(detail, wanted)) return undefined;
  const member = memberWith(JSON.parse(detail), wanted, '', 0);
  return member && `${member.name}: ${around(member.value, wanted)}`;
}

/** The first value in it that has the text. */
function memberWith(
  value: unknown,
  wanted: string,
  name: string,
  depth: number,
): { name: string; value: string } | undefined {
  if (depth > MAX_DEPTH || value === null || value === undefined) return undefined;
  if (typeof value !== 'object') {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return has(text, wanted) ? { name: name || 'detail', value: text } : undefined;
  }
  for (const [key, inner] of Object.entries(value)) {
    // Of a list, which item it is says nothing of the kind of line.
    const path = Array.isArray(value) ? name : [name, key].filter(Boolean).join('.');
    const found = memberWith(inner, wanted, path, depth + 1);
    if (found) return found;
  }
  return undefined;
}

function around(value: string, wanted: string): string {
  const at = value.toLowerCase().indexOf(wanted);
  const from = Math.max(0, at - EXCERPT_LENGTH / 2);
  return alike(value.slice(from, from + EXCERPT_LENGTH), wanted);
}

/** What differs becomes `#`, but not in the searched text. */
function alike(text: string, wanted: string): string {
  const at = text.toLowerCase().indexOf(wanted);
  if (at === -1) return text.replace(VARYING, ANY);
  const end = at + wanted.length;
  return `${text.slice(0, at).replace(VARYING, ANY)}${text.slice(at, end)}${text.slice(end).replace(VARYING, ANY)}`;
}
