/**
 * Sends a request to its upstream over the pool and streams the reply back. The body flows both ways with
 * back-pressure; nothing is buffered, compressed or rewritten. Not for upgrades (`upgrade.ts`), nor for requests whose
 * steps the upstream wants to see one by one (`forward-single.ts`).
 */
import type { Dispatcher } from 'undici';
import { gatewayLimits } from './settings.ts';
import { ClientBody } from './client-body.ts';
import { requestHeaders } from './headers.ts';
import { Relay } from './relay.ts';
import type { Plan } from './snapshot.ts';
import type { Activity, Transit } from './transit.ts';
import type { Upstream } from './upstream.ts';
import { isStaleConnection, refusalOf } from './upstream-failure.ts';
import { upstreamPath } from '../routes/match.ts';

/** Without effect or with the same effect when sent twice. @see RFC 9110 §9.2.2 */
const idempotent = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

type Fields = Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseEnd']>>[1];

export function forward(transit: Transit, plan: Plan): void {
  const upstream = upstreamOf(transit, plan);
  if (upstream.inFlight >= gatewayLimits.requestsPerUpstream) {
    transit.refuse({
      status: 503,
      code: 'UNAVAILABLE',
      message: 'The upstream has more requests than it can answer.',
      headers: { 'retry-after': '1' },
    });
    return;
  }
  const forwarding = new Forwarding(transit, plan, upstream);
  transit.activity = forwarding;
  forwarding.send();
}

function upstreamOf({ core }: Transit, plan: Plan): Upstream {
  if (!plan.upstream || plan.upstream.isClosed) plan.upstream = core.upstreams.of(plan.target);
  return plan.upstream;
}

/** The path and query that the upstream gets: the canonical ones. */
export function upstreamTarget({ path, query }: Transit, { match }: Plan): string {
  const target = upstreamPath(match, path);
  return query === '' ? target : `${target}?${query}`;
}

class Forwarding implements Dispatcher.DispatchHandler, Activity {
  readonly #transit: Transit;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #options: Dispatcher.DispatchOptions;
  #controller: Dispatcher.DispatchController | undefined;
  #aborted: Error | undefined;
  #isOver = false;
  #isResent = false;

  constructor(transit: Transit, plan: Plan, upstream: Upstream) {
    this.#transit = transit;
    this.#upstream = upstream;
    this.#relay = new Relay(transit, plan);
    const { proxy } = plan.match;
    if (transit.hasBody)
      transit.body = new ClientBody({ request: transit.request, maxBytes: proxy.max_body_bytes });
    const options: Dispatcher.DispatchOptions & { servername: string } = {
      path: upstreamTarget(transit, plan),
      method: transit.method,
      headers: requestHeaders(transit, plan.headers),
      body: transit.body ?? null,
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

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#aborted) controller.abort(this.#aborted);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    fields: Fields,
    reasonPhrase?: string,
  ): void {
    // Interim responses (103) are for the connection they came on.
    if (status < 200 || this.#isLost(controller)) return;
    this.#relay.head(status, reasonPhrase, fields);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#isLost(controller) || this.#relay.data(chunk)) return;
    controller.pause();
    this.#transit.response.once('drain', () => controller.resume());
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: Fields): void {
    if (!this.#finish()) return;
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
    const { hasBody, method, response, isDone } = this.#transit;
    return (
      !this.#isResent &&
      !this.#aborted &&
      !hasBody &&
      !isDone &&
      !response.headersSent &&
      idempotent.has(method) &&
      isStaleConnection(error)
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
