/**
 * A person's own account: how they sign in, what they have let in, and the way out. Only who signed in a short while
 * ago changes how they sign in; whoever finds an open browser must not make themselves a key.
 */
import { AppError } from '../../core/errors.ts';
import { ACCOUNT_PATH } from '../paths.ts';
import { showAccount } from './account-page.ts';
import { readForm } from './requests.ts';
import { report, requireToken, type Visit } from './scene.ts';
import { accountPageOf, beginSignIn, isResume, resume, type SignedIn, whoIsSignedIn } from './session.ts';

interface Action {
  readonly needsRecent: boolean;
  readonly event: string;
  /** What is said afterwards. */
  readonly said: string;
  readonly play: (visit: Visit, who: SignedIn, form: URLSearchParams) => Promise<unknown>;
}

const actions: ReadonlyMap<string, Action> = new Map([
  [
    'passkey',
    { needsRecent: true, event: 'passkey added', said: 'The passkey works from now on.', play: addPasskey },
  ],
  [
    'remove-passkey',
    { needsRecent: true, event: 'passkey removed', said: 'The passkey is gone.', play: removePasskey },
  ],
  [
    'password',
    {
      needsRecent: true,
      event: 'password changed',
      said: 'The new password works from now on.',
      play: changePassword,
    },
  ],
  ['revoke', { needsRecent: false, event: 'grant revoked', said: 'It has lost access.', play: revoke }],
  [
    'sign-out-everywhere',
    { needsRecent: false, event: 'signed out everywhere', said: '', play: signOutEverywhere },
  ],
]);

export async function playAccount(visit: Visit): Promise<void> {
  const { context, options, provider } = visit;
  if (isResume(context.path)) return resume(visit);
  const who = await whoIsSignedIn(visit);
  const name = context.path.slice(ACCOUNT_PATH.length + 1);
  if (context.method === 'GET' && name === 'confirm') return beginSignIn(visit);
  if (!who) return beginSignIn(visit);
  if (context.method === 'GET' && name === '') return showAccount(visit, who);
  const action = context.method === 'POST' ? actions.get(name) : undefined;
  if (!action) throw new AppError('NOT_FOUND', 'there is no such page');
  const form = await readForm(context, provider.issuer);
  requireToken(options, form, accountPageOf(who));
  if (action.needsRecent && !who.isRecent) return beginSignIn(visit);
  return run(visit, who, { action, form });
}

async function run(
  visit: Visit,
  who: SignedIn,
  { action, form }: { action: Action; form: URLSearchParams },
): Promise<void> {
  try {
    await action.play(visit, who, form);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    return showAccount(visit, who, { fault: cause.message, status: 400 });
  }
  report(visit, { event: action.event, outcome: 'OK', userId: who.person.id });
  return action.said === '' ? beginSignIn(visit) : showAccount(visit, who, { said: action.said });
}

function addPasskey({ options, provider }: Visit, who: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.passkeys.register(provider.issuer, accountPageOf(who), {
    userId: who.person.id,
    name: form.get('name') ?? '',
    answer: form.get('credential') ?? '',
  });
}

function removePasskey({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.passkeys.remove(person.id, form.get('id') ?? '');
}

function changePassword({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.people.changePassword(person.id, form.get('password') ?? '');
}

function revoke({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.granted.revoke(person.id, form.get('id') ?? '');
}

function signOutEverywhere({ options }: Visit, { person }: SignedIn): Promise<unknown> {
  return options.people.signOut(person.id);
}
