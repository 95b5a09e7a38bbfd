/** How many log records were lost in the last minutes, from a number that only grows and begins at 0 with the process. */
import { HOUR } from '../../core/clock.ts';

/** The longest window of a rule. */
const KEPT_MS = HOUR;

export class LossCounter {
  readonly #read: () => number;
  /** Oldest first; one a minute. */
  #samples: { at: number; total: number }[] = [];

  constructor(read: () => number) {
    this.#read = read;
  }

  /** Once for each look, before it is asked. */
  sample(now: number): void {
    this.#samples.push({ at: now, total: this.#read() });
    // The last one from before the window is where it begins.
    while ((this.#samples[1]?.at ?? Infinity) <= now - KEPT_MS) this.#samples.shift();
  }

  since(time: number): number {
    const last = this.#samples.at(-1)?.total ?? 0;
    const before = this.#samples.findLast(({ at }) => at <= time)?.total ?? 0;
    return last - before;
  }
}
