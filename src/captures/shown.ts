/**
 * What strangers sent, made fit to be kept and shown: credentials go by the name of what they stand in and by how they
 * look, values of queries and cookies go whatever they are, the rest is cleaned and cut. Pure, and linear in the length
 * of what it reads. It may hide what is harmless; it must not show what is not.
 */
import { canonicalName, isIdentityName } from '../core/identity-headers.ts';
import { redactText } from '../core/redact.ts';
import { cleanLines, cleanText } from '../core/untrusted.ts';

export const HIDDEN = '[redacted]';

const MAX_NAME = 64;
const MAX_VALUE = 256;
/** Read of one value before anything is done with it. */
const MAX_READ = 1024;
/** Characters of one body. */
const MAX_BODY = 3000;
const MAX_COOKIES = 30;
const MAX_QUERY_NAMES = 30;
/** Of all of them, with what JSON puts around each. */
const QUERY_CHARACTERS = 500;
const MAX_URL = 128;
const MAX_REASON = 160;
/** Of the lines of one head, with what JSON puts around each. */
export const HEAD_CHARACTERS = 1_700;

/** Fields whose value is a credential, or names somebody, whatever it looks like: by a part of their name. */
const SECRET_PARTS =
  /auth|cookie|token|secret|passw|api-?key|credential|signature|assertion|session|jwt|saml|otp|csrf|xsrf|dpop|client-cert/;
const ENDS_IN_KEY = /(?:^|-)key$/;
/** Has one of those words in it, and says only what is asked for. */
const CHALLENGE = 'www-authenticate';

/** Fields whose values are made of long words by themselves. */
const PLAIN: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'accept-language',
  'accept-ranges',
  'access-control-allow-headers',
  'access-control-allow-methods',
  'access-control-allow-origin',
  'access-control-expose-headers',
  'access-control-request-headers',
  'access-control-request-method',
  'allow',
  'alt-svc',
  'cache-control',
  'cdn-loop',
  'connection',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-range',
  'content-security-policy',
  'content-type',
  'date',
  'expires',
  'forwarded',
  'host',
  'if-modified-since',
  'if-unmodified-since',
  'last-modified',
  'location',
  'mcp-protocol-version',
  'origin',
  'permissions-policy',
  'range',
  'referer',
  'referrer-policy',
  'sec-ch-ua',
  'server',
  'strict-transport-security',
  'traceparent',
  'transfer-encoding',
  'upgrade',
  'user-agent',
  'vary',
  'via',
  'x-content-type-options',
  'x-correlation-id',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-request-id',
  'x-trace-id',
]);

/** A long word with digits or both cases in it: more likely a key than anything that anybody reads. */
const OPAQUE = /[\w+/=~%-]{20,}/g;
const isOpaque = (word: string): boolean =>
  /\d/.test(word) ? /[a-z]/i.test(word) : /[a-z]/.test(word) && /[A-Z]/.test(word);
const withoutOpaque = (text: string): string =>
  text.replace(OPAQUE, (word) => (isOpaque(word) ? HIDDEN : word));

