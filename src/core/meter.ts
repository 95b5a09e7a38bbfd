/**
 * Ports: what the parts tell while they work, so that it can be counted. `src/metrics` counts; nobody else knows how. Each
 * call may be on a hot path: it takes what is there already, returns at once and never throws.
 */

import type { Told } from './exchange.ts';

/** A request that is over, as the gateway knows it. */
export interface EndedRequest {
  /** What it turned out to be; undefined: it was refused before that was known. */
  readonly kind: string | undefined;
  /** What served it. The same object for the same proxy and route until one of them changes. */
  readonly match: Served | undefined;
  /** Canonical; empty where there is none. A stranger may have made it up. */
  readonly hostname: string;
  readonly method: string;
  /** 0: nothing was answered. */
  readonly status: number;
  /** `OK` or an error code. */
  readonly outcome: string;
  readonly bytesOut: number;
  readonly traceId: string;
  /** A tunnel, or a stream that only somebody ends: how long it was says nothing of whoever answered. */
  readonly isEndless: boolean;
}

export interface EndedFacts {
  /** Milliseconds since 1970. */
  readonly endedAt: number;
  readonly durationMs: number;
  readonly bytesIn: number;
  /** By the surface that it was for, where that has records of its own. */
  readonly told: Told | undefined;
}

export interface Served {
  readonly proxy: { readonly id: string; readonly hostname: string };
  readonly route: { readonly id: string } | undefined;
}

export interface GatewayMeter {
  /** Once for each request. */
  ended(request: EndedRequest, more: EndedFacts): void;
  /** Of a request to an MCP server of a proxy: `tool` is as the caller wrote it, printable. */
  toolCalled(served: Served, call: { tool: string; outcome: string; durationMs: number }): void;
  /** `protocol`: as OpenSSL names it. */
  shookHands(protocol: string, isResumed: boolean): void;
  /** `code`: of the error, in the words of Node and OpenSSL. */
  handshakeFailed(code: string): void;
}

export interface OperationMeter {
  /** Names and surfaces are of the program; the outcome is `OK` or an error code. */
  operated(call: { operation: string; surface: string; outcome: string; durationMs: number }): void;
}

export interface StoreMeter {
  /** Waited for the changes before it, and then took so long. */
  changed(isKept: boolean, waitedMs: number, tookMs: number): void;
}

export interface OAuthMeter {
  /** Tokens were given for a grant of this type. */
  granted(grantType: string): void;
  /** `code`: of OAuth, such as `invalid_grant`. */
  refused(endpoint: string, code: string): void;
}

export interface Meter extends GatewayMeter, OperationMeter, StoreMeter, OAuthMeter {}

const nothing = () => undefined;

export const noMeter: Meter = {
  ended: nothing,
  toolCalled: nothing,
  shookHands: nothing,
  handshakeFailed: nothing,
  operated: nothing,
  changed: nothing,
  granted: nothing,
  refused: nothing,
};
