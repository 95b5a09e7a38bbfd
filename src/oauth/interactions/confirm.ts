/**
 * The page where a person agrees to one call of a client that can't ask them itself. Who may answer is decided by
 * `core/asks.ts`, and so is what is shown: nothing of it comes from this request but the random id of the link, which
 * is worth nothing without the sign-in. Looking changes nothing.
 */
import { html } from 'hono/html';
import { AGREED_MS, type Ask, mayAnswer } from '../../core/asks.ts';
import { MINUTE } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { CONFIRM_PREFIX, PATHS } from '../paths.ts';
import { sendPage } from './page.ts';
import { hiddenFields } from './passkey-form.ts';
import { readForm } from './requests.ts';
import { report, requireToken, tokenFor, type Visit } from './scene.ts';
import { beginSignIn, type SignedIn, whoIsSignedIn } from './session.ts';

const MAX_NAME = 80;
const MAX_ID = 64;

export async function playConfirm(visit: Visit): Promise<void> {
  const { context, options, provider } = visit;
  const id = context.path.slice(CONFIRM_PREFIX.length);
  if (!/^[\w-]+$/.test(id) || id.length > MAX_ID) throw gone();
  const who = await whoIsSignedIn(visit);
  // Also for an id that is none: who is not signed in learns nothing. A session of last week is no sign that a person
  // sits there, and not a program with their browser.
  if (!who?.isRecent) return beginSignIn(visit, `${CONFIRM_PREFIX}${id}`);
  if (context.method !== 'POST') return show(visit, who, requireAsk(visit, who, id));
  const form = await readForm(context, provider.issuer);
  requireToken(options, form, pageOf(who, id));
  return answer(visit, who, { ask: requireAsk(visit, who, id), decision: form.get('decision') });
}

const gone = (): AppError =>
  new AppError(
    'NOT_FOUND',
    'this question was answered already, or has expired; the client gets a new link when it makes the call again',
  );

function requireAsk({ options }: Visit, { person }: SignedIn, id: string): Ask {
  const ask = options.asks.find(id);
  if (!ask) throw gone();
  if (mayAnswer(ask, person)) return ask;
  throw new AppError(
    'FORBIDDEN',
    ask.principal.oauth?.userId === undefined
      ? `this question is for an administrator of all hostnames; ${person.username} is none. Sign out, and open the link again as one`
      : `this question is for another user than ${person.username}: sign out, and open the link again as who let the client in`,
  );
}

/** Of this session and this question: a form of another one is worth nothing here. */
const pageOf = ({ uid, person }: SignedIn, id: string): string => `confirm:${uid}:${person.id}:${id}`;

async function show({ context, options, provider }: Visit, who: SignedIn, ask: Ask): Promise<void> {
  const { principal, client, id, message } = ask;
  const clientId = principal.oauth?.clientId;
  const registered = clientId === undefined ? undefined : await provider.Client.find(clientId);
  return sendPage(context, {
    title: 'Agree to this call?',
    body: html`<h1>Agree to this call?</h1>
<p>You are signed in as <strong>${who.person.username}</strong>. A client can't ask you itself, so it is asked here:</p>
<pre>${message}</pre>
<dl>
<dt>In the name of</dt><dd>${cleanText(principal.name, MAX_NAME)}</dd>
${clientId === undefined ? '' : html`<dt>Client</dt><dd>${cleanText(registered?.clientName ?? '', MAX_NAME)} <small>(${cleanText(clientId)})</small></dd>`}
${client === undefined ? '' : html`<dt>It calls itself</dt><dd>${cleanText(client, MAX_NAME)}</dd>`}
</dl>
<p class="warning" role="note">Agree only if you want exactly this, and have just asked for it yourself.</p>
<form method="post" action="${CONFIRM_PREFIX}${id}">
${hiddenFields({ csrf: tokenFor(options, pageOf(who, id)) })}
<button class="first" name="decision" value="agree">Agree, once</button>
<button name="decision" value="refuse">Refuse</button>
</form>
<p class="soft">Not you? <a href="${PATHS.end_session}">Sign out</a>.</p>`,
  });
}

/** Anything but a clear yes is a no. */
function answer(
  visit: Visit,
  { person }: SignedIn,
  { ask, decision }: { ask: Ask; decision: string | null },
): Promise<void> {
  const { id, operation, principal } = ask;
  const isYes = decision === 'agree';
  visit.options.asks.answer(id, isYes, person.id);
  report(visit, {
    event: isYes ? 'call agreed to' : 'call refused',
    outcome: isYes ? 'OK' : 'FORBIDDEN',
    userId: person.id,
    clientId: principal.oauth?.clientId,
    detail: { operation, for: principal.id },
  });
  return sendPage(visit.context, isYes ? agreed : refused);
}

const agreed = {
  title: 'Agreed',
  body: html`<h1>Agreed</h1>
<p class="said" role="status">The client may make this call once, within ${AGREED_MS / MINUTE} minutes.</p>
<p>Go back to it and say that you agreed. You can close this page.</p>`,
};

const refused = {
  title: 'Refused',
  body: html`<h1>Refused</h1>
<p class="said" role="status">Nothing was done, and this call is not asked about again for a while.</p>
<p>You can close this page.</p>`,
};
