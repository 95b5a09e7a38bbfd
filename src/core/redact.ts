/**
 * Second line of defence: what looks like a credential never reaches a log file or a terminal. The first is that
 * whoever writes a record leaves it out. Every pattern is linear in the length of the text.
 */
const REDACTED = '[redacted]';

/** Names whose value is a secret whatever it looks like: `password=…`, `"access_token":"…"`. */
const SECRET_NAMES =
  'password|passwd|client_secret|access_token|refresh_token|id_token|api_?key|private_?key';
/** Header fields whose whole line is one. */
const SECRET_HEADERS = 'authorization|cookie|x-registry-auth';
const ASSIGNED = String.raw`(\\?["']?\s{0,4}[:=]\s{0,4})(?!\[redacted)`;

const PATTERNS: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // A key that was cut off has no END line; what is left of it goes all the same.
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g, REDACTED],
  [new RegExp(String.raw`(${SECRET_HEADERS})${ASSIGNED}["']?[^"\r\n]+`, 'gi'), `$1$2${REDACTED}`],
  [
    new RegExp(String.raw`(${SECRET_NAMES})${ASSIGNED}(?:\\?"(?:[^"\\]|\\.)*|[^\s"'&,;}]+)`, 'gi'),
    `$1$2${REDACTED}`,
  ],
  // The administrator's own may have any printable character.
  [/\b(bearer)(?:\s|%20|\+)+[^\s"\\]{6,}/gi, `$1 ${REDACTED}`],
  // "basic settings" is English; base64 of a name and a password has a digit, a capital or padding.
  [/\b([Bb]asic) +(?=[a-z]*[\dA-Z+/=])[\w+/=]{8,}/g, `$1 ${REDACTED}`],
  [/ohp_[\w-]{16,}/g, REDACTED],
  [/eyJ[\w-]{8,1024}\.[\w-]{8,}(?:\.[\w-]*){0,3}/g, REDACTED],
  [/:\/\/[^\s/@"]{1,512}@/g, `://${REDACTED}@`],
];

/** Without one of these a text has nothing to redact. Every record is searched for them, at once. */
const SIGNS =
  /ohp_|bearer|basic|-----begin|eyj|secret|token|passw|api_?key|private_?key|authorization|cookie|registry-auth/;
const USER_IN_URL = /:\/\/[^\s/@"]{1,512}@/;

const SECRET_KEY = new RegExp(
  `^(?:set-|proxy-|x-)?(?:${SECRET_NAMES}|${SECRET_HEADERS}|secret|token)(?:_pem)?$`,
  'i',
);
const MAX_DEPTH = 8;

/** Cheap, and never wrong the other way. */
export function isSuspicious(text: string): boolean {
  // Twice as quick as a pattern that ignores case.
  return SIGNS.test(text.toLowerCase()) || (text.includes('://') && USER_IN_URL.test(text));
}

export function redactText(text: string): string {
  return PATTERNS.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), text);
}

/** A copy with every string redacted, at any depth; fields with the name of a secret lose their value. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return isSuspicious(value) ? redactText(value) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (depth === MAX_DEPTH) return REDACTED;
  if (Array.isArray(value)) return value.map((inner) => redact(inner, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      isSuspicious(key) ? redactText(key) : key,
      SECRET_KEY.test(key) && typeof inner === 'string' ? REDACTED : redact(inner, depth + 1),
    ]),
  );
}
