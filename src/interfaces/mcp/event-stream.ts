/**
 * Server-sent events on one reply, and the list of all that are open: kept alive by comments, cut when their
 * principal's credential ends or the client doesn't read, ended politely when the process stops.
 * @see {@link https://html.spec.whatwg.org/multipage/server-sent-events.html | HTML, Server-sent events}
 */
import { AppError } from '../../core/errors.ts';
import type { Clock, Timer } from '../../core/clock.ts';
import type { Exchange, Reply } from '../../core/exchange.ts';
import type { LiveStreams } from '../../core/live-streams.ts';
import type { Principal } from '../../core/principal.ts';
import { KEEP_ALIVE_MS, STREAM_BUFFER_BYTES } from './settings.ts';

/** `no-transform` and `x-accel-buffering` ask everything on the way not to compress or hold back. */
export const EVENT_HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
};

export class EventStream {
  readonly #reply: Reply;
  readonly #onGone: () => void;
  #waiting = 0;
  #isOpen = true;

  constructor(reply: Reply, onGone: () => void) {
    this.#reply = reply;
    this.#onGone = onGone;
    reply.once('close', () => this.#gone());
    reply.writeHead(200, EVENT_HEADERS);
    // The head alone may be held back on the way; a first byte is not. @see typescript-sdk issue 2525
    this.comment('open');
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  comment(text: string): void {
    this.#write(`: ${text}\n\n`);
  }

  /** `message` is JSON, so it holds no line break. */
  event(message: string, id?: string): void {
    this.#write(
      id === undefined
        ? `event: message\ndata: ${message}\n\n`
        : `event: message\nid: ${id}\ndata: ${message}\n\n`,
    );
  }

  /** An event without data gives the client an id to resume from, and says when to try again (SEP-1699). */
  prime(id: string, retryMs: number): void {
    this.#write(`id: ${id}\nretry: ${retryMs}\ndata: \n\n`);
  }

  end(): void {
    if (!this.#isOpen) return;
    this.#gone();
    this.#reply.end();
  }

  #write(text: string): void {
    if (!this.#isOpen) return;
    if (this.#reply.write(text)) return;
    if (this.#waiting === 0) this.#reply.once('drain', () => (this.#waiting = 0));
    this.#waiting += text.length;
    if (this.#waiting <= STREAM_BUFFER_BYTES) return;
    this.#gone();
    this.#reply.destroy();
  }

  #gone(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#onGone();
  }
}

/** A request that has not been answered yet and could be as a stream. */
export interface Unanswered {
  keepWaiting(): void;
  /** The credential it came with is gone. */
  cut(): void;
}

interface OpenStream {
  /** As the gate names it. */
  readonly caller: string;
  readonly isStanding: boolean;
  readonly close: () => void;
  readonly comment: () => void;
}

interface StreamLimits {
  readonly total: number;
  readonly perCaller: number;
}

export class Streams {
  readonly #live: LiveStreams;
  readonly #max: StreamLimits;
  readonly #open = new Set<OpenStream>();
  readonly #perCaller = new Map<string, number>();
  readonly #unanswered = new Set<Unanswered>();
  readonly #timer: Timer;
  #isEnding = false;

  constructor({ live, clock, max }: { live: LiveStreams; clock: Clock; max: StreamLimits }) {
    this.#live = live;
    this.#max = max;
    this.#timer = clock.every(KEEP_ALIVE_MS, () => this.#keepAlive());
  }

  get size(): number {
    return this.#open.size;
  }

  /** `leaving`: how many of the caller's streams end when the new one begins. @throws AppError when there is no room. */
  requireRoom(caller: string, leaving = 0): void {
    const { total, perCaller } = this.#max;
    if (this.#isEnding) throw new AppError('UNAVAILABLE', 'the server is shutting down; connect again later');
    if ((this.#perCaller.get(caller) ?? 0) - leaving >= perCaller)
      throw new AppError(
        'RATE_LIMITED',
        `${perCaller} event streams of yours are open, no more are allowed; close one first`,
      );
    if (this.#open.size - leaving >= total)
      throw new AppError(
        'UNAVAILABLE',
        `${total} event streams are open, no more are allowed; try again later`,
      );
  }

  hasRoom(caller: string): boolean {
    return (this.#perCaller.get(caller) ?? 0) < this.#max.perCaller && this.#open.size < this.#max.total;
  }

  /** `isStanding`: does not end by itself. */
  open(exchange: Exchange, principal: Principal, onGone: () => void, isStanding = false): EventStream {
    const close = () => stream.end();
    const comment = () => stream.comment('keep-alive');
    const { caller } = exchange.gate;
    const unlist = this.track(principal, { caller, isStanding, close, comment });
    const stream: EventStream = new EventStream(exchange.reply, () => {
      unlist();
      onGone();
    });
    return stream;
  }

  /** For a stream that something else writes. Returns what takes it off the list. */
  track(principal: Principal, entry: OpenStream): () => void {
    this.#open.add(entry);
    this.#count(entry.caller, 1);
    const unlist = this.#live.add(principal, entry.close);
    return () => {
      if (this.#open.delete(entry)) this.#count(entry.caller, -1);
      unlist();
    };
  }

  /** From now on none that would not end by itself. What is being answered goes on. */
  endStanding(): void {
    this.#isEnding = true;
    for (const { isStanding, close } of this.#open) if (isStanding) close();
  }

  /** `keepWaiting` is called when it has waited a keep-alive interval, and again. */
  await(request: Unanswered, principal: Principal): () => void {
    this.#unanswered.add(request);
    const unlist = this.#live.add(principal, () => request.cut());
    return () => {
      this.#unanswered.delete(request);
      unlist();
    };
  }

  close(): void {
    this.#timer.cancel();
    for (const { close } of this.#open) close();
  }

  #count(caller: string, change: number): void {
    const count = (this.#perCaller.get(caller) ?? 0) + change;
    if (count > 0) this.#perCaller.set(caller, count);
    else this.#perCaller.delete(caller);
  }

  #keepAlive(): void {
    for (const { comment } of this.#open) comment();
    for (const request of this.#unanswered) request.keepWaiting();
  }
}
