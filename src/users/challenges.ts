/**
 * Challenges that a browser has to sign: each for one page of one browser, once, and not for long. Kept in memory;
 * after a restart the page is opened again.
 */
import { randomBytes } from 'node:crypto';
import { type Clock, MINUTE } from '../core/clock.ts';

/** As long as a sign-in may take. */
const CHALLENGE_MS = 10 * MINUTE;
const CHALLENGE_BYTES = 32;
/** When strangers open more pages than this, the oldest ones have to be opened again. */
const MAX_CHALLENGES = 20_000;

export class Challenges {
  readonly #clock: Clock;
  readonly #open = new Map<string, { challenge: string; expiresAt: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** An earlier one of the same page is no longer good. */
  make(page: string): string {
    this.#open.delete(page);
    const [oldest] = this.#open.keys();
    if (this.#open.size >= MAX_CHALLENGES && oldest !== undefined) this.#open.delete(oldest);
    const challenge = randomBytes(CHALLENGE_BYTES).toString('base64url');
    this.#open.set(page, { challenge, expiresAt: this.#clock.now() + CHALLENGE_MS });
    return challenge;
  }

  /** Undefined when there is none, or it is too old. It is gone whatever comes of it. */
  take(page: string): string | undefined {
    const found = this.#open.get(page);
    this.#open.delete(page);
    return found && found.expiresAt > this.#clock.now() ? found.challenge : undefined;
  }
}
