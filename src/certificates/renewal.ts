/**
 * When a certificate is renewed, and when what failed is tried again. Pure: the same question has the same answer, and
 * what looks like chance comes from a seed.
 */
import { hash } from 'node:crypto';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import type { Consequence } from './acme/fault.ts';

/** Without ARI: this part of the life is over. */
const RENEWED_AFTER = 2 / 3;
/** And up to this part of it sooner, so that certificates of one day do not come back in one minute. */
const JITTER = 1 / 20;
/** Whatever the CA suggests: not later than with this part of the life left. */
const LATEST_LEFT = 1 / 10;

export interface Life {
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What the CA suggests. @see {@link https://www.rfc-editor.org/rfc/rfc9773#section-4.2 | RFC 9773 §4.2} */
export interface Window {
  readonly start: number;
  readonly end: number;
}

/** Milliseconds since 1970, between the beginning and the end of its life unless the CA wants it at once. */
export function renewalTime({ notBefore, notAfter }: Life, window: Window | undefined, seed: string): number {
  const life = Math.max(0, notAfter - notBefore);
  const latest = notAfter - life * LATEST_LEFT;
  // A moment of the window by chance: RFC 9773 §4.2, so that all of a CA's subscribers do not come at once.
  if (window) return Math.min(window.start + chance(seed) * (window.end - window.start), latest);
  return notBefore + life * (RENEWED_AFTER - JITTER * chance(seed));
}

/** Whatever a CA suggests, and whatever our clock was: one that came less than so long ago is not replaced by itself. */
const KEPT_MS = HOUR;
const KEPT_PART = 1 / 10;

/** `createdAt`: when it came here. */
export function isFresh(
  { notBefore, notAfter, createdAt }: Life & { createdAt: number },
  now: number,
): boolean {
  const keptMs = Math.min(KEPT_MS, (notAfter - notBefore) * KEPT_PART);
  return createdAt <= now && now - createdAt < keptMs;
}

const HEX_DIGITS = 12;

/** From 0 to below 1, the same for the same seed. */
export function chance(seed: string): number {
  return Number.parseInt(hash('sha256', seed, 'hex').slice(0, HEX_DIGITS), 16) / 16 ** HEX_DIGITS;
}

interface Wait {
  readonly firstMs: number;
  readonly mostMs: number;
}

/** `order`: with four failures in the first hours no CA's limit of validations is met. */
const WAITS: Readonly<Record<Consequence, Wait>> = {
  network: { firstMs: MINUTE, mostMs: HOUR },
  retry_later: { firstMs: 2 * MINUTE, mostMs: 6 * HOUR },
  order: { firstMs: 15 * MINUTE, mostMs: 12 * HOUR },
  account: { firstMs: HOUR, mostMs: DAY },
  person: { firstMs: HOUR, mostMs: DAY },
};
/** Of the time that the certificate in use has left, at most this part is waited; never less than the first wait. */
const SHARE_OF_REST = 1 / 8;
const WAIT_JITTER = 1 / 4;
const MAX_DOUBLINGS = 20;

export interface Failure {
  readonly consequence: Consequence;
  /** As the CA said; it wins over every wait of ours. */
  readonly retryAfterMs: number | undefined;
  /** In a row, this one included. */
  readonly failures: number;
  /** How long what is served now is valid; undefined: nothing of a CA is served. */
  readonly restMs: number | undefined;
  readonly seed: string;
}

/** How long nothing is tried. */
export function waitAfter({ consequence, retryAfterMs = 0, failures, restMs, seed }: Failure): number {
  const { firstMs, mostMs } = WAITS[consequence];
  const doubled = firstMs * 2 ** Math.min(Math.max(0, failures - 1), MAX_DOUBLINGS);
  const rest = restMs === undefined ? Infinity : Math.max(firstMs, restMs * SHARE_OF_REST);
  const wait = Math.min(doubled, mostMs, rest) * (1 + WAIT_JITTER * chance(`${seed} ${failures}`));
  return Math.ceil(Math.max(wait, retryAfterMs));
}

/** After so many failures in a row at one CA the next one is asked. */
const TRIES_PER_ISSUER: Readonly<Record<Consequence, number>> = {
  network: 4,
  retry_later: 4,
  order: 2,
  account: 1,
  person: 1,
};
/** A CA that wants to be left alone for longer is not waited for while there is another one. */
const LONG_MS = HOUR;

/** Whether the next CA in order of preference is asked instead. `failures`: at this one, in a row. */
export function isGivenUp(
  { consequence, retryAfterMs = 0 }: Pick<Failure, 'consequence' | 'retryAfterMs'>,
  failures: number,
): boolean {
  return failures >= TRIES_PER_ISSUER[consequence] || retryAfterMs > LONG_MS;
}
