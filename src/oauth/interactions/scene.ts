/** What every page of this folder plays with: the people, the library, and what a form has to carry. */
import { createHmac } from 'node:crypto';
import type Provider from 'oidc-provider';
import type { KoaContextWithOIDC } from 'oidc-provider';
import type { Asks } from '../../core/asks.ts';
import type { Clock } from '../../core/clock.ts';
import { isSameText } from '../../core/same-text.ts';
import { AppError, type ErrorCode } from '../../core/errors.ts';
import type { Permission } from '../../core/permissions.ts';
import type { Identity } from '../../users/schema.ts';
import type { Upstream, UpstreamSettings } from '../upstreams/upstream.ts';
import type { Attempts } from './attempts.ts';
import type { Errands } from './errands.ts';

export interface Person {
  readonly id: string;
  readonly username: string;
  readonly permissions: ReadonlySet<Permission>;
  /** Hostnames it is confined to; undefined: none. */
  readonly hostnames: readonly string[] | undefined;
  readonly hasPassword: boolean;
}

/** The session in which somebody changes how they sign in: what takes a while is done only while it still stands. */
export interface OwnSession {
  readonly userId: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

/** What this folder needs of the people who sign in. */
export interface People {
  readonly count: number;
  find(id: string): Person | undefined;
  /** The id of who has this name; for the log, which is told no name that is none. */
  idOf(username: string): string | undefined;
  /** Whether a session that began then (milliseconds since 1970) still stands for this user. */
  isSignedIn(id: string, startedAt: number): boolean;
  signIn(username: string, password: string): Promise<Person | undefined>;
  seen(id: string): Promise<void>;
  /** @throws AppError INVALID_INPUT, CONFLICT. */
  createFirst(facts: { username: string; password: string }): Promise<Person>;
  /** Whom the code of an invitation is for. */
  invited(code: string): Promise<Person | undefined>;
  /** @throws AppError NOT_FOUND, INVALID_INPUT. */
  acceptWithPassword(code: string, password: string): Promise<Person>;
  /** @throws AppError INVALID_INPUT, CONFLICT. */
  changePassword(own: OwnSession, password: string): Promise<unknown>;
  /** Ends every session of this user. */
  signOut(id: string): Promise<void>;
}

/** `page` is what a challenge is bound to; `answer` is JSON that the browser made. */
export interface Passkeys {
  signInOptions(issuer: string, page: string): Promise<object | undefined>;
  signIn(issuer: string, page: string, answer: string): Promise<Person | undefined>;
  registrationOptions(issuer: string, page: string, userId: string): Promise<object | undefined>;
  /** @throws AppError INVALID_INPUT, CONFLICT, PRECONDITION_FAILED. */
  register(issuer: string, page: string, wanted: NewPasskey): Promise<void>;
  /** The same, for who is invited: it ends the invitation. @throws AppError NOT_FOUND too. */
  accept(issuer: string, code: string, wanted: Omit<NewPasskey, keyof OwnSession>): Promise<Person>;
  list(userId: string): Promise<readonly Passkey[]>;
  /** @throws AppError NOT_FOUND, PRECONDITION_FAILED. */
  remove(userId: string, id: string): Promise<void>;
}

export interface NewPasskey extends OwnSession {
  readonly name: string;
  readonly answer: string;
}

export interface Passkey {
  readonly id: string;
  readonly name: string;
  readonly hostname: string;
  readonly createdAt: string;
  readonly lastUsedAt: string | undefined;
}

export interface GrantTold {
  readonly id: string;
  readonly client_name: string;
  readonly resources: readonly { readonly url: string; readonly scopes: readonly string[] }[];
  readonly created_at: string;
}

/** What a user let in. */
export interface Granted {
  list(userId: string): Promise<readonly GrantTold[]>;
  /** @throws AppError NOT_FOUND. */
  revoke(userId: string, grantId: string): Promise<unknown>;
}

export interface Consent {
  readonly userId: string;
  readonly clientId: string;
  readonly redirectUri: string;
  readonly grantId: string;
}

/** For the audit record. Never a secret, and nothing that somebody typed. */
export interface Report {
  readonly event: string;
  /** `OK`, or the code of an error. */
  readonly outcome: 'OK' | ErrorCode;
  readonly address: string;
  readonly userId?: string | undefined;
  readonly clientId?: string | undefined;
  readonly detail?: Readonly<Record<string, unknown>> | undefined;
}

export interface InteractionOptions {
  readonly people: People;
  readonly passkeys: Passkeys;
  readonly granted: Granted;
  readonly clock: Clock;
  /** Signs what forms carry. */
  readonly secret: Buffer;
  readonly isAdministratorToken: (token: string) => boolean;
  readonly attempts: Attempts;
  /** Scopes of what is protected under this URL; undefined: nothing is. */
  readonly scopesOf: (resource: string) => readonly string[] | undefined;
  readonly defaultResource: (issuer: string) => string;
  readonly rememberConsent: (consent: Consent) => Promise<void>;
  readonly report: (report: Report) => void;
  readonly upstreams: Upstreams;
  readonly identities: Identities;
  readonly errands: Errands;
  /** Calls of clients that wait for a person's yes. */
  readonly asks: Pick<Asks, 'find' | 'answer'>;
}

/** Providers elsewhere that people can come by. */
export interface Upstreams {
  readonly list: readonly Pick<UpstreamSettings, 'name' | 'title' | 'issuer'>[];
  /** @throws AppError NOT_FOUND. */
  get(name: string): Upstream;
}

/** Who people are at providers elsewhere. */
export interface Identities {
  /** Whose it is, made where that is allowed. @throws AppError FORBIDDEN, CONFLICT. */
  signIn(upstream: UpstreamSettings, identity: Identity): Promise<{ person: Person; isNew: boolean }>;
  /** @throws AppError FORBIDDEN, CONFLICT, PRECONDITION_FAILED. */
  link(upstream: UpstreamSettings, identity: Identity, own: OwnSession): Promise<unknown>;
  /** Ends the invitation. @throws AppError FORBIDDEN, CONFLICT, NOT_FOUND. */
  accept(upstream: UpstreamSettings, identity: Identity, code: string): Promise<Person>;
  list(userId: string): Promise<readonly Linked[]>;
  /** @throws AppError NOT_FOUND, PRECONDITION_FAILED. */
  unlink(userId: string, which: { issuer: string; subject: string }): Promise<unknown>;
}

export interface Linked {
  readonly issuer: string;
  readonly subject: string;
  readonly title: string;
  readonly label: string;
  readonly createdAt: string;
  readonly lastUsedAt: string | undefined;
}

export type Details = Awaited<ReturnType<Provider['interactionDetails']>>;

/** One request for a page that belongs to no interaction. */
export interface Visit {
  readonly context: KoaContextWithOIDC;
  readonly provider: Provider;
  readonly options: InteractionOptions;
}

/** One request within an interaction. */
export interface Scene extends Visit {
  readonly details: Details;
}

/** What a form of this page carries: only who was shown the page knows it. */
export const tokenFor = ({ secret }: InteractionOptions, page: string): string =>
  createHmac('sha256', secret).update(`form:${page}`).digest('base64url');

/** @throws AppError FORBIDDEN when the form is not one of this page. */
export function requireToken(options: InteractionOptions, form: URLSearchParams, page: string): void {
  if (isToken(options, form.get('csrf') ?? '', page)) return;
  throw new AppError('FORBIDDEN', 'this form is not one of this sign-in; open the page again');
}

export function isToken(options: InteractionOptions, text: string, page: string): boolean {
  return isSameText(text, tokenFor(options, page));
}

export function report({ context, options }: Visit, facts: Omit<Report, 'address'>): void {
  options.report({ address: context.ip, ...facts });
}

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Goes on with what the person has said. */
export async function finish(
  { context, provider }: Scene,
  result: Parameters<Provider['interactionFinished']>[2],
): Promise<void> {
  context.respond = false;
  await provider.interactionFinished(context.req, context.res, result, {
    mergeWithLastSubmission: !('error' in result),
  });
}
