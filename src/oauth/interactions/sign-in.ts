/** Asks a person who they are: by password, by passkey, or by a provider elsewhere. */
import { html } from 'hono/html';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { faultOf, formTargetOf, sendPage } from './page.ts';
import { TOO_MANY } from './attempts.ts';
import { hiddenFields, passkeyForm, passkeyScript } from './passkey-form.ts';
import { goTo, providerForm } from './upstream.ts';
import { finish, report, type Scene, textOf, tokenFor, type Upstreams } from './scene.ts';

const MAX_NAME = 80;
const WRONG = 'Username or password is wrong.';
const WRONG_PASSKEY = 'That passkey is not known here, or was not accepted. Try again, or use your password.';

interface Question {
  readonly uid: string;
  readonly csrf: string;
  /** Undefined: the person's own account page. */
  readonly clientName: string | undefined;
  readonly formTarget: string | undefined;
  readonly passkeyOptions: object | undefined;
  readonly upstreams: Upstreams['list'];
  readonly username: string;
  readonly fault: string | undefined;
  readonly status: number;
}

type Again = Partial<Pick<Question, 'username' | 'fault' | 'status'>>;

export async function showSignIn(scene: Scene, again: Again = {}): Promise<void> {
  const { context, details, options, provider } = scene;
  const { uid } = details;
  await askWho(context, {
    uid,
    csrf: tokenFor(options, uid),
    clientName: await clientNameOf(scene),
    formTarget: formTargetOf(textOf(details.params['redirect_uri'])),
    passkeyOptions: await options.passkeys.signInOptions(provider.issuer, uid),
    upstreams: options.upstreams.list,
    username: again.username ?? '',
    fault: again.fault,
    status: again.status ?? 200,
  });
}

export async function clientNameOf({ details, provider }: Scene): Promise<string | undefined> {
  const clientId = details.params['client_id'];
  if (typeof clientId !== 'string') return undefined;
  const client = await provider.Client.find(clientId);
  return cleanText(client?.clientName ?? clientId, MAX_NAME);
}

function askWho(context: KoaContextWithOIDC, question: Question): Promise<void> {
  const { uid, csrf, username, clientName, passkeyOptions, upstreams } = question;
  const action = `/oauth/interaction/${uid}`;
  return sendPage(context, {
    title: 'Sign in',
    status: question.status,
    formTarget: question.formTarget,
    ...(passkeyOptions && { script: passkeyScript }),
    body: html`<h1>Sign in</h1>
<p>${clientName === undefined ? 'To go on to your own pages.' : html`To go on to <strong>${clientName}</strong>.`}</p>
${faultOf(question.fault)}
<form method="post" action="${action}/sign-in">
${hiddenFields({ csrf })}
<label for="username">Username</label>
<input id="username" name="username" value="${username}" autocomplete="username" required autofocus autocapitalize="none" spellcheck="false">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button class="first">Sign in</button>
</form>
${passkeyOptions ? passkeyForm({ kind: 'get', action: `${action}/passkey`, options: passkeyOptions, label: 'Sign in with a passkey', fields: { csrf } }) : ''}
${providerForm({ action: `${action}/upstream`, fields: { csrf }, upstreams, verb: 'Go on with' })}`,
  });
}

export async function signIn(scene: Scene, form: URLSearchParams): Promise<void> {
  const { context, options } = scene;
  const [username, password] = [form.get('username') ?? '', form.get('password') ?? ''];
  if (!options.attempts.take(context.ip)) return tooMany(scene, username);
  await options.attempts.slowDown(username);
  const person = await options.people.signIn(username, password);
  if (person) return signedIn(scene, person.id, 'pwd');
  options.attempts.failed(username);
  const userId = options.people.idOf(username);
  report(scene, { event: 'sign-in refused', outcome: 'UNAUTHENTICATED', userId, detail: { by: 'pwd' } });
  return showSignIn(scene, { username, status: 401, fault: WRONG });
}

export async function signInByPasskey(scene: Scene, form: URLSearchParams): Promise<void> {
  const { context, options, details, provider } = scene;
  if (!options.attempts.take(context.ip)) return tooMany(scene, '');
  const answer = form.get('credential') ?? '';
  const person = await options.passkeys.signIn(provider.issuer, details.uid, answer);
  if (person) return signedIn(scene, person.id, 'hwk');
  report(scene, { event: 'sign-in refused', outcome: 'UNAUTHENTICATED', detail: { by: 'hwk' } });
  return showSignIn(scene, { status: 401, fault: WRONG_PASSKEY });
}

function tooMany(scene: Scene, username: string): Promise<void> {
  report(scene, { event: 'sign-in refused', outcome: 'RATE_LIMITED' });
  return showSignIn(scene, { username, status: 429, fault: TOO_MANY });
}

export async function signInElsewhere(scene: Scene, form: URLSearchParams): Promise<void> {
  const { details, options } = scene;
  if (options.people.count === 0) throw new AppError('NOT_FOUND', 'there is no such step now');
  return goTo(scene, form, { kind: 'sign-in', uid: details.uid }, (again) => showSignIn(scene, again));
}

/** `by` as in {@link https://www.rfc-editor.org/rfc/rfc8176#section-2 | RFC 8176 §2}; `fed`, of somebody else's, is not there. */
export async function signedIn(
  scene: Scene,
  userId: string,
  by: 'pwd' | 'hwk' | 'fed',
  detail: { provider?: string } = {},
): Promise<void> {
  await scene.options.people.seen(userId);
  report(scene, { event: 'signed in', outcome: 'OK', userId, detail: { by, ...detail } });
  return finish(scene, { login: { accountId: userId, amr: [by] } });
}
