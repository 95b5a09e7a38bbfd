/**
 * One legacy session: who it belongs to, what was negotiated, what is running in it. The SDK server behind it is made
 * when a message first needs it, by replaying the `initialize` the session began with; so a session that comes back
 * from the store after a restart is no different from one that stayed. Kept small: there may be many.
 */
import { createHash } from 'node:crypto';
import {
  type JSONRPCMessage,
  type JSONRPCRequest,
  ProtocolError,
  ProtocolErrorCode,
} from '@modelcontextprotocol/server';
import type { Clock } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import { Channel, type ChannelOwner, type EventLog } from './channel.ts';
import type { Scope } from './calls.ts';
import { EventBudget } from './event-budget.ts';
import { ListNews } from './list-news.ts';
import type { JsonObject, RpcId } from './message.ts';
import type { PostReply } from './post-reply.ts';
import { clientName } from './record.ts';
import { type Follower, MAX_FOLLOWED, updatedMessage } from './resources.ts';
import { errorMessage, rpcErrorOf } from './reply.ts';
import type { CreateSdkServer } from './sdk-server.ts';
import type { StoredSession } from './session-store.ts';
import { MAX_SESSION_EVENT_CHARACTERS } from './settings.ts';
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
  /** Keeps which resources a session follows, so that it does after a restart as well. */
  readonly keepFollowed: (id: string, uris: readonly string[]) => Promise<void>;
  /** What a holder follows now, here and elsewhere. */
  readonly followedBy: (holder: string) => readonly string[];
  /** For what goes wrong where nobody waits. */
  readonly onError: (error: Error) => void;
}

export class Session implements ChannelOwner {
  readonly id: string;
  readonly principalId: string;
  readonly version: string;
  readonly initialize: Readonly<JsonObject>;
  readonly client: string | undefined;
  readonly calls = new Map<number, Call>();
  readonly news: ListNews;
  /** Who it was that last asked; of one that came back from the store, not yet anybody. */
  principal: Principal | undefined;
  lastSeenAt: number;
  readonly #parts: SessionParts;
  #hash: string | undefined;
  #nextCall = 1;
  readonly #budget: EventBudget;
  #standing: Channel | undefined;
  #link: Promise<SdkLink> | undefined;
  readonly #followed: Set<string>;
  /** What it follows may have changed while nobody could tell it. */
  #hasMissed: boolean;

  /** `isOld`: not used since the process was started. */
  constructor(stored: StoredSession, parts: SessionParts, isOld = false) {
    this.id = stored.id;
    this.principalId = stored.principalId;
    this.version = stored.version;
    this.initialize = stored.initialize;
    this.lastSeenAt = stored.lastSeenAt;
    this.client = clientName(stored.initialize.clientInfo);
    this.#parts = parts;
    this.news = new ListNews({ clock: parts.clock, tell: () => this.tellListChanged(), isOld });
    this.#followed = new Set(stored.followed);
    this.#hasMissed = this.#followed.size > 0;
    this.#budget = new EventBudget(parts.clock, MAX_SESSION_EVENT_CHARACTERS);
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
    // While nobody listened nobody looked for it.
    if (this.#standing) this.#hasMissed = true;
    this.#standing ??= this.openChannel('g');
    return this.#standing;
  }

  openChannel(kind: 'p' | 'g'): Channel {
    return new Channel(kind, this, this.#parts.log);
  }

  mayKeep(characters: number): boolean {
    return this.#budget.take(characters);
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
    call.reply.withdraw(errorMessage(CANCELLED, call.id));
  }

  /** Hands a request to the SDK server; its answer goes to `call.reply`. */
  async request(message: JSONRPCRequest, call: Omit<Call, 'cancel'>): Promise<void> {
    const key = this.begin({ ...call, cancel: (reason) => this.#cancelInSdk(key, reason) });
    const link = await this.#connect().catch((cause: unknown) => {
      this.calls.delete(key);
      throw cause;
    });
    link.receive({ ...message, id: key }, call.reply);
  }

  /** A notification, or the answer to a question of ours. Nobody waits for them where no server was needed yet. */
  async tell(message: JSONRPCMessage): Promise<void> {
    const link = await this.#linked();
    link?.receive(message);
  }

  /** Returns whether somebody hears it, now or by coming back. */
  tellListChanged(): boolean {
    this.announce(LIST_CHANGED);
    return this.#standing !== undefined;
  }

  /**
   * Empty while nobody listens: the rights are those of the last request, and whoever is granted less is cut off.
   * Nobody may learn later of what happened in between.
   */
  followers(): Follower[] {
    const { principal, principalId: holder } = this;
    const stream = this.#standing?.stream;
    if (!principal || !stream?.isOpen) return [];
    const isSame = () => this.#standing?.stream === stream;
    return [...this.#followed].map((uri) => ({
      holder,
      uri,
      principal,
      tell: () => void (isSame() && this.announce(updatedMessage(uri))),
    }));
  }

  async follow(uri: string): Promise<void> {
    if (this.#followed.has(uri)) return;
    const all = new Set([...this.#parts.followedBy(this.principalId), ...this.#followed]);
    if (this.#followed.size >= MAX_FOLLOWED || (all.size >= MAX_FOLLOWED && !all.has(uri)))
      throw new ProtocolError(
        ProtocolErrorCode.InvalidParams,
        `${MAX_FOLLOWED} resources are followed already, over all your sessions and subscriptions; unsubscribe from one first`,
      );
    this.#followed.add(uri);
    await this.#parts.keepFollowed(this.id, [...this.#followed]);
  }

  async unfollow(uri: string): Promise<void> {
    if (this.#followed.delete(uri)) await this.#parts.keepFollowed(this.id, [...this.#followed]);
  }

  /** For one that listens again, after a restart as well: with the rights that it has now. */
  catchUp(mayFollow: (uri: string) => boolean): void {
    if (!this.#hasMissed) return;
    this.#hasMissed = false;
    for (const uri of this.#followed) if (mayFollow(uri)) this.announce(updatedMessage(uri));
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
    const link = await this.#linked();
    await link?.close();
  }

  #cancelInSdk(key: number, reason: string): void {
    this.withdraw(key);
    const cancelled = { method: 'notifications/cancelled', params: { requestId: key, reason } };
    this.tell({ jsonrpc: '2.0', ...cancelled }).catch(this.#parts.onError);
  }

  /** One that could not be made is not kept: the next message makes another. */
  #connect(): Promise<SdkLink> {
    this.#link ??= connectSession(this, this.#parts.createServer).catch((cause: unknown) => {
      this.#link = undefined;
      throw cause;
    });
    return this.#link;
  }

  async #linked(): Promise<SdkLink | undefined> {
    try {
      return await this.#link;
    } catch {
      return undefined; // It could not be made, which the call that needed it has heard.
    }
  }
}

const HASH_CHARACTERS = 12;
const LIST_CHANGED = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' });
const CANCELLED = rpcErrorOf(new AppError('CANCELLED', 'cancelled'));
