/** How a change runs, on every database: one at a time, its idempotency result inside, its news after the commit. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import { type Clock, DAY } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { noMeter, type StoreMeter } from '../core/meter.ts';
import { type Log, writeDebug } from '../core/record.ts';
import type { ChangeContext, Database, Writer } from './database.ts';
import type { Tables } from './schema.ts';

/** A key may be used anew after this long. */
export const IDEMPOTENCY_KEPT_MS = DAY;

export interface ChangeParts {
  db: Kysely<Tables>;
  clock: Clock;
  log: Log;
  /** Absent: nothing is counted. */
  meter?: StoreMeter | undefined;
}

export function createChange(parts: ChangeParts): Database['change'] {
  const { clock } = parts;
  let last: Promise<unknown> = Promise.resolve();
  return function change(context, work) {
    const asked = clock.now();
    const next = last.then(() => timed(parts, asked, () => runChange(parts, context, work)));
    // The queue goes on whatever came of this change; its caller gets the error from `next`.
    last = next.then(otherWork, otherWork);
    return next;
  };
}

/** Of the event loop. Where there is nothing to do they cost microseconds. */
const TURNS_BETWEEN = 10;

/**
 * A change is microtasks from its beginning to its end, and so is what leads from one to the next: without turns between
 * them, many changes would keep every socket waiting for the last one. A request takes several turns. Also behind one
 * that nobody waits for: calls that are read in the same turn run one after the other, and none sees the next.
 */
async function otherWork(): Promise<void> {
  for (let turns = 0; turns < TURNS_BETWEEN; turns++) await turn();
}

async function runChange<T>(
  parts: ChangeParts,
  context: ChangeContext,
  work: (tx: Writer, afterCommit: (run: () => void) => void) => Promise<T>,
): Promise<T> {
  const news: (() => void)[] = [];
  const result = await parts.db.transaction().execute(async (tx) => {
    const value = await work(tx, (run) => void news.push(run));
    await keepResult(tx, parts.clock, context, value);
    return value;
  });
  for (const run of news) tell(run, parts);
  return result;
}

/** The change is kept, whatever comes of its news: who asked for it must not read that it failed. */
function tell(run: () => void, { log, clock }: ChangeParts): void {
  try {
    run();
  } catch (cause) {
    log.write({
      time: clock.now(),
      kind: 'system',
      level: 'error',
      component: 'store',
      message: `a change is kept, but what follows from it failed, and shows after a restart: ${messageOf(cause)}`,
      detail: { cause: cause instanceof Error ? cause.stack : undefined },
    });
  }
}

/** Tells how long a change waited for those before it, and how long it took. */
async function timed<T>(parts: ChangeParts, asked: number, run: () => Promise<T>): Promise<T> {
  const began = parts.clock.now();
  const { meter = noMeter } = parts;
  const record = (isKept: boolean, message: string) => {
    const tookMs = parts.clock.now() - began;
    meter.changed(isKept, began - asked, tookMs);
    writeDebug(parts, 'store', () => ({
      message,
      duration_ms: tookMs,
      detail: { waited_ms: began - asked },
    }));
  };
  try {
    const result = await run();
    record(true, 'change committed');
    return result;
  } catch (cause) {
    record(false, `change rolled back: ${cause instanceof AppError ? cause.code : messageOf(cause)}`);
    throw cause;
  }
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
