import type { Clock } from '../../core/clock.ts';
import { EVENTS_KEPT_MS } from './settings.ts';

/**
 * So many characters of events in the time that events are kept. Counted anew each time that time is over, so at most
 * twice as many are there. Who is over it stays over it until then: what is kept has no gap in its middle.
 */
export class EventBudget {
  readonly #clock: Clock;
  readonly #max: number;
  #since = 0;
  #taken = 0;

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  /** False when it is too much. */
  take(characters: number): boolean {
    const now = this.#clock.now();
    if (this.#since + EVENTS_KEPT_MS <= now) {
      this.#since = now;
      this.#taken = 0;
    }
    this.#taken += characters;
    return this.#taken <= this.#max;
  }
}
