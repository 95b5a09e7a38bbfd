/**
 * Bounds guessing. Each network has so many attempts a minute. For one name, whoever tries it waits when many have
 * failed there: that makes guessing from many networks slow, and nobody can lock somebody else out by failing.
 */
import { type Clock, SECOND } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { RateLimiter } from '../../core/rate-limit.ts';

/** People of one office share an address. */
export const ATTEMPTS_PER_MINUTE = 30;
export const FAILURES_PER_MINUTE = 10;
export const SLOW_MS = 3 * SECOND;
export const TOO_MANY = 'Too many attempts from your network. Try again in a minute.';
const MAX_KEYS = 100_000;
/** Requests that are held at once; each is a few kilobytes. */
const MAX_HELD = 1000;
const MAX_NAME = 64;

export interface AttemptsOptions {
  readonly clock: Clock;
  /** What addresses of one client have in common. */
  readonly networkOf: (address: string) => string;
}

export class Attempts implements Disposable {
  readonly #options: AttemptsOptions;
  readonly #ofNetworks: RateLimiter;
  readonly #failures: RateLimiter;
  #held = 0;

  constructor(options: AttemptsOptions) {
    this.#options = options;
    this.#ofNetworks = new RateLimiter(options.clock, ATTEMPTS_PER_MINUTE, MAX_KEYS);
    this.#failures = new RateLimiter(options.clock, FAILURES_PER_MINUTE, MAX_KEYS);
  }

  /** Counts one attempt: beforehand, so that many at once count too. False when there were too many. */
  take(address: string): boolean {
    return this.#ofNetworks.take(this.#options.networkOf(address)) === 0;
  }

  /** Returns at once, or after a while when many have failed at this name. */
  async slowDown(username: string): Promise<void> {
    if (this.#failures.wait(keyOf(username)) === 0) return;
    if (this.#held >= MAX_HELD)
      throw new AppError('RATE_LIMITED', 'too many people sign in at this moment; try again in a minute');
    this.#held++;
    await new Promise<void>((resolve) => this.#options.clock.after(SLOW_MS, resolve));
    this.#held--;
  }

  failed(username: string): void {
    this.#failures.take(keyOf(username));
  }

  [Symbol.dispose](): void {
    this.#ofNetworks.stop();
    this.#failures.stop();
  }
}

/** Names that are none count too: nobody learns from it which ones are. */
const keyOf = (username: string): string => username.trim().toLowerCase().slice(0, MAX_NAME);
