/**
 * Port: what the gateway tells of requests while somebody captures them (`src/captures`). Each call is on the path of a
 * request: it takes what is there, returns at once and never throws. What is told is as it came; whoever keeps it makes
 * it fit to be shown first.
 */
export interface CaptureTap {
  /** False: nobody captures anything, which is all that a request asks then. */
  readonly isOn: boolean;
  /** Undefined: this request is not captured. */
  begin(request: Arrived): Recording | undefined;
}

export interface Arrived {
  /** Canonical. */
  readonly hostname: string;
  readonly method: string;
  /** Canonical, without query. */
  readonly path: string;
  /** Without `?`; empty when there is none. */
  readonly query: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
  /** What it turned out to be: `proxied`, `upgrade`, `mcp`. */
  readonly kind: string | undefined;
  readonly clientAddress: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

export interface Recording {
  /** Whether parts of bodies are wanted. */
  readonly hearsBodies: boolean;
  /** `name`: of the step of the pipeline that took the request over. */
  takenBy(name: string): void;
  /** It is sent to an upstream, or another one. */
  tried(url: string): void;
  /** That upstream could not be had. */
  failed(reason: string): void;
  /** The head that the client gets: name, value, name, value. */
  answered(status: number, fields: readonly string[]): void;
  requestPart(chunk: Uint8Array): void;
  responsePart(chunk: Uint8Array): void;
  /** Once, when the reply or its connection is closed. */
  ended(facts: Ended): void;
}

export interface Ended {
  /** 0: nothing was answered. */
  readonly status: number;
  /** 0: no upstream answered. */
  readonly upstreamStatus: number;
  /** `OK` or an error code. */
  readonly outcome: string;
  readonly reason: string | undefined;
  readonly protocol: 'h1' | 'h2';
  readonly traceId: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
}
