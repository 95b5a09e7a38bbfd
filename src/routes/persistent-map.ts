/**
 * A map that is never changed: `with` returns another one that shares what stayed the same. A change costs microseconds
 * (and, once in many, a copy), so that a routing table of 10,000 hosts is swapped without a pause; a look-up costs what
 * one in a plain map does. Used by `match.ts`.
 */
const MIN_RECENT = 64;
/** Changes since the last copy, as a share of the whole. */
const RECENT_SHARE = 1 / 16;

export class PersistentMap<V> {
  readonly #base: ReadonlyMap<string, V>;
  /** What differs from the base; `undefined` where a key was removed. */
  readonly #recent: ReadonlyMap<string, V | undefined>;

  private constructor(base: ReadonlyMap<string, V>, recent: ReadonlyMap<string, V | undefined>) {
    this.#base = base;
    this.#recent = recent;
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(new Map(), new Map());
  }

  get(key: string): V | undefined {
    const recent = this.#recent;
    return recent.size > 0 && recent.has(key) ? recent.get(key) : this.#base.get(key);
  }

  /** `undefined` as a value removes the key. */
  with(changes: ReadonlyMap<string, V | undefined>): PersistentMap<V> {
    if (changes.size === 0) return this;
    if (this.#recent.size + changes.size <= Math.max(MIN_RECENT, this.#base.size * RECENT_SHARE))
      return new PersistentMap(this.#base, new Map([...this.#recent, ...changes]));
    const base = new Map(this.entries());
    for (const [key, value] of changes)
      if (value === undefined) base.delete(key);
      else base.set(key, value);
    return new PersistentMap(base, new Map());
  }

  *entries(): Generator<[string, V]> {
    for (const entry of this.#base) if (!this.#recent.has(entry[0])) yield entry;
    for (const [key, value] of this.#recent) if (value !== undefined) yield [key, value];
  }
}
