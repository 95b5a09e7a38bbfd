import { traceFor } from '../trace.ts';
import type { Transit } from '../transit.ts';

export const TRACE_FIELD = 'x-trace-id';

/** The same id is in the access record, the audit record, the error page and the request to the upstream. */
export function assignTrace(transit: Transit): boolean {
  const { traceparent } = transit.headers;
  transit.traceId = traceFor(typeof traceparent === 'string' ? traceparent : undefined);
  return false;
}

/** For what no upstream answers, whichever step or handler does. Refusals say it themselves. */
export function tellTrace(transit: Transit): boolean {
  transit.response.setHeader(TRACE_FIELD, transit.traceId);
  return false;
}
