/**
 * Heads over HTTP/2 that were begun and are not whole in time. Node tells of a head when it is whole, and an idle
 * connection and one in the middle of a head look the same to its timer; but the number of the stream that was begun
 * last can be asked for.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9113#section-10.5 | RFC 9113 §10.5}
 */
import { constants, type Http2Session } from 'node:http2';

interface Begun {
  readonly stream: number;
  readonly since: number;
}

export class LateHeads {
  readonly #limitMs: number;
  /** Of each connection the last stream whose head is whole. */
  readonly #whole = new WeakMap<Http2Session, number>();
  readonly #begun = new WeakMap<Http2Session, Begun>();

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  isWhole(session: Http2Session, stream: number): void {
    this.#whole.set(session, Math.max(stream, this.#whole.get(session) ?? 0));
  }

  /**
   * Nothing else can come on a connection in the middle of a head (RFC 9113 §4.3), so it is of no use to its client. But a
   * head that the engine itself refused looks the same: replies that are under way are let finish.
   */
  cut(sessions: Iterable<Http2Session>, now: number, isBusy: (session: Http2Session) => boolean): void {
    for (const session of sessions) {
      const stream = session.destroyed ? 0 : (session.state.lastProcStreamID ?? 0);
      if (stream <= (this.#whole.get(session) ?? 0)) continue;
      const known = this.#begun.get(session);
      if (known?.stream !== stream) this.#begun.set(session, { stream, since: now });
      else if (now - known.since >= this.#limitMs) end(session, isBusy(session));
    }
  }
}

function end(session: Http2Session, isBusy: boolean): void {
  if (isBusy) {
    session.close();
    return;
  }
  session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  session.destroy();
}
