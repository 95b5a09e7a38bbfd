/** Results of creating calls, found again by their idempotency key for a day. */
import type { Clock } from '../core/clock.ts';
import type { IdempotencyStore } from '../core/dispatch.ts';
import type { IdempotencyTicket } from '../core/operation.ts';
import type { Sealer } from '../core/sealer.ts';
import { IDEMPOTENCY_KEPT_MS } from './change.ts';
import type { Database } from './database.ts';

export function createIdempotencyStore(
  database: Database,
  clock: Clock,
  sealer: Sealer,
): IdempotencyStore & { sweep(): Promise<void> } {
  return {
    seal: (result, call) => sealer.seal(result, contextOf(call)),
    async find({ principalId, operation, key }) {
      const row = await database.read
        .selectFrom('idempotency')
        .select(['input_digest', 'result'])
        .where('principal_id', '=', principalId)
        .where('operation', '=', operation)
        .where('key', '=', key)
        .where('created_at', '>', clock.now() - IDEMPOTENCY_KEPT_MS)
        .executeTakeFirst();
      if (!row) return undefined;
      const result: unknown = JSON.parse(sealer.open(row.result, contextOf({ principalId, operation, key })));
      return { inputDigest: row.input_digest, result };
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

const contextOf = ({
  principalId,
  operation,
  key,
}: Pick<IdempotencyTicket, 'principalId' | 'operation' | 'key'>): string =>
  `idempotency:${principalId}:${operation}:${key}`;
