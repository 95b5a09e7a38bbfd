import type { Exemplar, HistogramPoint } from './family.ts';

/** One series of a histogram. To observe is one look for the bucket and three numbers. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #buckets: number[];
  readonly #exemplars: (Exemplar | undefined)[] = [];
  #sum = 0;
  #count = 0;

  /** `bounds`: upper ones, rising. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#buckets = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    this.#count++;
    this.#sum += value;
    const at = this.#bucketOf(value);
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
  }

  /** As `observe`, and the one to look at in its bucket from now on. `at`: milliseconds since 1970. */
  observeTraced(value: number, traceId: string, at: number): void {
    this.observe(value);
    this.#exemplars[this.#bucketOf(value)] = { traceId, value, at };
  }

  point(labels: readonly string[]): HistogramPoint {
    return {
      labels,
      buckets: [...this.#buckets],
      count: this.#count,
      sum: this.#sum,
      exemplars: [...this.#exemplars],
    };
  }

  #bucketOf(value: number): number {
    let at = 0;
    for (const bound of this.#bounds) {
      if (value <= bound) return at;
      at++;
    }
    return at;
  }
}
