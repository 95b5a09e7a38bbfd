/**
 * TXT records of DNS-01 during an order: in the store before they are in the DNS, and out of both when the attempt is over,
 * however it ended. What could not be withdrawn, or was left by a process that died, is withdrawn by `sweep`. Called by
 * `issuing.ts` (which holds the order's lease) and by the timer of `issuance.ts`.
 */
import { type Clock, DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import { type ChallengeRecord, challengeRecordSchema, type Dns } from './dns/providers.ts';
import type { StoredOrder } from './order-rows.ts';
import { LeaseLost, type Orders } from './orders.ts';

export type ChallengeDns = Pick<
  Dns,
  'locate' | 'publish' | 'withdraw' | 'waitUntilVisible' | 'propagationTimeoutMs'
>;

/** For the records of one order to be withdrawn; what takes longer is withdrawn by the sweep. */
const WITHDRAW_MS = 15 * SECOND;
const FIRST_WAIT_MS = MINUTE;
const MOST_WAIT_MS = 6 * HOUR;
const MAX_DOUBLINGS = 10;
/** Then nobody has the zone any more, or the credential for it. */
const GIVEN_UP_MS = 30 * DAY;
/** Of one sweep; the others come with the next one. */
const MAX_SWEPT = 100;
const SWEEP_MS = MINUTE;
/** While name servers are waited for, the lease of the order is renewed this often. */
const HOLD_EVERY_MS = MINUTE;

/** `nowhere`: no zone was found for it; `refused`: the host did not take it; `not_visible`: not all name servers have it. */
export type Stage = 'nowhere' | 'refused' | 'not_visible';

/** A record is not where the CA would look for it, so the CA was not told. */
export class Unpublished extends Error {
  override readonly name = 'Unpublished';
  readonly hostname: string;
  readonly stage: Stage;
  readonly retryAfterMs: number | undefined;

  constructor(hostname: string, stage: Stage, cause: unknown) {
    super(`${hostname} by dns-01: ${messageOf(cause)}`, { cause });
    this.hostname = hostname;
    this.stage = stage;
    this.retryAfterMs = retryAfterOf(cause);
  }
}

/** What shows that a name is ours. */
export interface DnsAnswer {
  /** As in the order: `*.example.com`. */
  readonly hostname: string;
  readonly recordName: string;
  readonly value: string;
}

interface Located extends DnsAnswer {
  readonly record: ChallengeRecord;
}

export interface ChallengeRecordsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly dns: ChallengeDns;
  readonly orders: Orders;
}

export class ChallengeRecords {
  readonly #options: ChallengeRecordsOptions;

  constructor(options: ChallengeRecordsOptions) {
    this.#options = options;
  }

  /** Before a CA is asked for them: whether there is a zone for their records. @throws Unpublished */
  async check(hostnames: readonly string[], signal: AbortSignal): Promise<void> {
    const answers = hostnames.map((hostname) => ({
      hostname,
      recordName: `_acme-challenge.${hostname.replace(/^\*\./, '')}`,
      value: 'not-yet-known',
    }));
    await together(answers, signal, (answer, inner) => this.#locate(answer, inner));
  }

  /** Resolves when every name server of every zone answers with its records. @throws Unpublished, LeaseLost */
  async publish(order: StoredOrder, answers: readonly DnsAnswer[], signal: AbortSignal): Promise<void> {
    const located = await together(answers, signal, (answer, inner) => this.#locate(answer, inner));
    await this.#remember(order, located);
    const stop = new AbortController();
    const held = this.#holding(order, stop);
    try {
      const both = AbortSignal.any([signal, stop.signal]);
      await together(located, both, (one, inner) => this.#put(one, inner));
    } catch (cause) {
      // Another process has the order: that says more than that we were stopped by it.
      throw stop.signal.reason instanceof LeaseLost ? stop.signal.reason : cause;
    } finally {
      held.cancel();
    }
  }

  /** Those of one order. Never throws: the sweep does what could not be done. */
  async withdraw(orderId: string): Promise<void> {
    try {
      const rows = await this.#options.database.read
        .selectFrom('challenge_records')
        .selectAll()
        .where('order_id', '=', orderId)
        .execute();
      if (rows.length > 0) await this.#takeAway(rows);
    } catch (cause) {
      this.#write('error', `TXT records of ${orderId} are still in the store: ${messageOf(cause)}`);
    }
  }

  /** What orders that are over, or wait for long, have left. For a minute at most; `signal` stops it. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { database, clock, orders } = this.#options;
    const end = clock.now() + SWEEP_MS;
    const rows = await database.read
      .selectFrom('challenge_records')
      .selectAll()
      .where('next_attempt_at', '<=', clock.now())
      .orderBy('next_attempt_at')
      .limit(MAX_SWEPT)
      .execute();
    for (const id of new Set(rows.map((row) => row.order_id))) {
      if (signal.aborted || clock.now() >= end) return;
      const order = await orders.get(id);
      const own = rows.filter((row) => row.order_id === id);
      if (!order || order.state === 'issued' || order.state === 'abandoned')
        await this.#takeAway(own, signal);
      // Whoever drives it withdraws them at the end; whoever is about to may need them.
      else if (order.nextAttemptAt > clock.now() && (await orders.claim(id)))
        await this.#takeAwayClaimed(id, own, signal);
    }
  }

  async #takeAwayClaimed(orderId: string, rows: readonly Row[], signal: AbortSignal): Promise<void> {
    try {
      await this.#takeAway(rows, signal);
    } finally {
      await this.#options.orders.release(orderId);
    }
  }

  async #locate(answer: DnsAnswer, signal: AbortSignal): Promise<Located> {
    const { recordName: name, value, hostname } = answer;
    try {
      return { ...answer, record: await this.#options.dns.locate({ name, value }, signal) };
    } catch (cause) {
      throw new Unpublished(hostname, 'nowhere', cause);
    }
  }

  async #remember(order: StoredOrder, located: readonly Located[]): Promise<void> {
    const now = this.#options.clock.now();
    await this.#options.database.change({}, async (tx) => {
      // Fails when the order is somebody else's by now; then nothing is published.
      await this.#options.orders.holdIn(tx, order.id);
      for (const { record } of located)
        await tx
          .insertInto('challenge_records')
          .values({
            order_id: order.id,
            asked: record.asked,
            value: record.value,
            document: JSON.stringify(record),
            failures: 0,
            next_attempt_at: now,
            created_at: now,
          })
          .onConflict((conflict) => conflict.columns(['order_id', 'asked', 'value']).doNothing())
          .execute();
    });
  }

  async #put({ hostname, record }: Located, signal: AbortSignal): Promise<void> {
    const { dns } = this.#options;
    try {
      await dns.publish(record, signal);
    } catch (cause) {
      throw new Unpublished(hostname, 'refused', cause);
    }
    try {
      await dns.waitUntilVisible(record, { signal });
    } catch (cause) {
      throw new Unpublished(hostname, 'not_visible', cause);
    }
  }

  /** Renews the lease; stops the work when it is lost. */
  #holding(order: StoredOrder, stop: AbortController) {
    return this.#options.clock.every(HOLD_EVERY_MS, () => {
      const { database, orders } = this.#options;
      database.change({}, (tx) => orders.holdIn(tx, order.id)).catch((cause: unknown) => stop.abort(cause));
    });
  }

