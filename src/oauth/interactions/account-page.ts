/** The page of a person's own account. */
import { html } from 'hono/html';
import { cleanText } from '../../core/untrusted.ts';
import { MIN_PASSWORD } from '../../users/schema.ts';
import { ACCOUNT_PATH, PATHS } from '../paths.ts';
import { faultOf, type Markup, sendPage } from './page.ts';
import { hiddenFields, passkeyForm, passkeyScript } from './passkey-form.ts';
import { type GrantTold, type Linked, type Passkey, tokenFor, type Visit } from './scene.ts';
import { accountPageOf, type SignedIn } from './session.ts';
import { providerForm } from './upstream.ts';

const MAX_GRANTS_SHOWN = 50;
const DAY_LENGTH = '2026-01-31'.length;

interface Outcome {
  readonly said?: string;
  readonly fault?: string;
  readonly status?: number;
}

export async function showAccount(visit: Visit, before: SignedIn, outcome: Outcome = {}): Promise<void> {
  const { context, options, provider } = visit;
  // What was just done may have changed it.
  const person = options.people.find(before.person.id) ?? before.person;
  const who = { ...before, person };
  const csrf = tokenFor(options, accountPageOf(who));
  const passkeys = await options.passkeys.list(person.id);
  const linked = await options.identities.list(person.id);
  const unlinked = options.upstreams.list.filter(({ issuer }) =>
    linked.every((one) => one.issuer !== issuer),
  );
  const grants = await options.granted.list(person.id);
  const creation = who.isRecent
    ? await options.passkeys.registrationOptions(provider.issuer, accountPageOf(who), person.id)
    : undefined;
  return sendPage(context, {
    title: 'Your account',
    status: outcome.status ?? 200,
    ...(creation && { script: passkeyScript }),
    body: html`<h1>Your account</h1>
<p>You are signed in as <strong>${person.username}</strong>.</p>
${outcome.said === undefined ? '' : html`<p class="said" role="status">${outcome.said}</p>`}
${faultOf(outcome.fault)}
<h2>How you sign in</h2>
${passkeyList(passkeys, who.isRecent ? csrf : undefined)}
${linkedList(linked, who.isRecent ? csrf : undefined)}
${who.isRecent ? providerForm({ action: `${ACCOUNT_PATH}/link`, fields: { csrf }, upstreams: unlinked, verb: 'Link' }) : ''}
${who.isRecent ? changes({ csrf, creation, hasPassword: person.hasPassword, username: person.username }) : confirmFirst}
<h2>What you have let in</h2>
${grantList(grants, csrf)}
<h2>Signing out</h2>
<a class="button" href="${PATHS.end_session}">Sign out here</a>
<form method="post" action="${ACCOUNT_PATH}/sign-out-everywhere">
${hiddenFields({ csrf })}
<button>Sign out everywhere</button>
</form>
<p class="soft">Every browser is signed out. What you have let in stays until you take it back above.</p>`,
  });
}

const confirmFirst = html`<p class="soft">To change this, show that it is you.</p>
<a class="button" href="${ACCOUNT_PATH}/confirm">Sign in again</a>`;

function passkeyList(passkeys: readonly Passkey[], csrf: string | undefined): Markup {
  if (passkeys.length === 0) return html`<p>You have no passkey yet.</p>`;
  return html`<ul class="rows">${passkeys.map(
    ({ id, name, hostname, createdAt, lastUsedAt }) => html`<li>
<span><strong>${cleanText(name)}</strong><br><small>for ${hostname}, made ${day(createdAt)}, ${lastUsedAt === undefined ? 'not used yet' : `last used ${day(lastUsedAt)}`}</small></span>
${
  csrf === undefined
    ? ''
    : html`<form method="post" action="${ACCOUNT_PATH}/remove-passkey">
${hiddenFields({ csrf, id })}
<button aria-label="Remove the passkey ${cleanText(name)}">Remove</button>
</form>`
}</li>`,
  )}</ul>`;
}

function linkedList(linked: readonly Linked[], csrf: string | undefined): Markup | '' {
  if (linked.length === 0) return '';
  return html`<ul class="rows">${linked.map(
    ({ issuer, subject, title, label, createdAt, lastUsedAt }) => html`<li>
<span><strong>${title}</strong><br><small>${label === '' ? '' : `as ${cleanText(label)}, `}linked ${day(createdAt)}${lastUsedAt === undefined ? '' : `, last used ${day(lastUsedAt)}`}</small></span>
${
  csrf === undefined
    ? ''
    : html`<form method="post" action="${ACCOUNT_PATH}/unlink">
${hiddenFields({ csrf, issuer, subject })}
<button aria-label="Unlink ${title}${label === '' ? '' : ` (${cleanText(label)})`}">Unlink</button>
</form>`
}</li>`,
  )}</ul>`;
}

function changes(facts: {
  csrf: string;
  creation: object | undefined;
  hasPassword: boolean;
  username: string;
}): Markup {
  const { csrf, creation, hasPassword, username } = facts;
  const verb = hasPassword ? 'Change the password' : 'Set a password';
  return html`${creation ? addPasskeyForm(csrf, creation) : ''}
<form method="post" action="${ACCOUNT_PATH}/password">
${hiddenFields({ csrf })}
<input name="username" value="${username}" autocomplete="username" readonly hidden>
<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="${MIN_PASSWORD}" required aria-describedby="rule">
<small id="rule">At least ${MIN_PASSWORD} characters.</small>
<button>${verb}</button>
</form>`;
}

const addPasskeyForm = (csrf: string, options: object): Markup =>
  passkeyForm({
    kind: 'create',
    action: `${ACCOUNT_PATH}/passkey`,
    options,
    label: 'Add a passkey',
    fields: { csrf },
    body: html`<label for="name">Name of the new passkey</label>
<input id="name" name="name" maxlength="60" autocomplete="off" placeholder="such as: phone">`,
  });

function grantList(grants: readonly GrantTold[], csrf: string): Markup {
  if (grants.length === 0) return html`<p>Nothing has access in your name.</p>`;
  const rest = grants.length - MAX_GRANTS_SHOWN;
  return html`<ul class="rows">${grants.slice(0, MAX_GRANTS_SHOWN).map(
    ({ id, client_name: name, resources, created_at: since }) => html`<li>
<span><strong>${cleanText(name)}</strong><br><small>since ${day(since)}</small>
${resources.map(({ url, scopes }) => html`<br><small><code>${url}</code>: ${scopes.join(', ')}</small>`)}</span>
<form method="post" action="${ACCOUNT_PATH}/revoke">
${hiddenFields({ csrf, id })}
<button aria-label="Take back what ${cleanText(name)} may do">Take back</button>
</form></li>`,
  )}</ul>
${rest > 0 ? html`<p class="soft">And ${rest} more, which list_grants shows.</p>` : ''}`;
}

const day = (timestamp: string): string => timestamp.slice(0, DAY_LENGTH);
