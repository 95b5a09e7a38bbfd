/** Counts and durations told apart by a few labels, each of which is from a list of ours or was looked at by its caller. */
import type { HistogramPoint, Point } from './family.ts';
import { Histogram } from './histogram.ts';

/** Of one metric; what is new beyond it counts as `other` in each of its labels. */
const MAX_SERIES = 1000;
export const OTHER = 'other';
const MS_PER_SECOND = 1000;

/** Series by the values of their labels. */
class Series<Value> {
  readonly #all = new Map<string, { readonly labels: readonly string[]; readonly value: Value }>();
  readonly #make: () => Value;
  readonly #max: number;

  constructor(make: () => Value, max: number) {
    this.#make = make;
    this.#max = max;
  }

  of(labels: readonly string[]): Value {
    const key = labels.join('\n');
    const known = this.#all.get(key);
    if (known) return known.value;
    const isFull = this.#all.size >= this.#max && labels.some((label) => label !== OTHER);
    if (isFull) return this.of(labels.map(() => OTHER));
    const value = this.#make();
    this.#all.set(key, { labels, value });
    return value;
  }

  *[Symbol.iterator](): Generator<{ readonly labels: readonly string[]; readonly value: Value }> {
    yield* this.#all.values();
  }
}

export class Tally {
  readonly #series: Series<{ count: number }>;

  constructor(max = MAX_SERIES) {
    this.#series = new Series(() => ({ count: 0 }), max);
  }

  /** Labels in the order of the catalogue. */
  add(...labels: string[]): void {
    this.#series.of(labels).count++;
  }

  points(): Point[] {
    return [...this.#series].map(({ labels, value }) => ({ labels, value: value.count }));
  }
}

export class Timings {
  readonly #series: Series<Histogram>;

  constructor(bounds: readonly number[], max = MAX_SERIES) {
    this.#series = new Series(() => new Histogram(bounds), max);
  }

  add(durationMs: number, ...labels: string[]): void {
    this.#series.of(labels).observe(durationMs / MS_PER_SECOND);
  }

  points(): HistogramPoint[] {
    return [...this.#series].map(({ labels, value }) => value.point(labels));
  }
}
