/**
 * The reply to one POST: one JSON body when nothing has to come before the answer, an event stream as soon as
 * something does. A batch is answered as one array, or as events as they come.
 */
import { AppError } from '../../core/errors.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import type { Accepted } from './accept.ts';
import type { Channel } from './channel.ts';
import type { EventStream, Streams } from './event-stream.ts';
import type { RpcId } from './message.ts';
import type { Refusal } from './refusal.ts';
import { errorMessage, sendJson, sendNothing } from './reply.ts';

export interface PostReplyOptions {
  readonly exchange: Exchange;
  readonly principal: Principal;
  readonly streams: Streams;
  readonly accepted: Accepted;
  /** Makes the events resumable; undefined where there is no session. */
  readonly openChannel?: (() => Channel) | undefined;
  /** How many answers it takes; more than one only in a batch. */
  readonly answers?: number | undefined;
  readonly batch?: boolean | undefined;
}

export class PostReply {
  readonly #options: PostReplyOptions;
  readonly #collected: string[] = [];
  #left: number;
  #stream: EventStream | undefined;
  #channel: Channel | undefined;
  #unlist: (() => void) | undefined;
  #onDone: (() => void) | undefined;

  constructor(options: PostReplyOptions) {
    this.#options = options;
    this.#left = options.answers ?? 1;
    this.#unlist = options.streams.await(this, options.principal);
  }

  get channel(): Channel | undefined {
    return this.#channel;
  }

  /** Resolves when the last answer is given, or nobody waits for it any more. */
  done(): Promise<void> {
    return this.#left === 0 ? Promise.resolve() : new Promise((resolve) => (this.#onDone = resolve));
  }

  /** A message that comes before the answer. Where there can be no stream it is dropped. */
  notify(message: string): void {
    if (this.#left === 0) return;
    this.#upgrade();
    if (this.#isStreaming) this.#send(message);
  }

  /** A question, without whose answer there is none of ours. @throws AppError when there can be no stream. */
  ask(message: string): void {
    const { streams, exchange } = this.#options;
    if (!this.#isStreaming) streams.requireRoom(exchange.gate.caller);
    this.notify(message);
    if (!this.#isStreaming) throw new AppError('CANCELLED', 'the client that would be asked is gone');
  }

  answer(message: string): void {
    if (this.#left === 0) return;
    if (this.#isStreaming) this.#send(message);
    else this.#collected.push(message);
    this.#settle();
  }

  /** An answer with a status of its own. Where the reply has begun, or is for others too, `message` is sent instead. */
  refuse({ status, error, headers }: Refusal, id: RpcId, message: string): void {
    this.replace(status, errorMessage(error, id), { headers, message });
  }

  /** The whole reply, with its status. Where it can't have one any more, `message` is the answer instead. */
  replace(
    status: number,
    body: string,
    { headers, message = body }: { headers?: Record<string, string> | undefined; message?: string } = {},
  ): void {
    const { exchange, batch } = this.#options;
    if (this.#isStreaming || batch) return this.answer(message);
    if (this.#left === 0) return;
    this.#left = 0;
    this.#unlist?.();
    if (body === '') sendNothing(exchange, status);
    else sendJson(exchange, status, body, headers);
    this.#onDone?.();
  }

  /** A call that gets no answer, because it was cancelled. */
  withdraw(message: string): void {
    if (this.#left === 0) return;
    if (!this.#isStreaming) this.#collected.push(message);
    this.#settle();
  }

  /** After a keep-alive interval without an answer, something on the way may cut a silent connection. */
  keepWaiting(): void {
    this.#upgrade();
  }

  /** Ends the connection, which aborts a call of the modern era; the session's end aborts one of the legacy era. */
  cut(): void {
    if (this.#left === 0) return;
    this.#left = 0;
    this.#unlist?.();
    this.#options.exchange.reply.destroy();
    this.#onDone?.();
  }

  /** Ends the connection in the middle of the call; the client comes back for the rest (SEP-1699). */
  disconnect(): void {
    this.#upgrade();
    this.#channel?.detach();
  }

  /** The request failed before it reached anyone: who called answers that. */
  release(): void {
    this.#left = 0;
    this.#unlist?.();
  }

  /** Gives up: no answer will come. */
  abandon(): void {
    if (this.#left === 0) return;
    this.#left = 0;
    this.#finish();
  }

  get #isStreaming(): boolean {
    return this.#stream !== undefined;
  }

  #settle(): void {
    this.#left -= 1;
    if (this.#left === 0) this.#finish();
  }

  #finish(): void {
    this.#unlist?.();
    const { exchange, batch, accepted } = this.#options;
    const [first] = this.#collected;
    // Room or not: it ends as soon as it has begun.
    if (first !== undefined && !accepted.json) this.#open();
    if (this.#isStreaming) (this.#channel?.stream ?? this.#stream)?.end();
    else if (first === undefined) sendNothing(exchange, 202);
    else sendJson(exchange, 200, batch ? `[${this.#collected.join(',')}]` : first);
    this.#onDone?.();
  }

  #upgrade(): void {
    const { streams, exchange } = this.#options;
    if (this.#left > 0 && streams.hasRoom(exchange.gate.caller)) this.#open();
  }

  #open(): void {
    const { accepted, exchange, principal, streams, openChannel } = this.#options;
    if (this.#stream || !accepted.events || exchange.signal.aborted) return;
    const channel = openChannel?.();
    const stream: EventStream = streams.open(exchange, principal, () => channel?.lost(stream));
    this.#stream = stream;
    this.#channel = channel;
    channel?.attach(stream);
    for (const message of this.#collected.splice(0)) this.#send(message);
  }

  #send(message: string): void {
    if (this.#channel) this.#channel.send(message);
    else this.#stream?.event(message);
  }
}
