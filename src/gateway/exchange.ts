/** A request as the control plane sees it (`core/exchange.ts`). Made for the control host and `/mcp` only. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Exchange, Gate, Reply, Told } from '../core/exchange.ts';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { SpanParent } from '../core/spans.ts';
import type { TraceContext } from '../core/trace-context.ts';
import { flat } from './captured.ts';
import type { ClientResponse } from './client.ts';
import { ClientBody } from './client-body.ts';
import { gateOf } from './gate.ts';
import { joinMessage, parentIn } from './trace.ts';
import type { Activity, Transit } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';

export class GatewayExchange implements Exchange, Activity {
  readonly #transit: Transit;
  readonly reply: Reply;
  #body: Readable | undefined;
  #controller: AbortController | undefined;
  #aborted: Error | undefined;

  constructor(transit: Transit) {
    this.#transit = transit;
    this.reply = new CountedReply(transit);
  }

  get traceId(): string {
    return this.#transit.traceId;
  }
  get span(): SpanParent | undefined {
    return parentIn(this.#transit);
  }
  get clientAddress(): string {
    return this.#transit.clientAddress;
  }
  get scheme(): 'http' | 'https' {
    return this.#transit.scheme;
  }
  get hostname(): string {
    return this.#transit.hostname;
  }
  get authority(): string {
    return this.#transit.authority;
  }
  get method(): string {
    return this.#transit.method;
  }
  get path(): string {
    return this.#transit.path;
  }
  get query(): string {
    return this.#transit.query;
  }
  get headers(): IncomingHttpHeaders {
    return this.#transit.headers;
  }

  /** Never the engine's own stream: who gives up reading it would take the client's connection with it. */
  get body(): Readable {
    this.#body ??= this.#makeBody();
    return this.#body;
  }

  #makeBody(): Readable {
    const transit = this.#transit;
    const { request, response, hasBody, expectsContinue } = transit;
    if (!hasBody) return request;
    transit.body = new ClientBody({
      request,
      maxBytes: limits.controlBodyBytes,
      continueOn: expectsContinue ? response : undefined,
    });
    // Whoever reads hears of it as well, but the limit is the gate's and so is the answer.
    transit.body.once('error', (error) => {
      if (error instanceof AppError) transit.refuse(refusalOf(error));
    });
    return transit.body;
  }

  /** Made when it is first asked for: most calls are over before anyone could be gone. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  abort(reason: Error): void {
    if (this.#transit.response.writableEnded) return;
    this.#aborted = reason;
    this.#controller?.abort(reason);
  }

  get gate(): Gate {
    return gateOf(this.#transit);
  }

  readonly joinTrace = (caller: TraceContext): void => joinMessage(this.#transit, caller);

  readonly note = (facts: Record<string, unknown>): void => {
    this.#transit.notes = { ...this.#transit.notes, ...facts };
  };

  readonly tell = (told: () => Told): void => {
    this.#transit.told = told;
  };
}

/** Node's response, with the bytes and the status kept for the access record. Goes nowhere once the gate has answered. */
class CountedReply implements Reply {
  readonly #transit: Transit;
  readonly #response: ClientResponse;

  constructor(transit: Transit) {
    this.#transit = transit;
    this.#response = transit.response;
  }

  get headersSent(): boolean {
    return this.#response.headersSent;
  }

  get writableEnded(): boolean {
    return this.#response.writableEnded;
  }

  setHeader(name: string, value: string | readonly string[]): void {
    if (this.#transit.isRefused) return;
    this.#response.setHeader(name, value);
  }

  writeHead(status: number, headers?: Record<string, string | number | string[]>): void {
    if (this.#transit.isRefused) return;
    if (this.#transit.isLastReply) this.#response.setHeader('connection', 'close');
    this.#transit.status = status;
    this.#transit.capture?.answered(status, flat({ ...this.#response.getHeaders(), ...headers }));
    this.#response.writeHead(status, headers);
  }

  flushHeaders(): void {
    if (!this.#transit.isRefused) this.#response.flushHeaders();
  }

  write(chunk: string | Uint8Array): boolean {
    if (this.#transit.isRefused) return true;
    this.#transit.bytesOut += Buffer.byteLength(chunk);
    return this.#response.write(chunk);
  }

  end(chunk?: string | Uint8Array): void {
    if (this.#response.writableEnded || this.#transit.isRefused) return;
    if (!this.#response.headersSent && this.#transit.status === 0) this.writeHead(this.#response.statusCode);
    if (chunk === undefined || chunk.length === 0 || this.#transit.isHead) this.#response.end();
    else {
      this.#transit.bytesOut += Buffer.byteLength(chunk);
      this.#response.end(chunk);
    }
    this.#transit.discardBody();
  }

  once(event: 'close' | 'drain', listener: () => void): void {
    this.#response.once(event, listener);
  }

  destroy(error?: Error): void {
    if (!this.#transit.isRefused) this.#response.destroy(error);
  }
}
