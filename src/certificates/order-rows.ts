/**
 * Rows of orders, read. One that can't be (a newer version wrote it, say) is reported, once, and passed over: the others
 * go on. Called by `orders.ts`.
 */
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Tables } from '../store/database.ts';
import {
  type OrderDocument,
  type OrderEvent,
  type OrderState,
  orderDocumentSchema,
  orderStateSchema,
} from './order-schema.ts';

/** The first ones tell why it was asked for, the last ones how it stands. */
const MAX_EVENTS = 60;
const FIRST_EVENTS = 4;
const MAX_CA_WORDS = 4096;

export interface StoredOrder {
  readonly id: string;
  readonly state: OrderState;
  readonly urgency: number;
  readonly nextAttemptAt: number;
  readonly certificateId: string | undefined;
  readonly createdAt: number;
  readonly leaseUntil: number;
  readonly document: OrderDocument;
}

/** Names in any order are the same names. */
export const subjectOf = (names: readonly string[]): string => [...names].sort().join(' ');
export const namesOf = (subject: string): string[] => subject.split(' ');

type Row = Tables['certificate_orders'];

export class OrderRows {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #reported = new Set<string>();

  constructor({ clock, log }: { clock: Clock; log: Log }) {
    this.#clock = clock;
    this.#log = log;
  }

  read(rows: readonly Row[]): StoredOrder[] {
    return rows.flatMap((row) => {
      try {
        return storedOf(row);
      } catch (cause) {
        this.#report(row.id, cause);
        return [];
      }
    });
  }

  #report(id: string, cause: unknown): void {
    if (this.#reported.has(id)) return;
    this.#reported.add(id);
    const message = `order ${id} can't be read and is left alone: ${messageOf(cause)}`;
    const time = this.#clock.now();
    this.#log.write({ time, kind: 'tls', level: 'error', component: 'certificates', message });
  }
}

export function withEvent(events: readonly OrderEvent[], event: OrderEvent): OrderEvent[] {
  const all = [
    ...events,
    { ...event, ...(event.ca_words && { ca_words: event.ca_words.slice(0, MAX_CA_WORDS) }) },
  ];
  if (all.length <= MAX_EVENTS) return all;
  return [...all.slice(0, FIRST_EVENTS), ...all.slice(FIRST_EVENTS - MAX_EVENTS)];
}

const storedOf = (row: Tables['certificate_orders']): StoredOrder => ({
  id: row.id,
  state: orderStateSchema.parse(row.state),
  urgency: row.urgency,
  nextAttemptAt: row.next_attempt_at,
  certificateId: row.certificate_id ?? undefined,
  createdAt: row.created_at,
  leaseUntil: row.lease_until,
  document: orderDocumentSchema.parse(JSON.parse(row.document)),
});
