/**
 * What is raised and what is resolved, in the store: each once, across restarts. Told by a log record and, where one is
 * set up, by a webhook. Who watches something says what is true now; what follows is decided here. Called by
 * `certificates/watch.ts` through `app.edge.ts`.
 */
import { type Clock, DAY, HOUR, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Database, Reader, Tables, Writer } from '../store/database.ts';
import { type Alert, alertSchema } from './schema.ts';
import { sendWebhook, type Webhook } from './webhook.ts';

const EVERY_MS = MINUTE;
/** Between attempts; with the last one over, a delivery is given up. */
const WAITS_MS = [MINUTE, 5 * MINUTE, 15 * MINUTE, 60 * MINUTE, 4 * 60 * MINUTE, 12 * 60 * MINUTE] as const;
/** Longer than all the waits together. */
const KEPT_UNTOLD_MS = 2 * DAY;
const MAX_AT_ONCE = 20;
/** Of a source, at once: more say nothing more, and the log has room for other things. */
const MAX_ACTIVE = 1000;
/** What comes back sooner is not told again: two processes that see it differently would tell it by turns. */
const KEPT_RESOLVED_MS = HOUR;

export interface AlertOptions {
  database: Database;
  clock: Clock;
  log: Log;
  webhook: Webhook | undefined;
  /** For the webhook. */
  fetch: typeof globalThis.fetch;
  /** Of a source, at once; tests have fewer. */
  maxActive?: number | undefined;
}

export class AlertService implements AsyncDisposable {
  readonly #options: AlertOptions;
  readonly #stop = new AbortController();
  #timer: Timer | undefined;
  #delivering: Promise<void> | undefined;
  #again = false;
  /** What the receiver took and the store could not be told of: it is not sent again. */
  readonly #arrived = new Set<string>();
  /** Each is reported once. */
  readonly #unreadable = new Set<string>();

  constructor(options: AlertOptions) {
    this.#options = options;
  }

  /** Goes on with what an earlier process had no time to tell. */
  start(): void {
    this.#timer = this.#options.clock.every(EVERY_MS, () => this.deliver());
    this.deliver();
  }

