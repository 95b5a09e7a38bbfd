/**
 * Our account at each CA. Its key is in the store before the CA hears of it: asked again with the same key, a CA gives
 * the same account, so that a crash or a lost reply makes no second one. Called by `issuing.ts` and for revocation.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3 | RFC 8555 §7.3}
 */
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { AcmeClient } from './acme/client.ts';
import type { AccountRef, Call } from './acme/session.ts';
import type { Issuer } from './issuers.ts';
import { fromPkcs8, newKeys, toPkcs8 } from './x509.ts';

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

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** Made when there is none. @throws AcmeProblem, AcmeFault; Error when its key does not open with this master key */
  of(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
    const known = this.#known.get(issuer.directoryUrl);
    if (known) return known;
    const account = this.#open(issuer, client, call);
    this.#known.set(issuer.directoryUrl, account);
    // What failed is tried again by the next one; this one gets the error from the promise.
    account.catch(() => this.#known.delete(issuer.directoryUrl));
    return account;
  }

  /** The CA does not know it any more: next time it is told of the same key. */
  async forget({ directoryUrl }: Issuer): Promise<void> {
    this.#known.delete(directoryUrl);
    await this.#options.database.change({}, async (tx) => {
      await tx
        .updateTable('acme_accounts')
        .set({ url: null, orders_url: null })
        .where('directory', '=', directoryUrl)
        .execute();
    });
  }

  async #open(issuer: Issuer, client: AcmeClient, call: Call): Promise<Account> {
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
        .set({ url: made.url, orders_url: made.ordersUrl ?? null })
        .where('directory', '=', issuer.directoryUrl)
        .execute();
    });
    await this.#tell(issuer, client, call);
    return { url: made.url, ordersUrl: made.ordersUrl, key };
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
    this.#options.log.write({
      time: this.#options.clock.now(),
      kind: 'tls',
      level: 'info',
      component: 'certificates',
      message: `made an account at ${issuer.directoryUrl}${terms}`,
    });
  }
}

const sealContext = (directory: string): string => `acme-account:${directory}`;
