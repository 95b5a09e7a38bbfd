/** Progress as the protocol wants it: rising, and not more often than a reader can follow. */
import type { Clock } from '../../core/clock.ts';
import type { Progress } from '../../core/operation.ts';
import { isId } from './message.ts';
import { PROGRESS_EVERY_MS } from './settings.ts';

export function throttled(clock: Clock, send: (update: Progress) => void): (update: Progress) => void {
  let last = Number.NEGATIVE_INFINITY;
  let sentAt = Number.NEGATIVE_INFINITY;
  return (update) => {
    const time = clock.now();
    const isLast = update.total !== undefined && update.progress >= update.total;
    if (update.progress <= last || (!isLast && time - sentAt < PROGRESS_EVERY_MS)) return;
    last = update.progress;
    sentAt = time;
    send(update);
  };
}

/** Undefined when the caller asked for no progress. `send` gets the notification, ready for the wire. */
export function throttledProgress(
  clock: Clock,
  progressToken: unknown,
  send: (notification: string) => void,
): ((update: Progress) => void) | undefined {
  if (!isId(progressToken)) return undefined;
  return throttled(clock, (update) => {
    const params = { progressToken, ...update };
    send(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params }));
  });
}
