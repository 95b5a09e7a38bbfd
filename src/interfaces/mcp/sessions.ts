/**
 * The legacy sessions: those in memory, and through the store those of before a restart. Each belongs to one
 * principal; to everyone else it does not exist. All callers without a credential are one principal, but what one
 * network of them opens makes no room among the others'. Idle ones leave memory first and the store later.
 */
import type { Clock, Timer } from '../../core/clock.ts';
import { messageOf } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import type { Exchange } from '../../core/exchange.ts';
import { anonymous, type Principal } from '../../core/principal.ts';
import { type Log, writeDebug } from '../../core/record.ts';
import type { JsonObject } from './message.ts';
import { Session, type SessionParts } from './session.ts';
import type { SessionStore } from './session-store.ts';
import { EVENTS_KEPT_MS, IN_MEMORY_IDLE_MS, type McpSettings, SWEEP_MS } from './settings.ts';

export interface SessionsOptions {
  readonly store: SessionStore;
  readonly clock: Clock;
  readonly settings: McpSettings;
  readonly parts: SessionParts;
  readonly onError: (error: Error) => void;
  readonly log: Log;
}

interface Opener {
  readonly principal: Principal;
  readonly exchange: Pick<Exchange, 'gate'>;
}

/** Whose it is: all without a credential are one principal, and each network of them is by itself. */
export const holderOf = (principal: Principal, caller: string): string =>
  isAnonymous(principal) ? `${anonymousPrefix}${caller}` : principal.id;

const anonymousPrefix = `${anonymous.id} `;
const isAnonymous = ({ kind }: Principal): boolean => kind === 'anonymous';

/** A client without a credential may come from another network than before: it is known by the id of its session. */
const isOf = ({ principalId }: Session, principal: Principal): boolean =>
  isAnonymous(principal) ? principalId.startsWith(anonymousPrefix) : principalId === principal.id;

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #touched = new Set<Session>();
  /** How often all sessions of somebody were ended. */
  #endings = 0;
  readonly #timer: Timer;
  readonly #startedAt: number;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
    this.#timer = options.clock.every(SWEEP_MS, () => void this.#sweep());
  }

  get size(): number {
    return this.#sessions.size;
  }

  [Symbol.iterator](): Iterator<Session> {
    return this.#sessions.values();
  }

  /** Kept durably before it is answered, so that a client never holds an id that a crash makes unknown. */
  async create({ principal, exchange }: Opener, initialize: JsonObject, version: string): Promise<Session> {
    const { store, clock, settings, parts } = this.#options;
    const now = clock.now();
    const stored = {
      id: newId('ses'),
      principalId: holderOf(principal, exchange.gate.caller),
      initialize,
      version,
      createdAt: now,
      lastSeenAt: now,
    };
    // So that the longest unused is told by what was really used.
    await this.#saveTouched();
    const gone = await store.create(stored, {
      perPrincipal: settings.maxSessionsPerPrincipal,
      total: settings.maxSessions,
      firstToGo: anonymousPrefix,
    });
    const session = new Session(stored, parts);
    this.#sessions.set(session.id, session);
    this.#tell(session, () => `opened, ${version}${gone.length > 0 ? `; ${gone.length} made room` : ''}`);
    await Promise.all(gone.map((id) => this.#forget(id)));
    return session;
  }

  /** Undefined when there is none, or none of this principal. */
  async find(id: string, principal: Principal): Promise<Session | undefined> {
    const session = this.#sessions.get(id) ?? (await this.#recall(id));
    if (!session || !isOf(session, principal) || this.#isExpired(session.lastSeenAt)) return undefined;
    session.lastSeenAt = this.#options.clock.now();
    session.principal = principal;
    this.#touched.add(session);
    return session;
  }

  /** As `find`, without waiting, when it is in memory. */
  peek(id: string, principal: Principal): Session | undefined {
    const session = this.#sessions.get(id);
    if (!session || !isOf(session, principal) || this.#isExpired(session.lastSeenAt)) return undefined;
    session.lastSeenAt = this.#options.clock.now();
    session.principal = principal;
    this.#touched.add(session);
    return session;
  }

  async end(session: Session): Promise<void> {
    await this.#options.store.remove(session.id);
    await this.#forget(session.id);
  }

  async endOf(principalId: string): Promise<void> {
    await this.#forgetOf(principalId);
    await this.#options.store.removeOf(principalId);
    this.#endings += 1;
    // A request that came before they were gone from the store has brought its session back.
    await this.#forgetOf(principalId);
  }

  async close(): Promise<void> {
    this.#timer.cancel();
    await this.#saveTouched();
    await Promise.all([...this.#sessions.values()].map((session) => session.close()));
    this.#sessions.clear();
  }

  async #recall(id: string): Promise<Session | undefined> {
    const endings = this.#endings;
    const stored = await this.#options.store.find(id);
    if (!stored) return undefined;
    // What was read may be gone by now.
    if (endings !== this.#endings) return this.#recall(id);
    // Another request may have brought it back while this one waited.
    const isOld = stored.lastSeenAt < this.#startedAt;
    const session = this.#sessions.get(id) ?? new Session(stored, this.#options.parts, isOld);
    this.#sessions.set(id, session);
    this.#tell(session, () => 'brought back from the store');
    return session;
  }

  /** By its hash: the id is the client's. */
  #tell(session: Session, what: () => string): void {
    writeDebug(this.#options, 'mcp', () => ({
      message: `session ${session.hash} ${what()}`,
      principal: session.principalId,
      detail: { client: session.client, in_memory: this.#sessions.size },
    }));
  }

  #isExpired(lastSeenAt: number): boolean {
    return lastSeenAt + this.#options.settings.sessionIdleMs <= this.#options.clock.now();
  }

  async #forgetOf(principalId: string): Promise<void> {
    const own = [...this.#sessions.values()].filter((session) => session.principalId === principalId);
    await Promise.all(own.map(({ id }) => this.#forget(id)));
  }

  async #forget(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (!session) return;
    this.#sessions.delete(id);
    this.#touched.delete(session);
    this.#tell(session, () => 'left memory');
    await session.close();
  }

  async #saveTouched(): Promise<void> {
    if (this.#touched.size === 0) return;
    const lastSeen = new Map([...this.#touched].map(({ id, lastSeenAt }) => [id, lastSeenAt]));
    this.#touched.clear();
    await this.#options.store.touch(lastSeen);
  }

  async #sweep(): Promise<void> {
    const { store, clock, settings, onError } = this.#options;
    const now = clock.now();
    try {
      this.#touchBusy(now);
      await this.#saveTouched();
      const gone = await store.sweep(now - settings.sessionIdleMs, now - EVENTS_KEPT_MS);
      await Promise.all(gone.map((id) => this.#forget(id)));
      this.#dropIdle(now);
    } catch (cause) {
      onError(new Error(`sweep of sessions: ${messageOf(cause)}`, { cause }));
    }
  }

  /** An open stream is use, even when nothing is said on it. */
  #touchBusy(now: number): void {
    for (const session of this.#sessions.values()) {
      if (!session.isBusy) continue;
      session.lastSeenAt = now;
      this.#touched.add(session);
    }
  }

  #dropIdle(now: number): void {
    for (const session of this.#sessions.values())
      if (!session.isBusy && session.lastSeenAt + IN_MEMORY_IDLE_MS <= now)
        this.#forget(session.id).catch(this.#options.onError);
  }
}
