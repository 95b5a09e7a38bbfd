/**
 * Passkeys: a key pair whose private half a device keeps and uses only for this hostname, after it has made sure that
 * its owner is there. Phishing and leaked databases give nothing away. The pages that ask are in `oauth/interactions/`.
 * @see {@link https://www.w3.org/TR/webauthn-3/ | Web Authentication Level 3} §7.1 registration, §7.2 assertion
 */
import { isIP } from 'node:net';
import type {
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
} from '@simplewebauthn/server';
import type { z } from 'zod';
import { type Clock, MINUTE } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Database, Writer } from '../store/database.ts';
import { Challenges } from './challenges.ts';
import { assertionSchema, passkeyDocument, registrationSchema } from './passkey-schema.ts';
import type { Person } from './person.ts';
import { type Provider, requireAnotherWay, waysOf } from './ways.ts';

export const MAX_PASSKEYS = 20;
/** Shown by the browser beside the hostname. */
const SYSTEM_NAME = 'OAuth HTTPS Proxy';
const PROMPT_MS = 5 * MINUTE;
const MAX_NAME = 60;
/** Characters of an id in base64url; the specification has 1023 bytes. */
const MAX_ID = 1400;

export interface PasskeyOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly find: (userId: string) => Person | undefined;
  /** Other ways to sign in. */
  readonly providers: readonly Provider[];
}

export interface Passkey {
  readonly id: string;
  readonly name: string;
  /** The hostname it is for. */
  readonly hostname: string;
  readonly createdAt: string;
  readonly lastUsedAt: string | undefined;
}

export interface NewPasskey {
  readonly id: string;
  readonly counter: number;
  readonly document: z.output<typeof passkeyDocument>;
}

/** Heavy, and not needed before the first passkey. */
const library = () => import('@simplewebauthn/server');

/** The hostname that a passkey of this issuer is for; undefined where there can be none. @see WebAuthn §5.1.2 `rp.id` */
export function relyingPartyOf(issuer: string): string | undefined {
  const { hostname } = new URL(issuer);
  return isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? hostname : undefined;
}

export class PasskeyService {
  readonly #options: PasskeyOptions;
  readonly #challenges: Challenges;

  constructor(options: PasskeyOptions) {
    this.#options = options;
    this.#challenges = new Challenges(options.clock);
  }

