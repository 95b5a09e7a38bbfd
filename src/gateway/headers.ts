/**
 * Which header fields pass, in both directions. What a client claims to be never survives, in any spelling an
 * upstream might take for the same: `X-Auth-User`, `x_auth_user` and `X.Auth.User` are one name here (CGI, WSGI and
 * PHP map all three onto one variable). Pure; called once per request and once per response.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { HeaderRules } from '../proxies/schema.ts';
import type { Peer } from './client-address.ts';
import { gatewayLimits } from './settings.ts';
import { nextTraceparent } from './trace.ts';

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

/** Who someone is: only this gateway (or an owner's header rule) may say so. */
const identity = new Set([
  ...['user', 'email', 'groups', 'scopes', 'name', 'subject', 'roles'].map((what) => `x-auth-${what}`),
  ...['user', 'email', 'groups', 'name', 'preferred-username', 'access-token', 'roles', 'id-token'].flatMap(
    (what) => [`x-forwarded-${what}`, `remote-${what}`, `x-remote-${what}`],
  ),
  'x-forwarded-preferred-username',
  'x-client-verify',
  'x-client-dn',
  'client-cert',
  'client-cert-chain',
  'x-forwarded-client-cert',
  'x-forwarded-tls-client-cert',
  'x-forwarded-tls-client-cert-info',
  'x-arr-clientcert',
]);
const identityPrefixes = [
  'x-authenticated-',
  'x-auth-request-',
  'x-webauth-',
  'ssl-client-',
  'x-ssl-client-',
  'x-client-cert',
  'x-ssl-cert',
  'x-goog-authenticated-user-',
  'x-ms-client-principal',
  'x-amzn-oidc-',
  'cf-access-authenticated-user-',
  'tailscale-user-',
  'x-authentik-',
  'x-vouch-',
  'x-pomerium-claim-',
  'x-consumer-',
  'x-remote-group',
  'x-remote-extra-',
  'oidc-claim-',
];

/** Where a request came from or what it was for before someone rewrote it: never from a client. */
const rewriting = new Set([
  'x-original-url',
  'x-original-uri',
  'x-original-host',
  'x-rewrite-url',
  'x-rewrite-uri',
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

/** Written anew for every request. */
const written = new Set([
  'host',
  'content-length',
  'cookie',
  'authorization',
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

/** The spelling in which names are compared; `x_real.ip` is `x-real-ip`. */
const canonicalName = (lowerCase: string): string => lowerCase.replace(/[_.]/g, '-');

function dispositionOf(lowerCase: string): Disposition {
  const name = canonicalName(lowerCase);
  if (lowerCase.startsWith(':') || hopByHop.has(name) || identity.has(name) || rewriting.has(name))
    return 'drop';
  if (name.startsWith('proxy-') || name === 'proxy') return 'drop';
  if (identityPrefixes.some((prefix) => name.startsWith(prefix))) return 'drop';
  // Another spelling of what is written here would stand beside it.
  if (written.has(name)) return name === lowerCase ? 'written' : 'drop';
  return name.startsWith('x-forwarded-') || forwardedFamily.has(name) ? 'trusted' : 'pass';
}

interface Known {
  readonly lowerCase: string;
  readonly disposition: Disposition;
}

/** Clients use few spellings: what each means is found once. What is beyond the limit is worked out every time. */
const spellings = new Map<string, Known>();

function knownName(name: string): Known {
  const known = spellings.get(name);
  if (known) return known;
  const lowerCase = name.toLowerCase();
  const fresh = { lowerCase, disposition: dispositionOf(lowerCase) };
  if (spellings.size < gatewayLimits.headerSpellings) spellings.set(name, fresh);
  return fresh;
}

/** Whether a header of this name never passes from a client that is not a trusted proxy. */
export function isStripped(name: string): boolean {
  const { disposition } = knownName(name);
  return disposition === 'drop' || disposition === 'trusted';
}

/** Header rules as they are applied. */
export interface CompiledRules {
  /** Lower case; those that are set are in it too. */
  readonly removed: ReadonlySet<string>;
  /** Name, value, name, value. */
  readonly added: readonly string[];
}

export function compileRules({ remove, set }: HeaderRules): CompiledRules {
  const names = [...remove, ...Object.keys(set)].map((name) => name.toLowerCase());
  return { removed: new Set(names), added: Object.entries(set).flat() };
}

/** What is known of a request when its header is composed. */
export interface RequestFacts {
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly peer: Peer;
  readonly clientAddress: string;
  readonly scheme: 'http' | 'https';
  readonly authority: string;
  readonly traceId: string;
  /** False where the credential was for this gateway: it is never passed on. */
  readonly passesCredential: boolean;
}

/** The same for every request to one target. */
export interface HeaderPlan {
  /** Undefined: the host that the client asked for. */
  readonly host: string | undefined;
  readonly rules: CompiledRules;
  /** Name of this process in CDN-Loop. */
  readonly loopToken: string;
}

/** Name, value, name, value: the header of the request to the upstream, without what frames it. */
export function requestHeaders(request: RequestFacts, plan: HeaderPlan): string[] {
  const { rawHeaders, headers, peer } = request;
  const { removed, added } = plan.rules;
  const named = namedByConnection(headers.connection);
  const result = ['host', plan.host ?? request.authority];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const { lowerCase, disposition } = knownName(name);
    if (disposition === 'drop' || disposition === 'written') continue;
    if (disposition === 'trusted' && !peer.isTrusted) continue;
    if (removed.has(lowerCase) || named?.has(lowerCase)) continue;
    result.push(name, rawHeaders[i + 1] ?? '');
  }
  addWritten(result, request, plan);
  for (const part of added) result.push(part);
  return result;
}

function addWritten(result: string[], request: RequestFacts, { rules, loopToken }: HeaderPlan): void {
  const { headers, traceId } = request;
  const add = (name: string, value: string | undefined) => {
    if (value !== undefined && !rules.removed.has(name)) result.push(name, value);
  };
  add('content-length', headers['content-length']);
  // Node joins the cookie fields of HTTP/2 with "; " (RFC 9113 §8.2.3).
  add('cookie', headers.cookie);
  if (request.passesCredential) add('authorization', headers.authorization);
  if (acceptsTrailers(headers.te)) add('te', 'trailers');
  addForwarded(add, request);
  const incoming = textOf(headers.traceparent);
  const traceparent = nextTraceparent(traceId, incoming);
  add('traceparent', traceparent);
  if (incoming?.includes(traceId)) add('tracestate', textOf(headers.tracestate));
  const loop = textOf(headers['cdn-loop']);
  result.push('cdn-loop', loop === undefined ? loopToken : `${loop}, ${loopToken}`);
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
const notInTrailers = new Set([
  ...hopByHop,
  ...written,
  'set-cookie',
  'www-authenticate',
  'cache-control',
  'location',
  'content-type',
  'content-encoding',
  'content-range',
]);

/** Trailer fields that pass; undefined when none do. */
export function trailersOf(fields: FieldRecord): Record<string, string> | undefined {
  let result: Record<string, string> | undefined;
  for (const name in fields) {
    const value = textOf(fields[name]);
    if (value === undefined || notInTrailers.has(name) || dispositionOf(name) !== 'pass') continue;
    result ??= {};
    result[name] = value;
  }
  return result;
}
