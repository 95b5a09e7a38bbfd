/**
 * Calls of a tool that one caller may make each minute. Each costs its part of a minute in one limiter for all, whose
 * budget is the milliseconds of a minute: rules may have any number without a limiter of their own.
 */
import { MINUTE } from '../../core/clock.ts';
import { rateKey } from '../client-address.ts';
import type { Transit } from '../transit.ts';

export interface RatedCall {
  readonly name: string;
  readonly callsPerMinute: number | undefined;
}

/** Counts all of them, or none: then milliseconds until they would be within their limits. */
export function chargeCalls(transit: Transit, calls: readonly RatedCall[]): number {
  const { toolMilliseconds } = transit.core.rates;
  const costs = new Map<string, number>();
  for (const { name, callsPerMinute } of calls) {
    if (callsPerMinute === undefined) continue;
    const key = keyOf(transit, name);
    costs.set(key, (costs.get(key) ?? 0) + Math.floor(MINUTE / callsPerMinute));
  }
  const wait = Math.max(0, ...[...costs].map(([key, cost]) => toolMilliseconds.wait(key, cost)));
  if (wait === 0) for (const [key, cost] of costs) toolMilliseconds.take(key, cost);
  return wait;
}

/** A user is one caller by whatever client, or else a new client would be a new budget. */
function keyOf({ principal, match, clientAddress }: Transit, tool: string): string {
  const who =
    principal.kind === 'anonymous' ? rateKey(clientAddress) : (principal.oauth?.userId ?? principal.id);
  return JSON.stringify([match?.route?.id ?? match?.proxy.id, who, tool]);
}
