/** Which certificates there are, by name, in memory and without keys; and which one a hostname is served with. */
import { wildcardOver } from '../core/hostname.ts';
import type { Certificate } from './schema.ts';

/** The part of a certificate that choosing needs; the rest stays in the store. */
export interface Entry {
  readonly id: string;
  readonly source: Certificate['source'];
  readonly names: readonly string[];
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** When it came here, by our clock. */
  readonly createdAt: number;
  readonly fingerprint: string;
  /** Its CA is asked to revoke it: it is not served. */
  readonly revoking?: Certificate['revoking'];
}

export function entryOf(certificate: Certificate): Entry {
  return {
    id: certificate.id,
    source: certificate.source,
    names: certificate.names,
    notBefore: Date.parse(certificate.not_before),
    notAfter: Date.parse(certificate.not_after),
    createdAt: Date.parse(certificate.created_at ?? certificate.not_before),
    fingerprint: certificate.fingerprint_sha256,
    revoking: certificate.revoking,
  };
}

export class Catalog {
  readonly #byId = new Map<string, Entry>();
  /** From elsewhere (imported, ACME). */
  readonly #public = new Map<string, readonly Entry[]>();
  /** Of the internal CA; of one name the longest valid one. */
  readonly #internal = new Map<string, Entry>();

  all(): Iterable<Entry> {
    return this.#byId.values();
  }

  get(id: string): Entry | undefined {
    return this.#byId.get(id);
  }

  get size(): number {
    return this.#byId.size;
  }

  put(entry: Entry): void {
    this.#byId.set(entry.id, entry);
    for (const name of entry.names) {
      if (entry.source === 'internal') {
        if ((this.#internal.get(name)?.notAfter ?? 0) <= entry.notAfter) this.#internal.set(name, entry);
      } else {
        this.#public.set(name, [...(this.#public.get(name) ?? []), entry]);
      }
    }
  }

  remove(entry: Entry): void {
    this.#byId.delete(entry.id);
    for (const name of entry.names) {
      if (this.#internal.get(name) === entry) this.#internal.delete(name);
      const others = this.#public.get(name)?.filter((other) => other !== entry) ?? [];
      if (others.length > 0) this.#public.set(name, others);
      else this.#public.delete(name);
    }
  }

  /** From elsewhere and valid now: exact name before wildcard, then what somebody imported before what a CA gave. */
  public(hostname: string, now: number): Entry | undefined {
    return validAt(this.#public.get(hostname), now) ?? validAt(this.#public.get(wildcardOver(hostname)), now);
  }

  /** `name` as it is served: a hostname or `*.parent`. May be over, or near its end. */
  internal(name: string): Entry | undefined {
    return this.#internal.get(name);
  }
}

/**
 * Of imported ones the longest valid. Of those that CAs gave the last one counts: it was ordered because something was
 * not as it should be, and may live shorter than the one before. That it is not valid yet tells of our clock, not of it.
 */
function validAt(entries: readonly Entry[] | undefined, now: number): Entry | undefined {
  let imported: Entry | undefined;
  let ordered: Entry | undefined;
  for (const entry of entries ?? []) {
    if (now >= entry.notAfter || entry.revoking !== undefined) continue;
    if (entry.source === 'acme') ordered = later(entry, ordered, now);
    else if (entry.notBefore <= now) imported = longer(entry, imported);
  }
  return imported ?? ordered;
}

const longer = (a: Entry, b: Entry | undefined): Entry => (b && b.notAfter > a.notAfter ? b : a);
const later = (a: Entry, b: Entry | undefined, now: number): Entry =>
  b && cameAt(b, now) > cameAt(a, now) ? b : a;

/** CAs date certificates back, each its own way, so our clock tells; unless it was wrong then. */
const cameAt = ({ createdAt, notBefore }: Entry, now: number): number =>
  createdAt <= now ? createdAt : Math.min(notBefore, now);
