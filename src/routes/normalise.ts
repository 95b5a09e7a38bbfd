/**
 * The one canonical form of a request's path and host. Match, authorise and forward all use what comes out of here
 * and never the client's own spelling, so that they can't disagree. Pure; not a URL parser (targets of proxies go
 * through `URL`). Callers: the gateway on every request, `test_route`, and the schema of a route's path.
 *
 * The rules for a path, from RFC 3986 §6.2.2 and what nginx and Envoy do where it leaves a choice:
 * - percent-encoding in capitals; encoded unreserved characters are decoded, raw ones that don't belong in a path
 *   (`"<>[]^{|}` and the backquote) are encoded; everything else stays as it was sent;
 * - dot segments are removed, encoded ones too; one that leads above the root is refused;
 * - empty segments are removed (`//a` is `/a`), before dot segments are, as nginx does;
 * - refused, because upstreams disagree about their meaning: encoded slash and backslash, raw backslash, control
 *   characters and spaces in either form (an encoded space is fine), `#`, raw non-ASCII, invalid and overlong escapes;
 * - parameters (`;v=1`) stay literally; a segment that is `.`, `..` or nothing before its `;` is refused, because
 *   some upstreams drop the parameters and then see a dot segment.
 * @see {@link https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2 | RFC 3986 §6.2.2}
 */
import { isIPv4, isIPv6 } from 'node:net';
import { parseHostname } from '../core/hostname.ts';

/** RFC 9112 §3 asks for 8,000 at least. */
export const MAX_TARGET_LENGTH = 16 * 1024;
const MAX_AUTHORITY_LENGTH = 262;
const MAX_PORT = 65_535;

