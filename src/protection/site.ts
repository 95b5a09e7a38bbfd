/**
 * Who visits what is protected: asked by the gateway for every request, from memory, and what it hands over below
 * `/.ohp/` on a protected hostname, which is where browsers begin a sign-in, come back from it, and end it.
 */
import type { Clock } from '../core/clock.ts';
import type { Exchange } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { cookieIn, cookieLine, sessionCookie } from '../core/site-cookies.ts';
import { SECOND } from '../core/clock.ts';
import type { AllowList, OAuthPolicy } from '../proxies/auth-policy.ts';
import { normaliseTarget } from '../routes/normalise.ts';
import { sitePaths } from '../routes/own.ts';
import { type Flow, Flows } from './flows.ts';
import { Identities } from './identity.ts';
import { sendPage } from './pages.ts';
import { letsIn, scopesOf, type Visitor } from './policy.ts';
import { SESSION_MAX_MS, type Session, Sessions, type SessionsOptions } from './sessions.ts';

/** A protected hostname as the client reaches it. */
interface Site {
  readonly hostname: string;
  /** `https://host:port` */
  readonly origin: string;
  readonly isSecure: boolean;
  readonly issuer: string;
}

export interface SitesOptions extends Omit<SessionsOptions, 'isAlive'> {
  readonly clock: Clock;
  readonly sealer: Sealer;
  readonly log: Log;
  /** The client by which browsers sign in. */
  readonly clientId: string;
  /** Where it is asked, at the issuer, and where a browser signs out of that. */
  readonly paths: { readonly authorization: string; readonly endSession: string };
  /** Undefined: no such user, or one that is disabled. */
  readonly visitor: (userId: string) => Visitor | undefined;
  /** Whether what a user signed in by, at that time, still stands. */
  readonly isGrantAlive: (grantId: string) => boolean;
  readonly isSignedIn: (userId: string, since: number) => boolean;
  readonly redeem: (
    issuer: string,
    code: { code: string; verifier: string; redirectUri: string },
  ) => Promise<{ userId: string; grantId: string } | undefined>;
  readonly sign: (claims: Readonly<Record<string, unknown>>) => string;
  /** Keyed digest of a text, the same after a restart. */
  readonly mark: (text: string) => string;
  /** Ends what is open in the name of this principal. */
  readonly cut: (principalId: string) => void;
  readonly issuerOf: (scheme: 'http' | 'https') => string;
}

interface Identified {
  readonly policy: OAuthPolicy;
  readonly visitor: Visitor | undefined;
  readonly fields: readonly string[];
}

export class Sites implements Disposable {
  readonly #options: SitesOptions;
  readonly #sessions: Sessions;
  readonly #flows: Flows;
  readonly #identities: Identities;
  /** What is told of a principal until the policy, or what is known of its user, is another. */
  readonly #identified = new WeakMap<Principal, Identified>();

  constructor(options: SitesOptions) {
    this.#options = options;
    this.#sessions = new Sessions({ ...options, isAlive: (session) => this.#isAlive(session) });
    this.#flows = new Flows(options.sealer, options.clock);
    this.#identities = new Identities(options.sign, options.clock);
  }

  load(): Promise<void> {
    return this.#sessions.load();
  }

  [Symbol.dispose](): void {
    this.#sessions[Symbol.dispose]();
  }

  sessionOf(cookie: string | undefined, { hostname, isSecure }: Site): Principal | undefined {
    const session = this.#sessions.find(cookieIn(cookie, sessionCookie(isSecure)), hostname);
    const visitor = session && this.#options.visitor(session.userId);
    return session && visitor && this.#principalOf(session, visitor);
  }

