/**
 * Calls that wait for a person's yes on a page, because nobody can be asked through who makes them. Each is for one
 * principal, one operation and one digest of its arguments; the link to it holds a random id and nothing else, and what
 * the person sees was written down here when the call was refused. Kept in memory: after a restart the call is refused
 * with another link. Not the page (`oauth/interactions/confirm.ts`). Made by `app.ts`; asked by `dispatch`;
 * docs/decisions/0051-confirming-on-a-page.md.
 */
import { randomBytes } from 'node:crypto';
import { type Clock, MINUTE } from './clock.ts';
import { AppError } from './errors.ts';
import type { ConfirmationQuestion } from './operation.ts';
import { type Permission, permissions } from './permissions.ts';
import { isConfined, type Principal } from './principal.ts';
import { cleanLines } from './untrusted.ts';

/** A person has this long to open the link and to answer. A no holds as long as the link would have. */
export const ASK_MS = 10 * MINUTE;
/** After a yes the client has this long to make the call again. */
export const AGREED_MS = 5 * MINUTE;
export const MAX_ASKS_PER_PRINCIPAL = 20;
/** Of all clients that one person let in: how many those are is up to the person. */
export const MAX_ASKS_PER_PERSON = 100;
/** Of all API tokens and clients of their own, for which administrators answer. The rest is for people. */
export const MAX_ASKS_FOR_ADMINISTRATORS = 500;
export const MAX_ASKS = 1000;
/** What is longer could not be shown whole, and nobody agrees to what they don't see. 16 MB in all. */
export const MAX_MESSAGE = 16 * 1024;
const ID_BYTES = 32;

/** What the person is shown. */
export interface Ask extends Pick<ConfirmationQuestion, 'operation' | 'message'> {
  readonly id: string;
  readonly principal: Principal;
  /** Name and version that the client gave of itself; untrusted. */
  readonly client: string | undefined;
}

interface Entry extends Ask {
  readonly inputDigest: string;
  readonly wish: string;
  answer: { readonly isYes: boolean; readonly userId: string } | undefined;
  expiresAt: number;
}

/** Why somebody has to be asked, for the message of a refusal and for programs. */
export interface Reason {
  /** Such as: `delete_proxy has to be confirmed by a person`. */
  readonly why: string;
  /** What helps where no page does. */
  readonly otherwise: string;
  readonly details?: Record<string, unknown>;
}

export interface AsksOptions {
  readonly clock: Clock;
  /** Where the page of an id is. */
  readonly urlOf: (id: string) => string;
}

export interface Question extends Pick<ConfirmationQuestion, 'operation' | 'inputDigest' | 'message'> {
  /** Digest of what the call wants done, however else it differs from another: what a no is for. */
  readonly wish: () => string;
}

type Asker = Pick<Ask, 'principal' | 'client'>;

