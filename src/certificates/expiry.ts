/** How near its end a certificate is that should have been renewed by now. Pure. */
import { DAY } from '../core/clock.ts';
import type { Life } from './renewal.ts';

/** Days before the end, the last one first. */
const THRESHOLDS = [
  { days: 1, level: 'error', stage: 4 },
  { days: 3, level: 'error', stage: 3 },
  { days: 7, level: 'warn', stage: 2 },
  { days: 14, level: 'warn', stage: 1 },
] as const;
/** Those of a shorter life are nearer to the end by as much: of six days they are 22, 11, 5 and 1½ hours. */
const USUAL_LIFE_MS = 90 * DAY;

export type Threshold = (typeof THRESHOLDS)[number];

/** The nearest threshold that is over; undefined while none is. */
export function thresholdOf({ notBefore, notAfter }: Life, now: number): Threshold | undefined {
  const share = Math.min(1, (notAfter - notBefore) / USUAL_LIFE_MS);
  return THRESHOLDS.find(({ days }) => notAfter - now <= days * DAY * share);
}
