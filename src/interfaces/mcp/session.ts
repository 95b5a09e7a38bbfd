/**
 * One legacy session: who it belongs to, what was negotiated, what is running in it. The SDK server behind it is made
 * when a message first needs it, by replaying the `initialize` the session began with; so a session that comes back
 * from the store after a restart is no different from one that stayed. Kept small: there may be many.
 */
import { createHash } from 'node:crypto';
import type { JSONRPCMessage, JSONRPCRequest } from '@modelcontextprotocol/server';
import type { Clock } from '../../core/clock.ts';
import { Channel, type ChannelOwner, type EventLog } from './channel.ts';
import type { Scope } from './calls.ts';
import type { JsonObject, RpcId } from './message.ts';
import type { PostReply } from './post-reply.ts';
import { clientName } from './record.ts';
import { errorMessage } from './reply.ts';
import type { CreateSdkServer } from './sdk-server.ts';
import type { StoredSession } from './session-store.ts';
import { EVENTS_KEPT_MS, MAX_SESSION_EVENT_CHARACTERS } from './settings.ts';
import { connectSession, type SdkLink } from './session-transport.ts';

/** A request that is being served. Its own id may repeat; the key in `Session.calls` does not. */
export interface Call {
  readonly id: RpcId;
  readonly reply: PostReply;
  readonly scope: Scope;
  readonly cancel: (reason: string) => void;
}

export interface SessionParts {
  readonly createServer: CreateSdkServer;
  readonly log: EventLog;
  readonly clock: Clock;
}

export class Session implements ChannelOwner {
  readonly id: string;
  readonly principalId: string;
  readonly version: string;
  readonly initialize: Readonly<JsonObject>;
  readonly client: string | undefined;
  readonly calls = new Map<number, Call>();
  lastSeenAt: number;
  readonly #parts: SessionParts;
  #hash: string | undefined;
  #nextCall = 1;
  #kept = { characters: 0, since: 0 };
  #standing: Channel | undefined;
  #link: Promise<SdkLink> | undefined;

  constructor(stored: StoredSession, parts: SessionParts) {
    this.id = stored.id;
    this.principalId = stored.principalId;
    this.version = stored.version;
    this.initialize = stored.initialize;
    this.lastSeenAt = stored.lastSeenAt;
    this.client = clientName(stored.initialize.clientInfo);
    this.#parts = parts;
  }

  /** For the log: tells sessions apart and opens none. */
  get hash(): string {
    this.#hash ??= createHash('sha256').update(this.id).digest('hex').slice(0, HASH_CHARACTERS);
    return this.#hash;
  }

  get isBusy(): boolean {
    return this.calls.size > 0 || this.#standing?.stream !== undefined;
  }

  /** The channel of the standing GET stream; it stays when the connection goes. */
  get standing(): Channel | undefined {
    return this.#standing;
  }

  openStanding(): Channel {
    this.#standing ??= this.openChannel('g');
    return this.#standing;
  }

  openChannel(kind: 'p' | 'g'): Channel {
    return new Channel(kind, this, this.#parts.log);
  }

  mayKeep(characters: number): boolean {
    const now = this.#parts.clock.now();
    if (this.#kept.since + EVENTS_KEPT_MS <= now) this.#kept = { characters: 0, since: now };
    this.#kept.characters += characters;
    return this.#kept.characters <= MAX_SESSION_EVENT_CHARACTERS;
  }

  begin(call: Call): number {
    const key = this.#nextCall;
    this.#nextCall += 1;
    this.calls.set(key, call);
    return key;
  }

  /** What a client calls by its own id; it may have used the id twice. */
  cancel(id: unknown, reason: string): void {
    for (const call of this.calls.values()) if (call.id === id) call.cancel(reason);
  }

  /** A call that is over by cancelling: its connection must not stay open for an answer that won't come. */
  withdraw(key: number): void {
    const call = this.calls.get(key);
    if (!call) return;
    this.calls.delete(key);
    call.scope.facts.outcome = 'CANCELLED';
    call.reply.withdraw(errorMessage({ code: CANCELLED_CODE, message: 'cancelled' }, call.id));
  }

  /** Hands a request to the SDK server; its answer goes to `call.reply`. */
  async request(message: JSONRPCRequest, call: Omit<Call, 'cancel'>): Promise<void> {
    const key = this.begin({ ...call, cancel: (reason) => this.#cancelInSdk(key, reason) });
    const link = await this.#connect();
    link.receive({ ...message, id: key }, call.reply);
  }

  /** A notification, or the answer to a question of ours. Nobody waits for them where no server was needed yet. */
  async tell(message: JSONRPCMessage): Promise<void> {
    const link = await this.#link;
    link?.receive(message);
  }

  /** A message of ours that belongs to no call. Without a reader, now or before, it goes nowhere. */
  announce(message: string): void {
    this.#standing?.send(message);
  }

  async close(): Promise<void> {
    this.#standing?.detach();
    for (const call of this.calls.values()) {
      call.cancel('the session has ended');
      call.reply.abandon();
    }
    this.calls.clear();
    const link = await this.#link;
    await link?.close();
  }

  #cancelInSdk(key: number, reason: string): void {
    this.withdraw(key);
    const cancelled = { method: 'notifications/cancelled', params: { requestId: key, reason } };
    void this.tell({ jsonrpc: '2.0', ...cancelled });
  }

  #connect(): Promise<SdkLink> {
    this.#link ??= connectSession(this, this.#parts.createServer);
    return this.#link;
  }
}

const HASH_CHARACTERS = 12;
const CANCELLED_CODE = -32_016;
