/**
 * One HTTP request and its reply, as the gateway hands it to the control plane's surfaces. Nothing in it names the
 * HTTP engine: Node's request and response satisfy these types by shape, and so can another engine.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Principal } from './principal.ts';
import type { Component, RecordKind } from './record.ts';
import type { SpanParent } from './spans.ts';
import type { TraceContext } from './trace-context.ts';

export interface Exchange {
  /** Of the request; of a message of MCP once that is joined. */
  readonly traceId: string;
  /** What is done for it becomes children of this; undefined where nobody records the trace. */
  readonly span: SpanParent | undefined;
  /** The request holds a message that says itself where in a trace it stands. */
  readonly joinTrace: (caller: TraceContext) => void;
  /** The client's address, from trusted forwarded headers where there are any. Canonical text, no port. */
  readonly clientAddress: string;
  readonly scheme: 'http' | 'https';
  /** Canonical hostname (`core/hostname`), or an IP address; never with a port. */
  readonly hostname: string;
  /** `hostname` with the port the client used, where it is not the scheme's own: for building absolute URLs. */
  readonly authority: string;
  readonly method: string;
  /** Canonical path (`routes/normalise`), without query. */
  readonly path: string;
  /** Without `?`; empty when there is none. */
  readonly query: string;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
  readonly reply: Reply;
  /** Aborts when the client is gone before the reply has ended. */
  readonly signal: AbortSignal;
  /** For the record of the request. Never secrets. */
  readonly note: (facts: Record<string, unknown>) => void;
  /** What the request was to a surface that has a kind of record of its own; asked for when its record is written. */
  readonly tell: (told: () => Told) => void;
  readonly gate: Gate;
}

export interface Told {
  readonly kind: RecordKind;
  readonly component: Component;
  readonly operation: string;
  /** `OK` or an error code; where the gate or the connection failed, that counts. */
  readonly outcome: string;
  /** Never secrets. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** What the gate can still do for a surface that learns only from the body what is asked. */
export interface Gate {
  /** Whose limits the request counts against: its principal, or without a credential the client's network. */
  readonly caller: string;
  /** Counts so many calls more than the one of the request. 0, or milliseconds until so many would be within the limits. */
  charge(calls: number): number;
  /**
   * Value of `WWW-Authenticate` for a request that needs these scopes and has a credential without them, or none.
   * @see {@link https://www.rfc-editor.org/rfc/rfc6750#section-3.1 | RFC 6750 §3.1} and RFC 9728 §5.1
   */
  challenge(scopes: readonly string[]): string;
}

/** The part of a response that is used; `http.ServerResponse` and `http2.Http2ServerResponse` have it. */
export interface Reply {
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  setHeader(name: string, value: string | readonly string[]): unknown;
  writeHead(status: number, headers?: Record<string, string | number | string[]>): unknown;
  flushHeaders(): void;
  /** False when the client reads slower than this is written: wait for `drain`. */
  write(chunk: string | Uint8Array): boolean;
  end(chunk?: string | Uint8Array): unknown;
  once(event: 'close' | 'drain', listener: () => void): unknown;
  destroy(error?: Error): unknown;
}

export type ExchangeHandler = (exchange: Exchange, principal: Principal) => Promise<void>;

/** The part of a request that an access token has to be for. @see RFC 8707 §2 */
export interface Audience {
  /** `https://host:port`, as the client reaches it. */
  readonly origin: string;
  /** Canonical. */
  readonly path: string;
  /** The system itself answers, not an upstream: then only the very resource will do. */
  readonly isControl: boolean;
}

/** How a credential was sent that only the holder of a key may send. @see RFC 9449 §7.1 */
export interface Possession {
  readonly method: string;
  /** Of the request, as the client reaches it, without its query. */
  readonly url: string;
  /** Value of the `DPoP` field; undefined when there is not exactly one. */
  readonly proof: string | undefined;
}

/**
 * The principal of a credential; undefined when it is unknown, revoked, expired or for somebody else. `any` asks
 * whether it is one of this system's at all. Without `possession` it came as a bearer's. Answers from memory.
 */
export type Authenticate = (
  credential: string,
  audience: Audience | 'any',
  possession?: Possession,
) => Principal | undefined;
