/**
 * What one channel still has to tell: rows of `alert_deliveries`, written with the alert itself, sent one after the other,
 * again with ever longer waits, and given up. Each channel has its own, so that one that hangs holds up no other. Made
 * by `service.ts`.
 */
import { type Clock, HOUR, MINUTE } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Database } from '../store/database.ts';
import type { Channel, Fault } from './channel.ts';

/** Between attempts; with the last one over, a delivery is given up. */
const WAITS_MS = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR] as const;
const MAX_AT_ONCE = 20;

export interface OutboxOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly channel: Channel;
  readonly report: (message: string) => void;
}

export class Outbox implements AsyncDisposable {
  readonly #options: OutboxOptions;
  readonly #stop = new AbortController();
  #delivering: Promise<void> | undefined;
  #again = false;
  /** What the receiver took and the store could not be told of: it is not sent again. */
  readonly #arrived = new Set<string>();

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  get channel(): Channel {
    return this.#options.channel;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Sends what is due. One at a time: asked for meanwhile, it looks once more. */
  deliver(): void {
    if (this.#stop.signal.aborted) return;
    this.#again = true;
    this.#delivering ??= this.#deliverAll()
      .catch((cause: unknown) => this.#options.report(`alerts can't be delivered: ${messageOf(cause)}`))
      .finally(() => (this.#delivering = undefined));
  }

  /** Resolves when nothing is being sent. */
  async settle(): Promise<void> {
    while (this.#delivering) await this.#delivering;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.settle();
  }

  async #deliverAll(): Promise<void> {
    const { clock, channel } = this.#options;
    while (this.#again) {
      this.#again = false;
      const due = await this.#due();
      for (const { id, body, attempts } of due) {
        const { signal } = this.#stop;
        if (signal.aborted) return;
        const fault = this.#arrived.has(id)
          ? undefined
          : await channel.send({ id, body, now: clock.now(), signal });
        if (fault === undefined) this.#arrived.add(id);
        // On the way out nothing is a failure: it is sent after the next start.
        if (signal.aborted && fault !== undefined) return;
        await this.#settled({ id, attempts: attempts + 1, fault });
        this.#arrived.delete(id);
      }
      if (due.length === MAX_AT_ONCE) this.#again = true;
    }
  }

  #due() {
    const { database, clock, channel } = this.#options;
    return (
      database.read
        .selectFrom('alert_deliveries')
        .selectAll()
        .where('channel', '=', channel.name)
        .where('next_attempt_at', '<=', clock.now())
        // What was never tried comes before what failed, or one that is not taken would hold up the others.
        .orderBy('attempts')
        .orderBy('created_at')
        .orderBy('id')
        .limit(MAX_AT_ONCE)
        .execute()
    );
  }

  async #settled({ id, attempts, fault }: { id: string; attempts: number; fault: Fault | undefined }) {
    const { database, clock, channel, report } = this.#options;
    const waitMs = fault?.isFinal === true ? undefined : WAITS_MS[attempts - 1];
    if (fault !== undefined)
      report(
        `alert ${id} is not delivered by ${channel.name}: ${fault.why}; ${waitMs === undefined ? 'it is given up' : 'it is tried again'}`,
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
}
