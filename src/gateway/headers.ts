/**
 * Which header fields pass, in both directions. What a client claims to be never survives, in any spelling an
 * upstream might take for the same: `X-Auth-User`, `x_auth_user` and `X!Auth!User` are one name here (CGI, WSGI and
 * PHP map them onto one variable, each its own set of characters). Pure; called once per request and once per response.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { canonicalName, isIdentityName } from '../core/identity-headers.ts';
import { withoutCookie, withoutSiteCookies } from '../core/site-cookies.ts';
import type { HeaderRules } from '../proxies/schema.ts';
import type { Peer } from './client-address.ts';
import { SESSION_FIELD } from './sessions.ts';
import { gatewayLimits } from './settings.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 | RFC 9110 §7.6.1} */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
]);

/** Where a request came from or what it was for before someone rewrote it: never from a client. */
const rewriting = new Set([
  'x-original-url',
  'x-original-uri',
  'x-original-host',
  'x-rewrite-url',
  'x-rewrite-uri',
  'x-original-method',
  'x-envoy-original-path',
  'x-envoy-original-host',
  'x-http-host-override',
  'x-host',
  'x-real-ip',
]);

/** Told by a trusted proxy in front and by nobody else. */
const forwardedFamily = new Set([
  'x-client-ip',
  'x-cluster-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'fastly-client-ip',
  'x-envoy-external-address',
  'x-originating-ip',
  'x-remote-ip',
  'x-remote-addr',
  'client-ip',
  'forwarded-for',
  'x-original-forwarded-for',
  'x-forwarded',
  'x-scheme',
  'x-url-scheme',
  'front-end-https',
]);

/** Left by whoever handed a request on, besides those of which only a trusted proxy's pass. */
const ofHops = new Set([
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'forwarded',
  'via',
  'x-real-ip',
  'cdn-loop',
]);

/** A method in place of the request's own, for clients that can send only some. `refuse-override` looks at them. */
export const methodOverrides = ['x-http-method-override', 'x-http-method', 'x-method-override'] as const;
const overriding: ReadonlySet<string> = new Set(methodOverrides);

/** Written anew for every request. */
const written = new Set([
  'host',
  'content-length',
  'cookie',
  'authorization',
  'dpop',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'forwarded',
  'traceparent',
  'tracestate',
  'cdn-loop',
]);

/** `written` fields are looked at by name; `trusted` ones pass when the peer is a trusted proxy. */
type Disposition = 'pass' | 'drop' | 'trusted' | 'written';

function dispositionOf(lowerCase: string): Disposition {
  const name = canonicalName(lowerCase);
  if (lowerCase.startsWith(':') || hopByHop.has(name) || isIdentityName(name) || rewriting.has(name))
    return 'drop';
  if (name.startsWith('proxy-') || name === 'proxy') return 'drop';
  // Another spelling would stand beside what is written here, or was looked at by its name.
  if (written.has(name)) return name === lowerCase ? 'written' : 'drop';
  if (overriding.has(name)) return name === lowerCase ? 'pass' : 'drop';
  return name.startsWith('x-forwarded-') || forwardedFamily.has(name) ? 'trusted' : 'pass';
}

interface Known {
  readonly lowerCase: string;
  readonly canonical: string;
  readonly disposition: Disposition;
}

/** Clients use few spellings: what each means is found once. What is beyond the limit is worked out every time. */
const spellings = new Map<string, Known>();

function knownName(name: string): Known {
  const known = spellings.get(name);
  if (known) return known;
  const lowerCase = name.toLowerCase();
  const fresh = { lowerCase, canonical: canonicalName(lowerCase), disposition: dispositionOf(lowerCase) };
  if (spellings.size < gatewayLimits.headerSpellings) spellings.set(name, fresh);
  return fresh;
}

/** Whether the request says of itself that it was handed on. */
export function tellsOfHops(rawHeaders: readonly string[]): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const { canonical, disposition } = knownName(rawHeaders[i] ?? '');
    if (disposition === 'trusted' || ofHops.has(canonical)) return true;
  }
  return false;
}