  /** What a page hands to the browser so that somebody signs in. Undefined where nobody could. */
  async signInOptions(
    issuer: string,
    page: string,
  ): Promise<PublicKeyCredentialRequestOptionsJSON | undefined> {
    const rpID = relyingPartyOf(issuer);
    if (rpID === undefined || !(await this.#hasAny())) return undefined;
    const { generateAuthenticationOptions } = await library();
    return generateAuthenticationOptions({
      rpID,
      challenge: bytesOf(this.#challenges.make(`sign-in:${page}`)),
      userVerification: 'required',
      timeout: PROMPT_MS,
    });
  }

  /** Whose passkey answered; undefined when it is not known, not right, or its owner is not let in. */
  async signIn(issuer: string, page: string, answer: string): Promise<Person | undefined> {
    const challenge = this.#challenges.take(`sign-in:${page}`);
    const parsed = assertionSchema.safeParse(parseJson(answer));
    const rpID = relyingPartyOf(issuer);
    if (challenge === undefined || rpID === undefined || !parsed.success) return undefined;
    const known = await this.#find(parsed.data.id);
    if (!known || !isOwner(parsed.data.response.userHandle, known.userId)) return undefined;
    const { verifyAuthenticationResponse } = await library();
    const { id, counter, document } = known;
    const proof = await verifyAuthenticationResponse({
      response: parsed.data,
      expectedChallenge: challenge,
      expectedOrigin: issuer,
      expectedRPID: rpID,
      requireUserVerification: true,
      credential: { id, counter, publicKey: bytesOf(document.public_key) },
    }).catch(() => undefined); // What it throws says why an answer is wrong, which is nothing to who gave it.
    if (!proof?.verified || !(await this.#count(known, proof.authenticationInfo.newCounter)))
      return undefined;
    return this.#options.find(known.userId);
  }

  /** What a page hands to the browser so that somebody gets a passkey. Undefined where there can be none. */
  async registrationOptions(
    issuer: string,
    page: string,
    person: Person,
  ): Promise<PublicKeyCredentialCreationOptionsJSON | undefined> {
    const rpID = relyingPartyOf(issuer);
    if (rpID === undefined) return undefined;
    const { generateRegistrationOptions } = await library();
    const known = await this.list(person.id);
    return generateRegistrationOptions({
      rpName: SYSTEM_NAME,
      rpID,
      userName: person.username,
      userDisplayName: person.document.name ?? person.username,
      userID: new TextEncoder().encode(person.id),
      challenge: bytesOf(this.#challenges.make(`register:${page}:${person.id}`)),
      timeout: PROMPT_MS,
      attestationType: 'none',
      excludeCredentials: known.map(({ id }) => ({ id })),
      authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
    });
  }

  /** @throws AppError INVALID_INPUT when the browser's answer is not one to the options of this page. */
  async verify(
    issuer: string,
    page: string,
    { person, answer, name }: { person: Person; answer: string; name: string },
  ): Promise<NewPasskey> {
    const challenge = this.#challenges.take(`register:${page}:${person.id}`);
    const parsed = registrationSchema.safeParse(parseJson(answer));
    const rpID = relyingPartyOf(issuer);
    if (challenge === undefined || rpID === undefined || !parsed.success) throw notTaken();
    const { verifyRegistrationResponse } = await library();
    const proof = await verifyRegistrationResponse({
      response: parsed.data,
      expectedChallenge: challenge,
      expectedOrigin: issuer,
      expectedRPID: rpID,
      requireUserVerification: true,
    }).catch((cause: unknown) => {
      throw notTaken(cause);
    });
    if (!proof.verified) throw notTaken();
    const { id, publicKey, counter, transports } = proof.registrationInfo.credential;
    const document = passkeyDocument.parse({
      name: name.trim().slice(0, MAX_NAME) || 'Passkey',
      hostname: rpID,
      public_key: Buffer.from(publicKey).toString('base64url'),
      transports: transports ?? [],
    });
    return { id, counter, document };
  }

  /** @throws AppError PRECONDITION_FAILED, CONFLICT. */
  async add(tx: Writer, userId: string, { id, counter, document }: NewPasskey): Promise<void> {
    const { length } = await tx.selectFrom('passkeys').select('id').where('user_id', '=', userId).execute();
    if (length >= MAX_PASSKEYS)
      throw new AppError('PRECONDITION_FAILED', `you have ${MAX_PASSKEYS} passkeys; remove one first`);
    const taken = await tx.selectFrom('passkeys').select('id').where('id', '=', id).executeTakeFirst();
    if (taken) throw new AppError('CONFLICT', 'this passkey is registered already');
    const row = { id, user_id: userId, document: JSON.stringify(document), counter };
    await tx
      .insertInto('passkeys')
      .values({ ...row, created_at: this.#options.clock.now(), last_used_at: null })
      .execute();
  }

  /** Oldest first. */
  async list(userId: string): Promise<Passkey[]> {
    const rows = await this.#options.database.read
      .selectFrom('passkeys')
      .selectAll()
      .where('user_id', '=', userId)
      .orderBy('created_at')
      .execute();
    return rows.map(({ id, document, created_at, last_used_at }) => {
      const { name, hostname } = passkeyDocument.parse(JSON.parse(document));
      const lastUsedAt = last_used_at === null ? undefined : toTimestamp(last_used_at);
      return { id, name, hostname, createdAt: toTimestamp(created_at), lastUsedAt };
    });
  }

  /** @throws AppError NOT_FOUND, or PRECONDITION_FAILED when the person could not sign in any more. */
  async remove(person: Person, id: string): Promise<void> {
    await this.#options.database.change({}, async (tx) => {
      const rows = await tx.selectFrom('passkeys').select('id').where('user_id', '=', person.id).execute();
      if (!rows.some((row) => row.id === id)) throw new AppError('NOT_FOUND', 'there is no such passkey');
      requireAnotherWay(await waysOf(tx, person.id), this.#options.providers);
      await tx.deleteFrom('passkeys').where('id', '=', id).where('user_id', '=', person.id).execute();
    });
  }

  async #hasAny(): Promise<boolean> {
    const { read } = this.#options.database;
    return (await read.selectFrom('passkeys').select('id').limit(1).executeTakeFirst()) !== undefined;
  }

  async #find(id: string) {
    if (id.length > MAX_ID) return undefined;
    const row = await this.#options.database.read
      .selectFrom('passkeys')
      .selectAll()
      .where('id', '=', id)
      .executeTakeFirst();
    if (!row) return undefined;
    const document = passkeyDocument.parse(JSON.parse(row.document));
    return { id, userId: row.user_id, counter: row.counter, document };
  }

  /**
   * A counter that does not rise says that the key was copied; synchronised passkeys count nothing and say 0. Of two
   * answers at once with the same count one is refused. @see WebAuthn §6.1.1
   */
  #count({ id, counter }: { id: string; counter: number }, next: number): Promise<boolean> {
    const { database, clock } = this.#options;
    if (next <= counter && (next !== 0 || counter !== 0)) return Promise.resolve(false);
    return database.change({}, async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable('passkeys')
        .set({ counter: next, last_used_at: clock.now() })
        .where('id', '=', id)
        .where('counter', '=', counter)
        .executeTakeFirst();
      return numUpdatedRows === 1n;
    });
  }
}

/** A discoverable credential names its user; §7.2 step 6. */
const isOwner = (userHandle: string, userId: string): boolean =>
  Buffer.from(userHandle, 'base64url').toString('utf8') === userId;

/** In memory of its own, as the library's types want it. */
const bytesOf = (base64url: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(Buffer.from(base64url, 'base64url'));

function notTaken(cause?: unknown): AppError {
  const why = cause === undefined ? '' : ` (${messageOf(cause)})`;
  return new AppError(
    'INVALID_INPUT',
    `the passkey was not taken; open the page again and try once more${why}`,
    {
      cause,
    },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not JSON is simply no answer of a passkey; the schema reports it.
  }
}
