/** Spans of time as people write them: `30d`, `12h`, `1d12h`. */
import { DAY, HOUR, MINUTE, SECOND } from './clock.ts';

const WEEK = 7 * DAY;
const MAX_TEXT = 40;
/** From long to short; each unit at most once. */
const DURATION = /^(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?$/;
const UNITS = [WEEK, DAY, HOUR, MINUTE, SECOND];

/** Milliseconds, or undefined when the text is not a duration: whole numbers with w, d, h, m or s, longest unit first. */
export function parseDuration(text: string): number | undefined {
  const match = text === '' || text.length > MAX_TEXT ? null : DURATION.exec(text);
  if (!match) return undefined;
  return UNITS.reduce((sum, unit, index) => sum + unit * Number(match[index + 1] ?? 0), 0);
}
