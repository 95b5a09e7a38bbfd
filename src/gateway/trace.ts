/**
 * W3C trace context: a valid trace id is kept from anyone (it carries no authority), a new span goes to the upstream.
 * @see {@link https://www.w3.org/TR/trace-context/ | W3C Trace Context}
 */
import { randomFillSync } from 'node:crypto';
import { traceIdOf } from '../core/ids.ts';

const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
const POOL_BYTES = 4096;
/** We keep a record of every request, which is what the flag says. */
const SAMPLED = '01';

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

/** The trace id of the client's `traceparent`, or a new one. */
export function traceFor(traceparent: string | undefined): string {
  return (traceparent === undefined ? undefined : traceIdOf(traceparent)) ?? randomHex(TRACE_ID_BYTES);
}

/** For the request to the upstream. The flags of a valid `traceparent` are kept. */
export function nextTraceparent(traceId: string, incoming: string | undefined): string {
  const flags = incoming !== undefined && traceIdOf(incoming) === traceId ? incoming.slice(53, 55) : SAMPLED;
  return `00-${traceId}-${randomHex(SPAN_ID_BYTES)}-${flags}`;
}
