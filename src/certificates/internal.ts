/** The internal CA's certificates while they are in use: issued when first needed, once, and renewed before they end. */
import { type Clock, DAY } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import type { Authority } from './authority.ts';
import { type Catalog, type Entry, entryOf } from './catalog.ts';
import type { Vault } from './vault.ts';

const RENEW_BEFORE_MS = 30 * DAY;

export interface InternalOptions {
  authority: Authority;
  catalog: Catalog;
  vault: Vault;
  database: Database;
  events: Events;
  clock: Clock;
  log: Log;
}

export class InternalCertificates {
  readonly #options: InternalOptions;
  /** By name: whoever needs one while it is made waits for the same. */
  readonly #issuing = new Map<string, Promise<Entry>>();

  constructor(options: InternalOptions) {
    this.#options = options;
  }

  /** Valid now. One that nears its end is given while the next one is made. */
  async current(name: string): Promise<Entry> {
    const now = this.#options.clock.now();
    const entry = this.#options.catalog.internal(name);
    if (!entry || entry.notAfter <= now) return this.#issue(name);
    if (isDue(entry, now)) void this.#renew(name);
    return entry;
  }

  /** Renews what is due and still wanted, and removes what is due and not. */
  async renewDue(isWanted: (name: string) => boolean): Promise<void> {
    const now = this.#options.clock.now();
    const due = [...this.#options.catalog.all()].filter(
      (entry) => entry.source === 'internal' && isDue(entry, now),
    );
    for (const entry of due) {
      const [name = ''] = entry.names;
      if (this.#options.catalog.get(entry.id) !== entry) continue; // Replaced since the list was made.
      if (isWanted(name)) await this.#renew(name);
      else await this.#drop(entry);
    }
  }

  /** Resolves when nothing is being issued any more. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#issuing.values());
  }

  /** In the background: a failure is reported, and tried again at the next chance. */
  async #renew(name: string): Promise<void> {
    try {
      await this.#issue(name);
    } catch (cause) {
      this.#write('error', name, `the certificate of ${name} can't be renewed: ${messageOf(cause)}`);
    }
  }

  #issue(name: string): Promise<Entry> {
    const underway = this.#issuing.get(name);
    if (underway) return underway;
    const issuing = this.#make(name).finally(() => this.#issuing.delete(name));
    this.#issuing.set(name, issuing);
    return issuing;
  }

  async #make(name: string): Promise<Entry> {
    const { authority, catalog, vault, database } = this.#options;
    const material = await authority.issue(name);
    return database.change({}, async (tx, afterCommit) => {
      const entry = entryOf(await vault.insert(tx, 'internal', material));
      const old = catalog.internal(name);
      if (old) await vault.remove(tx, old.id);
      afterCommit(() => {
        if (old) this.#forget(old);
        catalog.put(entry);
        this.#options.events.emit('certificate.ready', { id: entry.id, names: entry.names });
        this.#write('info', name, `issued a certificate for ${name} from the internal CA`);
      });
      return entry;
    });
  }

  async #drop(entry: Entry): Promise<void> {
    await this.#options.database.change({}, async (tx, afterCommit) => {
      if (this.#options.catalog.get(entry.id) !== entry) return;
      await this.#options.vault.remove(tx, entry.id);
      afterCommit(() => this.#forget(entry));
    });
  }

  #forget(entry: Entry): void {
    const { catalog, vault, events } = this.#options;
    catalog.remove(entry);
    vault.forget(entry.id);
    events.emit('certificate.removed', { id: entry.id, names: entry.names });
  }

  #write(level: LogRecord['level'], hostname: string, message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message, hostname });
  }
}

const isDue = ({ notAfter }: Entry, now: number): boolean => notAfter - now < RENEW_BEFORE_MS;
