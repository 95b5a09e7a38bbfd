/** An upstream's reply on its way to the client: head, body with back-pressure, trailers. Knows no upstream engine. */
import { isHttp2Response } from './client.ts';
import type { HeldHead } from './head-flusher.ts';
import { type FieldRecord, fieldRecord, responseHeaders, trailersOf } from './headers.ts';
import { gatewayLimits } from './settings.ts';
import type { Plan } from './snapshot.ts';
import { withMarkedSession } from './sessions.ts';
import { tellTarget } from './sticky.ts';
import type { Transit } from './transit.ts';

const CONTINUE = 100;
const FIRST_FINAL = 200;
const NO_CONTENT = 204;
const NOT_MODIFIED = 304;
/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15 | RFC 9110 §15} */
const LAST_STATUS = 599;
/** Said to people only; another one is left out (RFC 9112 §4). */
const REASON_PHRASE = /^[\x20-\x7e]+$/;
const EVENT_STREAM = /^\s*text\/event-stream\s*(?:;|$)/i;

export class Relay implements HeldHead {
  readonly #transit: Transit;
  readonly #plan: Plan;
  #interims = 0;
  isHeadHeld = false;

  constructor(transit: Transit, plan: Plan) {
    this.#transit = transit;
    this.#plan = plan;
  }

  /**
   * An interim response such as 103 (Early Hints); 100 is between us and the upstream. Rules take away from it, and add
   * only to the response itself. What a client of HTTP/1.0 would take for the response is not passed.
   * @throws when a field could not be written as HTTP, and when there is no end of them.
   * @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.2 | RFC 9110 §15.2}, RFC 8297
   */
  interim(status: number, fields: FieldRecord): void {
    if (++this.#interims > gatewayLimits.interimResponses) throw new Error('too many interim responses');
    const { response, request } = this.#transit;
    if (status === CONTINUE || response.headersSent || request.httpVersion === '1.0') return;
    const { removed } = this.#plan.responseRules;
    const { 'content-length': _, ...rest } = fields;
    const list = responseHeaders(rest, { removed, added: [] }, false);
    response.writeInformation?.(status, isHttp2Response(response) ? fieldRecord(list) : list);
  }

  /** @throws when the status or a field could not be written as HTTP: nothing has been sent then. */
  head(status: number, reasonPhrase: string | undefined, fields: FieldRecord): void {
    this.begin(status, reasonPhrase, withMarkedSession(fields, this.#plan));
  }

  protected begin(status: number, reasonPhrase: string | undefined, fields: FieldRecord): void {
    if (!(status >= FIRST_FINAL && status <= LAST_STATUS)) throw new Error(`status ${status} is not HTTP's`);
    const transit = this.#transit;
    const { response } = transit;
    transit.endpoint?.succeeded(transit);
    const isBodiless = transit.isHead || status === NO_CONTENT || status === NOT_MODIFIED;
    const isChunked = !isBodiless && fields['content-length'] === undefined;
    const list = responseHeaders(fields, this.#plan.responseRules, isChunked);
    tellTarget(list, transit, this.#plan);
    if (isHttp2Response(response)) response.writeHead(status, list);
    else {
      if (transit.isLastReply) list.push('connection', 'close');
      if (reasonPhrase !== undefined && REASON_PHRASE.test(reasonPhrase))
        response.writeHead(status, reasonPhrase, list);
      else response.writeHead(status, list);
      this.isHeadHeld = !isBodiless;
      if (this.isHeadHeld) transit.core.flusher.later(this);
    }
    transit.capture?.answered(status, list);
    transit.status = status;
    transit.upstreamStatus = status;
    transit.isEventStream = EVENT_STREAM.test(String(fields['content-type'] ?? ''));
  }

  sendHead(): void {
    this.isHeadHeld = false;
    this.#transit.response.flushHeaders();
  }

  /** False: wait for the response's `drain` before more is given. */
  data(chunk: Uint8Array): boolean {
    this.isHeadHeld = false;
    this.#transit.bytesOut += chunk.length;
    this.#transit.capture?.responsePart(chunk);
    return this.#transit.response.write(chunk);
  }

  end(trailers: FieldRecord): void {
    this.isHeadHeld = false;
    const { response } = this.#transit;
    const passed = trailersOf(trailers, this.#plan.responseRules);
    if (passed) response.addTrailers(passed);
    response.end();
    this.#transit.discardBody();
  }
}
