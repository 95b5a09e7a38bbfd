/**
 * So many events a minute for each key, all of which may come at once (GCRA). One number per key and no promise:
 * it runs on every request to the control plane, where a general limiter with its promises costs ten times as much.
 */
import { type Clock, MINUTE, type Timer } from './clock.ts';

const SWEEP_MS = MINUTE;

export class RateLimiter {
  readonly #clock: Clock;
  readonly #maxKeys: number;
  readonly #costMs: number;
  /** Key → when its budget is whole again. */
  readonly #wholeAt = new Map<string, number>();
  readonly #sweep: Timer;

  constructor(clock: Clock, perMinute: number, maxKeys: number) {
    this.#clock = clock;
    this.#maxKeys = maxKeys;
    this.#costMs = MINUTE / perMinute;
    this.#sweep = clock.every(SWEEP_MS, () => this.#forgetWhole());
  }

  /** Counts so many events. 0 when they are within the limit; else none is counted, and milliseconds until they would be. */
  take(key: string, count = 1): number {
    const now = this.#clock.now();
    const next = Math.max(this.#wholeAt.get(key) ?? now, now) + this.#costMs * count;
    const wait = next - now - MINUTE;
    if (wait > 0) return Math.ceil(wait);
    if (this.#wholeAt.size >= this.#maxKeys && !this.#wholeAt.has(key)) this.#forgetOldest();
    this.#wholeAt.set(key, next);
    return 0;
  }

  /** As `take`, without counting. */
  wait(key: string, count = 1): number {
    const now = this.#clock.now();
    const wholeAt = Math.max(this.#wholeAt.get(key) ?? now, now);
    return Math.max(0, Math.ceil(wholeAt + this.#costMs * count - now - MINUTE));
  }

  get size(): number {
    return this.#wholeAt.size;
  }

  stop(): void {
    this.#sweep.cancel();
  }

  #forgetWhole(): void {
    const now = this.#clock.now();
    for (const [key, wholeAt] of this.#wholeAt) if (wholeAt <= now) this.#wholeAt.delete(key);
  }

  /** Maps keep the order of insertion: the first key is the one that has been in mind longest. */
  #forgetOldest(): void {
    const [oldest] = this.#wholeAt.keys();
    if (oldest !== undefined) this.#wholeAt.delete(oldest);
  }
}