  /**
   * `current`: everything of this source that is wrong now. What is new is raised, what is gone resolved, and what comes
   * back later raised again.
   */
  async reconcile(source: string, current: readonly Alert[]): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.now();
    const known = await rowsOf(database.read, source);
    if (isNothing(this.#difference(source, current, { known, now }))) return;
    await database.change({}, async (tx, afterCommit) => {
      // Also so that no other process changes anything from here on: it may have told the same by now.
      await tx
        .deleteFrom('alerts')
        .where('source', '=', source)
        .where('resolved_at', '<=', now - KEPT_RESOLVED_MS)
        .execute();
      const rows = await rowsOf(tx, source);
      const { raised, resolved } = this.#difference(source, current, { known: rows, now });
      for (const alert of raised) {
        const row = { document: JSON.stringify(alert), raised_at: now, resolved_at: null };
        await tx
          .insertInto('alerts')
          .values({ key: alert.key, source, ...row })
          .onConflict((conflict) => conflict.column('key').doUpdateSet(row))
          .execute();
        await this.#tell(tx, afterCommit, { alert, status: 'raised' });
      }
      for (const row of resolved) {
        await tx.updateTable('alerts').set({ resolved_at: now }).where('key', '=', row.key).execute();
        const alert = this.#read(row);
        if (!alert) continue;
        // Told after its end, it would seem to be so again.
        const untold = bodyOf(alert, 'raised', row.raised_at);
        await tx.deleteFrom('alert_deliveries').where('body', '=', untold).execute();
        await this.#tell(tx, afterCommit, { alert, status: 'resolved' });
      }
    });
    this.deliver();
  }

  #difference(
    source: string,
    current: readonly Alert[],
    { known, now }: { known: readonly Row[]; now: number },
  ): Difference {
    const { maxActive = MAX_ACTIVE } = this.#options;
    const all = new Set(current.map(({ key }) => key));
    const worst = current.toSorted(byUrgency).slice(0, maxActive);
    const leftOut = all.size - worst.length;
    const told = leftOut > 0 ? [...worst, leftOutAlert(source, { told: worst.length, leftOut })] : worst;
    const wanted = new Map(told.map((alert) => [alert.key, alert]));
    const old = known.filter(({ resolved_at: at }) => at !== null && at <= now - KEPT_RESOLVED_MS);
    // What is told in sum may be so again at once.
    const standing = known.filter(
      (row) => !old.includes(row) && (row.resolved_at === null || row.key !== leftOutKey(source)),
    );
    const stages = new Map(standing.map((row) => [row.key, this.#read(row)?.stage ?? Infinity]));
    return {
      raised: [...wanted.values()].filter(({ key, stage }) => stage > (stages.get(key) ?? -1)),
      resolved: known.filter((row) => row.resolved_at === null && !all.has(row.key) && !wanted.has(row.key)),
      old,
    };
  }

  /** How many are raised and not resolved, of each source. */
  async active(): Promise<{ source: string; count: number }[]> {
    const rows = await this.#options.database.read
      .selectFrom('alerts')
      .select(({ fn }) => ['source', fn.countAll<number | bigint | string>().as('count')])
      .where('resolved_at', 'is', null)
      .groupBy('source')
      .execute();
    return rows.map(({ source, count }) => ({ source, count: Number(count) }));
  }

  /** Sends what is due. One at a time: asked for meanwhile, it looks once more. */
  deliver(): void {
    if (this.#stop.signal.aborted) return;
    this.#again = true;
    this.#delivering ??= this.#deliverAll()
      .catch((cause: unknown) => this.#report(`alerts can't be delivered: ${messageOf(cause)}`))
      .finally(() => (this.#delivering = undefined));
  }

  /** Resolves when nothing is being sent. */
  async settle(): Promise<void> {
    while (this.#delivering) await this.#delivering;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    this.#stop.abort();
    await this.settle();
  }

  /** What is to be sent is in the store with the alert itself, so that a crash loses neither. */
  async #tell(
    tx: Writer,
    afterCommit: (run: () => void) => void,
    { alert, status }: { alert: Alert; status: 'raised' | 'resolved' },
  ): Promise<void> {
    const { clock, webhook } = this.#options;
    const now = clock.now();
    const { code, level, summary, hostname, lines = [{ hostname, summary }], facts } = alert;
    if (webhook)
      await tx
        .insertInto('alert_deliveries')
        .values({
          id: newId('alt'),
          body: bodyOf(alert, status, now),
          attempts: 0,
          next_attempt_at: now,
          created_at: now,
        })
        .execute();
    afterCommit(() => {
      for (const line of lines)
        this.#write({
          level: status === 'raised' ? level : 'info',
          message: status === 'raised' ? line.summary : `resolved: ${line.summary}`,
          hostname: line.hostname,
          detail: { code, status, ...facts },
        });
    });
  }

  /** Undefined: another version wrote it. What it says of its cause stands; the others go on. */
  #read({ key, document }: { key: string; document: string }): Alert | undefined {
    try {
      return alertSchema.parse(JSON.parse(document));
    } catch (cause) {
      if (!this.#unreadable.has(key)) this.#report(`alert ${key} can't be read: ${messageOf(cause)}`);
      this.#unreadable.add(key);
      return undefined;
    }
  }

  async #deliverAll(): Promise<void> {
    const { database, clock, webhook, fetch } = this.#options;
    await this.#dropOld();
    while (this.#again && webhook) {
      this.#again = false;
      const due = await database.read
        .selectFrom('alert_deliveries')
        .selectAll()
        .where('next_attempt_at', '<=', clock.now())
        // What was never tried comes before what failed, or one that is not taken would hold up the others.
        .orderBy('attempts')
        .orderBy('created_at')
        .orderBy('id')
        .limit(MAX_AT_ONCE)
        .execute();
      for (const { id, body, attempts } of due) {
        if (this.#stop.signal.aborted) return;
        const { signal } = this.#stop;
        const fault = this.#arrived.has(id)
          ? undefined
          : await sendWebhook(webhook, { id, body, now: clock.now(), signal, fetch });
        if (fault === undefined) this.#arrived.add(id);
        // On the way out nothing is a failure: it is sent after the next start.
        if (this.#stop.signal.aborted && fault !== undefined) return;
        await this.#settled({ id, attempts: attempts + 1, fault });
        this.#arrived.delete(id);
      }
      if (due.length === MAX_AT_ONCE) this.#again = true;
    }
  }

  /** What nobody could be told for so long is no news any more; without a webhook it is kept for nobody. */
  async #dropOld(): Promise<void> {
    const { database, clock } = this.#options;
    const last = clock.now() - KEPT_UNTOLD_MS;
    const old = await database.read
      .selectFrom('alert_deliveries')
      .select('id')
      .where('created_at', '<', last)
      .limit(1)
      .executeTakeFirst();
    if (old)
      await database.change({}, (tx) =>
        tx.deleteFrom('alert_deliveries').where('created_at', '<', last).execute(),
      );
  }

  async #settled({ id, attempts, fault }: { id: string; attempts: number; fault: string | undefined }) {
    const { database, clock } = this.#options;
    const waitMs = WAITS_MS[attempts - 1];
    if (fault !== undefined)
      this.#report(
        `alert ${id} is not delivered: ${fault}; ${waitMs === undefined ? 'it is given up' : 'it is tried again'}`,
      );
    await database.change({}, async (tx) => {
      if (fault === undefined || waitMs === undefined)
        await tx.deleteFrom('alert_deliveries').where('id', '=', id).execute();
      else
        await tx
          .updateTable('alert_deliveries')
          .set({ attempts, next_attempt_at: clock.now() + waitMs })
          .where('id', '=', id)
          .execute();
    });
  }

  #report(message: string): void {
    this.#write({ level: 'warn', message });
  }

  #write(record: Pick<LogRecord, 'level' | 'message' | 'hostname' | 'detail'>): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'system', component: 'system', ...record });
  }
}

type Row = Tables['alerts'];

interface Difference {
  readonly raised: readonly Alert[];
  readonly resolved: readonly Row[];
  /** Resolved so long ago that it is forgotten. */
  readonly old: readonly Row[];
}

const rowsOf = (from: Reader, source: string): Promise<Row[]> =>
  from.selectFrom('alerts').selectAll().where('source', '=', source).execute();

const isNothing = ({ raised, resolved, old }: Difference): boolean =>
  raised.length + resolved.length + old.length === 0;

/** The worst first, and always the same ones. */
const byUrgency = (a: Alert, b: Alert): number =>
  Number(b.level === 'error') - Number(a.level === 'error') || b.stage - a.stage || (a.key < b.key ? -1 : 1);

function bodyOf(
  { code, level, summary, hostname, facts }: Alert,
  status: 'raised' | 'resolved',
  at: number,
): string {
  const data = { status, level, summary, ...(hostname !== undefined && { hostname }), ...facts };
  return JSON.stringify({ type: code, timestamp: new Date(at).toISOString(), data });
}

const leftOutKey = (source: string): string => `alerts.left_out/${source}`;

/** Told once when it begins, and not each minute: the number is that of then. */
const leftOutAlert = (source: string, { told, leftOut }: { told: number; leftOut: number }): Alert => ({
  key: leftOutKey(source),
  stage: 1,
  code: 'alerts.left_out',
  level: 'warn',
  summary: `more than ${told} alerts about ${source} at once: ${leftOut} of them are not told, the least urgent ones`,
  facts: { source, left_out: leftOut },
});
