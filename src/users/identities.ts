/**
 * Who people are at providers elsewhere. An identity belongs to one user, who linked it while signed in, used it for
 * an invitation, or got the account by it; an e-mail address alone never leads to an account. What the provider
 * vouches for is taken over anew each time. Who may come at all is decided before (`oauth/upstreams/`).
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Database, Reader, Writer } from '../store/database.ts';
import { type OwnSession, type Person, withDocument } from './person.ts';
import { type Identity, type UserDocument, userDocument } from './schema.ts';
import type { UserService } from './service.ts';
import { unvouched, vouched } from './vouched.ts';
import { type Provider, requireAnotherWay, waysOf } from './ways.ts';

const MAX_IDENTITIES = 20;
const MAX_BASE = 24;
/** How often a name is tried with a number before it gets random letters. */
const MAX_NUMBER = 9;
const RANDOM_BYTES = 6;

export interface IdentityOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly users: Pick<UserService, 'find' | 'alter' | 'alterOwn' | 'accept' | 'admit'>;
  readonly providers: readonly Provider[];
}

export interface Linked {
  readonly issuer: string;
  readonly subject: string;
  readonly title: string;
  readonly label: string;
  readonly createdAt: string;
  readonly lastUsedAt: string | undefined;
}

type Which = Pick<Identity, 'issuer' | 'subject'>;

export class IdentityService {
  readonly #options: IdentityOptions;

  constructor(options: IdentityOptions) {
    this.#options = options;
  }

  /** Whose it is, with what the provider says of them now; undefined: nobody's, or of somebody who is not let in. */
  async signIn(identity: Identity): Promise<Person | undefined> {
    const { database, users } = this.#options;
    const owner = await ownerOf(database.read, identity);
    if (owner === undefined || !users.find(owner)) return undefined;
    return users.alter(owner, async (tx, person) => {
      if (person.document.disabled || (await ownerOf(tx, identity)) !== owner) throw notLinked();
      await this.#used(tx, identity);
      return this.#vouched(person, identity);
    });
  }

  /** Whether it is somebody's, let in or not. */
  async isKnown(identity: Which): Promise<boolean> {
    return (await ownerOf(this.#options.database.read, identity)) !== undefined;
  }

  /** A new account for who has none. @throws AppError CONFLICT when it was made at the same moment. */
  admit(identity: Identity, role: UserDocument['role']): Promise<Person> {
    const provider = this.#providerOf(identity);
    const document = vouched(userDocument.parse({ role, owner: provider.name }), identity, provider);
    return this.#options.users.admit(usernamesFor(identity, provider), document, (tx, id) =>
      this.#add(tx, id, identity),
    );
  }

  /** @throws AppError CONFLICT when it is somebody else's or the session is over, PRECONDITION_FAILED when there are too many. */
  link(own: OwnSession, identity: Identity): Promise<Person> {
    return this.#options.users.alterOwn(own, async (tx, person) => {
      await this.#add(tx, person.id, identity);
      return this.#vouched(person, identity);
    });
  }

  /** Ends the invitation. @throws AppError NOT_FOUND, CONFLICT. */
  accept(code: string, identity: Identity): Promise<Person> {
    return this.#options.users.accept(code, async (tx, person) => {
      await this.#add(tx, person.id, identity);
      return this.#vouched(person, identity);
    });
  }

  /** Oldest first. */
  async list(userId: string): Promise<Linked[]> {
    const { database, providers } = this.#options;
    const rows = await database.read
      .selectFrom('identities')
      .selectAll()
      .where('user_id', '=', userId)
      .orderBy('created_at')
      .execute();
    return rows.map(({ issuer, subject, label, created_at, last_used_at }) => ({
      issuer,
      subject,
      title: providers.find((one) => one.issuer === issuer)?.title ?? issuer,
      label,
      createdAt: toTimestamp(created_at),
      lastUsedAt: last_used_at === null ? undefined : toTimestamp(last_used_at),
    }));
  }

  /** @throws AppError NOT_FOUND, or PRECONDITION_FAILED when the person could not sign in any more. */
  unlink(userId: string, which: Which): Promise<Person> {
    const { providers, users } = this.#options;
    const provider = providers.find((one) => one.issuer === which.issuer);
    return users.alter(userId, async (tx, person) => {
      if ((await ownerOf(tx, which)) !== person.id) throw new AppError('NOT_FOUND', 'there is no such link');
      if (provider) requireAnotherWay(await waysOf(tx, person.id), providers);
      await tx
        .deleteFrom('identities')
        .where('issuer', '=', which.issuer)
        .where('subject', '=', which.subject)
        .execute();
      return provider ? withDocument(person, unvouched(person.document, [provider])) : person;
    });
  }

  #vouched(person: Person, identity: Identity): Person {
    return withDocument(person, vouched(person.document, identity, this.#providerOf(identity)));
  }

  #providerOf({ issuer }: Identity): Provider {
    const provider = this.#options.providers.find((one) => one.issuer === issuer);
    if (!provider) throw new Error(`${issuer} is no provider`);
    return provider;
  }

  async #add(tx: Writer, userId: string, { issuer, subject, label }: Identity): Promise<void> {
    const owner = await ownerOf(tx, { issuer, subject });
    if (owner !== undefined)
      throw new AppError(
        'CONFLICT',
        owner === userId
          ? 'it is linked to your account already'
          : 'it is linked to another account; unlink it there first',
      );
    const { length } = (await waysOf(tx, userId)).identities;
    if (length >= MAX_IDENTITIES)
      throw new AppError('PRECONDITION_FAILED', `you have linked ${MAX_IDENTITIES}; unlink one first`);
    const now = this.#options.clock.now();
    await tx
      .insertInto('identities')
      .values({ issuer, subject, label, user_id: userId, created_at: now, last_used_at: now })
      .execute();
  }

  async #used(tx: Writer, { issuer, subject, label }: Identity): Promise<void> {
    await tx
      .updateTable('identities')
      .set({ last_used_at: this.#options.clock.now(), label })
      .where('issuer', '=', issuer)
      .where('subject', '=', subject)
      .execute();
  }
}

const notLinked = (): AppError => new AppError('CONFLICT', 'this was just unlinked, or its account disabled');

async function ownerOf(
  db: Pick<Reader, 'selectFrom'>,
  { issuer, subject }: Which,
): Promise<string | undefined> {
  const row = await db
    .selectFrom('identities')
    .select('user_id')
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .executeTakeFirst();
  return row?.user_id;
}

/** With the name of the provider behind it: nobody gets the name of somebody who is here, or of who will be. */
function* usernamesFor({ label, email }: Identity, { name }: Provider): Generator<string> {
  const [wanted = ''] = (label === '' ? (email ?? '') : label).toLowerCase().split('@');
  const base =
    wanted
      .replace(/[^a-z0-9._-]+/g, '-')
      .replace(/^[^a-z0-9]+/, '')
      .slice(0, MAX_BASE) || 'user';
  yield `${base}@${name}`;
  for (let number = 2; number <= MAX_NUMBER; number++) yield `${base}-${number}@${name}`;
  yield `${base}-${randomBytes(RANDOM_BYTES).toString('hex')}@${name}`;
}
