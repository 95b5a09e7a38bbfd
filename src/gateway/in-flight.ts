import { Roster } from '../core/roster.ts';
import type { Transit } from './transit.ts';

/** The requests that are being answered. */
export class InFlight implements Iterable<Transit> {
  readonly #transits = new Roster<Transit>();
  #waiting: (() => void)[] = [];

  get size(): number {
    return this.#transits.size;
  }

  add(transit: Transit): void {
    this.#transits.add(transit);
  }

  delete(transit: Transit): void {
    if (!this.#transits.delete(transit) || this.#transits.size > 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  whenEmpty(): Promise<void> {
    if (this.#transits.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  [Symbol.iterator](): Iterator<Transit> {
    return this.#transits[Symbol.iterator]();
  }
}
