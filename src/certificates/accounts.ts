/**
 * Our account at each CA. Its key is in the store before the CA hears of it: asked again with the same key, a CA gives
 * the same account, so that a crash or a lost reply makes no second one. Called by `issuing.ts` and for revocation.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3 | RFC 8555 §7.3}
 */
import type { KeyObject } from 'node:crypto';
import { type Clock, HOUR } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { AcmeClient } from './acme/client.ts';
import { AcmeProblem } from './acme/problem.ts';
import type { AccountRef, Call } from './acme/session.ts';
import type { Issuer } from './issuers.ts';
import { fromPkcs8, newKeys, toPkcs8 } from './x509.ts';

/** A CA that does not take a changed address is not asked with every order. */
const CONTACT_AGAIN_MS = HOUR;

export interface Account extends AccountRef {
  readonly ordersUrl: string | undefined;
}

export interface AccountsOptions {
  database: Database;
  sealer: Sealer;
  clock: Clock;
  log: Log;
}

export class Accounts {
  readonly #options: AccountsOptions;
  /** By directory: whoever needs one while it is made waits for the same. */
  readonly #known = new Map<string, Promise<Account>>();
  /** By directory: whether it is told where to reach us, or when it is tried again. */
  readonly #contacts = new Map<string, { telling: Promise<void>; againAt: number }>();

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** Made when there is none. @throws AcmeProblem, AcmeFault; Error when its key does not open with this master key */
  async of(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
    const account = await this.#opened(issuer, client, call);
    await this.#keepContact(issuer, client, account, call);
    return account;
  }

  #opened(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
    const known = this.#known.get(issuer.directoryUrl);
    if (known) return known;
    const account = this.#open(issuer, client, call);
    this.#known.set(issuer.directoryUrl, account);
    // What failed is tried again by the next one; this one gets the error from the promise.
    account.catch(() => {
      if (this.#known.get(issuer.directoryUrl) === account) this.#known.delete(issuer.directoryUrl);
    });
    return account;
  }