/** `?name=value` of an address within a value, and what stands behind a `#`. */
const QUERY_VALUE = /([?&#][^=&#\s"'<>,;]{0,64})=[^&#\s"'<>,;]*/g;
/** A query or fragment that is no list of names and values. */
const BARE_QUERY = /([?#])(?![^=&#\s"'<>,;]{0,64}=)[^\s"'<>,;&#]+/g;

/** Credentials by how they look; values of queries. */
const hideLooks = (text: string): string =>
  redactText(text).replace(BARE_QUERY, `$1${HIDDEN}`).replace(QUERY_VALUE, `$1=${HIDDEN}`);

/** The beginning of a long text; the word that is cut goes whole: what is left of a key does not look like one. */
const beginningOf = (text: string): string =>
  text.length <= MAX_READ ? text : text.slice(0, MAX_READ).replace(CUT_WORD, '…');
const CUT_WORD = /[^\s"'&,;=]{1,4096}$/;

/** Of a path: as the log has it. */
export const shownPath = (path: string): string => cleanText(redactText(beginningOf(path)), MAX_VALUE);

/** Of an upstream. */
export const shownUrl = (url: string): string => cleanText(hideLooks(beginningOf(url)), MAX_URL);

/** Of a failure, which may quote whoever failed. */
export const shownReason = (text: string): string =>
  cleanText(withoutOpaque(hideLooks(beginningOf(text))), MAX_REASON);

/** Names in a query, in their order; a part without `=` may be a value. */
export function queryNames(query: string): string[] {
  if (query === '') return [];
  const parts = query.split('&', MAX_QUERY_NAMES + 1);
  const names = parts.slice(0, MAX_QUERY_NAMES).map((part) => {
    const at = part.indexOf('=');
    return at < 1 ? HIDDEN : shownName(part.slice(0, at));
  });
  let room = QUERY_CHARACTERS;
  const told = names.filter((name) => (room -= JSON.stringify(name).length + 1) >= 0);
  return parts.length > told.length ? [...told, '…'] : told;
}

const shownName = (name: string): string => cleanText(withoutOpaque(redactText(beginningOf(name))), MAX_NAME);

export interface Head {
  /** `name: value`, in their order. */
  readonly lines: string[];
  /** Fields beyond what is kept. */
  readonly leftOut: number;
}

/** @param fields name, value, name, value. Pseudo-fields of HTTP/2 are left out: they are told otherwise. */
export function shownHead(fields: readonly string[]): Head {
  const lines: string[] = [];
  let room = HEAD_CHARACTERS;
  let leftOut = 0;
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] ?? '').toLowerCase();
    if (name.startsWith(':')) continue;
    const line = room > 0 ? `${cleanText(name, MAX_NAME)}: ${shownValue(name, fields[i + 1] ?? '')}` : '';
    room -= JSON.stringify(line).length + 1;
    if (room > 0) lines.push(line);
    else leftOut++;
  }
  return { lines, leftOut };
}

function shownValue(name: string, value: string): string {
  const canonical = canonicalName(name);
  const read = beginningOf(value);
  if (canonical === 'cookie') return cookieNames(read);
  if (canonical === 'set-cookie') return setCookie(read);
  if (isSecretName(canonical)) return HIDDEN;
  const shown = hideLooks(read);
  return cleanText(PLAIN.has(canonical) ? shown : withoutOpaque(shown), MAX_VALUE);
}

const isSecretName = (canonical: string): boolean =>
  canonical !== CHALLENGE &&
  (isIdentityName(canonical) || SECRET_PARTS.test(canonical) || ENDS_IN_KEY.test(canonical));

/** @see {@link https://www.rfc-editor.org/rfc/rfc6265#section-4.2.1 | RFC 6265 §4.2.1} */
function cookieNames(value: string): string {
  const names = value.split(';', MAX_COOKIES).map((pair) => {
    const at = pair.indexOf('=');
    return at < 1 ? HIDDEN : pair.slice(0, at).trim();
  });
  return cleanText(names.join('; '), MAX_VALUE);
}

const COOKIE_ATTRIBUTE =
  /^(?:secure|httponly|partitioned|max-age=-?\d{1,12}|expires=[\w ,:+-]{1,40}|samesite=(?:lax|strict|none)|path=\/[^?#=;]{0,64}|domain=[\w.-]{1,100})$/i;

/** The name, and those attributes that are what they should be. */
function setCookie(value: string): string {
  const [pair = '', ...attributes] = value.split(';', MAX_COOKIES);
  const at = pair.indexOf('=');
  const known = attributes.map((text) => text.trim()).filter((text) => COOKIE_ATTRIBUTE.test(text));
  const named = at < 1 ? HIDDEN : `${pair.slice(0, at).trim()}=${HIDDEN}`;
  return cleanText([named, ...known.map(withoutOpaque)].join('; '), MAX_VALUE);
}

const TEXT_TYPE =
  /^\s*(?:text\/[\w.+-]+|application\/(?:json|xml|javascript|x-www-form-urlencoded|graphql|problem\+json|[\w.-]+\+(?:json|xml)))\s*(?:;|$)/i;

/** Whether a body may be shown by its head: text, and not compressed. @param fields name, value, name, value */
export function isText(fields: readonly string[]): boolean {
  const of = (wanted: string) => {
    for (let i = 0; i < fields.length; i += 2)
      if (fields[i]?.toLowerCase() === wanted) return fields[i + 1] ?? '';
    return '';
  };
  const encoding = of('content-encoding').trim().toLowerCase();
  return TEXT_TYPE.test(of('content-type')) && (encoding === '' || encoding === 'identity');
}

/** `name=value` and `"name": value` where the name says what the value is. Of JSON within JSON too. */
const ASSIGNED =
  /([\w.-]{0,48}(?:auth|token|secret|passw|passphrase|pwd|api_?key|private_?key|session|cookie|credential|assertion|signature|otp|jwt|cvc|cvv|ssn|card)[\w.-]{0,48}(?:\\?["'])?\s{0,4}[:=]\s{0,4})(?:\\?"(?:[^"\\]|\\.)*"?|\\?'[^']*'?|[^\s&,;}"']+)/gi;
/** Of OAuth, in a form. */
const CODE = /((?:^|&)(?:code|code_verifier|device_code|user_code|username|pin)=)[^&\s]*/gi;

/** A body that is text, or its beginning. */
export function shownBody(bytes: Uint8Array, isCut: boolean): string {
  const whole = Buffer.from(bytes).toString('utf8');
  const text = isCut ? whole.replace(CUT_WORD, '…') : whole;
  const hidden = redactText(text.replace(ASSIGNED, `$1${HIDDEN}`).replace(CODE, `$1${HIDDEN}`));
  return cleanLines(withoutOpaque(hidden), MAX_BODY);
}
