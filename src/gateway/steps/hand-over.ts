/** Gives a request to the control plane, and answers for it when that fails. */
import type { Exchange, ExchangeHandler } from '../../core/exchange.ts';
import { messageOf } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import { GatewayExchange } from '../exchange.ts';
import { recordFault } from '../fault-record.ts';
import type { Transit } from '../transit.ts';

export const handToControl = (transit: Transit): boolean => handOver(transit, transit.core.handlers.control);
export const handToMcp = (transit: Transit): boolean => handOver(transit, transit.core.handlers.mcp);
export const handToSites = (transit: Transit): boolean => handOver(transit, transit.core.handlers.sites);
export const handToOAuth = (transit: Transit): boolean => handOver(transit, transit.core.handlers.oauth);

function handOver(transit: Transit, handler: ExchangeHandler): true {
  if (transit.upgrade)
    return transit.refuse({
      status: 501,
      code: 'INVALID_INPUT',
      message: 'Nothing to upgrade to is served here.',
    });
  const exchange = new GatewayExchange(transit);
  transit.activity = exchange;
  call(handler, exchange, transit.principal).catch((cause: unknown) => failed(transit, cause));
  return true;
}

/** A handler that throws before its first await ends in the same place. */
async function call(handler: ExchangeHandler, exchange: Exchange, principal: Principal): Promise<void> {
  await handler(exchange, principal);
}

function failed(transit: Transit, cause: unknown): void {
  recordFault(transit.core, 'the handler failed', cause, transit.traceId);
  transit.refuse({
    status: 500,
    code: 'INTERNAL',
    message: 'Internal error. The trace id finds it in the log.',
    reason: `the handler failed: ${messageOf(cause)}`,
  });
}
