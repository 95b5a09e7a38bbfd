/**
 * The end of an order that somebody asked for by hand and does not want any more. What the CA may have signed already is
 * not thrown away: where it could be so, the CA is asked first, also after a restart, and then the certificate is kept.
 */
import { AppError } from '../core/errors.ts';
import type { StoredOrder } from './order-rows.ts';
import type { Orders } from './orders.ts';

const CANCELLED = { kind: 'ended', text: 'somebody cancelled it' } as const;

export const hasEnded = ({ state }: StoredOrder): boolean => state === 'issued' || state === 'abandoned';

/** Somebody ends the order: that its work stops is no failure. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';
}

/** What else fails after that is one. */
export const isCancelled = (cause: unknown): boolean =>
  cause instanceof Cancelled || (cause instanceof Error && cause.cause instanceof Cancelled);

/** Nobody here works on it. As it stands then. @throws AppError CONFLICT while another process works on it */
export async function cancelOrder(orders: Orders, id: string, now: number): Promise<StoredOrder | undefined> {
  const isClaimed = await orders.claim(id);
  try {
    const order = await orders.get(id);
    if (!order || hasEnded(order)) return order;
    if (!isClaimed) throw new AppError('CONFLICT', `${id} is worked on by another process; ask again soon`);
    return await cancelClaimed(orders, order, now);
  } catch (cause) {
    // Or nobody could work on it until the lease is over.
    if (isClaimed) await orders.release(id);
    throw cause;
  }
}

async function cancelClaimed(orders: Orders, order: StoredOrder, now: number): Promise<StoredOrder> {
  if (order.document.cancelled) {
    await orders.release(order.id);
    return order;
  }
  if (order.document.order_url === undefined) return endCancelled(orders, order);
  return orders.step(order, {
    document: { cancelled: true },
    nextAttemptAt: Math.max(now, order.document.not_before ?? 0),
    isLast: true,
    event: { kind: 'asked', text: 'somebody cancelled it: the CA is asked whether it has signed already' },
  });
}

/** Of an order that the CA has not been asked to sign for. */
export const endCancelled = (orders: Orders, order: StoredOrder): Promise<StoredOrder> =>
  orders.step(order, { state: 'abandoned', event: CANCELLED });
