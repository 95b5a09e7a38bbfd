/** Who waits for news of an order. */
export class Watchers {
  readonly #watchers = new Map<string, Set<() => void>>();

  /** Returns how to stop being told. */
  add(id: string, changed: () => void): () => void {
    const watchers = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, watchers.add(changed));
    return () => {
      watchers.delete(changed);
      if (watchers.size === 0) this.#watchers.delete(id);
    };
  }

  tell(id: string): void {
    for (const changed of this.#watchers.get(id) ?? []) changed();
  }
}
