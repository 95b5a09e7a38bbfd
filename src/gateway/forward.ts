/**
 * Sends a request to its upstream and streams the reply back: over the pool, unless the upstream has to see its steps
 * one by one (`forward-single.ts`). The body flows both ways with back-pressure; nothing is buffered, compressed or
 * rewritten. Not for upgrades (`upgrade.ts`).
 */
import type { Dispatcher } from 'undici';
import { gatewayLimits } from './settings.ts';
import { bodyTap } from './captured.ts';
import { ClientBody } from './client-body.ts';
import { chosenPlan, mayRepeat, planAfter, planWithRoom, upstreamOf, upstreamTarget } from './destination.ts';
import { forwardSingle } from './forward-single.ts';
import { requestHeaders } from './headers.ts';
import { Relay } from './relay.ts';
import type { Plan } from './snapshot.ts';
import { ToolRelay } from './tools/tool-relay.ts';
import { beginAttempt, endAttempt } from './trace.ts';
import type { Activity, Transit } from './transit.ts';
import type { Upstream } from './upstream.ts';
import { isStaleConnection, refusalOf } from './upstream-failure.ts';

const FIRST_FINAL = 200;

type Fields = Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseEnd']>>[1];

/** @param payload the body, where it was read already. */
export function forward(transit: Transit, whole: Plan, payload?: Buffer): void {
  const plan = chosenPlan(transit, whole);
  if (!plan) return;
  if (payload || !transit.hasBody) {
    sendPooled(transit, plan, payload);
    return;
  }
  const { request, response, expectsContinue, headers } = transit;
  const body = new ClientBody({
    request,
    maxBytes: plan.match.proxy.max_body_bytes,
    continueOn: expectsContinue ? response : undefined,
    heard: bodyTap(transit),
  });
  transit.body = body;
  // Trailers need chunks on HTTP/1.1 (RFC 9112 §7.1.2), which a body of known length is not sent in.
  const hasTrailers = headers.trailer !== undefined && headers['content-length'] === undefined;
  if (expectsContinue || hasTrailers) forwardSingle(transit, plan, body);
  else sendWhenBegun(transit, plan, body);
}

/**
 * The pool sends a head together with the first part of the body. Where that does not come soon (a client that streams,
 * or waits for the reply before it goes on) the upstream gets the head over a connection of its own.
 */
function sendWhenBegun(transit: Transit, plan: Plan, body: ClientBody): void {
  let isSent = false;
  const timer = transit.core.clock.after(gatewayLimits.firstPartMs, () => {
    isSent = true;
    if (upstreamOf(transit, plan).isFullOf('single')) sendPooled(transit, plan);
    else forwardSingle(transit, plan, body);
  });
  body.whenBegun(() => {
    if (isSent) return;
    timer.cancel();
    if (body.errored) transit.refuse(refusalOf(body.errored));
    else if (!transit.isDone && !transit.isRefused) sendPooled(transit, plan);
  });
}

function sendPooled(transit: Transit, chosen: Plan, payload?: Buffer): void {
  const plan = planWithRoom(transit, chosen, 'request');
  if (!plan) return;
  const upstream = upstreamOf(transit, plan);
  const forwarding = new Forwarding(transit, { plan, upstream, payload });
  transit.activity = forwarding;
  forwarding.send();
}

interface ForwardingParts {
  readonly plan: Plan;
  readonly upstream: Upstream;
  readonly payload: Buffer | undefined;
}

class Forwarding implements Dispatcher.DispatchHandler, Activity {
  readonly #transit: Transit;
  readonly #plan: Plan;
  readonly #payload: Buffer | undefined;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #options: Dispatcher.DispatchOptions;
  #controller: Dispatcher.DispatchController | undefined;
  #aborted: Error | undefined;
  #isOver = false;
  #isResent = false;

  constructor(transit: Transit, { plan, upstream, payload }: ForwardingParts) {
    this.#transit = transit;
    this.#plan = plan;
    this.#payload = payload;
    this.#upstream = upstream;
    const { tools } = transit;
    this.#relay = tools ? new ToolRelay(transit, plan, tools) : new Relay(transit, plan);
    beginAttempt(transit, plan);
    const headers = requestHeaders(transit, plan.headers);
    const { proxy } = plan.match;
    const options: Dispatcher.DispatchOptions & { servername: string } = {
      path: upstreamTarget(transit, plan),
      method: transit.method,
      headers: tools?.toTarget(headers) ?? headers,
      body: payload ?? transit.body ?? null,
      headersTimeout: proxy.response_timeout_ms,
      // `watch` keeps the time between parts of the body: event streams are left alone there.
      bodyTimeout: 0,
      // Without it undici takes the name from Host and reconnects whenever that differs.
      servername: plan.target.hostname,
    };
    this.#options = options;
    upstream.inFlight++;
  }

  send(): void {
    this.#upstream.pool.dispatch(this.#options, this);
  }

  abort(reason: Error): void {
    if (this.#isOver || this.#aborted) return;
    this.#aborted = reason;
    this.#controller?.abort(reason);
  }

  /** It waits for a connection: nothing was sent. */
  get isQueued(): boolean {
    return !this.#controller && !this.#isOver;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // Thrown rather than aborted with: nothing was sent, and the connection is good for the next in the queue.
    if (this.#aborted) throw this.#aborted;
    this.#controller = controller;
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    fields: Fields,
    reasonPhrase?: string,
  ): void {
    if (this.#isLost(controller)) return;
    if (status < FIRST_FINAL) this.#relay.interim(status, fields);
    else this.#relay.head(status, reasonPhrase, fields);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#isLost(controller) || this.#relay.data(chunk)) return;
    controller.pause();
    this.#transit.response.once('drain', () => controller.resume());
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: Fields): void {
    if (!this.#finish()) return;
    endAttempt(this.#transit);
    this.#relay.end(trailers);
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    const transit = this.#transit;
    if (this.#mayResend(error)) {
      this.#isResent = true;
      this.#controller = undefined;
      this.send();
      return;
    }
    if (!this.#finish() || this.#aborted) return;
    endAttempt(transit, error);
    const next = planAfter(transit, this.#plan, error, this.#controller !== undefined);
    if (next) {
      sendPooled(transit, next, this.#payload);
      return;
    }
    // What ended the body is the cause; what undici says of it is a consequence.
    transit.refuse(refusalOf(transit.body?.errored ?? error));
  }

  /** The client is gone or was answered by someone else. */
  #isLost(controller: Dispatcher.DispatchController): boolean {
    if (!this.#transit.response.writableEnded && !this.#transit.isDone) return false;
    controller.abort(new Error('the client was answered'));
    return true;
  }

  #mayResend(error: Error): boolean {
    const { response, isDone } = this.#transit;
    const { balance } = this.#plan;
    return (
      !this.#isResent &&
      !this.#aborted &&
      !isDone &&
      !response.headersSent &&
      mayRepeat(this.#transit) &&
      isStaleConnection(error) &&
      (!balance || balance.group.spend())
    );
  }

  /** True the first time. */
  #finish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#upstream.inFlight--;
    this.#upstream.usedAt = this.#transit.core.clock.now();
    return true;
  }
}
