/**
 * One HTTP request and its reply, as the gateway hands it to the control plane's surfaces. Nothing in it names the
 * HTTP engine: Node's request and response satisfy these types by shape, and so can another engine.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Principal } from './principal.ts';

export interface Exchange {
  readonly traceId: string;
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
  /** For the access record: MCP method, operation, session. Never secrets. */
  readonly note: (facts: Record<string, unknown>) => void;
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

/** The principal of a bearer credential; undefined when it is unknown, revoked or expired. Answers from memory. */
export type Authenticate = (credential: string) => Principal | undefined;
