/**
 * What the authorization server keeps, in the project's own store: the adapter of `oidc-provider`. Ids of codes and
 * tokens are credentials, so only their hash is stored; payloads are sealed. Consuming is one atomic statement,
 * because the library reads first and consumes afterwards.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2 | RFC 9700 §4.14.2} on refresh token rotation
 */
import { type Adapter, type AdapterPayload, errors } from 'oidc-provider';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Writer } from '../store/database.ts';
import { openPayload, recordKey, sealPayload } from './record-form.ts';
import type { GrantFacts } from './record-list.ts';

/**
 * A refresh token that was used goes on working this long: clients with several processes refresh at the same time,
 * and a client may lose the answer. Each use gives another successor of the same family.
 */
export const REFRESH_GRACE_MS = MINUTE;

export interface RecordsOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  /** After the commit: who was let in by this grant is out from now on. */
  readonly onGrantGone: (grantId: string) => void;
  /** After the commit. */
  readonly onGrantSaved: (grant: GrantFacts) => void;
}

export class Records implements Adapter {
  readonly #model: string;
  readonly #options: RecordsOptions;

  constructor(model: string, options: RecordsOptions) {
    this.#model = model;
    this.#options = options;
  }

  async upsert(id: string, payload: AdapterPayload, expiresInSeconds: number): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.now();
    const expiresAt = expiresInSeconds ? now + expiresInSeconds * SECOND : null;
    const key = recordKey(this.#model, id);
    const row = {
      model: this.#model,
      grant_id: this.#model === 'Grant' ? id : (payload.grantId ?? null),
      uid: payload.uid === undefined ? null : recordKey('uid', payload.uid),
      user_code: payload.userCode === undefined ? null : recordKey('user_code', payload.userCode),
      account_id: payload.accountId ?? null,
      client_id: this.#model === 'Client' ? id : (payload.clientId ?? null),
      payload: sealPayload(this.#options.sealer, key, payload),
      expires_at: expiresAt,
    };
    await database.change({}, async (tx, afterCommit) => {
      await tx
        .insertInto('oauth_records')
        .values({ id: key, created_at: now, consumed_at: null, ...row })
        .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
        .execute();
      const { accountId, clientId } = payload;
      if (this.#model === 'Grant' && accountId !== undefined && clientId !== undefined)
        afterCommit(() =>
          this.#options.onGrantSaved({ id, accountId, clientId, expiresAt: expiresAt ?? undefined }),
        );
    });
  }

  find(id: string): Promise<AdapterPayload | undefined> {
    return this.#findBy('id', recordKey(this.#model, id));
  }

  findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.#findBy('uid', recordKey('uid', uid));
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.#findBy('user_code', recordKey('user_code', userCode));
  }

  /** @throws InvalidGrant when somebody else was faster. */
  async consume(id: string): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.now();
    const key = recordKey(this.#model, id);
    const isConsumed = await database.change({}, async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable('oauth_records')
        .set({ consumed_at: now })
        .where('id', '=', key)
        .where('consumed_at', 'is', null)
        .executeTakeFirst();
      return numUpdatedRows === 1n || (await this.#isInGrace(tx, key, now));
    });
    if (!isConsumed) throw new errors.InvalidGrant('it was used already');
  }

  async destroy(id: string): Promise<void> {
    await this.#options.database.change({}, async (tx, afterCommit) => {
      await tx.deleteFrom('oauth_records').where('id', '=', recordKey(this.#model, id)).execute();
      if (this.#model === 'Grant') afterCommit(() => this.#options.onGrantGone(id));
    });
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    await this.#options.database.change({}, async (tx) => {
      await tx
        .deleteFrom('oauth_records')
        .where('grant_id', '=', grantId)
        .where('model', '=', this.#model)
        .execute();
    });
  }

  async #isInGrace(tx: Writer, key: string, now: number): Promise<boolean> {
    if (this.#model !== 'RefreshToken') return false;
    const row = await tx
      .selectFrom('oauth_records')
      .select('consumed_at')
      .where('id', '=', key)
      .executeTakeFirst();
    return row !== undefined && row.consumed_at !== null && now - row.consumed_at <= REFRESH_GRACE_MS;
  }

  async #findBy(column: 'id' | 'uid' | 'user_code', value: string): Promise<AdapterPayload | undefined> {
    const now = this.#options.clock.now();
    const row = await this.#options.database.read
      .selectFrom('oauth_records')
      .select(['id', 'payload', 'consumed_at', 'expires_at'])
      .where(column, '=', value)
      .where('model', '=', this.#model)
      .executeTakeFirst();
    if (!row || (row.expires_at !== null && row.expires_at <= now)) return undefined;
    const payload = openPayload(this.#options.sealer, row.id, row.payload);
    const isConsumed = row.consumed_at !== null && !this.#mayRepeat(row.consumed_at, now);
    return { ...payload, ...(isConsumed && { consumed: Math.floor((row.consumed_at ?? 0) / SECOND) }) };
  }

  #mayRepeat(consumedAt: number, now: number): boolean {
    return this.#model === 'RefreshToken' && now - consumedAt <= REFRESH_GRACE_MS;
  }
}