  async #takeAway(rows: readonly Row[], stop?: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const late = new AbortController();
    const timer = clock.after(WITHDRAW_MS, () => late.abort());
    try {
      const signal = stop ? AbortSignal.any([stop, late.signal]) : late.signal;
      // What is not begun because it is late has not failed.
      for (const row of rows) if (!signal.aborted) await this.#takeOne(row, signal, stop);
    } finally {
      timer.cancel();
    }
  }

  async #takeOne(row: Row, signal: AbortSignal, stop: AbortSignal | undefined): Promise<void> {
    const { database, dns, clock } = this.#options;
    // A row that can't be read (a newer version wrote it, say) is one that can't be withdrawn.
    const failure = await failureOf(() =>
      dns.withdraw(challengeRecordSchema.parse(JSON.parse(row.document)), signal),
    );
    // On the way out nothing is a failure.
    if (failure !== undefined && stop?.aborted === true) return;
    const now = clock.now();
    const isOver = failure === undefined || row.created_at + GIVEN_UP_MS < now;
    const wait = Math.min(FIRST_WAIT_MS * 2 ** Math.min(row.failures, MAX_DOUBLINGS), MOST_WAIT_MS);
    await database.change({}, async (tx) => {
      const key = (['order_id', 'asked', 'value'] as const).map((column) => [column, row[column]] as const);
      if (isOver) {
        let gone = tx.deleteFrom('challenge_records');
        for (const [column, value] of key) gone = gone.where(column, '=', value);
        await gone.execute();
      } else {
        let later = tx
          .updateTable('challenge_records')
          .set({ failures: row.failures + 1, next_attempt_at: now + wait });
        for (const [column, value] of key) later = later.where(column, '=', value);
        await later.execute();
      }
    });
    if (failure === undefined) return;
    const next = isOver ? 'it is left there' : `next attempt ${new Date(now + wait).toISOString()}`;
    this.#write('warn', `the TXT record ${row.asked} is not withdrawn: ${messageOf(failure)}; ${next}`);
  }

  #write(level: 'warn' | 'error', message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message });
  }
}

interface Row {
  order_id: string;
  asked: string;
  value: string;
  document: string;
  failures: number;
  created_at: number;
}

async function failureOf(work: () => Promise<void>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (cause) {
    return cause;
  }
}

function retryAfterOf(cause: unknown): number | undefined {
  const wait = cause instanceof AppError ? cause.details?.['retry_after_ms'] : undefined;
  return typeof wait === 'number' ? wait : undefined;
}

/**
 * All at once. The first failure stops the others, and is thrown when they have ended: nothing is under way any more
 * when records are withdrawn.
 */
async function together<T, R>(
  items: readonly T[],
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const results = await Promise.allSettled(
    items.map((item) =>
      work(item, both).catch((cause: unknown) => {
        stop.abort(cause);
        throw cause;
      }),
    ),
  );
  if (stop.signal.aborted) throw stop.signal.reason;
  return results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}
