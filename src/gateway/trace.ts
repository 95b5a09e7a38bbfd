/**
 * W3C trace context: a valid trace id is kept from anyone (it carries no authority), a new span goes to the upstream.
 * @see {@link https://www.w3.org/TR/trace-context/ | W3C Trace Context}
 */
import { newSpanId, newTraceId, traceIdOf } from '../core/ids.ts';

/** We keep a record of every request, which is what the flag says. */
const SAMPLED = '01';

/** The trace id of the client's `traceparent`, or a new one. */
export function traceFor(traceparent: string | undefined): string {
  return (traceparent === undefined ? undefined : traceIdOf(traceparent)) ?? newTraceId();
}

/** For the request to the upstream. The flags of a valid `traceparent` are kept. */
export function nextTraceparent(traceId: string, incoming: string | undefined): string {
  const flags = incoming !== undefined && traceIdOf(incoming) === traceId ? incoming.slice(53, 55) : SAMPLED;
  return `00-${traceId}-${newSpanId()}-${flags}`;
}
