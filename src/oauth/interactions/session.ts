/**
 * The session of a browser at the issuer: the library's own, so that who signs in for a client is signed in for the
 * account page, and the other way round.
 */
import { randomBytes } from 'node:crypto';
import { MINUTE, SECOND } from '../../core/clock.ts';
import { ACCOUNT_PATH, INTERACTION_PREFIX } from '../paths.ts';
import { INTERACTION_MS, SESSION_MS } from '../lifetimes.ts';
import { type OwnSession, type Person, textOf, type Visit } from './scene.ts';

/** How long ago somebody may have signed in who changes how they sign in. */
const RECENT_MS = 15 * MINUTE;
const UID_BYTES = 32;
const RESUME_PATH = `${ACCOUNT_PATH}/resume`;

export interface SignedIn {
  readonly person: Person;
  /** Of the session; what forms of the account page are bound to. */
  readonly uid: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly isRecent: boolean;
}

/** What forms of the account page are bound to: the session, so that they are worth nothing in another one. */
export const accountPageOf = ({ uid, person }: SignedIn): string => `account:${uid}:${person.id}`;

export const ownOf = ({ person, startedAt }: SignedIn): OwnSession => ({ userId: person.id, startedAt });

/** Undefined: nobody, or somebody who is not let in any more. */
export async function whoIsSignedIn({ context, provider, options }: Visit): Promise<SignedIn | undefined> {
  const { accountId, loginTs, uid } = await provider.Session.get(context);
  if (accountId === undefined || loginTs === undefined) return undefined;
  const startedAt = loginTs * SECOND;
  const person = options.people.find(accountId);
  if (!person || !options.people.isSignedIn(accountId, startedAt)) return undefined;
  return { person, uid, startedAt, isRecent: options.clock.now() - startedAt < RECENT_MS };
}

/** A new session id, always: whoever knew the id of before, or set it, is not signed in by it. */
export async function openSession(visit: Visit, accountId: string, amr: string[]): Promise<void> {
  const { context, provider } = visit;
  await endSession(visit);
  const session = new provider.Session();
  session.loginAccount({ accountId, amr });
  await session.save(SESSION_MS / SECOND);
  setCookie(visit, 'session', session.jti, SESSION_MS);
  context.status = 303;
}

async function endSession({ context, provider }: Visit): Promise<void> {
  const before = await provider.Session.get(context);
  if (before.accountId !== undefined || before.state !== undefined) await before.destroy();
}

/** The sign-in page, by whatever ways there are, on the way to `goal`: a path of ours that is no caller's. */
export async function beginSignIn(visit: Visit, goal: string = ACCOUNT_PATH): Promise<void> {
  const { context, provider } = visit;
  const uid = randomBytes(UID_BYTES).toString('base64url');
  // The library makes these itself for a client's request; its types know only that.
  const interaction = new (provider.Interaction as unknown as InteractionConstructor)(uid, {
    returnTo: `${provider.issuer}${RESUME_PATH}`,
    prompt: { name: 'login', reasons: ['account'], details: { goal } },
    params: {},
    cid: uid,
  });
  await interaction.save(INTERACTION_MS / SECOND);
  setCookie(visit, 'interaction', uid, INTERACTION_MS);
  context.status = 303;
  context.redirect(`${INTERACTION_PREFIX}${uid}`);
}

/** Back from the sign-in page. */
export async function resume(visit: Visit): Promise<void> {
  const { context, provider } = visit;
  const details = await provider.interactionDetails(context.req, context.res);
  const { login } = details.result ?? {};
  if (details.returnTo !== `${provider.issuer}${RESUME_PATH}` || !login) return beginSignIn(visit);
  await details.destroy();
  await openSession(visit, textOf(login.accountId), login.amr ?? []);
  context.redirect(textOf(details.prompt.details['goal']) || ACCOUNT_PATH);
}

export const isResume = (path: string): boolean => path === RESUME_PATH;

type InteractionConstructor = new (
  uid: string,
  payload: object,
) => { save(seconds: number): Promise<string> };

function setCookie(
  { context, provider }: Visit,
  kind: 'session' | 'interaction',
  value: string,
  lifeMs: number,
) {
  context.cookies.set(provider.cookieName(kind), value, {
    path: '/',
    httpOnly: true,
    sameSite: 'lax',
    signed: true,
    secure: provider.issuer.startsWith('https:'),
    maxAge: lifeMs,
    overwrite: true,
  });
}
