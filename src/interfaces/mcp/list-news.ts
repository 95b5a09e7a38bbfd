/**
 * Telling one client, a session or a subscription, that the list of tools it has is another one by now: its principal
 * was granted more or less, or the process was started again, perhaps with other settings.
 */
import type { Clock } from '../../core/clock.ts';
import { LIST_TTL_MS } from './settings.ts';
import type { View } from './views.ts';

interface ListNewsOptions {
  readonly clock: Clock;
  /** False: nobody hears it yet. */
  readonly tell: () => boolean;
  readonly has?: View | undefined;
  /** What it has is from before the start of this process. */
  readonly isOld?: boolean | undefined;
}

export class ListNews {
  readonly #options: ListNewsOptions;
  #has: View | undefined;
  #isOld: boolean;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(options: ListNewsOptions) {
    this.#options = options;
    this.#has = options.has;
    this.#isOld = options.isOld === true;
  }

  /** It gets this list now. */
  listed(view: View): void {
    this.#has = view;
    this.#isOld = false;
  }

  /** It would get this list now. */
  compare(view: View): void {
    if (this.#has && !isSame(this.#has, view)) {
      this.#has = view;
      this.#isOld = true;
    }
    this.pass();
  }

  /** Also for when somebody begins to listen. Not more often than a client may keep a list anyway. */
  pass(): void {
    if (!this.#isOld) return;
    const { clock, tell } = this.#options;
    const now = clock.now();
    if (now - this.#toldAt < LIST_TTL_MS || !tell()) return;
    this.#isOld = false;
    this.#toldAt = now;
  }
}

const isSame = (a: View, b: View): boolean => a === b || a.legacyList.equals(b.legacyList);