/** Header rules as they are applied. */
export interface CompiledRules {
  /** Lower case, as written and in the spelling that names are compared in; those that are set are in it too. */
  readonly removed: ReadonlySet<string>;
  /** Name, value, name, value. */
  readonly added: readonly string[];
}

export function compileRules({ remove, set }: HeaderRules): CompiledRules {
  const names = [...remove, ...Object.keys(set)].map((name) => name.toLowerCase());
  return { removed: new Set([...names, ...names.map(canonicalName)]), added: Object.entries(set).flat() };
}

/**
 * For where the values may not go. What would be set is removed all the same: a target behind this gateway may believe
 * such a header, and it would be the client's.
 */
export const withoutValues = ({ removed }: CompiledRules): CompiledRules => ({ removed, added: [] });

/** What is known of a request when its header is composed. */
export interface RequestFacts {
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly peer: Peer;
  readonly clientAddress: string;
  readonly scheme: 'http' | 'https';
  readonly authority: string;
  readonly traceparent: string;
  readonly tracestate: string | undefined;
  /** False where the credential was for this gateway: it is never passed on. */
  readonly passesCredential: boolean;
  /** Name, value, name, value: who it is, where the policy says that the upstream is told. */
  readonly identity: readonly string[];
  /** Of MCP, in place of the one that came. */
  readonly session?: string | undefined;
}

/** The same for every request to one target. */
export interface HeaderPlan {
  /** Undefined: the host that the client asked for. */
  readonly host: string | undefined;
  readonly rules: CompiledRules;
  /** Name of this process in CDN-Loop. */
  readonly loopToken: string;
  /** For us, besides those of sign-in. */
  readonly ownCookie?: string | undefined;
}

/** Name, value, name, value: the header of the request to the upstream, without what frames it. */
export function requestHeaders(request: RequestFacts, plan: HeaderPlan): string[] {
  const { rawHeaders, headers, peer, session } = request;
  const { removed, added } = plan.rules;
  const named = namedByConnection(headers.connection);
  const result = ['host', plan.host ?? request.authority];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const { lowerCase, canonical, disposition } = knownName(name);
    if (disposition === 'drop' || disposition === 'written') continue;
    if (disposition === 'trusted' && !peer.isTrusted) continue;
    if (removed.has(canonical) || named?.has(lowerCase)) continue;
    result.push(name, rawHeaders[i + 1] ?? '');
  }
  if (session !== undefined) putSession(result, session);
  addWritten(result, request, plan);
  for (const part of added) result.push(part);
  return result;
}

function putSession(result: string[], session: string): void {
  for (let i = 0; i < result.length; i += 2)
    if (result[i]?.toLowerCase() === SESSION_FIELD) result[i + 1] = session;
}

function addWritten(result: string[], request: RequestFacts, plan: HeaderPlan): void {
  const { rules, loopToken, ownCookie } = plan;
  const { headers } = request;
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined && !rules.removed.has(name)) result.push(name, value);
  };
  add('content-length', headers['content-length']);
  // Node joins the cookie fields of HTTP/2 with "; " (RFC 9113 §8.2.3).
  const cookie = withoutSiteCookies(headers.cookie);
  add('cookie', ownCookie === undefined ? cookie : withoutCookie(cookie, ownCookie));
  if (request.passesCredential) {
    add('authorization', headers.authorization);
    add('dpop', textOf(headers['dpop']));
  }
  if (acceptsTrailers(headers.te)) add('te', 'trailers');
  addIdentity(result, request.identity, rules);
  addForwarded(add, request);
  add('traceparent', request.traceparent);
  add('tracestate', request.tracestate);
  const loop = textOf(headers['cdn-loop']);
  result.push('cdn-loop', loop === undefined ? loopToken : `${loop}, ${loopToken}`);
}

