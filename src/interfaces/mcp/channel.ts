/**
 * The numbered messages of one stream of one session, whether or not a client is reading: what is sent is also kept,
 * so that a client that lost its connection gets the rest. @see MCP 2025-11-25, Resumability and Redelivery
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { messageOf } from '../../core/errors.ts';
import { EventBudget } from './event-budget.ts';
import type { EventStream } from './event-stream.ts';
import type { SessionStore, StoredEvent } from './session-store.ts';
import {
  MAX_EVENT_CHARACTERS,
  MAX_EVENT_QUEUE_CHARACTERS,
  MAX_REPLAY,
  PRIMING_SINCE,
  RETRY_MS,
} from './settings.ts';

/** Writes events in batches, in order, off the request path. */
export class EventLog {
  readonly #store: SessionStore;
  readonly #clock: Clock;
  readonly #onError: (message: string) => void;
  #queue: StoredEvent[] = [];
  #queued = 0;
  readonly #budget: EventBudget;
  #isOver = false;
  #writing: Promise<void> | undefined;

  constructor(store: SessionStore, clock: Clock, onError: (message: string) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#onError = onError;
    this.#budget = new EventBudget(clock, MAX_EVENT_CHARACTERS);
  }

  append(event: StoredEvent): void {
    const wasOver = this.#isOver;
    this.#isOver =
      !this.#budget.take(event.message.length) ||
      this.#queued + event.message.length > MAX_EVENT_QUEUE_CHARACTERS;
    if (this.#isOver) {
      if (!wasOver) this.#onError('events are not kept, there are too many; streams can not be resumed');
      return;
    }
    this.#queue.push(event);
    this.#queued += event.message.length;
    this.#writing ??= this.#write();
  }

  /** Resolves when everything that was appended so far is in the store. */
  async settled(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      this.#queued = 0;
      try {
        await this.#store.append(batch, this.#clock.now());
      } catch (cause) {
        this.#onError(`${batch.length} events were not kept: ${messageOf(cause)}`);
      }
    }
    this.#writing = undefined;
  }

  /** Everything after a position, page by page, until the store has no more. */
  async *after(position: Omit<StoredEvent, 'message'>): AsyncGenerator<StoredEvent> {
    let { sequence } = position;
    for (;;) {
      const page = await this.#store.eventsAfter({ ...position, sequence }, MAX_REPLAY);
      yield* page;
      const last = page.at(-1);
      if (!last || page.length < MAX_REPLAY) return;
      sequence = last.sequence;
    }
  }
}

/** What a channel knows of its session. */
export interface ChannelOwner {
  readonly id: string;
  readonly version: string;
  /** Whether this much more may be kept of its events. */
  mayKeep(characters: number): boolean;
}

/** What kind of stream it is stays readable after a restart: of a POST, or the standing one of a GET. */
export type StreamKind = 'p' | 'g';

const STREAM_ID_BYTES = 8;
const EVENT_ID = /^([pg][0-9a-f]{16})\.([0-9]{1,9})$/;

export interface Position {
  readonly kind: StreamKind;
  readonly streamId: string;
  readonly sequence: number;
}

export function parseEventId(text: string): Position | undefined {
  const [, streamId, sequence] = EVENT_ID.exec(text) ?? [];
  if (streamId === undefined || sequence === undefined) return undefined;
  return { kind: streamId.startsWith('g') ? 'g' : 'p', streamId, sequence: Number(sequence) };
}

export class Channel {
  readonly streamId: string;
  readonly #session: ChannelOwner;
  readonly #canPrime: boolean;
  readonly #log: EventLog;
  #sequence = 0;
  #stream: EventStream | undefined;

  constructor(kind: StreamKind, session: ChannelOwner, log: EventLog) {
    this.streamId = `${kind}${randomBytes(STREAM_ID_BYTES).toString('hex')}`;
    this.#session = session;
    this.#canPrime = session.version >= PRIMING_SINCE;
    this.#log = log;
  }

  get stream(): EventStream | undefined {
    return this.#stream;
  }

  /** Whether a client that is cut off here can come back. */
  get isResumable(): boolean {
    return this.#canPrime;
  }

  send(message: string): void {
    this.#sequence += 1;
    if (this.#session.mayKeep(message.length))
      this.#log.append({ ...this.#position, sequence: this.#sequence, message });
    this.#stream?.event(message, this.#id(this.#sequence));
  }

  /** The new stream takes over from the one before. */
  attach(stream: EventStream, prime = true): void {
    this.#stream?.end();
    this.#stream = stream;
    if (!prime || !this.#canPrime) return;
    this.#sequence += 1;
    stream.prime(this.#id(this.#sequence), RETRY_MS);
  }

  /** Ends the connection, not the channel. */
  detach(): void {
    this.#stream?.end();
    this.#stream = undefined;
  }

  /** Called when a connection is gone; an older one must not take the newer one with it. */
  lost(stream: EventStream): void {
    if (this.#stream === stream) this.#stream = undefined;
  }

  /** Sends what a client missed after `sequence`, then goes on live. */
  async resume(stream: EventStream, sequence: number): Promise<void> {
    let seen = sequence;
    for (let before = -1; before !== this.#sequence; ) {
      before = this.#sequence;
      await this.#log.settled();
      for await (const event of this.#log.after({ ...this.#position, sequence: seen })) {
        stream.event(event.message, this.#id(event.sequence));
        seen = event.sequence;
      }
    }
    this.attach(stream, false);
  }

  get #position() {
    return { sessionId: this.#session.id, streamId: this.streamId };
  }

  #id(sequence: number): string {
    return `${this.streamId}.${sequence}`;
  }
}
