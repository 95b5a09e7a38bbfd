/** The part of the composition root that puts the authorization server together with the people who sign in. */
import { followPeople, openInteractions } from './app.people.ts';
import { upstreamSettings } from './app.settings.ts';
import type { Config } from './config/config.ts';
import { deriveKey } from './config/secrets.ts';
import type { Asks } from './core/asks.ts';
import { type Clock, HOUR } from './core/clock.ts';
import type { Events } from './core/events.ts';
import { messageOf } from './core/errors.ts';
import type { Authenticate, Exchange } from './core/exchange.ts';
import { RateLimiter } from './core/rate-limit.ts';
import type { OAuthMeter } from './core/meter.ts';
import type { LiveStreams } from './core/live-streams.ts';
import { type Log, writeDebug } from './core/record.ts';
import { rateKey } from './gateway/client-address.ts';
import { AccessService } from './oauth/access.ts';
import type { Sealer } from './core/sealer.ts';
import { createInteractions, type Consent } from './oauth/interactions/interactions.ts';
import { pages } from './oauth/interactions/pages.ts';
import { isSiteCallback } from './protection/callback.ts';
import { INVITE_PATH } from './oauth/paths.ts';
import { limitRegistration, sweepClients } from './oauth/registration.ts';
import { createSafeFetch } from './oauth/safe-fetch.ts';
import { commandPermission } from './core/permissions.ts';
import { controlScopes } from './oauth/scopes.ts';
import { OAuthService } from './oauth/service.ts';
import { UpstreamDirectory } from './oauth/upstreams/directory.ts';
import { isLoopbackAddress, mcpPaths } from './routes/own.ts';
import type { Database } from './store/database.ts';
import type { TokenService } from './tokens/service.ts';
import { UserService } from './users/service.ts';

/** Claude registers twice to connect once. */
const REGISTRATIONS_PER_MINUTE = 30;
const FETCHES_PER_MINUTE = 30;
const SWEEP_MS = HOUR;
const MAX_ATTEMPT_KEYS = 100_000;

export interface OAuthParts {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly masterKey: Buffer;
  readonly clock: Clock;
  readonly events: Events;
  readonly log: Log;
  readonly tokens: TokenService;
  readonly live: LiveStreams;
  readonly meter: OAuthMeter;
  readonly controlHosts: readonly string[];
  /** Whether this hostname answers at `/mcp`, or is protected: something that a token may be for. */
  readonly answersMcp: (hostname: string) => boolean;
  /** That a token needs for this path of a protected hostname; undefined: no token is for it. */
  readonly protectedScopes: (hostname: string, path: string) => readonly string[] | undefined;
  /** Whether browsers sign in there. */
  readonly asksForSignIn: (hostname: string) => boolean;
  /** Where a person's browser reaches the control host. */
  readonly ownOrigin: () => string;
  readonly asks: Asks;
}

export async function openOAuth(config: Config, parts: OAuthParts, stack: AsyncDisposableStack) {
  const { database, sealer, masterKey, clock, events, tokens } = parts;
  const { users, upstreams } = await openUsers(config, parts, stack);
  const limits = openLimits(clock, stack);
  const isControlHost = controlHostsOf(config, parts.controlHosts);
  const named = Object.keys(config.commands.templates).map(commandPermission);
  const resource = resourcesOf(parts, isControlHost, [...controlScopes, ...named]);
  const remember = (consent: Consent) => rememberConsent(database, clock, consent);
  const secret = deriveKey(masterKey, 'oauth-forms');
  const interactions = openInteractions(
    { ...parts, users, upstreams, secret },
    {
      scopesOf: (url) => resource(url)?.scopes,
      defaultResource,
      rememberConsent: remember,
      asks: parts.asks,
      access: () => access,
    },
    stack,
  );
  const oauth = new OAuthService({
    database,
    sealer,
    clock,
    events,
    meter: parts.meter,
    user: (id) => users.find(id),
    cookieKeys: [deriveKey(masterKey, 'oauth-cookies').toString('base64url')],
    isIssuer: (url) => isOrigin(url, isControlHost),
    resource,
    defaultResource,
    isSignedIn: (...question) => users.isSignedIn(...question),
    claims: (id) => claimsOf(users, id),
    fetch: stack.use(createSafeFetch({ privateHosts: config.oauth.private_client_hosts })),
    allowsRegistration: config.oauth.client_registration,
    allowsMetadata: config.oauth.client_metadata,
    mayFetch: limits.mayFetch,
    pages,
    sites: { isCallback: (uri) => isSiteCallback(uri, parts.asksForSignIn), remember },
    middleware: (provider) => [
      limitRegistration({ database, clock, take: limits.registration }),
      createInteractions(interactions)(provider),
    ],
  });
  await oauth.load();
  const access = openAccess(parts, oauth, users);
  const forget = () => oauth.forget();
  stack.defer(followPeople({ ...parts, users }, { access, forget }));
  stack.defer(events.on('access-token.revoked', ({ tokenId }) => parts.live.cutAccessToken(tokenId)));
  const sweep = clock.every(SWEEP_MS, () => {
    oauth.sweep();
    sweepRecords(parts);
  });
  stack.defer(() => sweep.cancel());
  const authenticate: Authenticate = (credential, audience, possession) =>
    // An API token belongs to no key.
    (possession ? undefined : tokens.authenticate(credential)) ??
    oauth.authenticate(credential, audience, possession);
  return {
    users,
    oauth,
    access,
    authenticate,
    handle(exchange: Exchange): Promise<void> {
      const issuer = issuerOf(exchange, config);
      const { traceId, method, path } = exchange;
      writeDebug(parts, 'oauth', () => ({ message: `${issuer}: ${method} ${path}`, trace_id: traceId }));
      return oauth.handle(exchange, issuer);
    },
  };
}