export class Asks {
  readonly #options: AsksOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: AsksOptions) {
    this.#options = options;
  }

  /**
   * Takes the yes to this call, which is good for this time, and returns the user who gave it.
   * @throws AppError CONFIRMATION_REQUIRED with the link where the person can give it, or that they said no.
   */
  require(question: Question, asker: Asker, reason: Reason): string {
    this.#forgetExpired();
    if (question.message.length > MAX_MESSAGE) throw refuseUnasked(reason, TOO_LONG);
    const asked = [...this.#entries.values()].filter(
      (one) => one.principal.id === asker.principal.id && one.operation === question.operation,
    );
    const same = asked.find((one) => one.inputDigest === question.inputDigest);
    if (same?.answer?.isYes) {
      this.#entries.delete(same.id);
      return same.answer.userId;
    }
    const wish = question.wish();
    const refused = asked.find((one) => one.answer?.isYes === false && one.wish === wish);
    if (refused) throw refuseFor(refused);
    const waiting = same ?? this.#begin(question, wish, asker);
    throw waiting ? this.#refuseYet(waiting, reason) : refuseUnasked(reason, FULL);
  }

  /** Undefined when there is none of this id that waits for an answer. */
  find(id: string): Ask | undefined {
    const entry = this.#entries.get(id);
    return entry && !entry.answer && entry.expiresAt > this.#options.clock.now() ? entry : undefined;
  }

  /** @throws AppError NOT_FOUND when it does not wait any more. */
  answer(id: string, isYes: boolean, userId: string): void {
    const entry = this.#entries.get(id);
    if (!entry || !this.find(id))
      throw new AppError('NOT_FOUND', 'this question was answered already, or has expired');
    entry.answer = { isYes, userId };
    if (isYes) entry.expiresAt = this.#options.clock.now() + AGREED_MS;
  }

  /** What was let in ended: what was asked for it, or agreed to, ends with it. */
  forget(principalId: string): void {
    for (const [id, { principal }] of this.#entries)
      if (principal.id === principalId) this.#entries.delete(id);
  }

  /** Who answers for it, or has answered, was cut off. */
  forgetPerson(userId: string): void {
    for (const [id, { principal, answer }] of this.#entries)
      if (answer?.userId === userId || principal.oauth?.userId === userId) this.#entries.delete(id);
  }

  /** Undefined: there is no room. Nobody's question makes room for another's. */
  #begin(question: Question, wish: string, { principal, client }: Asker): Entry | undefined {
    if (!this.#hasRoomFor(principal)) return undefined;
    const { operation, inputDigest } = question;
    const message = cleanLines(question.message, MAX_MESSAGE);
    const id = randomBytes(ID_BYTES).toString('base64url');
    const expiresAt = this.#options.clock.now() + ASK_MS;
    const entry = {
      id,
      principal,
      client,
      operation,
      inputDigest,
      wish,
      message,
      answer: undefined,
      expiresAt,
    };
    this.#entries.set(id, entry);
    return entry;
  }

  #hasRoomFor({ id, oauth }: Principal): boolean {
    if (this.#entries.size >= MAX_ASKS) return false;
    const answerer = oauth?.userId;
    const toAnswer = [...this.#entries.values()].filter(
      ({ principal }) => principal.oauth?.userId === answerer,
    );
    const most = answerer === undefined ? MAX_ASKS_FOR_ADMINISTRATORS : MAX_ASKS_PER_PERSON;
    const own = toAnswer.filter(({ principal }) => principal.id === id);
    return toAnswer.length < most && own.length < MAX_ASKS_PER_PRINCIPAL;
  }

  #refuseYet({ id, expiresAt }: Entry, { why, otherwise, details }: Reason): AppError {
    const url = this.#options.urlOf(id);
    const until = new Date(expiresAt).toISOString();
    const minutes = Math.ceil((expiresAt - this.#options.clock.now()) / MINUTE);
    return new AppError(
      'CONFIRMATION_REQUIRED',
      `${why}. Nothing was done. Show the person this link, whole: ${url} . It is good for ${minutes} minutes (until ${until}): they open it, sign in and agree. Wait until they say that they did; then repeat this call with exactly the same arguments within ${AGREED_MS / MINUTE} minutes, and it goes through once. ${otherwise}`,
      { details: { ...details, confirm_url: url, confirm_until: until } },
    );
  }

  #forgetExpired(): void {
    const now = this.#options.clock.now();
    for (const [id, { expiresAt }] of this.#entries) if (expiresAt <= now) this.#entries.delete(id);
  }
}

/** Where there is no page for it. */
export const refuseUnasked = ({ why, otherwise, details }: Reason, hint = ''): AppError =>
  new AppError('CONFIRMATION_REQUIRED', `${why}. Nothing was done. ${hint}${otherwise}`, {
    ...(details && { details }),
  });

const TOO_LONG = 'The call is too long to be shown to a person. ';
const FULL = 'Too many other calls wait for a person already: let them be answered first. ';

const refuseFor = ({ operation, expiresAt }: Entry): AppError =>
  new AppError(
    'CONFIRMATION_REQUIRED',
    `${operation}: the person has refused this call; nothing was done. Do not repeat it`,
    { details: { reason: 'refused_by_person', until: new Date(expiresAt).toISOString() } },
  );

/**
 * Who may answer for whom: for a client that a person let in, that person and nobody else; for an API token or a client
 * of its own, which belong to nobody who signs in, an administrator.
 */
export function mayAnswer(
  { principal }: Ask,
  person: Pick<Principal, 'id' | 'hostnames'> & { readonly permissions: ReadonlySet<Permission> },
): boolean {
  const userId = principal.oauth?.userId;
  if (userId !== undefined) return person.id === userId;
  return !isConfined(person) && permissions.every((permission) => person.permissions.has(permission));
}
