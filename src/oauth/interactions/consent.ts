/**
 * Asks a person whether a client may act for them: who it is, where the answer goes, what exactly it may do. What they
 * say is for this client, this redirect URI and these scopes; anything else is asked anew.
 */
import { html } from 'hono/html';
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { ACCOUNT_PATH } from '../paths.ts';
import { dropOutgrown } from '../rejections.ts';
import { grantableScopes, meaningOf } from '../scopes.ts';
import { formTargetOf, type Markup, sendPage } from './page.ts';
import { hiddenFields } from './passkey-form.ts';
import { finish, type Person, report, type Scene, textOf, tokenFor } from './scene.ts';

const MAX_NAME = 80;
const MAX_RESOURCES = 10;
/** What a client learns about a person; the other scopes of OpenID Connect say nothing about them. */
const IDENTITY: Readonly<Record<string, string>> = {
  profile: 'your name and username',
  email: 'your e-mail address',
  groups: 'the groups you are in',
};
const OPENID = ['openid', 'offline_access', ...Object.keys(IDENTITY)];

interface Asked {
  /** Scopes of OpenID Connect. */
  readonly oidc: readonly string[];
  readonly resources: readonly {
    readonly url: string;
    readonly given: readonly string[];
    /** What this person could not give. */
    readonly withheld: readonly string[];
  }[];
}

/** All that this request is about, also what was given before: the page says what the client will be able to do. */
function askedFor({ details, options, provider }: Scene, person: Person): Asked {
  const { scope, resource } = details.params;
  const wanted = [...new Set(textOf(scope).split(' ').filter(Boolean))];
  const urls = resource === undefined ? [options.defaultResource(provider.issuer)] : [resource].flat();
  const resources = urls.slice(0, MAX_RESOURCES).map((one) => {
    const url = textOf(one);
    const known = options.scopesOf(url) ?? [];
    const scopes = wanted.filter((name) => known.includes(name));
    const given = grantableScopes(scopes, person.permissions);
    return { url, given, withheld: scopes.filter((name) => !given.includes(name)) };
  });
  return { oidc: wanted.filter((name) => OPENID.includes(name)), resources };
}

export async function showConsent(scene: Scene): Promise<void> {
  const { details, provider } = scene;
  const person = personOf(scene);
  const client = await provider.Client.find(textOf(details.params['client_id']));
  if (!client) throw new AppError('NOT_FOUND', 'the client is not known, or no longer');
  const asked = askedFor(scene, person);
  const redirectUri = details.params['redirect_uri'];
  return ask(scene, {
    asked,
    person,
    client: { id: client.clientId, name: cleanText(client.clientName ?? client.clientId, MAX_NAME) },
    redirectUri: typeof redirectUri === 'string' ? redirectUri : undefined,
  });
}

interface Question {
  readonly asked: Asked;
  readonly person: Person;
  readonly client: { readonly id: string; readonly name: string };
  /** Undefined: a device asks, and gets its answer by itself. */
  readonly redirectUri: string | undefined;
}

