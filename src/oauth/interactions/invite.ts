/**
 * The page behind the link of an invitation: there a person sets, once, how they sign in. Looking at it uses nothing
 * up, because mail programs look at links too. The code itself is what proves that the form is ours.
 */
import { html } from 'hono/html';
import { AppError, errorSurface } from '../../core/errors.ts';
import { MIN_PASSWORD } from '../../users/schema.ts';
import { ACCOUNT_PATH, INVITE_PATH } from '../paths.ts';
import { TOO_MANY } from './attempts.ts';
import { faultOf, sendPage, sentence } from './page.ts';
import { hiddenFields, passkeyForm, passkeyScript } from './passkey-form.ts';
import { readForm } from './requests.ts';
import { type Person, report, type Visit } from './scene.ts';
import { openSession } from './session.ts';
import { goTo, providerForm } from './upstream.ts';

export async function playInvite(visit: Visit): Promise<void> {
  const { context, options, provider } = visit;
  if (!options.attempts.take(context.ip)) throw new AppError('RATE_LIMITED', TOO_MANY);
  if (context.method === 'GET' && context.path === INVITE_PATH)
    return showInvite(visit, new URLSearchParams(context.querystring).get('code') ?? '');
  if (context.method !== 'POST') throw new AppError('NOT_FOUND', 'there is no such page');
  const form = await readForm(context, provider.issuer);
  const code = form.get('code') ?? '';
  if (context.path === UPSTREAM) return goElsewhere(visit, code, form);
  const way = ways.get(context.path.slice(INVITE_PATH.length + 1));
  if (!way) throw new AppError('NOT_FOUND', 'there is no such page');
  try {
    const { id } = await way.play(visit, code, form);
    report(visit, { event: 'invitation accepted', outcome: 'OK', userId: id, detail: { by: way.by } });
    await options.people.seen(id);
    await openSession(visit, id, [way.by]);
    return context.redirect(ACCOUNT_PATH);
  } catch (cause) {
    if (!(cause instanceof AppError) || cause.code !== 'INVALID_INPUT') throw cause;
    return showInvite(visit, code, {
      fault: sentence(cause.message),
      status: errorSurface.INVALID_INPUT.status,
    });
  }
}

interface Way {
  readonly by: 'pwd' | 'hwk';
  readonly play: (visit: Visit, code: string, form: URLSearchParams) => Promise<Person>;
}

const ways: ReadonlyMap<string, Way> = new Map<string, Way>([
  [
    'password',
    {
      by: 'pwd',
      play: ({ options }, code, form) => options.people.acceptWithPassword(code, form.get('password') ?? ''),
    },
  ],
  [
    'passkey',
    {
      by: 'hwk',
      play: ({ options, provider }, code, form) =>
        options.passkeys.accept(provider.issuer, code, {
          name: form.get('name') ?? '',
          answer: form.get('credential') ?? '',
        }),
    },
  ],
]);

const UPSTREAM = `${INVITE_PATH}/upstream`;

async function goElsewhere(visit: Visit, code: string, form: URLSearchParams): Promise<void> {
  if (!(await visit.options.people.invited(code))) throw notInvited();
  return goTo(visit, form, { kind: 'invite', code }, (again) => showInvite(visit, code, again));
}

const notInvited = (): AppError =>
  new AppError(
    'NOT_FOUND',
    'this invitation was used already, has expired, or is not whole; ask for a new one',
  );

export async function showInvite(
  { context, options, provider }: Visit,
  code: string,
  { fault, status = 200 }: { fault?: string; status?: number } = {},
): Promise<void> {
  const person = await options.people.invited(code);
  if (!person) throw notInvited();
  const creation = await options.passkeys.registrationOptions(provider.issuer, invitePageOf(code), person.id);
  return sendPage(context, {
    title: 'Welcome',
    status,
    ...(creation && { script: passkeyScript }),
    body: html`<h1>Welcome, ${person.username}</h1>
<p>Choose how you sign in from now on. This link works once.</p>
${faultOf(fault)}
${
  creation
    ? passkeyForm({
        kind: 'create',
        action: `${INVITE_PATH}/passkey`,
        options: creation,
        label: 'Use a passkey of this device',
        fields: { code },
        isFirst: true,
      })
    : ''
}
<form method="post" action="${INVITE_PATH}/password">
${hiddenFields({ code })}
<input name="username" value="${person.username}" autocomplete="username" readonly hidden>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="${MIN_PASSWORD}" required aria-describedby="rule">
<small id="rule">At least ${MIN_PASSWORD} characters.</small>
<button>Use this password</button>
</form>
${providerForm({ action: UPSTREAM, fields: { code }, upstreams: options.upstreams.list, verb: 'Sign in with' })}`,
  });
}

/** What a challenge is bound to. */
export const invitePageOf = (code: string): string => `invite:${code}`;
