/**
 * Nobody can sign in yet. Who holds the administrator's token makes the first account, in two steps: each form asks
 * for one secret, so that no browser takes the token for the password.
 */
import { html } from 'hono/html';
import { AppError } from '../../core/errors.ts';
import { MIN_PASSWORD } from '../../users/schema.ts';
import { TOO_MANY } from './attempts.ts';
import { faultOf, formTargetOf, sendPage } from './page.ts';
import { hiddenFields } from './passkey-form.ts';
import { isToken, report, type Scene, textOf, tokenFor } from './scene.ts';
import { signedIn } from './sign-in.ts';

interface Again {
  readonly fault?: string;
  readonly status?: number;
  readonly username?: string;
}

/** Known to who has shown the token within this interaction. */
const proofOf = (uid: string): string => `first-user:${uid}`;

const formTarget = ({ details }: Scene) => formTargetOf(textOf(details.params['redirect_uri']));

export function showFirstUser(scene: Scene, { fault, status = 200 }: Again = {}): Promise<void> {
  const { context, details, options } = scene;
  return sendPage(context, {
    title: 'Make the first account',
    status,
    formTarget: formTarget(scene),
    body: html`<h1>Make the first account</h1>
<p>Nobody can sign in here yet. Who holds the administrator's token, which the first start printed, makes the administrator's account.</p>
${faultOf(fault)}
<form method="post" action="/oauth/interaction/${details.uid}/first-user">
${hiddenFields({ csrf: tokenFor(options, details.uid) })}
<label for="token">Administrator's token</label>
<input id="token" name="token" class="secret" autocomplete="off" autocapitalize="none" spellcheck="false" required autofocus>
<button class="first">Go on</button>
</form>`,
  });
}

function showAccountForm(scene: Scene, { fault, status = 200, username = '' }: Again = {}): Promise<void> {
  const { context, details, options } = scene;
  const { uid } = details;
  return sendPage(context, {
    title: 'Make the first account',
    status,
    formTarget: formTarget(scene),
    body: html`<h1>Make the first account</h1>
<p>It may do everything. You sign in with it from now on, here and in clients.</p>
${faultOf(fault)}
<form method="post" action="/oauth/interaction/${uid}/first-account">
${hiddenFields({ csrf: tokenFor(options, uid), proof: tokenFor(options, proofOf(uid)) })}
<label for="username">Username</label>
<input id="username" name="username" value="${username}" autocomplete="username" required autofocus autocapitalize="none" spellcheck="false">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="${MIN_PASSWORD}" required aria-describedby="rule">
<small id="rule">At least ${MIN_PASSWORD} characters.</small>
<button class="first">Make the account and sign in</button>
</form>`,
  });
}

export async function checkToken(scene: Scene, form: URLSearchParams): Promise<void> {
  const { context, options } = scene;
  requireNobody(scene);
  if (!options.attempts.take(context.ip)) return showFirstUser(scene, { status: 429, fault: TOO_MANY });
  if (options.isAdministratorToken((form.get('token') ?? '').trim())) return showAccountForm(scene);
  report(scene, { event: 'first account refused', outcome: 'UNAUTHENTICATED' });
  return showFirstUser(scene, { status: 401, fault: "That is not the administrator's token." });
}

export async function makeFirstUser(scene: Scene, form: URLSearchParams): Promise<void> {
  const { options, details } = scene;
  requireNobody(scene);
  if (!isToken(options, form.get('proof') ?? '', proofOf(details.uid))) return showFirstUser(scene);
  const [username, password] = [form.get('username') ?? '', form.get('password') ?? ''];
  try {
    const person = await options.people.createFirst({ username, password });
    report(scene, { event: 'first account made', outcome: 'OK', userId: person.id });
    return await signedIn(scene, person.id, 'pwd');
  } catch (cause) {
    if (!(cause instanceof AppError) || cause.code !== 'INVALID_INPUT') throw cause;
    return showAccountForm(scene, { username, status: 400, fault: cause.message });
  }
}

function requireNobody({ options }: Scene): void {
  if (options.people.count > 0)
    throw new AppError('CONFLICT', 'the first account was made already; sign in with it');
}
