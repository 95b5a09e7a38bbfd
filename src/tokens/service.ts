/**
 * API tokens: who holds one, what it may do, until when. Answers `authenticate` from memory, because every request
 * asks. It is not the gate (that is the gateway's) and not the permission check (that is `dispatch`). Called by the
 * operations of this folder, and by the composition root for `load`, `authenticate` and the first administrator.
 */
import { timingSafeEqual } from 'node:crypto';
import { type Clock, DAY, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { decodeCursor, encodeCursor, pageOf, requireVersion } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import { permissions } from '../core/permissions.ts';
import { isConfined, type Principal, system } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import type { Database, Writer } from '../store/database.ts';
import { chosenFault, HASH_LENGTH, MAX_CHOSEN, hashOf, newCredential } from './credential.ts';
import { createEntry, type Entry, parseRow, replaceHash, toRow, toToken } from './entry.ts';
import { type Grants, isLastingAdministrator, maySee, outranks, requireGrantable } from './grants.ts';
import type { Token } from './schema.ts';

/** `last_used_at` is written at most this often. */
const FLUSH_MS = MINUTE;
/** Revoked and expired tokens are kept this long, so that a list and the log can be read together. */
const KEPT_DEAD_MS = 90 * DAY;
const MAX_TOKENS = 10_000;
/** The answer to who revoked or rotated the token of the call itself travels on a stream that the news would cut. */
const OWN_STREAMS_MS = SECOND / 2;

const GRANT_REFUSAL = 'nobody can grant more than they hold; give less, or hostnames or expires_in';
const ROTATE_REFUSAL = 'rotating shows the secret, and this token may do more than you';

export interface TokenServiceOptions {
  database: Database;
  events: Events;
  clock: Clock;
  log: Log;
}

export interface NewToken extends Pick<Grants, 'permissions' | 'hostnames'> {
  name: string;
  /** How long it lives; undefined: until it is revoked. */
  lifeMs: number | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

export class TokenService implements AsyncDisposable {
  readonly #options: TokenServiceOptions;
  /** Every token that is kept, dead ones included. */
  readonly #byId = new Map<string, Entry>();
  /** Those that are not revoked, by the hex SHA-256 of their secret. */
  readonly #byHash = new Map<string, Entry>();
  readonly #used = new Set<Entry>();
  readonly #news = new Set<Timer>();
  readonly #flushing: Timer;

  constructor(options: TokenServiceOptions) {
    this.#options = options;
    this.#flushing = options.clock.every(FLUSH_MS, () => void this.flush());
  }

  /** Undefined when it is unknown, revoked or expired. The same token gives the same principal object every time. */
  readonly authenticate = (credential: string): Principal | undefined => {
    if (credential.length > MAX_CHOSEN) return undefined;
    const hash = hashOf(credential);
    const entry = this.#byHash.get(hash);
    if (!entry || !sameHash(entry, hash)) return undefined;
    const now = this.#options.clock.now();
    const { expiresAt } = entry.principal;
    if (expiresAt !== undefined && expiresAt <= now) return undefined;
    entry.lastUsedAt = now;
    this.#used.add(entry);
    return entry.principal;
  };

  /** Whether it is confined to hostnames, and who made it; undefined: it is not known, or not any more. */
  identityOf(id: string): { isConfined: boolean; madeBy: string } | undefined {
    const entry = this.#byId.get(id);
    return entry && { isConfined: isConfined(entry.principal), madeBy: entry.owner };
  }

  /** Fills the table. A row that can't be read opens nothing and is reported; the others work. */
  async load(): Promise<void> {
    const rows = await this.#options.database.read.selectFrom('tokens').selectAll().execute();
    for (const row of rows) {
      try {
        this.#put(parseRow(row));
      } catch (cause) {
        this.#report(`token ${row.id} can't be read and is refused: ${messageOf(cause)}`);
      }
    }
    await this.#options.database.change({}, async (tx, afterCommit) => this.#sweep(tx, afterCommit));
  }

  /**
   * At the first start only: makes the administrator's token. `secret` comes back only when it was generated, to be
   * printed once; `ignored` when one was given later that opens nothing an administrator's token would.
   */
  async ensureAdministrator(chosen?: string): Promise<{ created: boolean; secret?: string; ignored?: true }> {
    const secret = chosen ?? newCredential();
    const entry = this.#newAdministrator(secret);
    const created = await this.#options.database.change({}, async (tx, afterCommit) => {
      const any = await tx.selectFrom('tokens').select('id').limit(1).executeTakeFirst();
      if (any) return false;
      requireUsableSecret(secret);
      await tx.insertInto('tokens').values(toRow(entry)).execute();
      afterCommit(() => this.#put(entry));
      return true;
    });
    if (created) return { created, ...(chosen === undefined && { secret }) };
    const kept = this.#byHash.get(entry.hash);
    const ignored = chosen !== undefined && !(kept && isLastingAdministrator(kept.principal));
    return { created, ...(ignored && { ignored }) };
  }

  /**
   * For whoever has the data folder but lost the token: a new administrator's token, and the end of what the first
   * start (or an earlier reset) made. Tokens that were given to others stay. `secret` comes back only when it was generated.
   * @throws AppError CONFLICT when the chosen secret is or was that of another token.
   */
  async resetAdministrator(chosen?: string): Promise<{ token: Token; revoked: string[]; secret?: string }> {
    const secret = chosen ?? newCredential();
    requireUsableSecret(secret);
    const entry = this.#newAdministrator(secret);
    const revoked = await this.#options.database.change({}, async (tx, afterCommit) => {
      await requireUnused(tx, entry.hash);
      const lost = [...this.#byHash.values()].filter(({ owner }) => owner === system.id);
      for (const one of lost) await this.#end(one, system, tx, afterCommit);
      await tx.insertInto('tokens').values(toRow(entry)).execute();
      afterCommit(() => this.#put(entry));
      return lost.map(({ id }) => id);
    });
    this.#auditReset({ made: entry.id, revoked });
    return { token: toToken(entry), revoked, ...(chosen === undefined && { secret }) };
  }

  /** The secret is in the answer and nowhere else: the result kept for an idempotency key is without it. */
  async create(wanted: NewToken, context: Caller): Promise<Token & { secret: string }> {
    const secret = newCredential();
    const entry = this.#newEntry(secret, context.principal, wanted);
    requireGrantable(context.principal, entry.principal, GRANT_REFUSAL);
    const token = await this.#options.database.change(context, async (tx, afterCommit) => {
      this.#requireAlive(context.principal);
      await this.#requireRoom(tx, afterCommit);
      await tx.insertInto('tokens').values(toRow(entry)).execute();
      afterCommit(() => this.#put(entry));
      return toToken(entry);
    });
    return { ...token, secret };
  }

  /** Oldest first. */
  list(
    {
      limit,
      cursor,
      includeRevoked,
    }: { limit?: number | undefined; cursor?: string | undefined; includeRevoked: boolean },
    { principal }: Pick<Caller, 'principal'>,
  ): { tokens: Token[]; next_cursor?: string } {
    const [at, id] =
      cursor === undefined ? [-Infinity, ''] : decodeCursor('tokens', ['number', 'string'], cursor);
    const found = [...this.#byId.values()]
      .filter((entry) => includeRevoked || entry.revokedAt === undefined)
      .filter((entry) => maySee(principal, entry.principal))
      .filter((entry) => entry.createdAt > at || (entry.createdAt === at && entry.id > id))
      .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
    const cursorOf = (last: Entry) => encodeCursor('tokens', [last.createdAt, last.id]);
    const { items, ...more } = pageOf(found, limit, cursorOf, toToken);
    return { tokens: items.map(toToken), ...more };
  }

  /** Revoking what is revoked changes nothing. */
  revoke(id: string, context: Caller): Promise<Token> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const entry = this.#find(id, context.principal);
      if (entry.revokedAt !== undefined) return toToken(entry);
      if (!outranks(context.principal, entry.principal)) throw tooPowerful(id, 'revoke');
      this.#requireAnotherAdministrator(entry);
      return toToken(await this.#end(entry, context.principal, tx, afterCommit));
    });
  }

  /** A new secret for the same id and grants; the old one stops at once. */
  async rotate(
    id: string,
    version: number | undefined,
    context: Caller,
  ): Promise<Token & { secret: string }> {
    const secret = newCredential();
    const token = await this.#options.database.change(context, async (tx, afterCommit) => {
      const entry = this.#find(id, context.principal);
      if (entry.revokedAt !== undefined)
        throw new AppError('PRECONDITION_FAILED', `${id} is revoked; create a new token instead`);
      requireVersion(id, version, entry.version);
      // Whoever rotates learns the secret, and so gains all that the token may do.
      requireGrantable(context.principal, entry.principal, ROTATE_REFUSAL);
      const rotated = replaceHash(entry, hashOf(secret));
      await write(tx, rotated);
      afterCommit(() => this.#replace(entry, rotated, context.principal));
      return toToken(rotated);
    });
    return { ...token, secret };
  }

  /** Writes what was used since the last time. What can't be written is tried again the next time. */
  async flush(): Promise<void> {
    const used = [...this.#used];
    this.#used.clear();
    if (used.length === 0) return;
    try {
      await this.#options.database.change({}, async (tx) => {
        for (const { id, lastUsedAt } of used)
          await tx
            .updateTable('tokens')
            .set({ last_used_at: lastUsedAt ?? null })
            .where('id', '=', id)
            .execute();
      });
    } catch (cause) {
      for (const entry of used) this.#used.add(entry);
      this.#report(`last use of ${used.length} tokens could not be written: ${messageOf(cause)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#flushing.cancel();
    for (const timer of this.#news) timer.cancel();
    await this.flush();
  }

  async #end(
    entry: Entry,
    by: Principal,
    tx: Writer,
    afterCommit: (run: () => void) => void,
  ): Promise<Entry> {
    const revoked: Entry = { ...entry, revokedAt: this.#options.clock.now(), version: entry.version + 1 };
    await write(tx, revoked);
    afterCommit(() => this.#replace(entry, revoked, by));
    return revoked;
  }

  #newAdministrator(secret: string): Entry {
    return this.#newEntry(secret, system, {
      name: 'administrator',
      permissions: new Set(permissions),
      hostnames: undefined,
      lifeMs: undefined,
    });
  }

  #newEntry(secret: string, owner: Principal, { name, lifeMs, ...wanted }: NewToken): Entry {
    const createdAt = this.#options.clock.now();
    return createEntry({
      id: newId('tok'),
      name,
      owner: owner.id,
      grants: { ...wanted, expiresAt: lifeMs === undefined ? undefined : createdAt + lifeMs },
      createdAt,
      hash: hashOf(secret),
    });
  }

  #put(entry: Entry): void {
    this.#byId.set(entry.id, entry);
    if (entry.revokedAt === undefined) this.#byHash.set(entry.hash, entry);
  }

  #replace(old: Entry, fresh: Entry, by: Principal): void {
    this.#byHash.delete(old.hash);
    this.#used.delete(old);
    fresh.lastUsedAt = old.lastUsedAt;
    this.#put(fresh);
    this.#tellRevoked(old.id, by);
  }

  #tellRevoked(tokenId: string, by: Principal): void {
    const { events, clock } = this.#options;
    if (by.id !== tokenId) return events.emit('token.revoked', { tokenId });
    const timer = clock.after(OWN_STREAMS_MS, () => {
      this.#news.delete(timer);
      events.emit('token.revoked', { tokenId });
    });
    this.#news.add(timer);
  }

  /** What a principal may not see does not exist for it. */
  #find(id: string, principal: Principal): Entry {
    this.#requireAlive(principal);
    const entry = this.#byId.get(id);
    if (!entry || !maySee(principal, entry.principal))
      throw new AppError('NOT_FOUND', `no token ${JSON.stringify(id)}; list_tokens names them`);
    return entry;
  }

  /** Between the gate and this change the caller's own token may have been revoked; then it may make no other. */
  #requireAlive({ kind, id }: Principal): void {
    if (kind !== 'token') return;
    const entry = this.#byId.get(id);
    if (!entry || entry.revokedAt !== undefined)
      throw new AppError('UNAUTHENTICATED', 'the token of this call has been revoked');
  }

  #requireAnotherAdministrator(entry: Entry): void {
    if (!isLastingAdministrator(entry.principal)) return;
    const others = [...this.#byHash.values()].some(
      (other) => other !== entry && isLastingAdministrator(other.principal),
    );
    if (others) return;
    throw new AppError(
      'PRECONDITION_FAILED',
      `${entry.id} is the last administrator's token that is neither confined nor expires; without it nobody could ` +
        'get in. Create another one with bundle admin first, or rotate this one',
    );
  }

  async #requireRoom(tx: Writer, afterCommit: (run: () => void) => void): Promise<void> {
    if (this.#byId.size < MAX_TOKENS) return;
    const swept = await this.#sweep(tx, afterCommit);
    if (this.#byId.size - swept >= MAX_TOKENS)
      throw new AppError(
        'PRECONDITION_FAILED',
        `there are ${MAX_TOKENS} tokens, which is the limit; revoked ones count for ${KEPT_DEAD_MS / DAY} days`,
      );
  }

  async #sweep(tx: Writer, afterCommit: (run: () => void) => void): Promise<number> {
    const before = this.#options.clock.now() - KEPT_DEAD_MS;
    const dead = [...this.#byId.values()].filter(
      ({ revokedAt, principal }) => (revokedAt ?? principal.expiresAt ?? Infinity) < before,
    );
    for (const { id } of dead) await tx.deleteFrom('tokens').where('id', '=', id).execute();
    afterCommit(() => {
      for (const entry of dead) {
        this.#byId.delete(entry.id);
        this.#byHash.delete(entry.hash);
      }
    });
    return dead.length;
  }

  /** No operation does it, so that `dispatch` can't write this. Nothing is called "token", which the log would redact. */
  #auditReset(detail: Record<string, unknown>): void {
    const { log, clock } = this.#options;
    log.write({
      time: clock.now(),
      kind: 'audit',
      level: 'warn',
      component: 'audit',
      message: `${system.name} reset_admin_token: OK`,
      principal: system.id,
      operation: 'reset_admin_token',
      outcome: 'OK',
      detail,
    });
  }

  #report(message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'system', level: 'error', component: 'system', message });
  }
}

const presented = Buffer.alloc(HASH_LENGTH);

/** In constant time, without allocating: the buffer is only used until this returns. */
function sameHash({ hashBytes }: Entry, hash: string): boolean {
  presented.write(hash, 'latin1');
  return timingSafeEqual(hashBytes, presented);
}

function requireUsableSecret(secret: string): void {
  const fault = chosenFault(secret);
  if (fault !== undefined) throw new AppError('INVALID_INPUT', `the administrator's token ${fault}`);
}

async function requireUnused(tx: Writer, hash: string): Promise<void> {
  const taken = await tx.selectFrom('tokens').select('id').where('hash', '=', hash).executeTakeFirst();
  if (!taken) return;
  throw new AppError(
    'CONFLICT',
    `that secret is or was the one of ${taken.id}; choose another one, or none to have one made (nothing was changed)`,
  );
}

async function write(tx: Writer, entry: Entry): Promise<void> {
  const { id, ...rest } = toRow(entry);
  await tx.updateTable('tokens').set(rest).where('id', '=', id).execute();
}

function tooPowerful(id: string, verb: string): AppError {
  return new AppError('FORBIDDEN', `${id} may do more than you; ask an administrator to ${verb} it`);
}
