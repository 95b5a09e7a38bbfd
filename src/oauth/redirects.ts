/** Where an answer may be sent. Pure. */

const LOOPBACK = /^(?:127\.0\.0\.1|\[::1\]|localhost)$/;

/**
 * Undefined when a client may register it: HTTPS, plain HTTP on the user's own machine, or a scheme of an app.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8252#section-7 | RFC 8252 §7}, RFC 9700 §2.1
 */
export function redirectFault(text: string): string | undefined {
  const url = URL.parse(text);
  if (!url) return 'is not a URL';
  if (url.hash !== '' || text.includes('#')) return 'has a fragment';
  if (url.username !== '' || url.password !== '') return 'has a user name or password in it';
  switch (url.protocol) {
    case 'https:':
      return undefined;
    case 'http:':
      return LOOPBACK.test(url.hostname)
        ? undefined
        : 'has to be https, unless it is on the user’s own machine';
    default:
      return isAppScheme(url.protocol) ? undefined : `has a scheme (${url.protocol}) that no app owns`;
  }
}

/** Registered apps name their scheme after their domain, or after themselves; browsers act on the others. */
const dangerous: ReadonlySet<string> = new Set([
  'javascript:',
  'data:',
  'vbscript:',
  'file:',
  'blob:',
  'about:',
  'view-source:',
  'filesystem:',
  'chrome:',
  'ftp:',
  'ws:',
  'wss:',
  'mailto:',
  'tel:',
  'sms:',
  'intent:',
]);
const isAppScheme = (protocol: string): boolean =>
  /^[a-z][a-z0-9+.-]*:$/.test(protocol) && !dangerous.has(protocol);

/**
 * To the letter, but for the port on the user's own machine, which an app chooses anew each time.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8252#section-7.3 | RFC 8252 §7.3}, RFC 9700 §4.1.3
 */
export function isRedirectAllowed(registered: readonly string[], wanted: string): boolean {
  return registered.includes(wanted) || registered.some((one) => isSameButForPort(one, wanted));
}

function isSameButForPort(registered: string, wanted: string): boolean {
  const [one, other] = [URL.parse(registered), URL.parse(wanted)];
  if (!one || !other || one.protocol !== 'http:' || !LOOPBACK.test(one.hostname)) return false;
  const withPort = new URL(one.href);
  withPort.port = other.port;
  // The wanted one has to be written as it is read: nothing is hidden in a spelling.
  return withPort.href === other.href && (wanted === other.href || `${wanted}/` === other.href);
}
