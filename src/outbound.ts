/**
 * Asks services that a setting names: receivers of alerts and of telemetry, the rule of certificates on demand, APIs of DNS providers.
 * Never at an address where nobody has a service (`core/dial.ts`), and no redirect is followed. Made by `app.ts`.
 */
import type { LookupFunction } from 'node:net';
import { Agent, fetch as send, type RequestInit } from 'undici';
import { AddressRefused, lookupDialable, urlFault } from './core/dial.ts';
import { SECOND } from './core/clock.ts';

/** Callers have shorter times of their own. */
const CONNECT_MS = 30 * SECOND;

export type OutboundFetch = typeof globalThis.fetch & AsyncDisposable;

export interface OutboundOptions {
  /** Which addresses of a name are connected to; absent: all that may be. */
  readonly lookup?: LookupFunction;
  /** PEM of authorities, in the place of those of the system. */
  readonly ca?: string | undefined;
}

export function createOutbound({ lookup = lookupDialable, ca }: OutboundOptions = {}): OutboundFetch {
  const agent = new Agent({ connect: { lookup, timeout: CONNECT_MS, ...(ca !== undefined && { ca }) } });
  const outbound = async (
    input: string | URL | Request,
    init?: globalThis.RequestInit,
  ): Promise<Response> => {
    // Its method, headers and body would be lost: it is of another `fetch` than the one that sends.
    if (input instanceof Request)
      throw new TypeError('a Request is not taken: give its URL and what is asked');
    const url = new URL(input);
    const fault = urlFault(url);
    if (fault !== undefined) throw new AddressRefused(fault);
    // The types of Node's own undici and of the package are the same in all that is used here.
    const options = { ...init, dispatcher: agent, redirect: 'manual' } as unknown as RequestInit;
    try {
      return (await send(url, options)) as unknown as Response;
    } catch (failed) {
      // `fetch` says no more than that it failed.
      throw failed instanceof Error && failed.cause instanceof AddressRefused ? failed.cause : failed;
    }
  };
  return Object.assign(outbound, { [Symbol.asyncDispose]: () => agent.destroy() });
}
