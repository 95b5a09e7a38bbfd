/** Open TLS contexts, within a number of bytes: what was used longest ago makes room. Kept by the vault, one for each use. */
import type { SecureContext } from 'node:tls';

interface Kept {
  readonly context: Promise<SecureContext>;
  readonly bytes: number;
}

export class OpenContexts {
  readonly #maxBytes: number;
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** `bytes`: what it will hold, about. What can't be opened is not kept: whoever asked hears of it. */
  open(key: string, bytes: number, read: () => Promise<SecureContext>): Promise<SecureContext> {
    const known = this.#kept.get(key);
    if (known) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return known.context;
    }
    const context = read();
    const kept = { context, bytes };
    this.#kept.set(key, kept);
    this.#bytes += bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#maxBytes || oldest === key) break;
      this.#remove(oldest);
    }
    context.catch(() => {
      if (this.#kept.get(key) === kept) this.#remove(key);
    });
    return context;
  }

  forget(prefix: string): void {
    for (const key of this.#kept.keys()) if (key.startsWith(prefix)) this.#remove(key);
  }

  #remove(key: string): void {
    this.#bytes -= this.#kept.get(key)?.bytes ?? 0;
    this.#kept.delete(key);
  }
}
