/**
 * Devices that ask too often whether their person has agreed are told to slow down, each time for longer.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8628#section-3.5 | RFC 8628 §3.5}
 */
import { createHash } from 'node:crypto';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';

/** The client's own, where the answer that it began with names none. */
const INTERVAL_MS = 5 * SECOND;
const STEP_MS = 5 * SECOND;
/** Clocks and networks are not exact. */
const SLACK_MS = SECOND;
const MAX_INTERVAL_MS = MINUTE;
const MAX_CODES = 10_000;

interface Poll {
  readonly at: number;
  readonly interval: number;
}

export class DevicePolls {
  readonly #clock: Clock;
  readonly #polls = new Map<string, Poll>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether this one came too soon after the one before. */
  isTooSoon(deviceCode: string): boolean {
    const now = this.#clock.now();
    const key = createHash('sha256').update(deviceCode).digest('base64url');
    const last = this.#polls.get(key);
    const isTooSoon = last !== undefined && now - last.at < last.interval - SLACK_MS;
    const interval = (last?.interval ?? INTERVAL_MS) + (isTooSoon ? STEP_MS : 0);
    this.#polls.delete(key);
    this.#polls.set(key, { at: now, interval: Math.min(interval, MAX_INTERVAL_MS) });
    this.#makeRoom();
    return isTooSoon;
  }

  /** The one that asked longest ago goes: it is done, or has given up. */
  #makeRoom(): void {
    const [oldest] = this.#polls.keys();
    if (this.#polls.size > MAX_CODES && oldest !== undefined) this.#polls.delete(oldest);
  }
}
