/** `since` and `until`: a date and time of RFC 3339, a date, or how long ago. */
import { DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';

const UNITS = { s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY } as const;
const RELATIVE = /^(\d{1,6})([smhdw])$/;
/** @see {@link https://www.rfc-editor.org/rfc/rfc3339#section-5.6 | RFC 3339 §5.6} */
const ABSOLUTE = /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?$/;
const MAX_SHOWN = 40;

/**
 * Milliseconds since 1970. `15m` is fifteen minutes before `now`; a date alone is its midnight in UTC.
 * @throws AppError INVALID_INPUT that names the argument, what was found and what is allowed.
 */
export function parseTime(argument: string, text: string, now: number): number {
  const relative = RELATIVE.exec(text);
  if (relative) return now - Number(relative[1]) * UNITS[relative[2] as keyof typeof UNITS];
  const absolute = ABSOLUTE.exec(text);
  if (!absolute) throw refuse(argument, text, 'is not a time');
  return parseAbsolute(argument, text, absolute);
}

function parseAbsolute(argument: string, text: string, match: RegExpExecArray): number {
  const [, year, month, day, hour, minute, second, fraction = '', zone] = match;
  if (hour !== undefined && zone === undefined) throw refuse(argument, text, 'has no time zone');
  const [h, m, s] = [Number(hour ?? 0), Number(minute ?? 0), Number(second ?? 0)];
  const midnight = midnightOf(Number(year), Number(month), Number(day));
  const offset = offsetOf(zone ?? 'Z');
  // Second 60 is a leap second (RFC 3339 §5.7); it counts as the first of the next minute.
  if (midnight === undefined || offset === undefined || h > 23 || m > 59 || s > 60)
    throw refuse(argument, text, 'is no such day or hour');
  const milliseconds = Number(fraction.padEnd(3, '0').slice(0, 3));
  return midnight + h * HOUR + m * MINUTE + s * SECOND + milliseconds - offset;
}

function midnightOf(year: number, month: number, day: number): number | undefined {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day ? date.getTime() : undefined;
}

function offsetOf(zone: string): number | undefined {
  if (zone === 'Z' || zone === 'z') return 0;
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(4, 6))];
  if (hours > 23 || minutes > 59) return undefined;
  return (zone.startsWith('-') ? -1 : 1) * (hours * HOUR + minutes * MINUTE);
}

function refuse(argument: string, text: string, why: string): AppError {
  const shown = JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
  return new AppError(
    'INVALID_INPUT',
    `${argument}: ${shown} ${why}; use 2026-01-31T08:00:00Z, 2026-01-31, or how long ago: 30s, 15m, 2h, 7d, 1w`,
  );
}
