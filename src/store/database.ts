/**
 * Port: the system's own state. One adapter per database, one contract suite for all of them
 * (`database.contract.ts`). Callers are the services of the nouns; nothing else writes.
 */
import type { Kysely, Transaction } from 'kysely';
import type { IdempotencyTicket } from '../core/operation.ts';
import type { Tables } from './schema.ts';

export type { Tables } from './schema.ts';
export type Reader = Kysely<Tables>;
export type Writer = Transaction<Tables>;

export interface ChangeContext {
  readonly idempotency?: IdempotencyTicket | undefined;
}

export interface Database extends AsyncDisposable {
  readonly read: Reader;
  /**
   * Runs `work` in one durable transaction. Changes run one after the other, so that what is read inside stays true
   * until the commit. What `work` returns is kept as the result of the call's idempotency key, in the same
   * transaction: leave secrets out of it. `afterCommit` runs at once after the commit, before the next change begins;
   * use it for what must be seen in the same order as the changes (publishing a snapshot, emitting an event). What
   * fails there is reported; the change stands.
   */
  change<T>(
    context: ChangeContext,
    work: (tx: Writer, afterCommit: (run: () => void) => void) => Promise<T>,
  ): Promise<T>;
}
