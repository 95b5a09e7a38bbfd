/**
 * Which proxy and route a request gets. Pure: a table is made from proxies and routes and never changes; a change
 * makes another table that shares what stayed the same. Callers: the gateway's snapshot (through `Publisher`) and
 * `test_route`, on the very table that serves.
 *
 * A disabled proxy keeps its hostname: a wildcard beside it does not take over. A disabled route is as if absent.
 */
import type { AuthPolicy } from '../proxies/auth-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import { originOf } from '../proxies/target-url.ts';
import { comparablePath } from './normalise.ts';
import { PersistentMap } from './persistent-map.ts';
import { MAX_PATH, type Route, type RoutingChange } from './schema.ts';

/** What a request gets. The same object for the same proxy and route until one of them changes: key caches on it. */
export interface Match {
  readonly proxy: Proxy;
  /** Undefined: no route matched, the proxy's own target serves. */
  readonly route: Route | undefined;
  /** The route's policy, or the proxy's where the route has none. */
  readonly auth: AuthPolicy;
  readonly targetUrl: string;
  /** Path of `targetUrl` without a slash at its end: put before what is forwarded. Empty for most. */
  readonly targetPath: string;
  /** Leading segments that are not forwarded, without a slash at the end; empty: none. `upstreamPath` applies it. */
  readonly stripPrefix: string;
}

interface Candidate {
  readonly route: Route;
  readonly exact: boolean;
  /** `route.path` without the slash at its end. */
  readonly stem: string;
  /** Undefined: every method. */
  readonly methods: readonly string[] | undefined;
  /** Made when first asked for. Candidates of one proxy only; for a global route see `Host.globalMatches`. */
  match: Match | undefined;
}

/** Enabled routes, the winner first, and what lets most of them be passed over without touching them. */
interface Ranking {
  readonly candidates: readonly Candidate[];
  /** For each candidate: length and hash of its stem in one number. Numbers side by side, because memory is what a match waits for. */
  readonly keys: readonly number[];
}

interface Host extends Ranking {
  /** Undefined while there are only routes for the hostname. */
  readonly proxy: Proxy | undefined;
  /** Every route of the hostname, enabled or not. */
  readonly routes: readonly Route[];
  /** When no route matches; undefined when the proxy is disabled or absent. */
  readonly fallback: Match | undefined;
  /** Filled when first asked for; what is no longer served is collected. */
  readonly globalMatches: WeakMap<Candidate, Match>;
}

export class RoutingTable {
  readonly #hosts: PersistentMap<Host>;
  /** Global routes, enabled or not. */
  readonly #globals: readonly Route[];
  readonly #globalRanking: Ranking;
  /** Id of a proxy or route → its hostname; null for a global route. */
  readonly #hostnameOf: PersistentMap<string | null>;

  private constructor(
    hosts: PersistentMap<Host>,
    globals: readonly Route[],
    globalRanking: Ranking,
    hostnameOf: PersistentMap<string | null>,
  ) {
    this.#hosts = hosts;
    this.#globals = globals;
    this.#globalRanking = globalRanking;
    this.#hostnameOf = hostnameOf;
  }

  static readonly empty = new RoutingTable(
    PersistentMap.empty(),
    [],
    rankingOf([], undefined),
    PersistentMap.empty(),
  );

