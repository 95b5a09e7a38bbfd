/**
 * A request over a connection of its own, with Node's client, for what the pool can't do: `Expect: 100-continue`
 * seen by the upstream, trailers of a request, a head before its body, upgrades. The same dialer judges the address.
 */
import { type ClientRequest as UpstreamRequest, type IncomingMessage, request as send } from 'node:http';
import type { Timer } from '../core/clock.ts';
import type { ClientBody } from './client-body.ts';
import { planAfter, planWithRoom, upstreamOf, upstreamTarget } from './destination.ts';
import { fieldRecord, requestHeaders, trailersOf } from './headers.ts';
import { Relay } from './relay.ts';
import { relayMessage } from './relay-message.ts';
import { gatewayLimits } from './settings.ts';
import type { Plan } from './snapshot.ts';
import { beginAttempt, endAttempt } from './trace.ts';
import type { Activity, Transit } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';
import type { Upstream } from './upstream.ts';

export class ResponseTimeout extends Error {
  readonly code = 'UND_ERR_HEADERS_TIMEOUT';
}

export interface SingleRequest {
  readonly upstream: Upstream;
  /** The whole header, with what frames the body. */
  readonly headers: string[];
}

/** Opens the request. The head waits for the first of the body, or for `flushHeaders`. */
export function openRequest(
  transit: Transit,
  plan: Plan,
  { upstream, headers }: SingleRequest,
): UpstreamRequest {
  const request = send({
    method: transit.isExtendedConnect ? 'GET' : transit.method,
    path: upstreamTarget(transit, plan),
    headers,
    setHost: false,
    insecureHTTPParser: false,
    maxHeaderSize: gatewayLimits.upstreamHeaderBytes,
    createConnection: (_options, done) => {
      upstream.connect(transit.upgrade ? 'tunnel' : 'single', (error, socket) => {
        // Types of Node ask for a socket beside an error.
        if (socket) done(null, socket);
        else (done as (error: Error | null) => void)(error);
      });
      return undefined;
    },
  });
  // How large the head may be is limited above; fields beyond a number would be left out in silence.
  request.maxHeadersCount = 0;
  return request;
}

export function forwardSingle(transit: Transit, chosen: Plan, body: ClientBody): void {
  const plan = planWithRoom(transit, chosen, 'single');
  if (plan) transit.activity = new Single(transit, { plan, body, upstream: upstreamOf(transit, plan) });
}

interface SingleParts {
  readonly plan: Plan;
  readonly body: ClientBody;
  readonly upstream: Upstream;
}

class Single implements Activity {
  readonly #transit: Transit;
  readonly #plan: Plan;
  readonly #relay: Relay;
  readonly #body: ClientBody;
  readonly #request: UpstreamRequest;
  /** Until the upstream has to have begun its answer, or gone on reading. Not while it is the client that is waited for. */
  #answer: Timer | undefined;
  /** Until the body is sent to an upstream that did not ask for it. */
  #patience: Timer | undefined;
  #isSent = false;
  #isBodyAsked = false;
  #isAnswered = false;
  #isOver = false;

  constructor(transit: Transit, { plan, body, upstream }: SingleParts) {
    this.#transit = transit;
    this.#plan = plan;
    this.#body = body;
    this.#relay = new Relay(transit, plan);
    const request = openRequest(transit, plan, { upstream, headers: this.#headers() });
    this.#request = request;
    request.once('continue', () => this.#sendBody());
    request.on('information', ({ statusCode, rawHeaders }) => this.#interim(statusCode, rawHeaders));
    request.once('response', (reply) => this.#reply(reply));
    request.once('upgrade', (_reply, socket) => {
      socket.destroy();
      this.#fail(new Error('the upstream switched protocols without being asked to'));
    });
    request.on('error', (error) => this.#fail(error));
    request.once('socket', () => {
      this.#isSent = true;
    });
    request.flushHeaders();
    if (transit.expectsContinue) request.once('socket', () => this.#waitForContinue());
    // Where there are others to ask, the body is theirs until there is a connection.
    else if (plan.balance) request.once('socket', () => this.#sendBody());
    else this.#sendBody();
  }

  abort(reason: Error): void {
    if (this.#finish()) this.#request.destroy(reason);
  }

  #headers(): string[] {
    const transit = this.#transit;
    beginAttempt(transit, this.#plan);
    const headers = requestHeaders(transit, this.#plan.headers);
    if (transit.headers['content-length'] === undefined) {
      headers.push('transfer-encoding', 'chunked');
      if (transit.headers.trailer !== undefined) headers.push('trailer', transit.headers.trailer);
    }
    if (transit.expectsContinue) headers.push('expect', '100-continue');
    return headers;
  }

  /** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1 | RFC 9110 §10.1.1}: not for ever. */
  #waitForContinue(): void {
    if (this.#isOver) return;
    this.#patience = this.#transit.core.clock.after(gatewayLimits.expectWaitMs, () => this.#sendBody());
  }

  #sendBody(): void {
    if (this.#isBodyAsked || this.#isOver) return;
    this.#isBodyAsked = true;
    this.#patience?.cancel();
    const body = this.#body;
    const request = this.#request;
    body.on('data', (chunk: Buffer) => {
      if (request.write(chunk)) return;
      body.pause();
      this.#awaitUpstream();
    });
    request.on('drain', this.#onDrain);
    body.on('error', (error) => this.#fail(error));
    body.once('end', () => this.#endBody());
  }

  readonly #onDrain = (): void => {
    this.#answer?.cancel();
    this.#body.resume();
  };

  #endBody(): void {
    const request = this.#request;
    const trailers = trailersOf(fieldRecord(this.#transit.request.rawTrailers), this.#plan.headers.rules);
    if (trailers) request.addTrailers(trailers);
    request.off('drain', this.#onDrain);
    request.end();
    this.#awaitUpstream();
  }

  #awaitUpstream(): void {
    if (this.#isOver || this.#isAnswered) return;
    this.#answer?.cancel();
    const { response_timeout_ms } = this.#plan.match.proxy;
    this.#answer = this.#transit.core.clock.after(response_timeout_ms, () =>
      this.#fail(new ResponseTimeout()),
    );
  }

  #interim(status: number, rawHeaders: string[]): void {
    try {
      if (!this.#isOver) this.#relay.interim(status, fieldRecord(rawHeaders));
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #reply(reply: IncomingMessage): void {
    this.#isAnswered = true;
    this.#stopWaiting();
    const { response } = this.#transit;
    const relay = this.#relay;
    if (!relayMessage(reply, relay, (error) => this.#fail(error))) return;
    response.on('drain', () => reply.resume());
    reply.once('end', () => {
      if (!this.#finish()) return;
      endAttempt(this.#transit);
      relay.end(fieldRecord(reply.rawTrailers));
      this.#request.destroy();
    });
  }

  #fail(error: Error): void {
    if (!this.#finish()) return;
    this.#request.destroy();
    endAttempt(this.#transit, error);
    const next = planAfter(this.#transit, this.#plan, error, this.#isSent);
    if (next) forwardSingle(this.#transit, next, this.#body);
    else this.#transit.refuse(refusalOf(this.#body.errored ?? error));
  }

  /** True the first time. */
  #finish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#stopWaiting();
    return true;
  }

  #stopWaiting(): void {
    this.#answer?.cancel();
    this.#patience?.cancel();
  }
}
