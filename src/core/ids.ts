import { randomBytes } from 'node:crypto';

/** An id says what it names. Ids carry no authority: knowing one opens nothing. */
export type IdPrefix = 'prx' | 'rte' | 'crt' | 'tok' | 'ses' | 'str' | 'ath';

const ID_BYTES = 12;

export function newId(prefix: IdPrefix): string {
  return `${prefix}_${randomBytes(ID_BYTES).toString('hex')}`;
}

const TRACE_ID_BYTES = 16;

/** @see {@link https://www.w3.org/TR/trace-context/#trace-id | W3C Trace Context §3.2.2.3} */
export const newTraceId = (): string => randomBytes(TRACE_ID_BYTES).toString('hex');

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?$/;
const ZERO = /^0+$/;

/** The trace id of a `traceparent` header, or undefined when it is absent or not valid. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  const match = traceparent === undefined ? null : TRACEPARENT.exec(traceparent);
  const [, traceId, parentId] = match ?? [];
  return traceId === undefined || parentId === undefined || ZERO.test(traceId) || ZERO.test(parentId)
    ? undefined
    : traceId;
}
