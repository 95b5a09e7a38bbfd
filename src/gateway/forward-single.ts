/**
 * A request over a connection of its own, with Node's client, for what the pool can't do: `Expect: 100-continue`
 * seen by the upstream, trailers of a request, upgrades. The address is judged by the same connector.
 */
import { type ClientRequest as UpstreamRequest, type IncomingMessage, request as send } from 'node:http';
import { ClientBody } from './client-body.ts';
import { upstreamTarget } from './forward.ts';
import { fieldRecord, requestHeaders, trailersOf } from './headers.ts';
import { Relay } from './relay.ts';
import { relayMessage } from './relay-message.ts';
import { gatewayLimits } from './settings.ts';
import type { Plan } from './snapshot.ts';
import type { Activity, Transit } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';

export class ResponseTimeout extends Error {
  readonly code = 'UND_ERR_HEADERS_TIMEOUT';
}

/** Opens the request; `headers` is the whole header, with what frames it. */
export function sendSingle(transit: Transit, plan: Plan, headers: string[]): UpstreamRequest {
  return send({
    method: transit.isExtendedConnect ? 'GET' : transit.method,
    path: upstreamTarget(transit, plan),
    headers,
    setHost: false,
    insecureHTTPParser: false,
    maxHeaderSize: gatewayLimits.upstreamHeaderBytes,
    createConnection: (_options, done) => {
      transit.core.upstreams.connect(plan.target, (error, socket) => {
        // Types of Node ask for a socket beside an error.
        if (socket) done(null, socket);
        else (done as (error: Error | null) => void)(error);
      });
      return undefined;
    },
  });
}

export function needsSingle({ expectsContinue, headers, hasBody }: Transit): boolean {
  return hasBody && (expectsContinue || headers.trailer !== undefined);
}

export function forwardSingle(transit: Transit, plan: Plan): void {
  const single = new Single(transit, plan);
  transit.activity = single;
}

class Single implements Activity {
  readonly #transit: Transit;
  readonly #relay: Relay;
  readonly #body: ClientBody;
  readonly #upstream: UpstreamRequest;
  #isBodyAsked = false;
  #isOver = false;

  constructor(transit: Transit, plan: Plan) {
    const { request, response, expectsContinue, core } = transit;
    this.#transit = transit;
    this.#relay = new Relay(transit, plan);
    this.#body = new ClientBody({
      request,
      maxBytes: plan.match.proxy.max_body_bytes,
      continueOn: expectsContinue ? response : undefined,
    });
    transit.body = this.#body;
    const upstream = sendSingle(transit, plan, this.#headers(plan));
    this.#upstream = upstream;
    const answer = core.clock.after(plan.match.proxy.response_timeout_ms, () =>
      this.#fail(new ResponseTimeout()),
    );
    const patience = core.clock.after(gatewayLimits.expectWaitMs, () => this.#sendBody());
    upstream.once('continue', () => this.#sendBody());
    upstream.once('response', (reply) => this.#reply(reply));
    upstream.once('response', () => answer.cancel());
    upstream.on('error', (error) => this.#fail(error));
    upstream.once('close', () => {
      answer.cancel();
      patience.cancel();
    });
    if (!expectsContinue) this.#sendBody();
  }

  abort(reason: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upstream.destroy(reason);
  }

  #headers(plan: Plan): string[] {
    const transit = this.#transit;
    const headers = requestHeaders(transit, plan.headers);
    if (transit.headers['content-length'] === undefined) headers.push('transfer-encoding', 'chunked');
    if (transit.headers.trailer !== undefined) headers.push('trailer', transit.headers.trailer);
    if (transit.expectsContinue) headers.push('expect', '100-continue');
    return headers;
  }

  #sendBody(): void {
    if (this.#isBodyAsked || this.#isOver) return;
    this.#isBodyAsked = true;
    const body = this.#body;
    const upstream = this.#upstream;
    body.on('data', (chunk: Buffer) => {
      if (!upstream.write(chunk)) body.pause();
    });
    upstream.on('drain', () => body.resume());
    body.on('error', (error) => this.#fail(error));
    body.once('end', () => {
      const trailers = trailersOf(fieldRecord(this.#transit.request.rawTrailers));
      if (trailers) upstream.addTrailers(trailers);
      upstream.end();
    });
  }

  #reply(reply: IncomingMessage): void {
    const { response } = this.#transit;
    const relay = this.#relay;
    if (!relayMessage(reply, relay, (error) => this.#fail(error))) return;
    response.on('drain', () => reply.resume());
    reply.once('end', () => {
      if (this.#isOver) return;
      this.#isOver = true;
      relay.end(fieldRecord(reply.rawTrailers));
      this.#upstream.destroy();
    });
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upstream.destroy();
    this.#transit.refuse(refusalOf(this.#body.errored ?? error));
  }
}
