/** What callers ask of alerts: which there are, that somebody has seen one, whether telling works. Called by operations.ts. */
import type { Clock } from '../core/clock.ts';
import { decodeCursor, encodeCursor, pageOf, toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import { mayTouch } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { Channel, ChannelName } from './channel.ts';
import { testBody } from './message.ts';
import type { Acknowledgement, Alert, AlertPage, alertStates, ShownAlert, TestResult } from './schema.ts';
import type { AlertService } from './service.ts';
import { type AlertRow, hostnamesOf, isAbout, maySee, shownTo } from './shown.ts';

const LIST = 'alerts';
const MAX_PROBLEM = 300;

type Caller = Pick<OperationContext, 'principal' | 'signal'>;

export interface DeskParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly events: Events;
  readonly alerts: Pick<AlertService, 'all' | 'outboxes'>;
}

export interface ListAlerts {
  state: (typeof alertStates)[number];
  hostname?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export class AlertDesk {
  readonly #parts: DeskParts;

  constructor(parts: DeskParts) {
    this.#parts = parts;
  }

  /** The newest first. */
  async list(
    { state, hostname, limit, cursor }: ListAlerts,
    { principal }: Pick<Caller, 'principal'>,
  ): Promise<AlertPage> {
    const after = cursor === undefined ? undefined : decodeCursor(LIST, ['number', 'string'], cursor);
    const found = (await this.#parts.alerts.all())
      .filter(({ row, alert }) => isIn(state, row) && isAbout(alert, hostname))
      .filter(({ alert }) => maySee(principal, hostnamesOf(alert)))
      .sort((a, b) => byAge(a.row, b.row))
      .filter(({ row }) => !after || byAge({ raised_at: after[0], id: after[1] }, row) < 0)
      .map(({ row, alert }) => ({ row, shown: shownTo(principal, row, alert) }));
    const page = pageOf(
      found,
      limit,
      ({ row }) => encodeCursor(LIST, [row.raised_at, row.id]),
      ({ shown }) => shown,
    );
    const { items, ...next } = page;
    return { alerts: items.map(({ shown }) => shown), ...next };
  }

  /**
   * It stays in the list until it is over, and is told no more before it gets worse. @throws AppError NOT_FOUND, also
   * where the caller may not see it, FORBIDDEN where it is about others' hostnames as well, CONFLICT when it is over
   */
  async acknowledge(
    { id, note }: { id: string; note?: string | undefined },
    { principal }: Pick<Caller, 'principal'>,
  ): Promise<ShownAlert> {
    const { database, clock, events } = this.#parts;
    const { row, alert } = await this.#require(id, principal);
    const all = hostnamesOf(alert);
    if (!all.every((hostname) => mayTouch(principal, hostname)))
      throw new AppError(
        'FORBIDDEN',
        `alert ${id} is about hostnames of others as well: they have to be told`,
      );
    if (row.resolved_at !== null)
      throw new AppError('CONFLICT', `alert ${id} is over; list_alerts names those that are not`);
    const seen: Acknowledgement = {
      by: principal.id,
      at: toTimestamp(clock.now()),
      ...(note !== undefined && { note: cleanText(note) }),
      stage: alert.stage,
    };
    const acknowledged = JSON.stringify(seen);
    await database.change({}, async (tx, afterCommit) => {
      const { numUpdatedRows } = await tx
        .updateTable('alerts')
        .set({ acknowledged })
        .where('id', '=', id)
        // What was seen is this stage of it, while it lasts.
        .where('document', '=', row.document)
        .where('resolved_at', 'is', null)
        .executeTakeFirst();
      if (numUpdatedRows === 0n)
        throw new AppError('CONFLICT', `alert ${id} has changed meanwhile; see list_alerts`);
      await tx.deleteFrom('alert_deliveries').where('alert_key', '=', row.key).execute();
      afterCommit(() => events.emit('alert.changed', { hostnames: all }));
    });
    return shownTo(principal, { ...row, acknowledged }, alert);
  }

  /** At once and once, by each channel. @throws AppError PRECONDITION_FAILED when there is none */
  async test(name: ChannelName | undefined, { principal, signal }: Caller): Promise<TestResult> {
    const { alerts, clock } = this.#parts;
    const asked = alerts.outboxes.filter(({ channel }) => name === undefined || channel.name === name);
    if (asked.length === 0)
      throw new AppError(
        'PRECONDITION_FAILED',
        `${name ?? 'no channel'} is ${name === undefined ? '' : 'not '}set up; alerts.webhook_url and alerts.smtp are the settings (docs/guides/alerts.md)`,
      );
    const now = clock.now();
    const body = testBody(principal.id, now);
    const results = asked.map(async ({ channel, signal: stopped }) => {
      const message = { id: newId('alt'), body, now, signal: AbortSignal.any([signal, stopped]) };
      return resultOf(channel, await channel.send(message));
    });
    return { channels: await Promise.all(results) };
  }

  async #require(id: string, principal: Caller['principal']): Promise<{ row: AlertRow; alert: Alert }> {
    const found = (await this.#parts.alerts.all()).find(({ row }) => row.id === id);
    if (found && maySee(principal, hostnamesOf(found.alert))) return found;
    throw new AppError('NOT_FOUND', `no alert ${id}; list_alerts names those that there are`);
  }
}

function resultOf(channel: Channel, fault: Awaited<ReturnType<Channel['send']>>) {
  if (fault === undefined) return { channel: channel.name, delivered: true };
  return { channel: channel.name, delivered: false, problem: cleanText(fault.why, MAX_PROBLEM) };
}

function isIn(state: ListAlerts['state'], { resolved_at: at }: AlertRow): boolean {
  return state === 'all' || (state === 'active') === (at === null);
}

const byAge = (a: Pick<AlertRow, 'raised_at' | 'id'>, b: Pick<AlertRow, 'raised_at' | 'id'>): number =>
  b.raised_at - a.raised_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
