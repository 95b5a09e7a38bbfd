/** One audit record for every `tools/call`, whether it was let through or not. */
import type { ErrorCode } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import type { Transit } from '../transit.ts';
import type { ToolCall } from './messages.ts';
import { shownArguments } from './shown-arguments.ts';

const MAX_NAME = 128;

export interface CallOutcome {
  readonly outcome: ErrorCode | 'OK';
  /** What was decided, or what the target said. */
  readonly result: string;
}

/** Never the credential. The digest is keyed: of a short secret a plain one would give it away. */
export function recordCall(transit: Transit, call: ToolCall, { outcome, result }: CallOutcome): void {
  const { core, principal, hostname, startedAt, match } = transit;
  const time = core.clock.now();
  const tool = cleanText(call.name, MAX_NAME);
  if (match) core.meter.toolCalled(match, { tool, outcome, durationMs: time - startedAt });
  core.log.write({
    time,
    kind: 'audit',
    level: outcome === 'OK' ? 'info' : 'warn',
    component: 'audit',
    message: `${principal.name} ${tool} at ${hostname}: ${outcome}`,
    trace_id: transit.traceId,
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
