/** A fault of ours, for the log: whoever made the request learns the trace id and nothing else. */
import { messageOf } from '../core/errors.ts';
import type { GatewayCore } from './core.ts';

export function recordFault(
  { log, clock }: Pick<GatewayCore, 'log' | 'clock'>,
  what: string,
  cause: unknown,
  traceId?: string,
): void {
  log.write({
    time: clock.now(),
    kind: 'system',
    level: 'error',
    component: 'gateway',
    message: `${what}: ${messageOf(cause)}`,
    trace_id: traceId,
    detail: { cause: cause instanceof Error ? cause.stack : undefined },
  });
}
