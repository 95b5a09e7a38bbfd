/** One audit record for every `tools/call`, whether it was let through or not, and the span that tells the same. */
import type { ErrorCode } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import type { OpenSpan, SpanFacts } from '../../core/spans.ts';
import type { Transit } from '../transit.ts';
import { parentIn } from '../trace.ts';
import type { ToolCall } from './messages.ts';
import { shownArguments } from './shown-arguments.ts';

const MAX_NAME = 128;

export interface CallOutcome {
  readonly outcome: ErrorCode | 'OK';
  /** What was decided, or what the target said. */
  readonly result: string;
}

/** `span`: of a call that went on; of another one it begins and ends here. */
type RecordedCall = ToolCall & { readonly span?: OpenSpan | undefined };

/** Never the credential. The digest is keyed: of a short secret a plain one would give it away. */
export function recordCall(transit: Transit, call: RecordedCall, { outcome, result }: CallOutcome): void {
  const { core, principal, hostname, startedAt, match } = transit;
  const time = core.clock.now();
  const tool = cleanText(call.name, MAX_NAME);
  if (match) core.meter.toolCalled(match, { tool, outcome, durationMs: time - startedAt });
  const span = call.span ?? parentIn(transit)?.child();
  span?.end(callFacts(transit, tool, outcome));
  core.log.write({
    time,
    kind: 'audit',
    level: outcome === 'OK' ? 'info' : 'warn',
    component: 'audit',
    message: `${principal.name} ${tool} at ${hostname}: ${outcome}`,
    trace_id: transit.traceId,
    span_id: span?.spanId,
    hostname,
    duration_ms: time - startedAt,
    client_address: transit.clientAddress,
    principal: principal.id,
    operation: 'tools/call',
    outcome,
    detail: {
      tool,
      client: principal.oauth?.clientId,
      user: principal.oauth?.userId,
      proxy: match?.proxy.id,
      route: match?.route?.id,
      result,
      arguments: shownArguments(call.arguments),
      arguments_digest: core.protection.mark(JSON.stringify(['mcp arguments', call.arguments])),
    },
  });
}

/** @see {@link https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/ | OpenTelemetry, conventions for MCP} */
const callFacts = (
  { match, principal }: Transit,
  tool: string,
  outcome: CallOutcome['outcome'],
): SpanFacts => ({
  name: `tools/call ${tool}`,
  kind: 'internal',
  isError: outcome !== 'OK',
  attributes: {
    'mcp.method.name': 'tools/call',
    'gen_ai.operation.name': 'execute_tool',
    'gen_ai.tool.name': tool,
    'user.id': principal.id,
    'error.type': outcome === 'OK' ? undefined : outcome,
    'ohp.proxy': match?.proxy.id,
    'ohp.outcome': outcome,
  },
});
