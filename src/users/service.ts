/**
 * People who sign in: who they are, what they may do at most, how they prove it. All of them are in memory, because
 * every request with an access token asks. It shows no page (`oauth/interactions/`) and issues nothing. Called by the
 * operations of this folder, by sign-in, and by the composition root.
 */
import { type Clock, SECOND, type Timer } from '../core/clock.ts';
import { decodeCursor, encodeCursor, pageOf, requireVersion, toTimestamp } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import { newId } from '../core/ids.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import { type Principal, system } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import type { Database, Writer } from '../store/database.ts';
import { createInvite, endInvites, findInvite } from './invites.ts';
import { hashPassword, passwordFault, verifyPassword } from './password.ts';
import { type OwnSession, type Person, personOf, toRow, withRights } from './person.ts';
import {
  isAdministrator,
  losesStreams,
  requireAnotherAdministrator,
  requireGrantable,
  requireOutranks,
} from './rules.ts';
import {
  type InvitedUser,
  type User,
  type UserDocument,
  userDocument,
  userSettings,
  type UserSettings,
} from './schema.ts';
import { unvouched } from './vouched.ts';
import { type Provider, type Ways, waysOf, wordsOf } from './ways.ts';

export type { Person } from './person.ts';

const MAX_USERS = 100_000;
/** The answer to who changes their own account travels on a stream that the news would cut. */
const OWN_STREAMS_MS = SECOND / 2;

export interface UserServiceOptions {
  readonly database: Database;
  readonly events: Events;
  readonly clock: Clock;
  readonly log: Log;
  /** The page that takes the code of an invitation. */
  readonly inviteUrl: (code: string) => string;
  /** By which people sign in, besides here. */
  readonly providers: readonly Provider[];
}

type Settings = { [Name in keyof UserSettings]?: UserSettings[Name] | undefined };

export interface UserChanges extends Settings {
  version?: number | undefined;
  /** Password, passkeys and linked providers stop, and a new invitation is made. */
  reset_sign_in?: boolean | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;
type AfterCommit = (run: () => void) => void;

export class UserService implements Disposable {
  readonly #options: UserServiceOptions;
  readonly #byId = new Map<string, Person>();
  readonly #byName = new Map<string, Person>();
  readonly #news = new Set<Timer>();
  /** Verified where there is no such user or no password, so that both take the same time. */
  #nobody: Promise<string> | undefined;

  constructor(options: UserServiceOptions) {
    this.#options = options;
  }

