/**
 * `Retry-After`: seconds, or a date in any of the three forms that HTTP has had.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3 | RFC 9110 §10.2.3, §5.6.7}
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.6 | RFC 8555 §6.6}
 */
import { DAY, SECOND } from '../../core/clock.ts';

/** The longest limit of a well-known CA is for a week; what says more is taken for that. */
export const MAX_RETRY_AFTER_MS = 7 * DAY;

const DELTA = /^\d{1,10}$/;
const DATES = [
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
];
/** asctime names no zone, and means GMT. */
const ASCTIME = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/;

/** Milliseconds from `now`, 0 to `MAX_RETRY_AFTER_MS`; undefined when there is none or it can't be read. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  const text = value?.trim() ?? '';
  if (DELTA.test(text)) return Math.min(Number(text) * SECOND, MAX_RETRY_AFTER_MS);
  const at = parseDate(text);
  return at === undefined ? undefined : Math.min(Math.max(at - now, 0), MAX_RETRY_AFTER_MS);
}

function parseDate(text: string): number | undefined {
  const isZoned = DATES.some((form) => form.test(text));
  if (!isZoned && !ASCTIME.test(text)) return undefined;
  const at = Date.parse(isZoned ? text : `${text} GMT`);
  return Number.isNaN(at) ? undefined : at;
}
