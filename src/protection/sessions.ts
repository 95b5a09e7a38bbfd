/**
 * Browsers that are signed in at protected hostnames. All of them are in memory, because every request asks; the store
 * has them so that a restart signs nobody out. The id is the hash of the cookie: who reads the store can't use it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { type Clock, DAY, HOUR, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Database } from '../store/database.ts';

/** Not used this long, it ends. */
export const SESSION_IDLE_MS = 2 * DAY;
/** After this long it ends whatever it is used for. */
export const SESSION_MAX_MS = 14 * DAY;
/** How often it is written down that sessions are in use, and those that ended are taken away. */
const KEEP_EVERY_MS = MINUTE;
const SWEEP_EVERY_MS = HOUR;
const MAX_SESSIONS = 100_000;
const MAX_SESSIONS_OF_USER = 100;
const SECRET_BYTES = 32;
const MAX_SECRET = 64;

export interface Session {
  readonly id: string;
  readonly userId: string;
  readonly grantId: string;
  /** Canonical; it is good nowhere else. */
  readonly hostname: string;
  readonly createdAt: number;
  usedAt: number;
}

export interface SessionsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the sign-in that it came from still stands. */
  readonly isAlive: (session: Session) => boolean;
}

const KIND = 'site';
const documentSchema = z.object({ kind: z.literal(KIND), grant_id: z.string(), used_at: z.number() });

export class Sessions implements Disposable {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #used = new Set<Session>();
  readonly #timers: readonly Timer[];

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#timers = [
      options.clock.every(KEEP_EVERY_MS, () => this.#inBackground(this.#keepUse())),
      options.clock.every(SWEEP_EVERY_MS, () => this.#inBackground(this.#sweep())),
    ];
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) timer.cancel();
  }

  async load(): Promise<void> {
    const rows = await this.#options.database.read
      .selectFrom('browser_sessions')
      .selectAll()
      .orderBy('created_at')
      .execute();
    for (const { id, user_id: userId, hostname, document, created_at: createdAt } of rows) {
      const { success, data } = documentSchema.safeParse(JSON.parse(document));
      if (!success) continue; // Of another kind.
      this.#sessions.set(id, {
        id,
        userId,
        grantId: data.grant_id,
        hostname,
        createdAt,
        usedAt: data.used_at,
      });
    }
  }

  /** The session that a cookie is for; undefined when it has ended, or is for another hostname. */
  find(secret: string | undefined, hostname: string): Session | undefined {
    if (secret === undefined || secret.length > MAX_SECRET) return undefined;
    const session = this.#sessions.get(idOf(secret));
    if (session?.hostname !== hostname || !this.#isGood(session)) return undefined;
    const now = this.#options.clock.now();
    if (now - session.usedAt >= KEEP_EVERY_MS) {
      session.usedAt = now;
      this.#used.add(session);
    }
    return session;
  }

  /** Resolves to the value of the cookie, once it is stored. */
  async begin(who: { userId: string; grantId: string; hostname: string }): Promise<string> {
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    const now = this.#options.clock.now();
    const session: Session = { ...who, id: idOf(secret), createdAt: now, usedAt: now };
    const surplus = this.#surplus(who.userId);
    await this.#options.database.change({}, async (tx, afterCommit) => {
      if (surplus.length > 0) await tx.deleteFrom('browser_sessions').where('id', 'in', surplus).execute();
      await tx.insertInto('browser_sessions').values(toRow(session)).execute();
      afterCommit(() => {
        for (const id of surplus) this.#sessions.delete(id);
        this.#sessions.set(session.id, session);
      });
    });
    return secret;
  }

  async end({ id }: Session): Promise<void> {
    // At once, whatever the store has to do before.
    this.#sessions.delete(id);
    await this.#options.database.change({}, (tx) =>
      tx.deleteFrom('browser_sessions').where('id', '=', id).execute(),
    );
  }

  #isGood(session: Session): boolean {
    const now = this.#options.clock.now();
    return endOf(session) > now && this.#options.isAlive(session);
  }

  /** Maps keep the order of insertion: the first are the oldest. */
  #surplus(userId: string): string[] {
    const own = [...this.#sessions.values()].filter((session) => session.userId === userId);
    const surplus = own.slice(0, Math.max(0, own.length + 1 - MAX_SESSIONS_OF_USER)).map(({ id }) => id);
    const [oldest] = this.#sessions.keys();
    return surplus.length === 0 && this.#sessions.size >= MAX_SESSIONS && oldest !== undefined
      ? [oldest]
      : surplus;
  }

  async #keepUse(): Promise<void> {
    if (this.#used.size === 0) return;
    const used = [...this.#used];
    this.#used.clear();
    await this.#options.database.change({}, async (tx) => {
      for (const session of used) {
        const { document, expires_at } = toRow(session);
        await tx
          .updateTable('browser_sessions')
          .set({ document, expires_at })
          .where('id', '=', session.id)
          .execute();
      }
    });
  }

  async #sweep(): Promise<void> {
    const over = [...this.#sessions.values()].filter((session) => !this.#isGood(session));
    if (over.length === 0) return;
    await this.#options.database.change({}, async (tx) => {
      for (const { id } of over) await tx.deleteFrom('browser_sessions').where('id', '=', id).execute();
    });
    for (const { id } of over) this.#sessions.delete(id);
  }

  /** Nobody waits for it; what fails now is tried again with the next. */
  #inBackground(work: Promise<void>): void {
    const { log, clock } = this.#options;
    work.catch((cause: unknown) =>
      log.write({
        time: clock.now(),
        kind: 'system',
        level: 'warn',
        component: 'oauth',
        message: `sessions of browsers could not be written: ${messageOf(cause)}`,
      }),
    );
  }
}

/** When it ends by itself, milliseconds since 1970. */
export const endOf = ({ createdAt, usedAt }: Session): number =>
  Math.min(createdAt + SESSION_MAX_MS, usedAt + SESSION_IDLE_MS);

const idOf = (secret: string): string => createHash('sha256').update(secret).digest('base64url');

const toRow = (session: Session) => ({
  id: session.id,
  user_id: session.userId,
  hostname: session.hostname,
  document: JSON.stringify({ kind: KIND, grant_id: session.grantId, used_at: session.usedAt }),
  created_at: session.createdAt,
  expires_at: endOf(session),
});
