import type { Exemplar, HistogramPoint } from './family.ts';

/** One series of a histogram. To observe is a look for the bucket and a few numbers; nothing is made for it. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #buckets: number[];
  /** By bucket: the last one that was traced. */
  readonly #exemplars: { traceId: string; value: number; at: number }[] = [];
  #sum = 0;
  #count = 0;

  /** `bounds`: upper ones, rising. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#buckets = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    this.#put(value);
  }

  /** As `observe`, and the one to look at in its bucket from now on. `at`: milliseconds since 1970. */
  observeTraced(value: number, traceId: string, at: number): void {
    const bucket = this.#put(value);
    const known = this.#exemplars[bucket];
    if (known) {
      known.traceId = traceId;
      known.value = value;
      known.at = at;
    } else this.#exemplars[bucket] = { traceId, value, at };
  }

  point(labels: readonly string[]): HistogramPoint {
    return {
      labels,
      buckets: [...this.#buckets],
      count: this.#count,
      sum: this.#sum,
      exemplars: this.#buckets.map((_, bucket): Exemplar | undefined => {
        const known = this.#exemplars[bucket];
        return known && { ...known };
      }),
    };
  }

  #put(value: number): number {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? Infinity)) bucket++;
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
    this.#count++;
    this.#sum += value;
    return bucket;
  }
}