  allows(policy: OAuthPolicy, principal: Principal): boolean {
    const isSession = this.#isSession(principal);
    if (isSession ? policy.mode === 'bearer' : policy.mode === 'redirect') return false;
    return letsIn(policy, principal, this.#visitorOf(principal));
  }

  lacksScopes(policy: OAuthPolicy, principal: Principal, scopes: readonly string[] = policy.scopes): boolean {
    // Those of rules for tools are asked of access tokens alone as well.
    const held = scopesOf({ scopes }, principal, this.#isSession(principal));
    return !scopes.every((scope) => held.includes(scope));
  }

  names(allow: AllowList, principal: Principal): boolean {
    return letsIn({ allow }, principal, this.#visitorOf(principal));
  }

  mark(text: string): string {
    return this.#options.mark(text);
  }

  identityOf(policy: OAuthPolicy, principal: Principal, site: Site): readonly string[] {
    const visitor = this.#visitorOf(principal);
    const known = this.#identified.get(principal);
    if (known?.policy === policy && known.visitor === visitor) return known.fields;
    const isSession = this.#isSession(principal);
    const scopes = scopesOf(policy, principal, isSession);
    const fields = this.#identities.headers(policy.identity, { principal, visitor, scopes }, site);
    // An assertion ends, and is for one origin; the principal of a session is another for each request.
    if (policy.identity.kind === 'headers' && !isSession)
      this.#identified.set(principal, { policy, visitor, fields });
    return fields;
  }

  /** @see {@link https://www.rfc-editor.org/rfc/rfc7636#section-4.3 | RFC 7636 §4.3} */
  beginSignIn(site: Site, returnTo: string, cookie: string | undefined) {
    const { clientId, paths } = this.#options;
    const redirectUri = site.origin + sitePaths.callback;
    const { issuer } = site;
    const { flow, challenge, cookies } = this.#flows.begin(site, { issuer, redirectUri, returnTo }, cookie);
    const query = new URLSearchParams({
      client_id: clientId,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: redirectUri,
      state: flow.state,
      code_challenge: challenge,
      code_challenge_method: 'S256',
    });
    return { location: `${issuer}${paths.authorization}?${query.toString()}`, cookies };
  }

  async handle(exchange: Exchange): Promise<void> {
    const { path, method, scheme, hostname, authority, reply } = exchange;
    const site: Site = {
      hostname,
      origin: `${scheme}://${authority}`,
      isSecure: scheme === 'https',
      issuer: this.#options.issuerOf(scheme),
    };
    const isRead = method === 'GET' || method === 'HEAD';
    if (path === sitePaths.signIn && isRead) return this.#signIn(exchange, site);
    if (path === sitePaths.callback && method === 'GET') return this.#comeBack(exchange, site);
    if (path === sitePaths.signOut && isRead) return askToSignOut(exchange);
    if (path === sitePaths.signOut && method === 'POST') return this.#signOut(exchange, site);
    const isKnown = Object.values<string>(sitePaths).includes(path);
    sendPage(reply, method === 'HEAD', {
      status: isKnown ? 405 : 404,
      title: isKnown ? 'Method not allowed' : 'Not found',
      text: 'There is nothing else here.',
    });
  }

  /** For fronts that send here whoever is not signed in: `?return_to=/path`, as it is, to the end of the query. */
  async #signIn({ query, headers, reply }: Exchange, site: Site): Promise<void> {
    const wanted = /^return_to=(.*)$/.exec(query)?.[1] ?? '/';
    const target = normaliseTarget(wanted.startsWith('%2F') ? decoded(wanted) : wanted);
    const returnTo = target ? withQuery(target) : '/';
    const { location, cookies } = this.beginSignIn(site, returnTo, headers.cookie);
    redirect(reply, location, cookies);
  }

  async #comeBack(exchange: Exchange, site: Site): Promise<void> {
    const { query, headers, reply } = exchange;
    const answer = new URLSearchParams(query);
    const state = answer.get('state') ?? '';
    const flow = this.#flows.find(site, state, headers.cookie);
    if (!flow) {
      // Whoever comes back here by their browser's history is signed in already.
      if (this.sessionOf(headers.cookie, site)) return redirect(reply, `${site.origin}/`, []);
      return failed(
        exchange,
        'This sign-in has expired, or was begun in another browser.',
        `${site.origin}/`,
      );
    }
    const cookies = [this.#flows.ended(site, state)];
    const back = site.origin + flow.returnTo;
    const who = await this.#redeem(flow, answer, site);
    if (!who) return failed(exchange, refusalOf(answer), back, cookies);
    const secret = await this.#sessions.begin({ ...who, hostname: site.hostname });
    this.#report('signed in', who.userId, exchange);
    const line = cookieLine(sessionCookie(site.isSecure), secret, SESSION_MAX_MS / SECOND, site.isSecure);
    redirect(reply, back, [...cookies, line]);
  }

  /** @see {@link https://www.rfc-editor.org/rfc/rfc9207#section-2.4 | RFC 9207 §2.4} on `iss` */
  async #redeem(flow: Flow, answer: URLSearchParams, site: Site) {
    const code = answer.get('code');
    const isAnswer =
      code !== null &&
      answer.getAll('code').length === 1 &&
      answer.get('iss') === flow.issuer &&
      flow.redirectUri === site.origin + sitePaths.callback;
    if (!isAnswer) return undefined;
    const { verifier, redirectUri } = flow;
    return this.#options.redeem(flow.issuer, { code, verifier, redirectUri });
  }

  /** The session at the issuer ends there, where it is asked for: else the next visit would sign in again by itself. */
  async #signOut(exchange: Exchange, site: Site): Promise<void> {
    const { headers, reply } = exchange;
    const { origin, 'sec-fetch-site': from } = headers;
    const isOwn =
      origin === undefined || origin === site.origin || (origin === 'null' && from === 'same-origin');
    if (!isOwn || (from !== undefined && from !== 'same-origin' && from !== 'none'))
      return failed(
        exchange,
        'Another site asked to sign you out. You are still signed in.',
        `${site.origin}/`,
      );
    const name = sessionCookie(site.isSecure);
    const session = this.#sessions.find(cookieIn(headers.cookie, name), site.hostname);
    if (session) {
      await this.#sessions.end(session);
      this.#options.cut(principalId(session));
      this.#report('signed out', session.userId, exchange);
    }
    const cookies = [cookieLine(name, '', 0, site.isSecure)];
    redirect(reply, site.issuer + this.#options.paths.endSession, cookies);
  }

  #principalOf(session: Session, { username }: Visitor): Principal {
    return {
      id: principalId(session),
      name: username,
      kind: 'user',
      permissions: nothing,
      hostnames: [session.hostname],
      expiresAt: session.createdAt + SESSION_MAX_MS,
      oauth: {
        userId: session.userId,
        clientId: this.#options.clientId,
        grantId: session.grantId,
        tokenId: session.id,
        scopes: [],
      },
    };
  }

