/**
 * Ports: what the parts tell while they work, so that it can be counted. `src/metrics` counts; nobody else knows how. Each
 * call is on somebody's hot path: it takes what is there already, returns at once and never throws.
 */

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

export interface Served {
  readonly proxy: { readonly id: string; readonly hostname: string };
  readonly route: { readonly id: string } | undefined;
}

export interface RequestMeter {
  /** Once for each request. */
  ended(request: EndedRequest, durationMs: number, bytesIn: number): void;
}

export const noRequestMeter: RequestMeter = { ended: () => undefined };
