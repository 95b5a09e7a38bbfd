/**
 * What is used up of the limits, in the store. Whoever sends an order takes of each limit in the transaction that writes
 * it, so that two who see the last place do not both get it; what comes of the order decides what stays taken.
 */
import { MINUTE } from '../core/clock.ts';
import type { Reader, Writer } from '../store/database.ts';
import { countedWhen, COUNTED_MS, type Limit } from './budget.ts';

/** Of two processes, each may have its own clock. */
const SLACK_MS = 5 * MINUTE;

/** A limit has no room now: nothing was sent. */
export class Held extends Error {
  override readonly name = 'Held';
  readonly until: number;
  readonly limit: Limit;

  constructor(limit: Limit, until: number) {
    super(`no more than ${limit.allowed} ${limit.what} are allowed`);
    this.until = until;
    this.limit = limit;
  }
}

/** When this limit has room: now or before, or the moment at which the oldest that counts is not counted any more. */
export async function roomAt(
  from: Reader,
  { issuer, kind, subject, allowed, withinMs }: Limit,
  now: number,
): Promise<number> {
  const rows = await from
    .selectFrom('issuance_counts')
    .select('at')
    .where('issuer', '=', issuer)
    .where('kind', '=', kind)
    .where('subject', '=', subject)
    .where('at', '>', now - withinMs)
    // What is further ahead was counted by a clock that has been put back since.
    .where('at', '<=', now + SLACK_MS)
    .orderBy('at', 'desc')
    .limit(allowed)
    .execute();
  const oldest = rows.at(-1);
  return rows.length < allowed || !oldest ? 0 : oldest.at + withinMs;
}

/** What counts of it now. */
export async function usedOf(
  from: Reader,
  { issuer, kind, subject, withinMs }: Limit,
  now: number,
): Promise<number> {
  const { used } = await from
    .selectFrom('issuance_counts')
    .select(({ fn }) => fn.countAll<number | bigint | string>().as('used'))
    .where('issuer', '=', issuer)
    .where('kind', '=', kind)
    .where('subject', '=', subject)
    .where('at', '>', now - withinMs)
    .where('at', '<=', now + SLACK_MS)
    .executeTakeFirstOrThrow();
  return Number(used);
}

/**
 * Takes one of each limit, or none. Something has to be written in this transaction before, so that no other process
 * writes between the look and the taking. @throws Held
 */
export async function take(
  tx: Writer,
  orderId: string,
  { limits, now }: { limits: readonly Limit[]; now: number },
): Promise<void> {
  // What an earlier sending of it took, of which nothing was heard.
  await tx.deleteFrom('issuance_counts').where('order_id', '=', orderId).execute();
  for (const limit of limits) {
    const at = await roomAt(tx, limit, now);
    if (at > now) throw new Held(limit, at);
  }
  // One row for what is counted over several times.
  const rows = new Map(limits.map((limit) => [[limit.issuer, limit.kind, limit.subject].join(' '), limit]));
  for (const { issuer, kind, subject } of rows.values())
    await tx
      .insertInto('issuance_counts')
      .values({ issuer, kind, subject, at: now, order_id: countedWhen[kind] === 'sent' ? null : orderId })
      .execute();
}

/** Its certificate is there. */
export async function settleIssued(tx: Writer, orderId: string, now: number): Promise<void> {
  await tx
    .deleteFrom('issuance_counts')
    .where('order_id', '=', orderId)
    .where('kind', '=', 'failed')
    .execute();
  await tx
    .updateTable('issuance_counts')
    .set({ order_id: null, at: now })
    .where('order_id', '=', orderId)
    .execute();
}

/** It is over at the CA without a certificate. `failed`: of this name it could not be shown that it is ours. */
export async function giveBack(
  tx: Writer,
  orderId: string,
  { failed, now }: { failed: string | undefined; now: number },
): Promise<void> {
  if (failed !== undefined)
    await tx
      .updateTable('issuance_counts')
      .set({ order_id: null, at: now })
      .where('order_id', '=', orderId)
      .where('kind', '=', 'failed')
      .where('subject', '=', failed)
      .execute();
  await tx.deleteFrom('issuance_counts').where('order_id', '=', orderId).execute();
}

/** What counts no more. */
export async function sweepCounts(tx: Writer, now: number): Promise<void> {
  await tx
    .deleteFrom('issuance_counts')
    .where('at', '<', now - COUNTED_MS)
    .execute();
  await tx
    .deleteFrom('issuance_counts')
    .where('at', '>', now + COUNTED_MS)
    .execute();
}
