/**
 * A map that is never changed: `with` returns another one that shares what stayed the same. A change costs a few
 * microseconds at any size, so that a routing table of 10,000 hosts is swapped without a pause. Used by `match.ts`.
 */
const BUCKETS = 1024;

export class PersistentMap<V> {
  readonly #buckets: readonly (ReadonlyMap<string, V> | undefined)[];

  private constructor(buckets: readonly (ReadonlyMap<string, V> | undefined)[]) {
    this.#buckets = buckets;
  }

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>(Array.from({ length: BUCKETS }, () => undefined));
  }

  get(key: string): V | undefined {
    return this.#buckets[bucketOf(key)]?.get(key);
  }

  /** `undefined` as a value removes the key. */
  with(changes: ReadonlyMap<string, V | undefined>): PersistentMap<V> {
    if (changes.size === 0) return this;
    const buckets = [...this.#buckets];
    const copies = new Map<number, Map<string, V>>();
    for (const [key, value] of changes) {
      const index = bucketOf(key);
      const bucket = copies.get(index) ?? new Map(buckets[index]);
      copies.set(index, bucket);
      buckets[index] = bucket;
      if (value === undefined) bucket.delete(key);
      else bucket.set(key, value);
    }
    return new PersistentMap(buckets);
  }

  *entries(): Generator<[string, V]> {
    for (const bucket of this.#buckets) if (bucket) yield* bucket;
  }
}

const HASH_FACTOR = 31;

function bucketOf(key: string): number {
  let hash = 0;
  for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, HASH_FACTOR) + key.charCodeAt(i)) | 0;
  // The upper half is mixed in, so that keys that differ only at the front spread too.
  return (hash ^ (hash >>> 16)) & (BUCKETS - 1);
}