  /** Hostnames and wildcards that are served: those of enabled proxies. */
  *hostnames(): Generator<string> {
    for (const [hostname, { fallback }] of this.#hosts.entries()) if (fallback) yield hostname;
  }

  /** Whether a proxy or route of this id is set up. */
  has(id: string): boolean {
    return this.#hostnameOf.get(id) !== undefined;
  }

  /** The enabled proxy that serves a hostname: its own, or that of the wildcard above it. */
  proxyOf(hostname: string): Proxy | undefined {
    return this.#hostOf(hostname)?.fallback?.proxy;
  }

  /** Whether anything of this hostname is for browsers that have signed in. */
  asksForSignIn(hostname: string): boolean {
    const host = this.#hostOf(hostname);
    if (!host?.fallback) return false;
    const isAsked = (auth: AuthPolicy | undefined) => auth?.kind === 'oauth' && auth.mode !== 'bearer';
    return (
      isAsked(host.fallback.auth) ||
      [...host.candidates, ...this.#globalRanking.candidates].some(({ route }) => isAsked(route.auth))
    );
  }

  match(hostname: string, method: string, path: string): Match | undefined {
    const host = this.#hostOf(hostname);
    if (!host?.fallback) return undefined;
    const compared = comparablePath(path);
    readPrefixKeys(compared);
    const own = firstOf(host, method, compared);
    const global = firstOf(this.#globalRanking, method, compared);
    if (global && !(own && byPrecedence(own.route, global.route) < 0))
      return globalMatchOf(host, host.fallback.proxy, global);
    return own ? (own.match ??= matchOf(host.fallback.proxy, own)) : host.fallback;
  }

  /** Removals first. Another table; this one stays as it is. */
  with(change: RoutingChange): RoutingTable {
    const draft = new Draft(this.#hosts, this.#globals, this.#hostnameOf);
    for (const id of change.removeRoutes ?? []) draft.removeRoute(id);
    for (const id of change.removeProxies ?? []) draft.removeProxy(id);
    for (const proxy of change.putProxies ?? []) draft.putProxy(proxy);
    for (const route of change.putRoutes ?? []) draft.putRoute(route);
    const globals = draft.globals() ?? this.#globals;
    const ranking = globals === this.#globals ? this.#globalRanking : rankingOf(globals, this.#globalRanking);
    return new RoutingTable(draft.hosts(), globals, ranking, draft.hostnameOf());
  }

  /** `*.example.com` covers one label: only the first is replaced. @see coversHostname */
  #hostOf(hostname: string): Host | undefined {
    const exact = this.#hosts.get(hostname);
    if (exact?.proxy) return exact;
    const dot = hostname.indexOf('.');
    return dot > 0 ? this.#hosts.get(`*${hostname.slice(dot)}`) : undefined;
  }
}

export function createTable(proxies: Iterable<Proxy>, routes: Iterable<Route>): RoutingTable {
  return RoutingTable.empty.with({ putProxies: [...proxies], putRoutes: [...routes] });
}

export function applyChange(table: RoutingTable, change: RoutingChange): RoutingTable {
  return table.with(change);
}

/** `hostname` and `path` have to be canonical (`normalise.ts`); the method is compared as it is. */
export function matchRequest(
  table: RoutingTable,
  hostname: string,
  method: string,
  path: string,
): Match | undefined {
  return table.match(hostname, method, path);
}

/** The path that the upstream gets: `stripPrefix` off, the target's own path in front. */
export function upstreamPath({ stripPrefix, targetPath }: Match, path: string): string {
  const rest = stripPrefix === '' ? path : withoutSegments(path, stripPrefix);
  return targetPath === '' ? rest : targetPath + rest;
}

/** By number of segments, because the request may spell them differently (`comparablePath`). */
function withoutSegments(path: string, prefix: string): string {
  let end = 0;
  for (let i = 0; i < prefix.length; i++) {
    if (prefix[i] !== '/') continue;
    end = path.indexOf('/', end + 1);
    if (end < 0) return '/';
  }
  return path.slice(end);
}

/**
 * Whether the request goes to the origin that the proxy itself names. What an owner set for that origin, which may be a
 * credential, must not go to one that whoever makes routes has chosen.
 */
export function isOwnOrigin({ proxy, targetUrl }: Match): boolean {
  return originOf(targetUrl) === originOf(proxy.target_url);
}

/** What a proxy does with a request of this scheme: `refuse` when it is not served over it at all. */
export function schemeDecision(proxy: Proxy, scheme: 'http' | 'https'): 'serve' | 'redirect' | 'refuse' {
  if (scheme === 'https') return proxy.enable_https ? 'serve' : 'refuse';
  if (!proxy.enable_http) return 'refuse';
  return proxy.redirect_to_https && proxy.enable_https ? 'redirect' : 'serve';
}

/**
 * Key of every prefix of the path at hand, up to the longest that a route can have. Shared by all matches: it is filled
 * and used within one call.
 */
const prefixKeys = new Int32Array(MAX_PATH + 1);
const HASH_FACTOR = 31;
/** A key is the upper bits of a hash above the length: 30 bits, which an array keeps in place. */
const LENGTH_BITS = 11;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;
const HASH_SHIFT = 13;

const hashStep = (hash: number, code: number): number => (Math.imul(hash, HASH_FACTOR) + code) | 0;
const keyFrom = (hash: number, length: number): number => ((hash >>> HASH_SHIFT) << LENGTH_BITS) | length;

function readPrefixKeys(path: string): void {
  const end = Math.min(path.length, MAX_PATH);
  let hash = 0;
  for (let i = 0; i < end; i++) {
    hash = hashStep(hash, path.charCodeAt(i));
    prefixKeys[i + 1] = keyFrom(hash, i + 1);
  }
}

function keyOf(stem: string): number {
  let hash = 0;
  for (let i = 0; i < stem.length; i++) hash = hashStep(hash, stem.charCodeAt(i));
  return keyFrom(hash, stem.length);
}

/** A key that agrees is only a hint: the candidate itself decides. What is longer than the path is of another path. */
function firstOf({ candidates, keys }: Ranking, method: string, compared: string): Candidate | undefined {
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? 0;
    const length = key & LENGTH_MASK;
    if (length > compared.length || prefixKeys[length] !== key) continue;
    const candidate = candidates[i];
    if (candidate && coversPath(candidate, compared) && coversMethod(candidate, method)) return candidate;
  }
  return undefined;
}

const SLASH = 47;

/** The prefix `/api` covers `/api` and `/api/x`, not `/apix`; `/api/` covers only what is below it. */
function coversPath({ exact, stem, route }: Candidate, compared: string): boolean {
  if (exact) return compared === route.path;
  if (!compared.startsWith(stem)) return false;
  if (compared.length > stem.length) return compared.charCodeAt(stem.length) === SLASH;
  return stem === route.path;
}

/** GET covers HEAD, which is the same request without the body (RFC 9110 §9.3.2); or HEAD would slip past a policy. */
function coversMethod({ methods }: Candidate, method: string): boolean {
  return methods === undefined || methods.includes(method) || (method === 'HEAD' && methods.includes('GET'));
}

/** Candidates of routes that stayed are taken over from the ranking before, and their matches with them. */
function rankingOf(routes: readonly Route[], before: Ranking | undefined): Ranking {
  const known = new Map(before?.candidates.map((candidate) => [candidate.route, candidate]));
  const candidates = routes
    .filter(({ enabled }) => enabled)
    .sort(byPrecedence)
    .map((route) => known.get(route) ?? candidateOf(route));
  return { candidates, keys: candidates.map(({ stem }) => keyOf(stem)) };
}

function candidateOf(route: Route): Candidate {
  return {
    route,
    exact: route.match === 'exact',
    stem: withoutSlash(route.path),
    methods: route.methods.length === 0 ? undefined : route.methods,
    match: undefined,
  };
}

/** Negative when `a` wins. The order is told in `schema.ts`. */
function byPrecedence(a: Route, b: Route): number {
  return (
    b.priority - a.priority ||
    Number(b.match === 'exact') - Number(a.match === 'exact') ||
    b.path.length - a.path.length ||
    Number(a.hostname === null) - Number(b.hostname === null) ||
    byAge(a, b)
  );
}

/** Timestamps are RFC 3339 in UTC, so that text order is time order. */
function byAge(a: Route, b: Route): number {
  if (a.created_at !== b.created_at) return a.created_at < b.created_at ? -1 : 1;
  return a.id < b.id ? -1 : Number(a.id > b.id);
}

function matchOf(proxy: Proxy, { route, stem }: Candidate): Match {
  return Object.freeze({
    proxy,
    route,
    auth: route.auth ?? proxy.auth,
    targetUrl: route.target_url,
    targetPath: pathOf(route.target_url),
    stripPrefix: route.strip_prefix ? stem : '',
  });
}

function globalMatchOf({ globalMatches }: Host, proxy: Proxy, candidate: Candidate): Match {
  const known = globalMatches.get(candidate);
  if (known) return known;
  const match = matchOf(proxy, candidate);
  globalMatches.set(candidate, match);
  return match;
}

function fallbackOf(proxy: Proxy): Match {
  return Object.freeze({
    proxy,
    route: undefined,
    auth: proxy.auth,
    targetUrl: proxy.target_url,
    targetPath: pathOf(proxy.target_url),
    stripPrefix: '',
  });
}

/** The same for another target of the proxy, where it has several. */
export const atTarget = (match: Match, targetUrl: string): Match =>
  Object.freeze({ ...match, targetUrl, targetPath: pathOf(targetUrl) });

/** The same where the target names a service and is found at `url`. */
export const foundAt = (match: Match, url: string): Match =>
  Object.freeze({ ...match, targetPath: pathOf(url) + pathOf(match.targetUrl) });

/** Without a slash at its end. */
export const pathOf = (url: string): string => withoutSlash(URL.parse(url)?.pathname ?? '');
const withoutSlash = (path: string): string => (path.endsWith('/') ? path.slice(0, -1) : path);

/** Collects what a change does to each hostname, so that each is put together once. */
class Draft {
  readonly #before: PersistentMap<Host>;
  readonly #namesBefore: PersistentMap<string | null>;
  readonly #names = new Map<string, string | null | undefined>();
  readonly #hosts = new Map<string, { proxy: Proxy | undefined; routes: Map<string, Route> }>();
  readonly #globalsBefore: readonly Route[];
  #globals: Map<string, Route> | undefined;

  constructor(
    hosts: PersistentMap<Host>,
    globals: readonly Route[],
    hostnameOf: PersistentMap<string | null>,
  ) {
    this.#before = hosts;
    this.#namesBefore = hostnameOf;
    this.#globalsBefore = globals;
  }

  putProxy(proxy: Proxy): void {
    this.removeProxy(proxy.id);
    this.#host(proxy.hostname).proxy = proxy;
    this.#names.set(proxy.id, proxy.hostname);
  }

  removeProxy(id: string): void {
    const hostname = this.#hostnameOf(id);
    if (typeof hostname !== 'string') return;
    const host = this.#host(hostname);
    if (host.proxy?.id !== id) return;
    host.proxy = undefined;
    this.#names.set(id, undefined);
  }

  putRoute(route: Route): void {
    this.removeRoute(route.id);
    this.#routes(route.hostname).set(route.id, route);
    this.#names.set(route.id, route.hostname);
  }

  removeRoute(id: string): void {
    const hostname = this.#hostnameOf(id);
    if (hostname !== undefined && this.#routes(hostname).delete(id)) this.#names.set(id, undefined);
  }

  hosts(): PersistentMap<Host> {
    const changes = new Map<string, Host | undefined>();
    for (const [hostname, { proxy, routes }] of this.#hosts)
      changes.set(hostname, hostFrom(this.#before.get(hostname), proxy, [...routes.values()]));
    return this.#before.with(changes);
  }

  /** Undefined when they stayed as they were. */
  globals(): readonly Route[] | undefined {
    return this.#globals && [...this.#globals.values()];
  }

  hostnameOf(): PersistentMap<string | null> {
    return this.#namesBefore.with(this.#names);
  }

  #hostnameOf(id: string): string | null | undefined {
    return this.#names.has(id) ? this.#names.get(id) : this.#namesBefore.get(id);
  }

  #routes(hostname: string | null): Map<string, Route> {
    return hostname === null ? (this.#globals ??= byId(this.#globalsBefore)) : this.#host(hostname).routes;
  }

  #host(hostname: string) {
    const known = this.#hosts.get(hostname);
    if (known) return known;
    const before = this.#before.get(hostname);
    const host = { proxy: before?.proxy, routes: byId(before?.routes ?? []) };
    this.#hosts.set(hostname, host);
    return host;
  }
}

const byId = (routes: readonly Route[]): Map<string, Route> =>
  new Map(routes.map((route) => [route.id, route]));

/** While the proxy is the same object, so are the matches of the routes that stayed. */
function hostFrom(
  before: Host | undefined,
  proxy: Proxy | undefined,
  routes: readonly Route[],
): Host | undefined {
  if (!proxy && routes.length === 0) return undefined;
  const same = before !== undefined && before.proxy === proxy;
  return {
    proxy,
    routes,
    ...rankingOf(routes, same ? before : undefined),
    fallback: same ? before.fallback : proxy?.enabled ? fallbackOf(proxy) : undefined,
    globalMatches: same ? before.globalMatches : new WeakMap(),
  };
}
