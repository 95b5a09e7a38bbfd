/** URLs in settings of which only the origin means something: what else stands there was meant to do something, and would not. */
const WEB = /^https?:$/;
/** Of pages that a browser extension or a desktop shell shows; `URL` knows no origin of theirs. */
const OTHER_ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/[a-z0-9._-]+(?::\d{1,5})?$/;

/** Why a text can't be compared with what browsers send as `Origin`; undefined when it can. @see RFC 6454 §6.2 */
export function originFault(text: string): string | undefined {
  if (text === 'null' || text.includes('*'))
    return `has to name one origin such as https://app.example.com: ${text} would let any page call`;
  const url = URL.parse(text);
  if (!url) return 'has to be an origin such as https://app.example.com';
  if (WEB.test(url.protocol))
    return text === url.origin ? undefined : `has to be written as browsers send it: ${url.origin}`;
  return OTHER_ORIGIN.test(text)
    ? undefined
    : 'has to be an origin such as https://app.example.com, without a path';
}

/** Why a text can't be how the world reaches the control host; undefined when it can. */
export function publicUrlFault(text: string): string | undefined {
  const url = URL.parse(text);
  if (!url || !WEB.test(url.protocol))
    return 'has to be an http:// or https:// URL such as https://proxy.example.com';
  if (url.username !== '' || url.password !== '') return 'has to be without a user name or password';
  // `URL` drops an empty query or fragment, and gives every URL a path.
  if (url.pathname !== '/' || /[?#]/.test(text))
    return `has to be without a path, query or fragment, because the control host answers at its root: ${url.origin}`;
  return undefined;
}