  [Symbol.dispose](): void {
    for (const timer of this.#news) timer.cancel();
  }

  /** One that can't be read lets nobody in and is reported. */
  async load(): Promise<void> {
    const rows = await this.#options.database.read.selectFrom('users').selectAll().execute();
    for (const row of rows) {
      try {
        this.#put(personOf(row));
      } catch (cause) {
        this.#report(`user ${row.id} can't be read and is not let in: ${messageOf(cause)}`);
      }
    }
  }

  get count(): number {
    return this.#byId.size;
  }

  /** Undefined: no such user, or one that is disabled. */
  find(id: string): Person | undefined {
    const person = this.#byId.get(id);
    return person && !person.document.disabled ? person : undefined;
  }

  /** @throws AppError NOT_FOUND. */
  require(id: string): Person {
    return this.#get(id);
  }

  findByUsername(username: string): Person | undefined {
    const person = this.#byName.get(username.trim().toLowerCase());
    return person && !person.document.disabled ? person : undefined;
  }

  /** Undefined when either is wrong; both take the same time. */
  async signIn(username: string, password: string): Promise<Person | undefined> {
    const person = this.findByUsername(username);
    const encoded = person?.hasPassword ? await this.#passwordHash(person.id) : undefined;
    this.#nobody ??= hashPassword('nobody has this password');
    const isRight = await verifyPassword(password, encoded ?? (await this.#nobody));
    if (!person || !isRight || encoded === undefined) return undefined;
    // Comparing takes a while, in which it may have been changed or taken away.
    return encoded === (await this.#passwordHash(person.id)) ? this.find(person.id) : undefined;
  }

  /** Whether a session that began at `startedAt` (milliseconds since 1970, whole seconds) still stands for a user. */
  isSignedIn(id: string, startedAt: number): boolean {
    const person = this.find(id);
    return person !== undefined && startedAt >= wholeSeconds(person.document.signed_out_at);
  }

  /** `invited`: with a link, told once, by which the person sets how to sign in. Else they come by a provider. */
  async create(
    { username, invited = true, ...settings }: UserSettings & { username: string; invited?: boolean },
    context: Caller,
  ): Promise<InvitedUser> {
    requireGrantable(context.principal, settings);
    let invite: { code: string; expiresAt: number } | undefined;
    const user = await this.#options.database.change(context, async (tx, afterCommit) => {
      const person = await this.#insert(
        tx,
        { username, settings, owner: context.principal, passwordHash: null },
        afterCommit,
      );
      if (invited) invite = await createInvite(tx, person.id, this.#options.clock);
      return this.#told(person, await waysOf(tx, person.id));
    });
    return { ...user, ...this.#invitation(invite) };
  }

  /** @throws AppError CONFLICT when there is anybody already, also when two try at once. */
  async createFirst({ username, password }: { username: string; password: string }): Promise<Person> {
    requireUsable(password, username);
    const passwordHash = await hashPassword(password);
    const settings = userSettings.parse({ role: 'admin' });
    return this.#options.database.change({}, async (tx, afterCommit) => {
      if (this.#byId.size > 0)
        throw new AppError('CONFLICT', 'the first account was made already; sign in with it');
      return this.#insert(tx, { username, settings, owner: system, passwordHash }, afterCommit);
    });
  }

  async update(
    id: string,
    { version, reset_sign_in: isReset = false, ...changes }: UserChanges,
    context: Caller,
  ): Promise<InvitedUser> {
    let invite: { code: string; expiresAt: number } | undefined;
    const user = await this.#options.database.change(context, async (tx, afterCommit) => {
      const current = this.#get(id);
      requireVersion(id, version, current.version);
      const { clock, providers } = this.#options;
      const known = isReset ? { ...current, document: unvouched(current.document, providers) } : current;
      const fresh = changed(known, changes, { isReset, now: clock.now() });
      this.#requireAllowed(context.principal, current, fresh, isReset);
      if (isReset) invite = await resetSignIn(tx, fresh.id, clock);
      await tx.updateTable('users').set(toRow(fresh)).where('id', '=', fresh.id).execute();
      afterCommit(() => this.#replace(current, fresh, context.principal));
      return this.#told(fresh, await waysOf(tx, fresh.id));
    });
    return { ...user, ...this.#invitation(invite) };
  }

  async delete(id: string, version: number | undefined, context: Caller): Promise<{ id: string }> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const current = this.#get(id);
      requireVersion(id, version, current.version);
      requireOutranks(context.principal, current);
      requireAnotherAdministrator(current, this.#byId.values());
      await tx.deleteFrom('users').where('id', '=', current.id).execute();
      afterCommit(() => {
        this.#byId.delete(current.id);
        this.#byName.delete(current.username);
        this.#tell(current.id, context.principal, { isCut: true, signedOut: true });
      });
      return { id: current.id };
    });
  }

  /** By username. */
  async list({
    limit,
    cursor,
  }: {
    limit?: number | undefined;
    cursor?: string | undefined;
  }): Promise<{ users: User[]; next_cursor?: string }> {
    const [after] = cursor === undefined ? [''] : decodeCursor('users', ['string'], cursor);
    const found = [...this.#byName.values()]
      .filter(({ username }) => username > after)
      .sort((a, b) => (a.username < b.username ? -1 : 1))
      .slice(0, (limit ?? limits.pageSizeDefault) + 1);
    const { read } = this.#options.database;
    const users = await Promise.all(
      found.map(async (person) => this.#told(person, await waysOf(read, person.id))),
    );
    const { items, ...more } = pageOf(users, limit, ({ username }) => encodeCursor('users', [username]));
    return { users: items, ...more };
  }

  async get(id: string): Promise<User> {
    const person = this.#get(id);
    return this.#told(person, await waysOf(this.#options.database.read, person.id));
  }

  /** Whom an invitation is for; undefined when it is unknown, used, too old, or they are not let in. */
  async invited(code: string): Promise<Person | undefined> {
    const { database, clock } = this.#options;
    const invite = await findInvite(database.read, code, clock);
    return invite && this.find(invite.userId);
  }

  /** @throws AppError NOT_FOUND when the invitation is not good (any more), INVALID_INPUT for the password. */
  async acceptWithPassword(code: string, password: string): Promise<Person> {
    const person = await this.invited(code);
    if (!person) throw notInvited();
    requireUsable(password, person.username);
    const encoded = await hashPassword(password);
    return this.accept(code, (tx, accepted) => setPassword(tx, accepted, encoded));
  }

  /** Ends the invitation and runs `set` in one transaction: of two at once, one succeeds. */
  accept(code: string, set: (tx: Writer, person: Person) => Promise<Person>): Promise<Person> {
    const { database, clock } = this.#options;
    return database.change({}, async (tx, afterCommit) => {
      const invite = await findInvite(tx, code, clock);
      const person = invite && this.find(invite.userId);
      if (!person) throw notInvited();
      await endInvites(tx, person.id);
      return this.#write(tx, { current: person, fresh: await set(tx, person) }, afterCommit);
    });
  }

  /** Somebody new for whom a provider vouches; `link` runs in the same transaction. @throws AppError CONFLICT. */
  admit(
    usernames: Iterable<string>,
    document: UserDocument,
    link: (tx: Writer, userId: string) => Promise<void>,
  ): Promise<Person> {
    return this.#options.database.change({}, async (tx, afterCommit) => {
      // Else whoever comes first would close the way in for the administrator.
      if (this.#byId.size === 0) throw new AppError('CONFLICT', 'the first account is the administrator’s');
      const username = [...usernames].find((name) => !this.#byName.has(name)) ?? '';
      const wanted = { username, settings: document, owner: system, passwordHash: null };
      const person = await this.#insert(tx, wanted, afterCommit);
      await link(tx, person.id);
      return person;
    });
  }

  /** Makes a user what `set` says, which runs in the same transaction. */
  alter(id: string, set: (tx: Writer, person: Person) => Promise<Person>): Promise<Person> {
    return this.#options.database.change({}, async (tx, afterCommit) => {
      const current = this.#get(id);
      return this.#write(tx, { current, fresh: await set(tx, current) }, afterCommit);
    });
  }

