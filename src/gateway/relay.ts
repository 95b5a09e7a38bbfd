/** An upstream's reply on its way to the client: head, body with back-pressure, trailers. Knows no upstream engine. */
import { isHttp2Response } from './client.ts';
import type { HeldHead } from './head-flusher.ts';
import { type FieldRecord, responseHeaders, trailersOf } from './headers.ts';
import type { Plan } from './snapshot.ts';
import type { Transit } from './transit.ts';

const NO_CONTENT = 204;
const NOT_MODIFIED = 304;
const EVENT_STREAM = /^\s*text\/event-stream\s*(?:;|$)/i;

export class Relay implements HeldHead {
  readonly #transit: Transit;
  readonly #plan: Plan;
  isHeadHeld = false;

  constructor(transit: Transit, plan: Plan) {
    this.#transit = transit;
    this.#plan = plan;
  }

  /** @throws when a field or the reason phrase could not be written as HTTP: nothing has been sent then. */
  head(status: number, reasonPhrase: string | undefined, fields: FieldRecord): void {
    const transit = this.#transit;
    const { response } = transit;
    const isBodiless = transit.isHead || status === NO_CONTENT || status === NOT_MODIFIED;
    const isChunked = !isBodiless && fields['content-length'] === undefined;
    const list = responseHeaders(fields, this.#plan.responseRules, isChunked);
    if (isHttp2Response(response)) response.writeHead(status, list);
    else {
      if (transit.isLastReply) list.push('connection', 'close');
      if (reasonPhrase === undefined || reasonPhrase === '') response.writeHead(status, list);
      else response.writeHead(status, reasonPhrase, list);
      this.isHeadHeld = !isBodiless;
      if (this.isHeadHeld) transit.core.flusher.later(this);
    }
    transit.status = status;
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
    return this.#transit.response.write(chunk);
  }

  end(trailers: FieldRecord): void {
    this.isHeadHeld = false;
    const { response } = this.#transit;
    const passed = trailersOf(trailers);
    if (passed) response.addTrailers(passed);
    response.end();
    this.#transit.discardBody();
  }
}