  #isSession({ oauth }: Principal): boolean {
    return oauth?.clientId === this.#options.clientId;
  }

  #visitorOf({ oauth }: Principal): Visitor | undefined {
    return oauth?.userId === undefined ? undefined : this.#options.visitor(oauth.userId);
  }

  #isAlive({ userId, grantId, createdAt }: Session): boolean {
    return this.#options.isGrantAlive(grantId) && this.#options.isSignedIn(userId, createdAt);
  }

  #report(what: string, userId: string, { hostname, clientAddress, traceId }: Exchange): void {
    const { log, clock } = this.#options;
    log.write({
      time: clock.now(),
      kind: 'audit',
      level: 'info',
      component: 'oauth',
      message: `${what} at ${hostname}`,
      hostname,
      principal: userId,
      client_address: clientAddress,
      trace_id: traceId,
      outcome: 'OK',
    });
  }
}

const nothing: ReadonlySet<never> = new Set<never>();

const ID_LENGTH = 16;
/** Of this one session: signing out here ends what is open here and nothing else. */
const principalId = ({ userId, id }: Session): string => `${userId}:${id.slice(0, ID_LENGTH)}`;

const withQuery = ({ path, query }: { path: string; query: string }): string =>
  query === '' ? path : `${path}?${query}`;

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '/'; // Not encoded in the way of URLs: nowhere in particular.
  }
}

function askToSignOut({ reply, method }: Exchange): void {
  sendPage(reply, method === 'HEAD', {
    status: 200,
    title: 'Sign out?',
    text: 'You are signed out of this site, and asked next whether of all others as well.',
    button: 'Sign out',
  });
}

const refusalOf = (answer: URLSearchParams): string =>
  answer.get('error') === 'access_denied'
    ? 'The sign-in was turned down.'
    : 'The sign-in did not succeed, or its answer was used already.';

function failed(
  { reply, method }: Exchange,
  text: string,
  back: string,
  cookies: readonly string[] = [],
): void {
  sendPage(reply, method === 'HEAD', {
    status: 400,
    title: 'Not signed in',
    text,
    link: { href: back, text: 'Try again' },
    cookies,
  });
}

/** Absolute, on the host that was asked: a path that begins with two slashes would lead elsewhere. */
function redirect(reply: Exchange['reply'], location: string, cookies: readonly string[]): void {
  reply.writeHead(303, {
    location,
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'content-length': '0',
    ...(cookies.length > 0 && { 'set-cookie': [...cookies] }),
  });
  reply.end();
}