  /** What the settings say is told to the CA once; no order waits for one that does not take it. */
  #keepContact(issuer: Issuer, client: AcmeClient, account: Account, call: Call): Promise<void> {
    const { directoryUrl: directory } = issuer;
    const { clock } = this.#options;
    const known = this.#contacts.get(directory);
    if (known && clock.now() < known.againAt) return known.telling;
    const told = { telling: Promise.resolve(), againAt: Infinity };
    told.telling = this.#tellContact(issuer, client, account, call).catch((cause: unknown) => {
      told.againAt = call.signal.aborted ? 0 : clock.now() + CONTACT_AGAIN_MS;
      if (!call.signal.aborted)
        this.#write('warn', `${directory} was not told of the changed acme.email: ${messageOf(cause)}`);
    });
    this.#contacts.set(directory, told);
    return told.telling;
  }

  /** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3.2 | RFC 8555 §7.3.2} */
  async #tellContact(issuer: Issuer, client: AcmeClient, account: Account, call: Call): Promise<void> {
    const contact = JSON.stringify(issuer.contact);
    const told = (await this.#row(issuer))?.contact ?? JSON.stringify([]);
    if (contact === told) return;
    await client.updateContact(account, issuer.contact, call);
    await this.#options.database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set({ contact })
        .where('directory', '=', issuer.directoryUrl)
        .execute();
    });
    this.#write('info', `told ${issuer.directoryUrl} of the changed acme.email`);
  }

  /**
   * The CA does not know it any more: next time it is told of another key. `url`: which account that was, so that of
   * several orders that heard so only the first one's word counts.
   */
  async forget({ directoryUrl }: Issuer, url: string): Promise<void> {
    const { database, sealer } = this.#options;
    const { privateKey } = await newKeys();
    const key_sealed = sealer.seal(toPkcs8(privateKey), sealContext(directoryUrl));
    await database.change({}, async (tx, afterCommit) => {
      const { numUpdatedRows } = await tx
        .updateTable('acme_accounts')
        .set({ url: null, orders_url: null, key_sealed, next_key_sealed: null })
        .where('directory', '=', directoryUrl)
        .where('url', '=', url)
        .executeTakeFirst();
      if (numUpdatedRows === 1n) afterCommit(() => this.#known.delete(directoryUrl));
    });
  }

  /**
   * Gives the account another key. The new one is in the store before the CA hears of it; where its answer is lost,
   * the CA is asked which of the two it knows, now or before the account is next used.
   * @throws AppError PRECONDITION_FAILED where there is no account, UPSTREAM_FAILED where the CA refuses; AcmeProblem, AcmeFault
   * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3.5 | RFC 8555 §7.3.5}
   */
  async rotate(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
    if ((await this.#row(issuer))?.url == null)
      throw new AppError(
        'PRECONDITION_FAILED',
        `there is no account at ${issuer.name} yet; it is made with the first order, with a key of its own`,
      );
    // Finds out what came of a change before this one.
    this.#known.delete(issuer.directoryUrl);
    const account = await this.of(issuer, client, call);
    const next = await this.#prepareNext(issuer);
    // Whatever comes of it, the next one to need the account looks again.
    this.#known.delete(issuer.directoryUrl);
    try {
      await client.changeKey(account, next, call);
      await this.#promote(issuer);
    } catch (cause) {
      const isChanged = await this.#settle(issuer, client, call);
      if (!isChanged && cause instanceof AcmeProblem && cause.consequence !== 'retry_later') {
        await this.#dropNext(issuer);
        throw new AppError(
          'UPSTREAM_FAILED',
          `the account at ${issuer.name} keeps the key that it has: ${messageOf(cause)}`,
          { cause },
        );
      }
      if (!isChanged) throw cause;
    }
    return this.of(issuer, client, call);
  }

  /** The change before that never reached the CA is made with the same key: it may still be on its way. */
  async #prepareNext(issuer: Issuer): Promise<KeyObject> {
    const { database, sealer } = this.#options;
    const { directoryUrl: directory } = issuer;
    const pending = (await this.#row(issuer))?.next_key_sealed;
    if (pending != null) return fromPkcs8(sealer.open(pending, sealContext(directory)));
    const { privateKey } = await newKeys();
    const next_key_sealed = sealer.seal(toPkcs8(privateKey), sealContext(directory));
    await database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set({ next_key_sealed })
        .where('directory', '=', directory)
        .execute();
    });
    return privateKey;
  }

  /** Whether the next key is that of the account by now; then it is from now on here too. */
  async #settle(issuer: Issuer, client: AcmeClient, call: Call): Promise<boolean> {
    const row = await this.#row(issuer);
    if (row?.next_key_sealed == null) return false;
    const next = fromPkcs8(this.#options.sealer.open(row.next_key_sealed, sealContext(issuer.directoryUrl)));
    const found = await client.findAccount(next, call);
    if (!found || (row.url !== null && found.url !== row.url)) return false;
    await this.#promote(issuer);
    return true;
  }

  async #promote({ directoryUrl }: Issuer): Promise<void> {
    await this.#options.database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set((row) => ({ key_sealed: row.ref('next_key_sealed').$notNull(), next_key_sealed: null }))
        .where('directory', '=', directoryUrl)
        .where('next_key_sealed', 'is not', null)
        .execute();
    });
  }

  async #dropNext({ directoryUrl }: Issuer): Promise<void> {
    await this.#options.database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set({ next_key_sealed: null })
        .where('directory', '=', directoryUrl)
        .execute();
    });
  }

  async #open(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
    await this.#settle(issuer, client, call);
    const row = (await this.#row(issuer)) ?? (await this.#prepare(issuer));
    const key = fromPkcs8(this.#options.sealer.open(row.key_sealed, sealContext(issuer.directoryUrl)));
    if (row.url !== null) return { url: row.url, ordersUrl: row.orders_url ?? undefined, key };
    const { contact, externalAccount } = issuer;
    // Whoever sets up a CA here, or serves the world with the CA that is set up, agrees: docs/guides/certificates.md.
    const made = await client.createAccount(
      { key, contact, termsOfServiceAgreed: true, externalAccount },
      call,
    );
    await this.#options.database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set({
          url: made.url,
          orders_url: made.ordersUrl ?? null,
          // What it is told with the next word, where it knows otherwise.
          contact: JSON.stringify(made.isNew ? contact : made.contact),
        })
        .where('directory', '=', issuer.directoryUrl)
        .execute();
    });
    await this.#tell(issuer, client, call);
    return { url: made.url, ordersUrl: made.ordersUrl, key };
  }

  /** Where it is at the CA; undefined when none was made yet. */
  async urlOf(issuer: Issuer): Promise<string | undefined> {
    return (await this.#row(issuer))?.url ?? undefined;
  }

  #row({ directoryUrl }: Issuer) {
    return this.#options.database.read
      .selectFrom('acme_accounts')
      .selectAll()
      .where('directory', '=', directoryUrl)
      .executeTakeFirst();
  }

  /** A key of ours, in the store. Where two processes make one at once, the first one's is taken. */
  async #prepare(issuer: Issuer) {
    const { database, sealer, clock } = this.#options;
    const { directoryUrl: directory } = issuer;
    const { privateKey } = await newKeys();
    await database.change({}, async (tx) => {
      await tx
        .insertInto('acme_accounts')
        .values({
          directory,
          url: null,
          orders_url: null,
          key_sealed: sealer.seal(toPkcs8(privateKey), sealContext(directory)),
          next_key_sealed: null,
          contact: null,
          created_at: clock.now(),
        })
        .onConflict((conflict) => conflict.column('directory').doNothing())
        .execute();
    });
    const row = await this.#row(issuer);
    if (!row) throw new Error(`the account key for ${directory} was stored and is gone`);
    return row;
  }

  async #tell(issuer: Issuer, client: AcmeClient, call: Call): Promise<void> {
    const { meta } = await client.directory(call);
    const terms = meta.termsOfService === undefined ? '' : `; its terms: ${cleanText(meta.termsOfService)}`;
    this.#write('info', `made an account at ${issuer.directoryUrl}${terms}`);
  }

  #write(level: 'info' | 'warn', message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message });
  }
}

const sealContext = (directory: string): string => `acme-account:${directory}`;
