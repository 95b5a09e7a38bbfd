import { traceFor } from '../trace.ts';
import type { Transit } from '../transit.ts';

/** The same id is in the access record, the audit record, the error page and the request to the upstream. */
export function assignTrace(transit: Transit): boolean {
  const { traceparent } = transit.headers;
  transit.traceId = traceFor(typeof traceparent === 'string' ? traceparent : undefined);
  return false;
}