function ask({ context, details, options }: Scene, question: Question): Promise<void> {
  const { asked, client, redirectUri, person } = question;
  const { name } = client;
  const withheld = asked.resources.flatMap((one) => one.withheld);
  const isAnything = asked.oidc.length > 0 || asked.resources.some(({ given }) => given.length > 0);
  return sendPage(context, {
    title: `Allow ${name}?`,
    formTarget: redirectUri === undefined ? undefined : formTargetOf(redirectUri),
    body: html`<h1>Allow “${name}” to act for you?</h1>
<p>You are signed in as <strong>${person.username}</strong>.</p>
<dl>
<dt>Client</dt><dd>${name}${client.id === name ? '' : html` <small>(${cleanText(client.id)})</small>`}</dd>
<dt>The answer goes to</dt><dd><strong>${redirectUri === undefined ? 'the device that showed the code' : hostOf(redirectUri)}</strong></dd>
${asked.resources.map(({ url }) => html`<dt>For</dt><dd><code>${url}</code></dd>`)}
</dl>
${warningOf(redirectUri)}
${client.id.startsWith('https://') ? '' : warning('Nobody has checked this name: the client gave it to itself.')}
${isAnything ? whatItMay(asked) : html`<p class="fault" role="alert">Your account may give nothing of what it asks for. An administrator can change that.</p>`}
${withheld.length === 0 ? '' : html`<p class="soft">Withheld, because your account can't give it: ${withheld.map((scope) => html`<code>${scope}</code> `)}</p>`}
<form method="post" action="/oauth/interaction/${details.uid}/consent">
${hiddenFields({ csrf: tokenFor(options, details.uid) })}
${isAnything ? html`<button class="first" name="decision" value="allow">Allow</button>` : ''}
<button name="decision" value="deny">Don't allow</button>
</form>
<p class="soft">You can take this back at any time in <a href="${ACCOUNT_PATH}">your account</a>.</p>`,
  });
}

function whatItMay({ resources, oidc }: Asked): Markup {
  const scopes = [...new Set(resources.flatMap(({ given }) => given))];
  const learns = oidc.map((scope) => IDENTITY[scope]).filter((text) => text !== undefined);
  return html`<h2>It will be able to</h2>
<ul>${scopes.map((name) => html`<li>${meaningOf(name)} <small>(${name})</small></li>`)}
${learns.map((text) => html`<li>Learn ${text}</li>`)}
${scopes.length + learns.length === 0 ? html`<li>Know that it is you, and nothing else</li>` : ''}</ul>`;
}

const warning = (text: string): Markup => html`<p class="warning" role="note">${text}</p>`;

function warningOf(redirectUri: string | undefined): Markup | '' {
  if (redirectUri === undefined)
    return warning(
      'Whoever holds the device gets the access. Go on only if it is yours and you have just started this yourself.',
    );
  return isLocal(redirectUri)
    ? warning(
        'The answer goes to a program on your own computer, and any program there could have asked. Go on only if you have just started the sign-in yourself.',
      )
    : '';
}

function hostOf(redirectUri: string): string {
  const url = URL.parse(redirectUri);
  if (!url) return redirectUri;
  return isWeb(url) ? url.host : `an app that opens ${url.protocol} links`;
}

/** What stands where a host would is the app's own affair (RFC 8252 §7.1). */
const isWeb = ({ protocol, host }: URL): boolean => /^https?:$/.test(protocol) && host !== '';

/** @see {@link https://www.rfc-editor.org/rfc/rfc8252#section-7.3 | RFC 8252 §7.3} */
function isLocal(redirectUri: string): boolean {
  const url = URL.parse(redirectUri);
  return !url || !isWeb(url) || /^(?:localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
}

export async function decide(scene: Scene, form: URLSearchParams): Promise<void> {
  const { details } = scene;
  const person = personOf(scene);
  const clientId = textOf(details.params['client_id']);
  if (form.get('decision') !== 'allow') {
    report(scene, { event: 'consent refused', outcome: 'FORBIDDEN', userId: person.id, clientId });
    return finish(scene, { error: 'access_denied', error_description: 'the user did not allow it' });
  }
  const asked = askedFor(scene, person);
  const grantId = await grant(scene, { person, clientId, asked });
  const redirectUri = textOf(details.params['redirect_uri']);
  await scene.options.rememberConsent({ userId: person.id, clientId, redirectUri, grantId });
  const scopes = [...asked.oidc, ...asked.resources.flatMap(({ given }) => given)];
  const detail = { scopes, resources: asked.resources.map(({ url }) => url) };
  report(scene, { event: 'consent given', outcome: 'OK', userId: person.id, clientId, detail });
  return finish(scene, { consent: { grantId } });
}

/** What was withheld is remembered as such, so that nobody is asked for it again and again. */
async function grant(
  { details, provider }: Scene,
  { person, clientId, asked }: { person: Person; clientId: string; asked: Asked },
): Promise<string> {
  const known = details.grantId === undefined ? undefined : await provider.Grant.find(details.grantId);
  const found = known ?? new provider.Grant({ accountId: person.id, clientId });
  dropOutgrown(found, person.permissions);
  if (asked.oidc.length > 0) found.addOIDCScope(asked.oidc.join(' '));
  for (const { url, given, withheld } of asked.resources) {
    if (given.length > 0) found.addResourceScope(url, given.join(' '));
    if (withheld.length > 0) found.rejectResourceScope(url, withheld.join(' '));
  }
  return found.save();
}

function personOf({ details, options }: Scene): Person {
  const person = options.people.find(details.session?.accountId ?? '');
  if (!person) throw new AppError('FORBIDDEN', 'this account is no longer let in');
  return person;
}
