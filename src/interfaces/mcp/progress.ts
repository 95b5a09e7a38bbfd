/** Progress as the protocol wants it: rising, and not more often than a reader can follow. */
import type { Progress } from '../../core/operation.ts';
import { PROGRESS_EVERY_MS } from './settings.ts';

export function throttled(now: () => number, send: (update: Progress) => void): (update: Progress) => void {
  let last = Number.NEGATIVE_INFINITY;
  let sentAt = Number.NEGATIVE_INFINITY;
  return (update) => {
    const time = now();
    const isLast = update.total !== undefined && update.progress >= update.total;
    if (update.progress <= last || (!isLast && time - sentAt < PROGRESS_EVERY_MS)) return;
    last = update.progress;
    sentAt = time;
    send(update);
  };
}
