/** Which of several targets gets a request. Pure but for the credits that it keeps in the slots; allocates nothing. */

export interface Standing {
  /** Requests that it has, tunnels and streams included. */
  readonly open: number;
  /** Until when it gets nothing, in milliseconds since 1970; 0: it is in. */
  readonly outUntil: number;
  /** Health checks say so: it gets nothing, whoever else is out. */
  readonly isSick: boolean;
  /** A request that decides whether it comes back is under way. */
  readonly isOnTrial: boolean;
}

export interface Slot {
  readonly endpoint: Standing;
  readonly weight: number;
  readonly isDrained: boolean;
  /** Of the smooth weighted round-robin (as in nginx): what it is owed. */
  credit: number;
}

export const NONE = -1;

/**
 * @param tried one bit for each slot that is not to get it again
 * @returns the place of the slot; `NONE` when none may get it
 *
 * One whose time out is over counts as the others do, for one request at a time. When nobody else is left, those that
 * are out are asked before their time, one request at a time too: the site is back with the first answer.
 */
export function choose(slots: readonly Slot[], isLeast: boolean, tried: number, now: number): number {
  const found = pick(slots, isLeast, tried, now);
  return found === NONE ? pick(slots, isLeast, tried, Number.POSITIVE_INFINITY) : found;
}

function pick(slots: readonly Slot[], isLeast: boolean, tried: number, now: number): number {
  let best: Slot | undefined;
  let at = NONE;
  let total = 0;
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i];
    if (!slot || (tried & (1 << i)) !== 0 || !isAvailable(slot, now)) continue;
    slot.credit += slot.weight;
    total += slot.weight;
    if (best && !isBetter(slot, best, isLeast)) continue;
    best = slot;
    at = i;
  }
  if (best) best.credit -= total;
  return at;
}

const isAvailable = ({ isDrained, endpoint }: Slot, now: number): boolean =>
  !isDrained && isIn(endpoint, now);

/** Whether it gets requests, if only the one that decides. What began there goes on while it is drained. */
export function isIn({ isSick, outUntil, isOnTrial }: Standing, now: number): boolean {
  return !isSick && (outUntil === 0 || (now >= outUntil && !isOnTrial));
}

/** The least connections are counted by weight; among equals, and in turn, whoever is owed more. */
function isBetter(slot: Slot, than: Slot, isLeast: boolean): boolean {
  const difference = isLeast ? slot.endpoint.open * than.weight - than.endpoint.open * slot.weight : 0;
  return difference === 0 ? slot.credit > than.credit : difference < 0;
}
