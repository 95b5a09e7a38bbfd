/**
 * Back from a provider elsewhere. The answer counts in the browser that went there, once, for what it went for, and
 * only while that is still waited for: the interaction, the session of the account page, or the invitation.
 */
import { AppError, errorSurface } from '../../core/errors.ts';
import type { Identity } from '../../users/schema.ts';
import { ACCOUNT_PATH, callbackPathOf, UPSTREAM_PREFIX } from '../paths.ts';
import type { Upstream } from '../upstreams/upstream.ts';
import { showAccount } from './account-page.ts';
import type { Aim, Errand } from './errands.ts';
import { showInvite } from './invite.ts';
import { sentence } from './page.ts';
import { report, type Scene, type Visit } from './scene.ts';
import { beginSignIn, openSession, ownOf, whoIsSignedIn } from './session.ts';
import { showSignIn, signedIn } from './sign-in.ts';
import { takeCookie, tellRefusal } from './upstream.ts';

const ELSEWHERE =
  'this answer belongs to no sign-in that this browser has begun and not finished; go back to where you wanted to sign in and start again';

export async function playReturn(visit: Visit): Promise<void> {
  const { context, options, provider: library } = visit;
  const [name = ''] = context.path.slice(UPSTREAM_PREFIX.length).split('/');
  if (context.method !== 'GET' || context.path !== callbackPathOf(name))
    throw new AppError('NOT_FOUND', 'there is no such page');
  const upstream = options.upstreams.get(name);
  const answer = new URL(`${library.issuer}${context.path}?${context.querystring}`);
  context.set('cache-control', 'no-store');
  const state = answer.searchParams.get('state') ?? '';
  const errand = options.errands.take(state, { provider: name, browser: takeCookie(visit) });
  if (errand) return play(visit, errand, { upstream, answer });
  const fault = new AppError('FORBIDDEN', ELSEWHERE);
  tellRefusal(visit, name, fault);
  throw fault;
}

interface Answered {
  readonly upstream: Upstream;
  readonly answer: URL;
}

async function play(visit: Visit, { aim, proof }: Errand, { upstream, answer }: Answered): Promise<void> {
  const waiting = await whoWaits(visit, aim);
  const { settings } = upstream;
  try {
    return await waiting.goOn(await upstream.finish(answer, proof), upstream);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    tellRefusal(visit, settings.name, cause);
    return waiting.refuse({ fault: sentence(cause.message), status: errorSurface[cause.code].status });
  }
}

interface Waiting {
  readonly goOn: (identity: Identity, upstream: Upstream) => Promise<void>;
  /** Shows the page anew from which the person went away. */
  readonly refuse: (again: { fault: string; status: number }) => Promise<void>;
}

/** @throws when the answer is not waited for any more. */
function whoWaits(visit: Visit, aim: Aim): Promise<Waiting> {
  switch (aim.kind) {
    case 'sign-in':
      return interactionThatWaits(visit, aim);
    case 'link':
      return accountThatWaits(visit, aim);
    case 'invite':
      return invitationThatWaits(visit, aim);
  }
}

type AimOf<Kind extends Aim['kind']> = Extract<Aim, { kind: Kind }>;

async function interactionThatWaits(visit: Visit, { uid }: AimOf<'sign-in'>): Promise<Waiting> {
  const { context, provider } = visit;
  const details = await provider.interactionDetails(context.req, context.res);
  if (details.uid !== uid || details.prompt.name !== 'login') throw new AppError('FORBIDDEN', ELSEWHERE);
  const scene: Scene = { ...visit, details };
  return {
    async goOn(identity, { settings }) {
      const { person, isNew } = await visit.options.identities.signIn(settings, identity);
      const detail = { provider: settings.name };
      if (isNew) report(visit, { event: 'account made', outcome: 'OK', userId: person.id, detail });
      return signedIn(scene, person.id, 'fed', detail);
    },
    refuse: (again) => showSignIn(scene, again),
  };
}

async function accountThatWaits(visit: Visit, { uid, userId }: AimOf<'link'>): Promise<Waiting> {
  const { context, options } = visit;
  const who = await whoIsSignedIn(visit);
  if (who?.uid !== uid || who.person.id !== userId) throw new AppError('FORBIDDEN', ELSEWHERE);
  return {
    async goOn(identity, { settings }) {
      await options.identities.link(settings, identity, ownOf(who));
      report(visit, { event: 'provider linked', outcome: 'OK', userId, detail: { provider: settings.name } });
      context.status = 303;
      context.redirect(ACCOUNT_PATH);
    },
    // The provider may have taken a while, in which the session can have ended.
    refuse: async (again) =>
      (await whoIsSignedIn(visit)) ? showAccount(visit, who, again) : beginSignIn(visit),
  };
}

async function invitationThatWaits(visit: Visit, { code }: AimOf<'invite'>): Promise<Waiting> {
  const { context, options } = visit;
  return {
    async goOn(identity, { settings }) {
      const { id } = await options.identities.accept(settings, identity, code);
      const detail = { by: 'fed', provider: settings.name };
      report(visit, { event: 'invitation accepted', outcome: 'OK', userId: id, detail });
      await options.people.seen(id);
      await openSession(visit, id, ['fed']);
      context.redirect(ACCOUNT_PATH);
    },
    refuse: (again) => showInvite(visit, code, again),
  };
}
