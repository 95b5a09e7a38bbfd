/**
 * Asks until it is done, as often as the CA wants to be asked.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.5.1 | RFC 8555 §7.5.1} and §7.4 on `Retry-After`
 */
import { type Clock, HOUR, pause, SECOND } from '../../core/clock.ts';
import { AcmeFault } from './fault.ts';
import type { Call } from './session.ts';

/** Whatever the CA says. */
export const MIN_POLL_MS = SECOND;
export const MAX_POLL_MS = HOUR;
/** Where the CA does not say: 250 ms, 500 ms, 1 s, 2 s, … A name that is checked at once is not waited for by the second. */
export const FIRST_OWN_POLL_MS = 250;
const MAX_OWN_POLL_MS = 32 * SECOND;

export interface PollOptions extends Call {
  /** Milliseconds since 1970: when the caller stops waiting. */
  deadline: number;
}

/** A failed question ends it: the caller knows best when to come back. @throws AcmeFault deadline */
export async function poll<T extends { retryAfterMs: number | undefined }>(
  clock: Clock,
  ask: () => Promise<T>,
  isDone: (value: T) => boolean,
  { deadline, signal }: PollOptions,
): Promise<T> {
  for (let asked = 0; ; asked++) {
    const value = await ask();
    if (isDone(value)) return value;
    const waitMs = pollWait(value.retryAfterMs, asked);
    if (clock.now() + waitMs > deadline)
      throw new AcmeFault(
        'deadline',
        'the CA is not done yet; the order goes on there and can be asked for again',
        {
          consequence: 'retry_later',
          retryAfterMs: waitMs,
        },
      );
    signal.throwIfAborted();
    await pause(clock, waitMs, signal);
    signal.throwIfAborted();
  }
}

/** `asked`: how often already. */
export function pollWait(retryAfterMs: number | undefined, asked: number): number {
  if (retryAfterMs === undefined) return Math.min(FIRST_OWN_POLL_MS * 2 ** asked, MAX_OWN_POLL_MS);
  return Math.min(Math.max(retryAfterMs, MIN_POLL_MS), MAX_POLL_MS);
}
