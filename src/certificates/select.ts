/**
 * The certificate for a TLS handshake, as a context that holds its key. Answers are kept per name, so that a handshake
 * costs one look into a map, or a few where clients are checked; it is not the store of certificates, and decides nothing about who may connect.
 */
import type { SecureContext } from 'node:tls';
import { type Clock, MINUTE } from '../core/clock.ts';
import { parseHostname } from '../core/hostname.ts';
import { type Log, writeDebug } from '../core/record.ts';
import type { Catalog, Entry } from './catalog.ts';
import { type Trust, type TrustPem, usableClientTrust } from './client-trust.ts';

/** An answer is looked up again after this, so that a certificate that begins or ends to be valid is noticed. */
const KEPT_MS = MINUTE;
/** Under a wildcard clients can ask for any number of names; the oldest answers make room. */
const MAX_NAMES = 50_000;

export interface SelectorOptions {
  catalog: Catalog;
  clock: Clock;
  log: Log;
  /** For clients that name no host (they connect to an address). */
  fallback: string;
  /** The hostname or `*.parent` under which it is served; undefined when it is not served. */
  servedAs: (hostname: string) => string | undefined;
  /** Of an internal certificate for this served name that is valid now, made when there is none. */
  internal: (servedName: string) => Promise<Entry>;
  open: (entry: Entry, trust: Trust | undefined) => Promise<SecureContext>;
  onDemand: OnDemandPort | undefined;
}

/** Certificates for names below a wildcard, each ordered when somebody comes for it. */
export interface OnDemandPort {
  /** Waits for it, not for long; undefined: there is none. */
  certificate(hostname: string, wildcard: string): Promise<Entry | undefined>;
  /** Somebody came for a name that has a certificate of its own. */
  seen(hostname: string, wildcard: string): void;
  /** Whether its certificate may end, because nobody comes for the name any more. */
  isLeft(hostname: string): boolean;
}

interface Answer {
  /** By which clients are checked: with any other it is no answer. */
  clients: TrustPem | undefined;
  context: Promise<SecureContext | undefined>;
  until: number;
}

const notServed: Promise<undefined> = Promise.resolve(undefined);

export class Selector {
  readonly #options: SelectorOptions;
  readonly #answers = new Map<string, Answer>();

  constructor(options: SelectorOptions) {
    this.#options = options;
  }

  /**
   * Undefined when the name is not served. Rejects when the certificate can't be opened, or the CAs of `clients` can't
   * be used: the handshake has to fail.
   */
  select(
    servername: string = this.#options.fallback,
    clients?: TrustPem,
  ): Promise<SecureContext | undefined> {
    const answer = this.#answers.get(servername);
    if (answer && answer.clients === clients && this.#options.clock.now() < answer.until)
      return answer.context;
    const hostname = parseHostname(servername);
    if (hostname === undefined) return notServed;
    return hostname === servername ? this.#find(hostname, clients) : this.select(hostname, clients);
  }

  /** Forgets every answer; call it when a certificate or what is served has changed. */
  clear(): void {
    this.#answers.clear();
  }

  #find(hostname: string, clients: TrustPem | undefined): Promise<SecureContext | undefined> {
    const servedName = this.#options.servedAs(hostname);
    if (servedName === undefined) return notServed;
    const { catalog, clock, onDemand } = this.#options;
    const now = clock.now();
    const entry = catalog.public(hostname, now);
    const isBelow = servedName !== hostname;
    if (entry && isBelow && entry.source === 'acme' && entry.names.includes(hostname))
      onDemand?.seen(hostname, servedName);
    const open = (chosen: Entry) => this.#open(chosen, hostname, clients);
    // One that checks clients may hold megabytes of revocation lists: only the vault, which bounds those, keeps it.
    if (entry && clients) {
      this.#answers.delete(hostname);
      return open(entry);
    }
    const context = entry ? open(entry) : this.#without(hostname, servedName).then(open);
    const until = Math.min(now + KEPT_MS, entry?.notAfter ?? Infinity);
    return this.#keep(hostname, { clients, context, until });
  }

  /** Of a name that has none from elsewhere. */
  async #without(hostname: string, servedName: string): Promise<Entry> {
    const { internal, onDemand } = this.#options;
    const made = servedName === hostname ? undefined : await onDemand?.certificate(hostname, servedName);
    return made ?? internal(servedName);
  }

  async #open(entry: Entry, hostname: string, clients: TrustPem | undefined): Promise<SecureContext> {
    writeDebug(this.#options, 'certificates', () => ({
      message: `${hostname} gets ${entry.id} (${entry.source})`,
      hostname,
    }));
    return this.#options.open(entry, clients && usableClientTrust(clients, this.#options.clock.now()));
  }

  #keep(hostname: string, answer: Answer): Answer['context'] {
    if (this.#answers.size >= MAX_NAMES) {
      const [oldest] = this.#answers.keys();
      if (oldest !== undefined) this.#answers.delete(oldest);
    }
    this.#answers.set(hostname, answer);
    // What failed is tried again by the next handshake; this one gets the error from the promise it was given.
    answer.context.catch(() => {
      if (this.#answers.get(hostname) === answer) this.#answers.delete(hostname);
    });
    return answer.context;
  }
}
