/** Own pages in the place of the library's: faults, the device flow, signing out. */
import { html, raw } from 'hono/html';
import { ACCOUNT_PATH, PATHS } from '../paths.ts';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { errorSurface } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import type { Pages } from '../provider.ts';
import { type Markup, sendPage, sentence } from './page.ts';

/** In words for people; the code stays for who has to look it up. */
const faults: Readonly<Record<string, string>> = {
  access_denied: 'The request was turned down.',
  invalid_client:
    'The client that sent you here is not known, or no longer. Connect it again from its own side.',
  invalid_redirect_uri: 'The client asked for the answer at an address that it has not registered.',
  invalid_request: 'The request is not whole. Go back to the client and start again.',
  invalid_scope: 'The client asked for something that does not exist here.',
  invalid_target: 'The client asked for access to something that is not protected here.',
  session_not_found:
    'This sign-in has expired, or was begun in another tab. Go back to the client and start again.',
  SessionNotFound:
    'This sign-in has expired, or was begun in another tab. Go back to the client and start again.',
  server_error: 'Something went wrong on this side. The log of the server says what.',
};

export const pages: Pages = {
  error: (context, { error, error_description: description }) => {
    const told = description === undefined ? undefined : cleanText(description);
    // A fault of our own says in its message what to do.
    const isOurs = Object.hasOwn(errorSurface, error) && told !== undefined;
    const headline = isOurs ? sentence(told) : (faults[error] ?? 'The request could not be carried out.');
    return send(
      context,
      'That did not work',
      html`<h1>That did not work</h1>
<p class="fault" role="alert">${headline}</p>
<p class="soft"><code>${cleanText(error)}</code>${isOurs || told === undefined ? '' : html`: ${told}`}</p>`,
      context.status,
    );
  },
  signOut: (context, form) =>
    send(
      context,
      'Sign out?',
      html`<h1>Sign out?</h1>
${raw(form)}
<button class="first" form="op.logoutForm" name="logout" value="yes">Sign out</button>
<a class="button" href="${ACCOUNT_PATH}">Stay signed in</a>`,
    ),
  signedOut: (context) =>
    send(context, 'Signed out', html`<h1>Signed out</h1><p>You can close this page.</p>`),
  deviceCode: (context, form, fault) =>
    send(
      context,
      'Connect a device',
      html`<h1>Connect a device</h1>
<p>Enter the code that the device or program shows.</p>
${fault ? html`<p class="fault" role="alert">That code is not known, or has expired. Look at it again, or start again on the device.</p>` : ''}
<form method="post" action="${PATHS.code_verification}">
<input type="hidden" name="xsrf" value="${tokenOf(form)}">
<label for="user_code">Code</label>
<input id="user_code" name="user_code" required autofocus autocomplete="off" autocapitalize="characters" spellcheck="false">
<button class="first">Go on</button>
</form>`,
      fault ? UNKNOWN_CODE_STATUS : undefined,
    ),
  deviceConfirm: (context, form, { userCode, clientName }) =>
    send(
      context,
      'Is this your device?',
      html`<h1>Is this your device?</h1>
<p><strong>${cleanText(clientName)}</strong> asks to be connected. Go on only if it shows this very code:</p>
<p><strong><code>${userCode}</code></strong></p>
${raw(form)}
<button class="first" form="op.deviceConfirmForm">It is: go on</button>
<button form="op.deviceConfirmForm" name="abort" value="yes">No, stop</button>`,
    ),
  deviceDone: (context) =>
    send(context, 'Connected', html`<h1>Connected</h1><p>Go back to the device: it goes on by itself.</p>`),
};

const UNKNOWN_CODE_STATUS = 400;

/** The library's own form has no label and a script in an attribute; its token is all that is needed of it. */
const tokenOf = (form: string): string => /name="xsrf" value="([^"]*)"/.exec(form)?.[1] ?? '';

async function send(context: KoaContextWithOIDC, title: string, body: Markup, status = 200): Promise<void> {
  await sendPage(context, { title, body, status });
}
