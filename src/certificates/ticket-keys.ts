/**
 * Keys that session tickets are sealed with: random ones, one for each period, in the store (sealed), so that every
 * process on it takes tickets of every other, and of itself before a restart. Of the period before, tickets are still
 * taken; what is older is deleted, and with it whoever has the store learns nothing of what was sealed before.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9325#section-3.4 | RFC 9325 §3.4}, RFC 5077 §5.5
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { type Clock, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { SESSION_LIFETIME_MS } from '../core/tls-policy.ts';
import type { Database, Reader } from '../store/database.ts';

/** As long as a session: then the key before covers every ticket that is still good. */
export const TICKET_PERIOD_MS = SESSION_LIFETIME_MS;
/** The key of the next period is made ahead, so that whoever looks this late has it in time. */
export const TICKET_REFRESH_MS = 10 * MINUTE;

const NAME_BYTES = 16;
const MAC_BYTES = 32;
const CIPHER_BYTES = 16;
const META = 'tls_ticket_keys';
const SEAL = 'tls-ticket-keys';

const bytes = (length: number) =>
  z
    .base64()
    .transform((text) => Buffer.from(text, 'base64'))
    .refine((key) => key.length === length);
const storedKeys = z.array(
  z.object({
    period: z.int(),
    name: bytes(NAME_BYTES),
    mac: bytes(MAC_BYTES),
    cipher: bytes(CIPHER_BYTES),
  }),
);
type StoredKey = z.output<typeof storedKeys>[number];

export interface TicketKeysOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly log: Log;
}

/** Those of the store that can't be read are made anew: no session is worth a start that fails. */
export async function openTicketKeys(options: TicketKeysOptions): Promise<TicketKeys> {
  const keys = new TicketKeys(options);
  await keys.refresh();
  return keys;
}

export class TicketKeys implements AsyncDisposable {
  readonly #options: TicketKeysOptions;
  readonly #timer: Timer;
  #keys: readonly StoredKey[] = [];
  #refreshing: Promise<void> = Promise.resolve();

  constructor(options: TicketKeysOptions) {
    this.#options = options;
    this.#timer = options.clock.every(TICKET_REFRESH_MS, () => void (this.#refreshing = this.#refreshed()));
  }

  /** For new tickets. */
  current(): StoredKey {
    const period = this.#period();
    const key = this.#keys.find((one) => one.period === period) ?? newKey(period);
    // The store was away for a whole period: tickets of this process are then for this process.
    if (!this.#keys.includes(key)) this.#keys = [...this.#keys.filter((one) => isKept(one, period)), key];
    return key;
  }

  find(name: Buffer): StoredKey | undefined {
    const period = this.#period();
    return this.#keys.find((key) => isKept(key, period) && key.name.equals(name));
  }

  /** Makes what is missing and forgets what is too old. */
  async refresh(): Promise<void> {
    const { database, sealer } = this.#options;
    const period = this.#period();
    this.#keys = await database.change({}, async (tx) => {
      const stored = await this.#read(tx);
      const kept = stored.filter((key) => isKept(key, period));
      const missing = [period, period + 1].filter((wanted) => !kept.some((key) => key.period === wanted));
      if (missing.length === 0 && kept.length === stored.length) return kept;
      const keys = [...kept, ...missing.map(newKey)];
      const value = sealer.seal(JSON.stringify(keys.map(toStored)), SEAL);
      await tx
        .insertInto('meta')
        .values({ key: META, value })
        .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
        .execute();
      return keys;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.cancel();
    await this.#refreshing;
  }

  async #read(from: Reader): Promise<StoredKey[]> {
    const row = await from.selectFrom('meta').select('value').where('key', '=', META).executeTakeFirst();
    if (!row) return [];
    try {
      return storedKeys.parse(JSON.parse(this.#options.sealer.open(row.value, SEAL)));
    } catch (cause) {
      this.#report('session ticket keys of the store are made anew', cause);
      return [];
    }
  }

  async #refreshed(): Promise<void> {
    await this.refresh().catch((cause: unknown) => this.#report('session ticket keys', cause));
  }

  #report(what: string, cause: unknown): void {
    const { log, clock } = this.#options;
    const message = `${what}: ${messageOf(cause)}`;
    log.write({ time: clock.now(), kind: 'tls', level: 'error', component: 'certificates', message });
  }

  #period(): number {
    return Math.floor(this.#options.clock.now() / TICKET_PERIOD_MS);
  }
}

/** The next period is there for clocks that are ahead. */
const isKept = (key: StoredKey, period: number): boolean =>
  key.period >= period - 1 && key.period <= period + 1;

const newKey = (period: number): StoredKey => ({
  period,
  name: randomBytes(NAME_BYTES),
  mac: randomBytes(MAC_BYTES),
  cipher: randomBytes(CIPHER_BYTES),
});

const toStored = ({ period, name, mac, cipher }: StoredKey) => ({
  period,
  name: name.toString('base64'),
  mac: mac.toString('base64'),
  cipher: cipher.toString('base64'),
});
