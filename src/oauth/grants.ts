/**
 * Who let which client in. Which grants are alive is known from memory, because every request asks; the rest is in
 * the store. A grant that ends tells so, and everything that hangs on it ends.
 */
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import type { Events } from '../core/events.ts';
import type { Database } from '../store/database.ts';
import type { GrantFacts } from './record-list.ts';

export interface LiveGrantsOptions {
  readonly database: Database;
  readonly events: Events;
  readonly clock: Clock;
}

const rowSchema = z.object({
  grant_id: z.string(),
  account_id: z.string(),
  client_id: z.string(),
  expires_at: z.number().nullable(),
});

export class LiveGrants {
  readonly #options: LiveGrantsOptions;
  readonly #grants = new Map<string, GrantFacts>();

  constructor(options: LiveGrantsOptions) {
    this.#options = options;
  }

  async load(): Promise<void> {
    const rows = await this.#options.database.read
      .selectFrom('oauth_records')
      .select(['grant_id', 'account_id', 'client_id', 'expires_at'])
      .where('model', '=', 'Grant')
      .execute();
    for (const row of rows) {
      const { grant_id: id, account_id: accountId, client_id: clientId, expires_at } = rowSchema.parse(row);
      this.put({ id, accountId, clientId, expiresAt: expires_at ?? undefined });
    }
  }

  put(grant: GrantFacts): void {
    this.#grants.set(grant.id, grant);
  }

  /** Undefined when it ended or has expired. */
  find(id: string): GrantFacts | undefined {
    const grant = this.#grants.get(id);
    return grant && (grant.expiresAt ?? Infinity) > this.#options.clock.now() ? grant : undefined;
  }

  get size(): number {
    return this.#grants.size;
  }

  all(): GrantFacts[] {
    return [...this.#grants.values()];
  }

  /** Those that have expired leave the memory, and take with them what was opened by them. */
  sweep(): void {
    const now = this.#options.clock.now();
    for (const { id, expiresAt } of this.all()) if (expiresAt !== undefined && expiresAt <= now) this.end(id);
  }

  end(id: string): void {
    const grant = this.#grants.get(id);
    if (!grant) return;
    this.#grants.delete(id);
    const { accountId, clientId } = grant;
    this.#options.events.emit('grant.ended', { grantId: id, userId: accountId, clientId });
  }
}
