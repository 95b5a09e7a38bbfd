/** Port: legacy sessions and the events of their streams, so that both outlive a restart. */
export interface StoredSession {
  readonly id: string;
  /** Whose sessions are counted together. */
  readonly principalId: string;
  /** `params` of the `initialize` request, replayed to bring the session back. */
  readonly initialize: Readonly<Record<string, unknown>>;
  readonly version: string;
  /** URIs of resources that its client follows; absent: none. */
  readonly followed?: readonly string[] | undefined;
  readonly createdAt: number;
  readonly lastSeenAt: number;
}

export interface StoredEvent {
  readonly sessionId: string;
  readonly streamId: string;
  readonly sequence: number;
  /** The JSON-RPC message as it was sent. */
  readonly message: string;
}

export interface SessionCaps {
  readonly perPrincipal: number;
  readonly total: number;
  /** Beyond the total those whose `principalId` begins like this make room before any other. */
  readonly firstToGo?: string | undefined;
}

export interface SessionStore {
  /** Keeps `session` and returns the ids of those, longest unused first, that had to make room. */
  create(session: StoredSession, caps: SessionCaps): Promise<string[]>;
  find(id: string): Promise<StoredSession | undefined>;
  /** Keeps which resources it follows. */
  follow(id: string, uris: readonly string[]): Promise<void>;
  remove(id: string): Promise<void>;
  removeOf(principalId: string): Promise<void>;
  /** Keeps when sessions were last used. */
  touch(lastSeen: ReadonlyMap<string, number>): Promise<void>;
  /** Removes sessions and events last used before these times; returns the ids of the sessions. */
  sweep(idleBefore: number, eventsBefore: number): Promise<string[]>;
  /** Events of sessions that are gone are left out. */
  append(events: readonly StoredEvent[], now: number): Promise<void>;
  /** In order, at most `limit`. */
  eventsAfter(position: Omit<StoredEvent, 'message'>, limit: number): Promise<StoredEvent[]>;
}