/** Already canonical: nothing encoded, no empty or dot segment, no parameter. Most requests end here. */
const CANONICAL_PATH = /^(?:\/(?!\.{0,2}(?:\/|$))[A-Za-z0-9\-._~!$&'()*+,=:@]+)+\/?$|^\/$/;
/** Visible ASCII without `#` and backslash. */
const PATH_CHARACTERS = /^[!"$-[\]-~]*$/;
/** Visible ASCII without `#`. */
const QUERY_CHARACTERS = /^[!"$-~]*$/;
const BROKEN_ESCAPE = /%(?![0-9A-Fa-f]{2})/;
/** Controls, slash, backslash, and sequences that only spell an ASCII character in too many bytes (RFC 3629 §3). */
const FORBIDDEN_ESCAPE = /%(?:[01][0-9A-F]|7F|2F|5C|C[01]%[89AB]|E0%[89]|F0%8)/;
const HIDDEN_DOTS = /^\.{0,2}(?:;|%3B)/;
const ESCAPE = /%[0-9A-Fa-f]{2}/g;
const UNRESERVED = /^[A-Za-z0-9\-._~]$/;
const NOT_IN_A_PATH = /["<>[\]^`{|}]/g;

export interface Target {
  /** Begins with `/`; canonical. */
  path: string;
  /** As sent, without `?`; empty when there is none. */
  query: string;
}

/** The canonical path and the query of an origin-form target; undefined when it has to be refused (400). */
export function normaliseTarget(rawTarget: string): Target | undefined {
  if (rawTarget.length > MAX_TARGET_LENGTH || !rawTarget.startsWith('/')) return undefined;
  const mark = rawTarget.indexOf('?');
  const query = mark < 0 ? '' : rawTarget.slice(mark + 1);
  if (query !== '' && !QUERY_CHARACTERS.test(query)) return undefined;
  const path = normalisePath(mark < 0 ? rawTarget : rawTarget.slice(0, mark));
  return path === undefined ? undefined : { path, query };
}

function normalisePath(raw: string): string | undefined {
  if (CANONICAL_PATH.test(raw)) return raw;
  if (!PATH_CHARACTERS.test(raw) || BROKEN_ESCAPE.test(raw)) return undefined;
  const path = raw.replace(ESCAPE, canonicalEscape).replace(NOT_IN_A_PATH, encoded);
  if (FORBIDDEN_ESCAPE.test(path)) return undefined;
  return withoutDotSegments(path.split('/'));
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc3986#section-5.2.4 | RFC 3986 §5.2.4}, with empty segments left out */
function withoutDotSegments(segments: readonly string[]): string | undefined {
  const kept: string[] = [];
  for (const segment of segments) {
    if (HIDDEN_DOTS.test(segment)) return undefined;
    if (segment === '..') {
      if (kept.pop() === undefined) return undefined;
    } else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const last = segments.at(-1);
  const isFolder = kept.length > 0 && (last === '' || last === '.' || last === '..');
  return `/${kept.join('/')}${isFolder ? '/' : ''}`;
}

function canonicalEscape(escape: string): string {
  const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
  return UNRESERVED.test(character) ? character : escape.toUpperCase();
}

const encoded = (character: string): string =>
  `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;

/** Reserved characters that may stand in a segment: many upstreams take `%40` and `@` for the same. */
const ENCODED_IN_SEGMENT = /%(?:2[146789ABC]|3[ABD]|40)/g;
const PARAMETERS = /;[^/]*/g;

/**
 * The form in which a canonical path is compared with the paths of routes: reserved characters decoded, parameters
 * left out, as the most lenient upstream would see it. A route that protects `/admin` thereby covers `/admin;x` and
 * one for `/a@b` covers `/a%40b`. The number of segments stays the same. Identity for nearly every path.
 */
export function comparablePath(path: string): string {
  if (!path.includes('%') && !path.includes(';')) return path;
  return path.replace(ENCODED_IN_SEGMENT, decoded).replace(PARAMETERS, '');
}

const decoded = (escape: string): string => String.fromCharCode(Number.parseInt(escape.slice(1), 16));

export interface Authority {
  /** Canonical hostname, or an IP address in canonical text (IPv6 without brackets). */
  hostname: string;
  port: number | undefined;
}

/** What `parseAuthority` reads: IPv6 in brackets, the port only where it is not the scheme's own. */
export function authorityOf(hostname: string, port: number | undefined, scheme: 'http' | 'https'): string {
  const host = hostname.includes(':') ? `[${hostname}]` : hostname;
  return port === undefined || port === (scheme === 'https' ? 443 : 80) ? host : `${host}:${port}`;
}

const AUTHORITY = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([1-9][0-9]{0,4}))?$/;
/** Canonical by the look of it: `parseHostname` would return it as it is. `xn--` labels need its closer look. */
const PLAIN_HOSTNAME =
  /^(?:(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?!xn--)[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const MAX_PLAIN_HOSTNAME = 253;

/**
 * `Host` or `:authority`. User information, spaces, raw non-ASCII, an empty or impossible port, and every spelling of
 * an IPv4 address but four decimal numbers are refused.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-7.2 | RFC 9110 §7.2}
 */
export function parseAuthority(text: string): Authority | undefined {
  if (text.length > MAX_AUTHORITY_LENGTH) return undefined;
  const [, host, digits] = AUTHORITY.exec(text) ?? [];
  if (host === undefined) return undefined;
  const port = digits === undefined ? undefined : Number(digits);
  if (port !== undefined && port > MAX_PORT) return undefined;
  const hostname = canonicalHost(host);
  return hostname === undefined ? undefined : { hostname, port };
}

function canonicalHost(host: string): string | undefined {
  if (host.length <= MAX_PLAIN_HOSTNAME && PLAIN_HOSTNAME.test(host)) return host;
  if (host.startsWith('[')) return canonicalIpv6(host.slice(1, -1));
  return isIPv4(host) ? host : parseHostname(host);
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc5952 | RFC 5952}, which `URL` implements */
function canonicalIpv6(address: string): string | undefined {
  return isIPv6(address) ? URL.parse(`http://[${address}]/`)?.hostname.slice(1, -1) : undefined;
}
