/** What is asked of the orders in the store. What changes them is `orders.ts`. */
import { type ExpressionBuilder, sql } from 'kysely';
import { type Clock, DAY, MINUTE } from '../core/clock.ts';
import type { Log } from '../core/record.ts';
import type { Database, Reader, Tables } from '../store/database.ts';
import type { Limit } from './budget.ts';
import { roomAt, usedOf } from './counts.ts';
import { namesOf, OrderRows, type StoredOrder } from './order-rows.ts';
import { urgency } from './order-schema.ts';

/** The others with the next sweep. */
const MAX_ENDED_AT_ONCE = 100;

export interface OrderQueriesOptions {
  database: Database;
  clock: Clock;
  log: Log;
}

export class OrderQueries {
  protected readonly database: Database;
  protected readonly clock: Clock;
  protected readonly rows: OrderRows;

  constructor({ database, clock, log }: OrderQueriesOptions) {
    this.database = database;
    this.clock = clock;
    this.rows = new OrderRows({ clock, log });
  }

  /** Id and names of every open order. */
  async allOpen(): Promise<{ id: string; names: string[] }[]> {
    const rows = await this.database.read
      .selectFrom('certificate_orders')
      .select(['id', 'open_for'])
      .where('open_for', 'is not', null)
      .execute();
    return rows.map(({ id, open_for: subject }) => ({ id, names: namesOf(subject ?? '') }));
  }

  /** Open ones that nobody but a person helps on. */
  async stuck(): Promise<StoredOrder[]> {
    const rows = await this.database.read
      .selectFrom('certificate_orders')
      .selectAll()
      .where('open_for', 'is not', null)
      .where('document', 'like', '%"stuck":true%')
      .execute();
    // A CA's words are in the document too, and may say the same.
    return this.rows.read(rows).filter(({ document }) => document.stuck);
  }

  /** Open orders that somebody asked for by hand before then, the oldest first, not all at once. */
  async requestedBefore(at: number): Promise<StoredOrder[]> {
    const rows = await this.database.read
      .selectFrom('certificate_orders')
      .selectAll()
      .where('open_for', 'is not', null)
      .where('urgency', '=', urgency.requested)
      .where('created_at', '<', at)
      .orderBy('created_at')
      .limit(MAX_ENDED_AT_ONCE)
      .execute();
    return this.rows.read(rows).filter(({ document }) => document.reason === 'requested');
  }

  async countOpen(): Promise<number> {
    const { count } = await this.database.read
      .selectFrom('certificate_orders')
      .select((query) => query.fn.countAll<number>().as('count'))
      .where('open_for', 'is not', null)
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  /** All that are kept. */
  async countsByState(): Promise<{ state: string; count: number }[]> {
    const rows = await this.database.read
      .selectFrom('certificate_orders')
      .select(({ fn }) => ['state', fn.countAll<number | bigint | string>().as('count')])
      .groupBy('state')
      .execute();
    return rows.map(({ state, count }) => ({ state, count: Number(count) }));
  }

  /** When the first of the open ones has its turn; undefined: none is open. */
  async nextAttemptAt(): Promise<number | undefined> {
    const { next } = await this.database.read
      .selectFrom('certificate_orders')
      .select(({ fn }) => fn.min<number | null>('next_attempt_at').as('next'))
      .where('open_for', 'is not', null)
      .executeTakeFirstOrThrow();
    return next ?? undefined;
  }

  /** Of those with this name among theirs, newest first. */
  async ofName(name: string, limit: number): Promise<StoredOrder[]> {
    const rows = await this.database.read
      .selectFrom('certificate_order_names')
      .innerJoin('certificate_orders', 'certificate_orders.id', 'certificate_order_names.order_id')
      .selectAll('certificate_orders')
      .where('certificate_order_names.name', '=', name)
      .orderBy('certificate_order_names.created_at', 'desc')
      .limit(limit)
      .execute();
    return this.rows.read(rows);
  }

  async openOfName(name: string): Promise<StoredOrder[]> {
    const rows = await this.database.read
      .selectFrom('certificate_order_names')
      .innerJoin('certificate_orders', 'certificate_orders.id', 'certificate_order_names.order_id')
      .selectAll('certificate_orders')
      .where('certificate_order_names.name', '=', name)
      .where('certificate_orders.open_for', 'is not', null)
      .execute();
    return this.rows.read(rows);
  }

  /** Open orders with any of these names, each once. */
  async openOfNames(names: readonly string[]): Promise<StoredOrder[]> {
    const found = new Map<string, StoredOrder>();
    for (const name of names) for (const order of await this.openOfName(name)) found.set(order.id, order);
    return [...found.values()];
  }

  /** Newest first. */
  async latest(limit: number): Promise<StoredOrder[]> {
    const rows = await this.database.read
      .selectFrom('certificate_orders')
      .selectAll()
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit)
      .execute();
    return this.rows.read(rows);
  }

  async get(id: string): Promise<StoredOrder | undefined> {
    return this.one('id', id);
  }

  async ofCertificate(id: string): Promise<StoredOrder | undefined> {
    return this.one('certificate_id', id);
  }

  ofSubject(subject: string): Promise<StoredOrder | undefined> {
    return this.one('open_for', subject);
  }

  protected async one(
    column: 'id' | 'certificate_id' | 'open_for',
    value: string,
    from: Reader = this.database.read,
  ): Promise<StoredOrder | undefined> {
    const row = await from
      .selectFrom('certificate_orders')
      .selectAll()
      .where(column, '=', value)
      .executeTakeFirst();
    return row && this.rows.read([row])[0];
  }

  /** Whether an open order has this URL. */
  async knowsUrl(url: string): Promise<boolean> {
    for (const { id } of await this.allOpen())
      if ((await this.get(id))?.document.order_url === url) return true;
    return false;
  }

  /** When all of these limits have room: now or before, or later. */
  async roomAt(limits: readonly Limit[]): Promise<number> {
    const now = this.clock.now();
    const times = await Promise.all(limits.map((limit) => roomAt(this.database.read, limit, now)));
    return Math.max(0, ...times);
  }

  /** What counts of one limit, and when it has room: now or before, or later. */
  async usageOf(limit: Limit): Promise<{ used: number; roomAt: number }> {
    const now = this.clock.now();
    const { read } = this.database;
    return { used: await usedOf(read, limit, now), roomAt: await roomAt(read, limit, now) };
  }
}

/** No wait is longer: what is further ahead was written by a clock that has been put back since. */
export const MAX_WAIT_MS = 15 * DAY;
/** Twice a lease: of two processes, each may have its own clock. */
export const MAX_LEASE_MS = 12 * MINUTE;

export const isOver =
  (column: 'next_attempt_at' | 'lease_until', now: number, mostMs: number) =>
  (is: ExpressionBuilder<Tables, 'certificate_orders'>) =>
    is.or([is(column, '<=', now), is(column, '>', now + mostMs)]);

/** Of a CA that is none of these. The words of a CA can't say it: in JSON their quotes are escaped. */
export const isElsewhere =
  (directories: readonly string[]) => (is: ExpressionBuilder<Tables, 'certificate_orders'>) =>
    is.and(
      directories.map((directory) => {
        const words = `"directory":${JSON.stringify(directory)}`.replace(/[%_~]/g, '~$&');
        return sql<boolean>`${is.ref('document')} not like ${`%${words}%`} escape '~'`;
      }),
    );