/** The people, and the providers elsewhere by which they sign in. */
async function openUsers(
  config: Config,
  { database, events, clock, log, ownOrigin }: OAuthParts,
  stack: AsyncDisposableStack,
) {
  const upstreams = stack.use(new UpstreamDirectory(upstreamSettings(config), clock));
  const inviteUrl = (code: string) => `${ownOrigin()}${INVITE_PATH}?code=${code}`;
  const providers = upstreams.list;
  const users = stack.use(new UserService({ database, events, clock, log, inviteUrl, providers }));
  await users.load();
  return { users, upstreams };
}

/** How often a client's network may make this server work. */
function openLimits(clock: Clock, stack: AsyncDisposableStack) {
  const registrations = new RateLimiter(clock, REGISTRATIONS_PER_MINUTE, MAX_ATTEMPT_KEYS);
  const fetches = new RateLimiter(clock, FETCHES_PER_MINUTE, MAX_ATTEMPT_KEYS);
  stack.defer(() => [registrations, fetches].forEach((limiter) => limiter.stop()));
  return {
    registration: (address: string) => registrations.take(rateKey(address)),
    mayFetch: (address: string) => fetches.take(rateKey(address)) === 0,
  };
}

const defaultResource = (issuer: string): string => `${issuer}/mcp`;

const resourcesOf =
  (
    { protectedScopes, answersMcp }: OAuthParts,
    isControlHost: (hostname: string) => boolean,
    scopes: readonly string[],
  ) =>
  (identifier: string) =>
    resourceOf(identifier, {
      scopes,
      scopesOf: protectedScopes,
      answers: (host) => isControlHost(host) || answersMcp(host),
    });

function openAccess(parts: OAuthParts, oauth: OAuthService, users: UserService): AccessService {
  const { database, sealer, clock, live } = parts;
  return new AccessService({
    database,
    sealer,
    clock,
    grants: oauth.grants,
    clients: oauth.clients,
    onClientGone: (clientId) => {
      oauth.forget();
      live.cutClient(clientId);
    },
    usernameOf: (id) => users.find(id)?.username,
  });
}

/** What has expired, and clients that nobody came back for. */
function sweepRecords({ database, clock, log }: OAuthParts): void {
  const expired = database.change({}, (tx) =>
    tx.deleteFrom('oauth_records').where('expires_at', '<=', clock.now()).execute(),
  );
  Promise.all([expired, sweepClients(database, clock)]).catch((cause: unknown) =>
    log.write({
      time: clock.now(),
      kind: 'system',
      level: 'warn',
      component: 'oauth',
      message: `sweep failed: ${messageOf(cause)}`,
    }),
  );
}

function controlHostsOf(config: Config, hosts: readonly string[]): (hostname: string) => boolean {
  const known = new Set(hosts);
  return (hostname) => known.has(hostname) || isLoopbackAddress(hostname);
}

function issuerOf({ scheme, authority, hostname }: Exchange, { control }: Config): string {
  const publicUrl = control.public_url === undefined ? undefined : new URL(control.public_url);
  return publicUrl?.hostname === hostname ? publicUrl.origin : `${scheme}://${authority}`;
}

function isOrigin(text: string, isHost: (hostname: string) => boolean): boolean {
  const url = URL.parse(text);
  return url !== null && url.origin === text && isHost(url.hostname.replace(/^\[|\]$/g, ''));
}

/** What is protected, or `/mcp` of a hostname that answers there; clients write it with and without the slash. */
function resourceOf(
  identifier: string,
  {
    scopes,
    scopesOf,
    answers,
  }: {
    scopes: readonly string[];
    scopesOf: (hostname: string, path: string) => readonly string[] | undefined;
    answers: (hostname: string) => boolean;
  },
) {
  const url = URL.parse(identifier);
  if (!url || url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '')
    return undefined;
  const hostname = url.hostname.replace(/^\[|\]$/g, '');
  const isMcp = mcpPaths.includes(url.pathname) && answers(hostname);
  const own = isMcp ? undefined : scopesOf(hostname, url.pathname);
  if (own) return { scopes: own };
  return isMcp || (url.pathname === '/' && answers(hostname)) ? { scopes } : undefined;
}

function claimsOf(users: UserService, id: string) {
  const person = users.find(id);
  if (!person) return undefined;
  const { name, email, email_verified, groups } = person.document;
  return {
    name: name ?? person.username,
    preferred_username: person.username,
    groups,
    ...(email !== undefined && { email, email_verified }),
  };
}

function rememberConsent(database: Database, clock: Clock, consent: Consent): Promise<void> {
  const row = {
    user_id: consent.userId,
    client_id: consent.clientId,
    redirect_uri: consent.redirectUri,
    grant_id: consent.grantId,
    created_at: clock.now(),
  };
  return database.change({}, async (tx) => {
    await tx
      .insertInto('consents')
      .values(row)
      .onConflict((conflict) =>
        conflict.columns(['user_id', 'client_id', 'redirect_uri']).doUpdateSet({ grant_id: row.grant_id }),
      )
      .execute();
  });
}
