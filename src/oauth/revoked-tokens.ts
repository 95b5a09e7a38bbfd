/**
 * Access tokens that were revoked before they expired, each for itself. They are checked without asking the store, so
 * those that are no longer good are kept in memory, and in the store for the next start.
 * @see {@link https://www.rfc-editor.org/rfc/rfc7009#section-2 | RFC 7009 §2}
 */
import type { Clock } from '../core/clock.ts';
import type { Events } from '../core/events.ts';
import type { Database } from '../store/database.ts';

const MODEL = 'RevokedToken';
const PREFIX = 'revoked:';

export interface RevokedTokensOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly events: Events;
}

export class RevokedTokens {
  readonly #options: RevokedTokensOptions;
  /** Id of the token → when it expires anyway; milliseconds since 1970. */
  readonly #until = new Map<string, number>();

  constructor(options: RevokedTokensOptions) {
    this.#options = options;
  }

  async load(): Promise<void> {
    const rows = await this.#options.database.read
      .selectFrom('oauth_records')
      .select(['id', 'expires_at'])
      .where('model', '=', MODEL)
      .execute();
    for (const { id, expires_at } of rows) this.#until.set(id.slice(PREFIX.length), expires_at ?? 0);
    this.sweep();
  }

  has(tokenId: string): boolean {
    return this.#until.has(tokenId);
  }

  /** The id of a token is no credential. */
  async add(tokenId: string, expiresAt: number): Promise<void> {
    const { database, clock, events } = this.#options;
    const row = {
      id: `${PREFIX}${tokenId}`,
      model: MODEL,
      grant_id: null,
      uid: null,
      user_code: null,
      account_id: null,
      client_id: null,
      payload: '',
      created_at: clock.now(),
      expires_at: expiresAt,
      consumed_at: null,
    };
    await database.change({}, async (tx, afterCommit) => {
      await tx
        .insertInto('oauth_records')
        .values(row)
        .onConflict((conflict) => conflict.column('id').doNothing())
        .execute();
      afterCommit(() => {
        this.#until.set(tokenId, expiresAt);
        events.emit('access-token.revoked', { tokenId });
      });
    });
  }

  /** What has expired is refused without being listed; the store's rows go with all others that expire. */
  sweep(): void {
    const now = this.#options.clock.now();
    for (const [id, until] of this.#until) if (until <= now) this.#until.delete(id);
  }
}
