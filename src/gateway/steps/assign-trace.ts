import { joinTrace, TRACE_FIELD } from '../trace.ts';
import type { Transit } from '../transit.ts';

/** The same id is in the access record, the audit record, the error page and the request to the upstream. */
export function assignTrace(transit: Transit): boolean {
  joinTrace(transit);
  return false;
}

/** For what no upstream answers, whichever step or handler does. Refusals say it themselves. */
export function tellTrace(transit: Transit): boolean {
  transit.response.setHeader(TRACE_FIELD, transit.traceId);
  return false;
}
