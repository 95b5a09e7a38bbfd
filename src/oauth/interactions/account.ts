/**
 * A person's own account: how they sign in, what they have let in, and the way out. Only who signed in a short while
 * ago changes how they sign in; whoever finds an open browser must not make themselves a key.
 */
import { AppError } from '../../core/errors.ts';
import { ACCOUNT_PATH } from '../paths.ts';
import { showAccount } from './account-page.ts';
import { sentence } from './page.ts';
import { readForm } from './requests.ts';
import { report, requireToken, type Visit } from './scene.ts';
import { goTo } from './upstream.ts';
import {
  accountPageOf,
  beginSignIn,
  isResume,
  ownOf,
  resume,
  type SignedIn,
  whoIsSignedIn,
} from './session.ts';

type Play<Result> = (visit: Visit, who: SignedIn, form: URLSearchParams) => Promise<Result>;

interface Action {
  readonly needsRecent: boolean;
  readonly play: Play<void>;
}

interface Change {
  readonly event: string;
  /** What is said afterwards. */
  readonly said: string;
  readonly play: Play<unknown>;
}

// biome-ignore format: a table is read by its columns
const changes: Readonly<Record<string, Change & { needsRecent: boolean }>> = {
  passkey: { needsRecent: true, event: 'passkey added', said: 'The passkey works from now on.', play: addPasskey },
  'remove-passkey': { needsRecent: true, event: 'passkey removed', said: 'The passkey is gone.', play: removePasskey },
  password: { needsRecent: true, event: 'password changed', said: 'The new password works from now on.', play: changePassword },
  unlink: { needsRecent: true, event: 'provider unlinked', said: 'It is no longer linked.', play: unlink },
  revoke: { needsRecent: false, event: 'grant revoked', said: 'It has lost access.', play: revoke },
  'sign-out-everywhere': { needsRecent: false, event: 'signed out everywhere', said: '', play: signOutEverywhere },
};

const actions: ReadonlyMap<string, Action> = new Map([
  ...Object.entries(changes).map(([name, { needsRecent, ...change }]): [string, Action] => [
    name,
    { needsRecent, play: (...asked) => run(change, ...asked) },
  ]),
  ['link', { needsRecent: true, play: link }],
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
  return action.play(visit, who, form);
}

async function run(change: Change, ...asked: Parameters<Play<void>>): Promise<void> {
  const [visit, who] = asked;
  try {
    await change.play(...asked);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    return showAccount(visit, who, { fault: sentence(cause.message), status: 400 });
  }
  report(visit, { event: change.event, outcome: 'OK', userId: who.person.id });
  return change.said === '' ? beginSignIn(visit) : showAccount(visit, who, { said: change.said });
}

/** Goes on where the provider sends the browser back to. */
function link(visit: Visit, who: SignedIn, form: URLSearchParams): Promise<void> {
  const aim = { kind: 'link', uid: who.uid, userId: who.person.id } as const;
  return goTo(visit, form, aim, (again) => showAccount(visit, who, again));
}

function addPasskey({ options, provider }: Visit, who: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.passkeys.register(provider.issuer, accountPageOf(who), {
    ...ownOf(who),
    name: form.get('name') ?? '',
    answer: form.get('credential') ?? '',
  });
}

function removePasskey({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.passkeys.remove(person.id, form.get('id') ?? '');
}

function changePassword({ options }: Visit, who: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.people.changePassword(ownOf(who), form.get('password') ?? '');
}

function unlink({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  const [issuer, subject] = [form.get('issuer') ?? '', form.get('subject') ?? ''];
  return options.identities.unlink(person.id, { issuer, subject });
}

function revoke({ options }: Visit, { person }: SignedIn, form: URLSearchParams): Promise<unknown> {
  return options.granted.revoke(person.id, form.get('id') ?? '');
}

function signOutEverywhere({ options }: Visit, { person }: SignedIn): Promise<unknown> {
  return options.people.signOut(person.id);
}
