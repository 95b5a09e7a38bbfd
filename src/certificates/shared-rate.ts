/**
 * So many events a minute for all together, of which each may take half: strangers who come for names below one
 * wildcard leave the other half to those who come for the others. Called by `on-demand.ts`.
 */
import type { Clock } from '../core/clock.ts';
import { RateLimiter } from '../core/rate-limit.ts';

const ALL = 'all';
/** Far more than there are wildcards; of more the oldest is forgotten, and the limit of all still holds. */
const MAX_SHARES = 10_000;

export class SharedRate {
  readonly #all: RateLimiter;
  readonly #each: RateLimiter;

  constructor(clock: Clock, perMinute: number) {
    this.#all = new RateLimiter(clock, perMinute, 1);
    this.#each = new RateLimiter(clock, Math.ceil(perMinute / 2), MAX_SHARES);
  }

  /** Counts one, and is true, when both limits have room; else none is counted. */
  take(key: string): boolean {
    if (this.wait(key) > 0) return false;
    return this.#all.take(ALL) === 0 && this.#each.take(key) === 0;
  }

  /** Milliseconds until one may be taken. */
  wait(key: string): number {
    return Math.max(this.#all.wait(ALL), this.#each.wait(key));
  }

  stop(): void {
    this.#all.stop();
    this.#each.stop();
  }
}
