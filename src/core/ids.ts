import { randomBytes, randomFillSync } from 'node:crypto';

/** An id says what it names. Ids carry no authority: knowing one opens nothing. */
export type IdPrefix =
  | 'prx'
  | 'rte'
  | 'crt'
  | 'svc'
  | 'pub'
  | 'lbl'
  | 'ord'
  | 'alr'
  | 'alt'
  | 'tsk'
  | 'tok'
  | 'ses'
  | 'str'
  | 'ath'
  | 'key'
  | 'usr'
  | 'pky'
  | 'cli'
  | 'dcr'
  | 'cap';

const ID_BYTES = 12;

export function newId(prefix: IdPrefix): string {
  return `${prefix}_${randomBytes(ID_BYTES).toString('hex')}`;
}

const TRACE_RANDOM_BYTES = 12;
const SPAN_ID_BYTES = 8;
const POOL_BYTES = 4096;
const MS_PER_SECOND = 1000;
const EPOCH_HEX_DIGITS = 8;

/** Random bytes are asked for by the page: one call for each id would cost more than the rest of the trace. */
const pool = Buffer.allocUnsafe(POOL_BYTES);
let used = POOL_BYTES;

function randomHex(bytes: number): string {
  if (used + bytes > POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString('hex', used - bytes, used);
}

/**
 * Begins with the second it was made in, so that the log's index of trace ids grows at its end; the rest is random.
 *
 * @see {@link https://www.w3.org/TR/trace-context/#trace-id | W3C Trace Context §3.2.2.3}
 */
export function newTraceId(): string {
  const second = Math.floor(Date.now() / MS_PER_SECOND);
  return second.toString(16).padStart(EPOCH_HEX_DIGITS, '0') + randomHex(TRACE_RANDOM_BYTES);
}

/** @see {@link https://www.w3.org/TR/trace-context/#parent-id | W3C Trace Context §3.2.2.4} */
export const newSpanId = (): string => randomHex(SPAN_ID_BYTES);
