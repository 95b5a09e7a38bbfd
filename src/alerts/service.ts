/**
 * What is raised and what is resolved, in the store: each once, across restarts. Told by a log record and by the channels
 * that are set up. Who watches something says what is true now; what follows is decided here. Called by
 * `certificates/watch.ts` and `rules/watch.ts` through the composition root, and by the operations of this folder.
 */
import { type Clock, DAY, HOUR, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import { newId } from '../core/ids.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Database, Reader, Writer } from '../store/database.ts';
import type { Channel } from './channel.ts';
import { bodyOf, type Status } from './message.ts';
import { Outbox } from './outbox.ts';
import { type Alert, alertSchema } from './schema.ts';
import { type AlertRow, hostnamesOf } from './shown.ts';

const EVERY_MS = MINUTE;
/** Longer than all the waits of an outbox together. */
const KEPT_UNTOLD_MS = 2 * DAY;
/** Of a source, at once: more say nothing more, and the log has room for other things. */
const MAX_ACTIVE = 1000;
/** What comes back sooner after it was last told is not told again: two processes that see it differently would tell it by turns. */
const QUIET_MS = HOUR;
/** For who asks what was wrong; of a source no more than may be active. */
const KEPT_RESOLVED_MS = DAY;

export interface AlertOptions {
  database: Database;
  clock: Clock;
  log: Log;
  events: Events;
  channels: readonly Channel[];
  /** Told again after so long, while it lasts and nobody has acknowledged it; undefined: never. */
  remindAfterMs?: number | undefined;
  /** Of a source, at once; tests have fewer. */
  maxActive?: number | undefined;
}

export class AlertService implements AsyncDisposable {
  readonly #options: AlertOptions;
  readonly #outboxes: readonly Outbox[];
  #timer: Timer | undefined;
  #sweeping: Promise<void> | undefined;
  /** Each is reported once. */
  readonly #unreadable = new Set<string>();

  constructor(options: AlertOptions) {
    this.#options = options;
    const report = (message: string) => this.#report(message);
    this.#outboxes = options.channels.map((channel) => new Outbox({ ...options, channel, report }));
  }

  /** Goes on with what an earlier process had no time to tell. */
  start(): void {
    this.#timer = this.#options.clock.every(EVERY_MS, () => this.#sweep());
    this.#sweep();
  }

  /**
   * `current`: everything of this source that is wrong now. What is new is raised, what is gone resolved. What comes back
   * is listed at once, and told when it is not within `quietMs` of the last word about it, or an error; its end is told
   * if it was. `quietMs` is 0 for who waits by itself before it says that something is so, or over.
   */
  async reconcile(
    source: string,
    current: readonly Alert[],
    { quietMs = QUIET_MS }: { quietMs?: number } = {},
  ): Promise<void> {
    const { database, clock } = this.#options;
    const now = clock.now();
    const known = await rowsOf(database.read, source);
    if (isNothing(this.#difference(source, current, { known, now, quietMs }))) return;
    await database.change({}, async (tx, afterCommit) => {
      // Also so that no other process changes anything from here on: it may have told the same by now.
      await tx
        .deleteFrom('alerts')
        .where('source', '=', source)
        .where('resolved_at', '<=', now - KEPT_RESOLVED_MS)
        .execute();
      const rows = await rowsOf(tx, source);
      const difference = this.#difference(source, current, { known: rows, now, quietMs });
      const { raised, reopened, resolved, old } = difference;
      await forget(tx, old);
      for (const alert of raised) await this.#raise(tx, afterCommit, { alert, source, rows });
      for (const one of reopened) await this.#reopen(tx, afterCommit, one);
      for (const row of resolved) await this.#resolve(tx, afterCommit, row);
    });
    this.deliver();
  }

  /** Rows that can be read, in no order. */
  async all(): Promise<{ row: AlertRow; alert: Alert }[]> {
    const rows = await this.#options.database.read.selectFrom('alerts').selectAll().execute();
    return rows.flatMap((row) => {
      const alert = this.read(row);
      return alert ? [{ row, alert }] : [];
    });
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

  /** Sends what is due. */
  deliver(): void {
    for (const outbox of this.#outboxes) outbox.deliver();
  }

  /** Where alerts are told, with the signal that ends what is under way. */
  get outboxes(): readonly Pick<Outbox, 'channel' | 'signal'>[] {
    return this.#outboxes;
  }

  /** Resolves when nothing is being sent. */
  async settle(): Promise<void> {
    while (this.#sweeping) await this.#sweeping;
    await Promise.all(this.#outboxes.map((outbox) => outbox.settle()));
  }

  /** Undefined: another version wrote it. What it says of its cause stands; the others go on. */
  read({ key, document }: Pick<AlertRow, 'key' | 'document'>): Alert | undefined {
    try {
      return alertSchema.parse(JSON.parse(document));
    } catch (cause) {
      if (!this.#unreadable.has(key)) this.#report(`alert ${key} can't be read: ${messageOf(cause)}`);
      this.#unreadable.add(key);
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    await Promise.all(this.#outboxes.map((outbox) => outbox[Symbol.asyncDispose]()));
    await this.settle();
  }

  #difference(
    source: string,
    current: readonly Alert[],
    { known, now, quietMs }: { known: readonly AlertRow[]; now: number; quietMs: number },
  ): Difference {
    const { maxActive = MAX_ACTIVE } = this.#options;
    const all = new Set(current.map(({ key }) => key));
    const worst = current.toSorted(byUrgency).slice(0, maxActive);
    const leftOut = all.size - worst.length;
    const shown = leftOut > 0 ? [...worst, leftOutAlert(source, { told: worst.length, leftOut })] : worst;
    const wanted = new Map(shown.map((alert) => [alert.key, alert]));
    const over = known.filter(({ resolved_at: at }) => at !== null);
    const rows = new Map(known.map((row) => [row.key, row]));
    const isToBeTold = (alert: Alert): boolean => {
      const row = rows.get(alert.key);
      if (!row || alert.stage > (this.read(row)?.stage ?? Infinity)) return true;
      if (row.resolved_at === null && isTold(row)) return false;
      // What is told in sum may be so again at once; and what is down now is not passed over in silence.
      const isUrgent = alert.level === 'error' || alert.key === leftOutKey(source);
      return isUrgent || row.told_at <= now - quietMs;
    };
    const raised = [...wanted.values()].filter(isToBeTold);
    const told = new Set(raised.map(({ key }) => key));
    return {
      raised,
      reopened: over.flatMap((row) => {
        const alert = told.has(row.key) ? undefined : wanted.get(row.key);
        return alert ? [{ row, alert }] : [];
      }),
      resolved: known.filter((row) => row.resolved_at === null && !all.has(row.key) && !wanted.has(row.key)),
      old: over
        .toSorted((a, b) => (b.resolved_at ?? 0) - (a.resolved_at ?? 0))
        .filter(({ resolved_at: at }, index) => index >= maxActive || (at ?? 0) <= now - KEPT_RESOLVED_MS)
        .filter(({ key }) => !wanted.has(key)),
    };
  }

  async #raise(
    tx: Writer,
    afterCommit: AfterCommit,
    { alert, source, rows }: { alert: Alert; source: string; rows: readonly AlertRow[] },
  ): Promise<void> {
    const now = this.#options.clock.now();
    const known = rows.find(({ key, resolved_at: at }) => key === alert.key && at === null);
    const row = {
      id: known?.id ?? newId('alr'),
      document: JSON.stringify(alert),
      raised_at: known?.raised_at ?? now,
      resolved_at: null,
      acknowledged: null,
      told_at: now,
    };
    await tx
      .insertInto('alerts')
      .values({ key: alert.key, source, ...row })
      .onConflict((conflict) => conflict.column('key').doUpdateSet(row))
      .execute();
    await this.#tell(tx, afterCommit, { alert, status: 'raised' });
  }

  /** It is so again, and nobody is told. */
  async #reopen(
    tx: Writer,
    afterCommit: AfterCommit,
    { row, alert }: { row: AlertRow; alert: Alert },
  ): Promise<void> {
    const again = {
      document: JSON.stringify(alert),
      // After the last word about it, which is how it is known for not told: see `isTold`.
      raised_at: Math.max(this.#options.clock.now(), row.told_at + 1),
      resolved_at: null,
      acknowledged: null,
    };
    await tx.updateTable('alerts').set(again).where('key', '=', row.key).execute();
    this.#announce(afterCommit, alert);
  }

  async #resolve(tx: Writer, afterCommit: AfterCommit, row: AlertRow): Promise<void> {
    const now = this.#options.clock.now();
    const over = { resolved_at: now, ...(isTold(row) && { told_at: now }) };
    await tx.updateTable('alerts').set(over).where('key', '=', row.key).execute();
    // Told after its end, any stage would seem to be so again.
    await tx.deleteFrom('alert_deliveries').where('alert_key', '=', row.key).execute();
    const alert = this.read(row);
    if (!alert) return;
    if (isTold(row)) await this.#tell(tx, afterCommit, { alert, status: 'resolved' });
    else this.#announce(afterCommit, alert);
  }

  /** To who follows the list. */
  #announce(afterCommit: AfterCommit, alert: Alert): void {
    afterCommit(() => this.#options.events.emit('alert.changed', { hostnames: hostnamesOf(alert) }));
  }

  /** What is to be sent is in the store with the alert itself, so that a crash loses neither. */
  async #tell(
    tx: Writer,
    afterCommit: AfterCommit,
    { alert, status }: { alert: Alert; status: Status },
  ): Promise<void> {
    const { code, level, summary, hostname, lines = [{ hostname, summary }], facts } = alert;
    await this.#post(tx, alert, status);
    afterCommit(() => {
      for (const line of lines)
        this.#write({
          level: status === 'raised' ? level : 'info',
          message: status === 'raised' ? line.summary : `resolved: ${line.summary}`,
          hostname: line.hostname,
          detail: { code, status, ...facts },
        });
    });
    this.#announce(afterCommit, alert);
  }

  /** Into the outbox of each channel. */
  async #post(tx: Writer, alert: Alert, status: Status): Promise<void> {
    const now = this.#options.clock.now();
    for (const { channel } of this.#outboxes)
      await tx
        .insertInto('alert_deliveries')
        .values({
          id: newId('alt'),
          channel: channel.name,
          alert_key: alert.key,
          body: bodyOf(alert, status, now),
          attempts: 0,
          next_attempt_at: now,
          created_at: now,
        })
        .execute();
  }

  #sweep(): void {
    this.#sweeping ??= this.#sweepOnce()
      .catch((cause: unknown) => this.#report(`alerts can't be delivered: ${messageOf(cause)}`))
      .finally(() => {
        this.#sweeping = undefined;
        this.deliver();
      });
  }

  async #sweepOnce(): Promise<void> {
    await this.#dropOld();
    await this.#remind();
  }

  /** What nobody could be told for so long is no news any more; without a channel it is kept for nobody. */
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

  /** By the channels only: the log has it. */
  async #remind(): Promise<void> {
    const { database, clock, remindAfterMs } = this.#options;
    if (remindAfterMs === undefined || this.#outboxes.length === 0) return;
    const now = clock.now();
    const due = (from: Reader) =>
      from
        .selectFrom('alerts')
        .selectAll()
        .where('resolved_at', 'is', null)
        .where('acknowledged', 'is', null)
        .where('told_at', '<=', now - remindAfterMs)
        .whereRef('told_at', '>=', 'raised_at')
        .limit(MAX_ACTIVE)
        .execute();
    if ((await due(database.read)).length === 0) return;
    await database.change({}, async (tx) => {
      for (const row of await due(tx)) {
        await tx.updateTable('alerts').set({ told_at: now }).where('key', '=', row.key).execute();
        const alert = this.read(row);
        if (alert) await this.#post(tx, alert, 'reminder');
      }
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

type AfterCommit = (run: () => void) => void;

interface Difference {
  readonly raised: readonly Alert[];
  /** So again, and not to be told now. */
  readonly reopened: readonly { row: AlertRow; alert: Alert }[];
  readonly resolved: readonly AlertRow[];
  /** Resolved so long ago, or so many ago, that it is forgotten. */
  readonly old: readonly AlertRow[];
}

const rowsOf = (from: Reader, source: string): Promise<AlertRow[]> =>
  from.selectFrom('alerts').selectAll().where('source', '=', source).execute();

async function forget(tx: Writer, old: readonly AlertRow[]): Promise<void> {
  for (const { key } of old) await tx.deleteFrom('alerts').where('key', '=', key).execute();
}

const isNothing = ({ raised, reopened, resolved, old }: Difference): boolean =>
  raised.length + reopened.length + resolved.length + old.length === 0;

/** Since it began, or began again. */
const isTold = ({ told_at: told, raised_at: raised }: AlertRow): boolean => told >= raised;

/** The worst first, and always the same ones. */
const byUrgency = (a: Alert, b: Alert): number =>
  Number(b.level === 'error') - Number(a.level === 'error') || b.stage - a.stage || (a.key < b.key ? -1 : 1);

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