  /** The same, for who asks for it in a session: one that has ended meanwhile changes nothing. @throws AppError CONFLICT. */
  alterOwn(
    { userId, startedAt }: OwnSession,
    set: (tx: Writer, person: Person) => Promise<Person>,
  ): Promise<Person> {
    return this.alter(userId, (tx, person) => {
      if (this.isSignedIn(userId, startedAt)) return set(tx, person);
      throw new AppError('CONFLICT', 'you were signed out meanwhile, and nothing was changed; sign in again');
    });
  }

  /** @throws AppError INVALID_INPUT, CONFLICT. */
  async changePassword(own: OwnSession, password: string): Promise<Person> {
    requireUsable(password, this.#get(own.userId).username);
    const encoded = await hashPassword(password);
    return this.alterOwn(own, (tx, person) => setPassword(tx, person, encoded));
  }

  /** Every session that there is ends; how to sign in stays. */
  async signOut(id: string): Promise<void> {
    const { clock } = this.#options;
    await this.alter(id, async (_tx, current) => {
      return { ...current, document: { ...current.document, signed_out_at: clock.now() } };
    });
  }

  /** Somebody has just signed in. */
  seen(id: string): Promise<void> {
    const { database, clock } = this.#options;
    return database.change({}, async (tx) => {
      await tx.updateTable('users').set({ last_seen_at: clock.now() }).where('id', '=', id).execute();
    });
  }

  #requireAllowed(principal: Principal, current: Person, fresh: Person, isReset: boolean): void {
    requireOutranks(principal, current);
    const [before, after] = [current.document, fresh.document];
    const isGift =
      isReset ||
      before.role !== after.role ||
      JSON.stringify(before.hostnames) !== JSON.stringify(after.hostnames) ||
      (before.disabled && !after.disabled);
    if (isGift) requireGrantable(principal, after);
    if (!isAdministrator(fresh)) requireAnotherAdministrator(current, this.#byId.values());
  }

  async #insert(
    tx: Writer,
    wanted: {
      username: string;
      settings: UserSettings | UserDocument;
      owner: Principal;
      passwordHash: string | null;
    },
    afterCommit: AfterCommit,
  ): Promise<Person> {
    const { username, settings, owner, passwordHash } = wanted;
    if (this.#byId.size >= MAX_USERS)
      throw new AppError('PRECONDITION_FAILED', `there are ${MAX_USERS} users, which is the limit`);
    if (this.#byName.has(username))
      throw new AppError('CONFLICT', `there is a user ${username} already; update_user changes it`);
    const person = withRights({
      id: newId('usr'),
      username,
      document: userDocument.parse({ ...settings, owner: owner.id }),
      hasPassword: passwordHash !== null,
      createdAt: this.#options.clock.now(),
      version: 1,
    });
    await tx
      .insertInto('users')
      .values({ ...toRow(person), password_hash: passwordHash, last_seen_at: null })
      .execute();
    afterCommit(() => {
      this.#put(person);
      this.#options.events.emit('user.changed', { userId: person.id });
    });
    return person;
  }

  #get(id: string): Person {
    const person = this.#byId.get(id) ?? this.#byName.get(id.toLowerCase());
    if (!person) throw new AppError('NOT_FOUND', `no user ${JSON.stringify(id)}; list_users names them`);
    return person;
  }

  async #passwordHash(id: string): Promise<string | undefined> {
    const row = await this.#options.database.read
      .selectFrom('users')
      .select('password_hash')
      .where('id', '=', id)
      .executeTakeFirst();
    return row?.password_hash ?? undefined;
  }

