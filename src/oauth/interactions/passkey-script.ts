/**
 * The only script there is: it hands a form's options to the browser, and the browser's answer to the form. Everything
 * on these pages works without it, except passkeys. Small enough to be written by hand, for any browser that has them.
 */
import type { KoaContextWithOIDC } from 'oidc-provider';

const CACHE_SECONDS = 3600;

const SCRIPT = `const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '');
const withBytes = (list) => (list ?? []).map((one) => ({ ...one, id: bytes(one.id) }));

const ask = {
  get: (o) =>
    navigator.credentials.get({
      publicKey: { ...o, challenge: bytes(o.challenge), allowCredentials: withBytes(o.allowCredentials) },
    }),
  create: (o) =>
    navigator.credentials.create({
      publicKey: {
        ...o,
        challenge: bytes(o.challenge),
        user: { ...o.user, id: bytes(o.user.id) },
        excludeCredentials: withBytes(o.excludeCredentials),
      },
    }),
};

function answerOf({ id, rawId, type, response }) {
  const fields = ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle'];
  const given = fields.filter((name) => response[name]).map((name) => [name, text(response[name])]);
  const transports = response.getTransports?.();
  return JSON.stringify({
    id,
    rawId: text(rawId),
    type,
    response: { ...Object.fromEntries(given), ...(transports && { transports }) },
  });
}

for (const form of document.querySelectorAll('form[data-passkey]')) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const said = form.querySelector('[role=status]');
    said.textContent = '';
    try {
      const credential = await ask[form.dataset.passkey](JSON.parse(form.dataset.options));
      form.elements.credential.value = answerOf(credential);
      form.submit();
    } catch (error) {
      said.textContent =
        error.name === 'InvalidStateError'
          ? 'This device has a passkey for this account already.'
          : 'No passkey was used. You can try again.';
    }
  });
}
`;

export function sendPasskeyScript(context: KoaContextWithOIDC): void {
  context.type = 'text/javascript; charset=utf-8';
  context.set('cache-control', `public, max-age=${CACHE_SECONDS}`);
  context.set('x-content-type-options', 'nosniff');
  context.set('cross-origin-resource-policy', 'same-origin');
  context.body = SCRIPT;
}
