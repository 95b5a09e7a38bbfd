/**
 * Cookies by which browsers are signed in at protected hostnames. They are this system's own: no upstream sees one.
 * `__Host-` makes browsers refuse them for other hosts, below other paths and over plain HTTP, where only names of
 * loopback are served. Pure.
 * @see {@link https://www.rfc-editor.org/rfc/rfc6265#section-5.4 | RFC 6265 §5.4}
 */
const OWN = /^\s*(?:__(?:host|secure)-)?ohp(?:[-_][^=]*)?\s*(?:=|$)/i;

export const sessionCookie = (isSecure: boolean): string => (isSecure ? '__Host-ohp' : 'ohp-session');

/** One for each sign-in that is under way, so that two tabs don't disturb each other. */
export const flowCookiePrefix = (isSecure: boolean): string => (isSecure ? '__Host-ohp-flow-' : 'ohp-flow-');

/** The `Cookie` field without them; undefined when nothing is left. */
export function withoutSiteCookies(cookie: string | undefined): string | undefined {
  if (cookie === undefined || !/ohp/i.test(cookie)) return cookie;
  return keptOf(cookie, (pair) => !OWN.test(pair));
}

export const isSiteCookie = (name: string): boolean => OWN.test(name);

/** The `Cookie` field without those of that name; undefined when nothing is left. */
export function withoutCookie(cookie: string | undefined, name: string): string | undefined {
  if (cookie === undefined || !cookie.includes(name)) return cookie;
  return keptOf(cookie, (pair) => pair.split('=', 1)[0]?.trim() !== name);
}

function keptOf(cookie: string, isKept: (pair: string) => boolean): string | undefined {
  const kept = cookie.split(';').filter(isKept);
  return kept.length === 0 ? undefined : kept.join(';').trim();
}

/** Undefined also when it is there more than once: one of them was set by somebody else. */
export function cookieIn(cookie: string | undefined, name: string): string | undefined {
  const values = pairsIn(cookie).filter(([found]) => found === name);
  return values.length === 1 ? values[0]?.[1] : undefined;
}

export function pairsIn(cookie: string | undefined): [name: string, value: string][] {
  if (cookie === undefined) return [];
  return cookie.split(';').map((pair) => {
    const equals = pair.indexOf('=');
    return equals < 0 ? ['', pair.trim()] : [pair.slice(0, equals).trim(), pair.slice(equals + 1).trim()];
  });
}

/** Value of `Set-Cookie`. 0 seconds takes it away; undefined: until the browser is closed. */
export function cookieLine(
  name: string,
  value: string,
  seconds: number | undefined,
  isSecure: boolean,
): string {
  const age = seconds === undefined ? '' : ` Max-Age=${seconds};`;
  return `${name}=${value}; Path=/;${age} HttpOnly; SameSite=Lax${isSecure ? '; Secure' : ''}`;
}
