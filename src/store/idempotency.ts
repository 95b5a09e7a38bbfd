/** Results of creating calls, found again by their idempotency key for a day. */
import type { Clock } from '../core/clock.ts';
import type { IdempotencyStore } from '../core/dispatch.ts';
import { IDEMPOTENCY_KEPT_MS } from './change.ts';
import type { Database } from './database.ts';

export function createIdempotencyStore(
  database: Database,
  clock: Clock,
): IdempotencyStore & { sweep(): Promise<void> } {
  return {
    async find({ principalId, operation, key }) {
      const row = await database.read
        .selectFrom('idempotency')
        .select(['input_digest', 'result'])
        .where('principal_id', '=', principalId)
        .where('operation', '=', operation)
        .where('key', '=', key)
        .where('created_at', '>', clock.now() - IDEMPOTENCY_KEPT_MS)
        .executeTakeFirst();
      return row && { inputDigest: row.input_digest, result: JSON.parse(row.result) as unknown };
    },
    sweep: () =>
      database.change({}, async (tx) => {
        await tx
          .deleteFrom('idempotency')
          .where('created_at', '<=', clock.now() - IDEMPOTENCY_KEPT_MS)
          .execute();
      }),
  };
}
