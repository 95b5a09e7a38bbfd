/**
 * Which trace a request belongs to, and its spans: one for the request, one for each try at an upstream. A valid trace
 * id is kept from anyone (it carries no authority). The span that the upstream is told of is one that somebody records:
 * ours where we record, else the client's. Where nobody takes spans this costs one look.
 * @see {@link https://www.w3.org/TR/trace-context/ | W3C Trace Context}
 */
import { newSpanId, newTraceId } from '../core/ids.ts';
import { OpenSpan, type SpanParent } from '../core/spans.ts';
import { readTraceContext, type TraceContext, traceparentOf } from '../core/trace-context.ts';
import type { Plan } from './snapshot.ts';
import { attemptFacts, requestFacts, urlOf } from './span-facts.ts';
import type { Transit } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';

type Facts = Pick<Transit, 'core' | 'traceId' | 'caller' | 'attempt'>;

export const TRACE_FIELD = 'x-trace-id';

const SAMPLED = '01';
const NOT_SAMPLED = '00';

/** By the fields of its head. */
export function joinTrace(transit: Transit): void {
  const { traceparent, tracestate } = transit.headers;
  join(transit, readTraceContext(traceparent, tracestate));
}

function join(transit: Transit, caller: TraceContext | undefined): void {
  const { spans } = transit.core;
  const traceId = caller?.traceId ?? newTraceId();
  transit.caller = caller;
  transit.traceId = traceId;
  transit.span = undefined;
  if (spans?.samples(traceId, caller))
    transit.span = OpenSpan.begin(spans, { traceId, caller, now: transit.core.clock.now() });
}

/**
 * A message of MCP says in `_meta` where it stands. It counts for the whole request where the head says nothing;
 * otherwise the request stays in the trace of the head, what the message does goes into that of the message, and the
 * records, of which there is one trace id, are of the message too: whoever sent it knows no other.
 * @see MCP 2026-07-28, `_meta` (SEP-414), and OpenTelemetry's conventions for MCP, Context propagation
 */
export function joinMessage(transit: Transit, caller: TraceContext): void {
  const { response } = transit;
  if (transit.caller) continueIn(transit, transit.caller, caller);
  else if (transit.span) move(transit, transit.span, caller);
  else join(transit, caller);
  if (!response.headersSent && transit.kind === 'mcp') response.setHeader(TRACE_FIELD, transit.traceId);
}

function continueIn(transit: Transit, ofHead: TraceContext, caller: TraceContext): void {
  const { span, core } = transit;
  const { spans, clock } = core;
  const { traceId } = caller;
  transit.traceId = traceId;
  if (traceId !== ofHead.traceId) transit.notes = { ...transit.notes, http_trace_id: ofHead.traceId };
  transit.message = { parent: undefined };
  if (!spans?.samples(traceId, caller)) return;
  const child = () => span?.childOf(caller) ?? OpenSpan.begin(spans, { traceId, caller, now: clock.now() });
  transit.message = { parent: { child } };
}

function move(transit: Transit, span: OpenSpan, caller: TraceContext): void {
  transit.caller = caller;
  transit.traceId = caller.traceId;
  transit.span = transit.core.spans?.samples(caller.traceId, caller) ? span.movedTo(caller) : undefined;
}

/** What is done for the request becomes its children. */
export const parentIn = ({ message, span }: Transit): SpanParent | undefined =>
  message ? message.parent : span;

/** One try at an upstream begins. */
export function beginAttempt(transit: Transit, plan: Plan): void {
  const { span, capture } = transit;
  transit.target = plan.match.targetUrl;
  capture?.tried(urlOf(transit, plan));
  if (!span) return;
  endAttempt(transit);
  transit.attempt = { span: span.child(), plan, before: transit.attempts++ };
  transit.upstreamStatus = 0;
}

/** It is over, by `error` or well. What ended already stays as it is. */
export function endAttempt(transit: Transit, error?: Error): void {
  const { attempt, capture } = transit;
  if (capture && error) capture.failed(refusalOf(error).reason ?? error.name);
  if (!attempt) return;
  transit.attempt = undefined;
  attempt.span.end(attemptFacts(transit, attempt, error));
}

/** The request is over. */
export function endTrace(transit: Transit): void {
  if (!transit.span) return;
  endAttempt(transit);
  transit.span.end(requestFacts(transit));
}

/** For the request to the upstream. */
export function nextTraceparent({ core, traceId, caller, attempt }: Facts): string {
  if (attempt) return traceparentOf(attempt.span.traceId, attempt.span.spanId, SAMPLED);
  if (caller) return traceparentOf(caller.traceId, caller.parentId, caller.flags);
  // We keep a record of every request, which is what the flag says where nobody samples.
  return traceparentOf(traceId, newSpanId(), core.spans ? NOT_SAMPLED : SAMPLED);
}
