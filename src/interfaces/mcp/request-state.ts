/**
 * The receipt of a confirmation that is being asked for, held by the client between two requests of the modern era.
 * It comes back as hostile text: signed, bound to principal, operation and exact arguments, short-lived, used once.
 * It is not encrypted and holds nothing secret.
 *
 * Used receipts are remembered in this process until they expire, and receipts from before its start are refused, so
 * that a restart can't make one usable again; the person is then asked once more.
 *
 * @see MCP 2026-07-28, Multi Round-Trip Requests, Security
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { ANSWER_MS } from './settings.ts';

export interface Receipt {
  readonly principalId: string;
  readonly operation: string;
  readonly inputDigest: string;
}

export interface RequestStates {
  issue(receipt: Receipt): string;
  /** The receipt, if the text is one of ours for this principal, still valid and not used. */
  read(state: string, principalId: string): (Receipt & { use(): void }) | undefined;
}

const VERSION = 'v1';
const MAX_CHARACTERS = 1024;
const NONCE_BYTES = 12;

interface Payload {
  p: string;
  o: string;
  d: string;
  /** Issued at. */
  t: number;
  n: string;
}

export function createRequestStates(secret: Buffer, clock: Clock): RequestStates {
  const startedAt = clock.now();
  const used = new Map<string, number>();

  const sign = (text: string): Buffer => createHmac('sha256', secret).update(text).digest();

  function open(state: string): Payload | undefined {
    const [version, body, mac, ...rest] = state.split('.');
    if (state.length > MAX_CHARACTERS || version !== VERSION || !body || !mac || rest.length > 0)
      return undefined;
    const given = Buffer.from(mac, 'base64url');
    const expected = sign(`${VERSION}.${body}`);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    // The signature says that this process, or one with its key, wrote it in this shape.
    return JSON.parse(Buffer.from(body, 'base64url').toString('utf8')) as Payload;
  }

  function use(nonce: string, now: number): void {
    for (const [old, expires] of used) if (expires <= now) used.delete(old);
    used.set(nonce, now + ANSWER_MS);
  }

  return {
    issue({ principalId, operation, inputDigest }) {
      const payload: Payload = {
        p: principalId,
        o: operation,
        d: inputDigest,
        t: clock.now(),
        n: randomBytes(NONCE_BYTES).toString('base64url'),
      };
      const body = `${VERSION}.${Buffer.from(JSON.stringify(payload)).toString('base64url')}`;
      return `${body}.${sign(body).toString('base64url')}`;
    },
    read(state, principalId) {
      const payload = open(state);
      const now = clock.now();
      if (!payload || payload.p !== principalId || used.has(payload.n)) return undefined;
      if (payload.t < startedAt || payload.t + ANSWER_MS <= now) return undefined;
      return {
        principalId,
        operation: payload.o,
        inputDigest: payload.d,
        use: () => use(payload.n, now),
      };
    },
  };
}
