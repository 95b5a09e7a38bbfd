/** How a change runs, on every database: one at a time, its idempotency result inside, its news after the commit. */
import type { Kysely } from 'kysely';
import { type Clock, DAY } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { ChangeContext, Database, Writer } from './database.ts';
import type { Tables } from './schema.ts';

/** A key may be used anew after this long. */
export const IDEMPOTENCY_KEPT_MS = DAY;

export function createChange(db: Kysely<Tables>, clock: Clock): Database['change'] {
  let last: Promise<unknown> = Promise.resolve();
  return function change(context, work) {
    const next = last.then(() => runChange(db, clock, context, work));
    // The queue goes on whatever came of this change; its caller gets the error from `next`.
    last = next.catch(() => undefined);
    return next;
  };
}

async function runChange<T>(
  db: Kysely<Tables>,
  clock: Clock,
  context: ChangeContext,
  work: (tx: Writer, afterCommit: (run: () => void) => void) => Promise<T>,
): Promise<T> {
  const news: (() => void)[] = [];
  const result = await db.transaction().execute(async (tx) => {
    const value = await work(tx, (run) => void news.push(run));
    await keepResult(tx, clock, context, value);
    return value;
  });
  for (const tell of news) tell();
  return result;
}

async function keepResult(
  tx: Writer,
  clock: Clock,
  { idempotency }: ChangeContext,
  value: unknown,
): Promise<void> {
  if (!idempotency) return;
  const { principalId, operation, key, inputDigest, seal } = idempotency;
  const kept = {
    input_digest: inputDigest,
    result: seal(JSON.stringify(value ?? null)),
    created_at: clock.now(),
  };
  const inserted = await tx
    .insertInto('idempotency')
    .values({ principal_id: principalId, operation, key, ...kept })
    .onConflict((conflict) =>
      conflict
        .columns(['principal_id', 'operation', 'key'])
        .doUpdateSet(kept)
        .where('idempotency.created_at', '<=', clock.now() - IDEMPOTENCY_KEPT_MS),
    )
    .executeTakeFirst();
  if (inserted.numInsertedOrUpdatedRows !== 1n)
    throw new AppError(
      'CONFLICT',
      'another call with this idempotency_key finished first; repeat the call to get its result',
    );
}