/** An owner's rule for the same name stands in its place. */
function addIdentity(result: string[], identity: readonly string[], { removed }: CompiledRules): void {
  for (let i = 0; i < identity.length; i += 2) {
    const name = identity[i] ?? '';
    const isReplaced = removed.size > 0 && removed.has(canonicalName(name.toLowerCase()));
    if (!isReplaced) result.push(name, identity[i + 1] ?? '');
  }
}

type Add = (name: string, value: string | undefined) => void;

/** What a trusted proxy said is continued; what anyone else said is replaced. */
function addForwarded(add: Add, { headers, peer, clientAddress, scheme, authority }: RequestFacts): void {
  const { address } = peer;
  const isBehind = peer.isTrusted && clientAddress !== address;
  const xff = textOf(headers['x-forwarded-for']);
  add('x-forwarded-for', isBehind ? `${xff ?? clientAddress}, ${address}` : address);
  add('x-forwarded-proto', scheme);
  add('x-forwarded-host', (peer.isTrusted ? textOf(headers['x-forwarded-host']) : undefined) ?? authority);
  const hop = `for=${node(address)};host="${authority}";proto=${scheme}`;
  add('forwarded', isBehind ? `${textOf(headers.forwarded) ?? `for=${node(clientAddress)}`}, ${hop}` : hop);
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc7239#section-6 | RFC 7239 §6} */
const node = (address: string): string => (address.includes(':') ? `"[${address}]"` : address);

const textOf = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(', ') : value;

const TRAILERS = /(?:^|,)\s*trailers\s*(?:,|$)/i;
const acceptsTrailers = (te: string | string[] | undefined): boolean => TRAILERS.test(textOf(te) ?? '');

/** Connection options that are names of fields; nothing for the usual ones, which are dropped anyway. */
function namedByConnection(connection: string | undefined): ReadonlySet<string> | undefined {
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return undefined;
  return new Set(connection.split(',').map((option) => option.trim().toLowerCase()));
}

export type FieldRecord = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Name, value, name, value: the header of the reply, repeated fields repeated.
 * @param names in lower case, as undici and Node give them.
 */
export function responseHeaders(
  fields: FieldRecord,
  { removed, added }: CompiledRules,
  keepsTrailer: boolean,
): string[] {
  const named = namedByConnection(textOf(fields.connection));
  const result: string[] = [];
  for (const name in fields) {
    const value = fields[name];
    if (value === undefined || removed.has(name) || named?.has(name)) continue;
    if (name === 'trailer' ? !keepsTrailer : hopByHop.has(name) || name.startsWith('proxy-')) continue;
    if (typeof value === 'string') result.push(name, value);
    else for (const one of value) result.push(name, one);
  }
  for (const part of added) result.push(part);
  return result;
}

/** Fields as Node's own client gives them: repeated ones become lists. */
export function fieldRecord(rawHeaders: readonly string[]): FieldRecord {
  const fields: Record<string, string | string[]> = Object.create(null);
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase();
    const value = rawHeaders[i + 1] ?? '';
    const before = fields[name];
    if (before === undefined) fields[name] = value;
    else if (typeof before === 'string') fields[name] = [before, value];
    else before.push(value);
  }
  return fields;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1 | RFC 9110 §6.5.1} */
const notInTrailers: ReadonlySet<string> = new Set([
  ...hopByHop,
  ...written,
  ...methodOverrides,
  'set-cookie',
  'www-authenticate',
  'cache-control',
  'location',
  'content-type',
  'content-encoding',
  'content-range',
]);

/** Trailer fields that pass, by rules as well; undefined when none do. */
export function trailersOf(
  fields: FieldRecord,
  { removed }: CompiledRules,
): Record<string, string> | undefined {
  let result: Record<string, string> | undefined;
  for (const name in fields) {
    const value = textOf(fields[name]);
    const canonical = canonicalName(name);
    if (value === undefined || notInTrailers.has(canonical) || removed.has(canonical)) continue;
    if (dispositionOf(name) !== 'pass') continue;
    result ??= {};
    result[name] = value;
  }
  return result;
}