  async #write(
    tx: Writer,
    { current, fresh }: { current: Person; fresh: Person },
    afterCommit: AfterCommit,
  ): Promise<Person> {
    if (fresh === current) return current;
    await tx.updateTable('users').set(toRow(fresh)).where('id', '=', fresh.id).execute();
    afterCommit(() => this.#replace(current, fresh, system));
    return fresh;
  }

  #put(person: Person): void {
    this.#byId.set(person.id, person);
    this.#byName.set(person.username, person);
  }

  #replace(before: Person, fresh: Person, by: Principal): void {
    this.#put(fresh);
    const signedOut = before.document.signed_out_at !== fresh.document.signed_out_at;
    this.#tell(fresh.id, by, {
      isCut: signedOut || losesStreams(before.document, fresh.document),
      signedOut,
    });
  }

  #tell(userId: string, by: Principal, { isCut, signedOut }: { isCut: boolean; signedOut: boolean }): void {
    const { events, clock } = this.#options;
    events.emit('user.changed', { userId });
    if (!isCut) return;
    if (by.oauth?.userId !== userId) return events.emit('user.cut', { userId, signedOut });
    const timer = clock.after(OWN_STREAMS_MS, () => {
      this.#news.delete(timer);
      events.emit('user.cut', { userId, signedOut });
    });
    this.#news.add(timer);
  }

  #invitation(invite: { code: string; expiresAt: number } | undefined) {
    if (!invite) return {};
    const { code, expiresAt } = invite;
    return { invite_url: this.#options.inviteUrl(code), invite_expires_at: toTimestamp(expiresAt) };
  }

  #told({ document, ...person }: Person, ways: Ways): User {
    const { owner: _owner, signed_out_at: _, email_by: _by, ...settings } = document;
    const { lastSeenAt } = ways;
    return {
      ...settings,
      id: person.id,
      username: person.username,
      name: settings.name ?? person.username,
      sign_in: wordsOf(ways, this.#options.providers),
      created_at: toTimestamp(person.createdAt),
      last_seen_at: lastSeenAt === null ? null : toTimestamp(lastSeenAt),
      version: person.version,
    };
  }

  #report(message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'system', level: 'error', component: 'system', message });
  }
}

/** Sessions know when they began to the second. */
const wholeSeconds = (milliseconds: number): number => Math.floor(milliseconds / SECOND) * SECOND;

function changed(
  current: Person,
  changes: Settings,
  { isReset, now }: { isReset: boolean; now: number },
): Person {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  const document = userDocument.parse({ ...current.document, ...Object.fromEntries(given) });
  const isOut = isReset || (document.disabled && !current.document.disabled);
  return withRights({
    ...current,
    document: {
      ...document,
      ...(document.email !== current.document.email && { email_verified: false, email_by: undefined }),
      ...(isOut && { signed_out_at: now }),
    },
    hasPassword: current.hasPassword && !isReset,
    version: current.version + 1,
  });
}

async function resetSignIn(tx: Writer, userId: string, clock: Clock) {
  await tx.updateTable('users').set({ password_hash: null }).where('id', '=', userId).execute();
  await tx.deleteFrom('passkeys').where('user_id', '=', userId).execute();
  await tx.deleteFrom('identities').where('user_id', '=', userId).execute();
  return createInvite(tx, userId, clock);
}

async function setPassword(tx: Writer, person: Person, encoded: string): Promise<Person> {
  await tx.updateTable('users').set({ password_hash: encoded }).where('id', '=', person.id).execute();
  return { ...person, hasPassword: true };
}

function requireUsable(password: string, username: string): void {
  const fault = passwordFault(password, username);
  if (fault !== undefined) throw new AppError('INVALID_INPUT', fault);
}

const notInvited = (): AppError =>
  new AppError(
    'NOT_FOUND',
    'this invitation was used already, has expired, or is not whole; ask for a new one',
  );
