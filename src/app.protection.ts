/** The part of the composition root that puts protection together: sessions of browsers, and the operations. */
import { createHmac } from 'node:crypto';
import { deriveKey } from './config/secrets.ts';
import type { Clock } from './core/clock.ts';
import type { LiveStreams } from './core/live-streams.ts';
import type { Log } from './core/record.ts';
import type { Sealer } from './core/sealer.ts';
import { Assertions } from './oauth/assertions.ts';
import { PATHS } from './oauth/paths.ts';
import type { OAuthService } from './oauth/service.ts';
import { SITE_CLIENT_ID } from './core/own-client.ts';
import type { Visitor } from './protection/policy.ts';
import { ProtectionService } from './protection/service.ts';
import { Sites } from './protection/site.ts';
import type { ProxyService } from './proxies/service.ts';
import type { RouteService } from './routes/service.ts';
import type { Database } from './store/database.ts';
import type { Person, UserService } from './users/service.ts';

export interface ProtectionParts {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly masterKey: Buffer;
  readonly clock: Clock;
  readonly log: Log;
  readonly live: LiveStreams;
  readonly users: UserService;
  readonly oauth: OAuthService;
  readonly proxies: ProxyService;
  readonly routes: RouteService;
  readonly siteIssuer: (scheme: 'http' | 'https') => string;
}

export async function openProtection(parts: ProtectionParts, stack: AsyncDisposableStack) {
  const { database, sealer, masterKey, clock, log, live, users, oauth, proxies, routes, siteIssuer } = parts;
  const markKey = deriveKey(masterKey, 'protection-marks');
  const assertions = new Assertions(oauth.keys);
  const sites = stack.use(
    new Sites({
      database,
      sealer,
      clock,
      log,
      clientId: SITE_CLIENT_ID,
      paths: { authorization: PATHS.authorization, endSession: PATHS.end_session },
      visitor: (id) => visitorOf(users, id),
      isGrantAlive: (id) => oauth.grants.find(id) !== undefined,
      isSignedIn: (id, since) => users.isSignedIn(id, since),
      redeem: (issuer, code) => oauth.redeem(issuer, code),
      sign: (claims) => assertions.sign(claims),
      mark: (text) => createHmac('sha256', markKey).update(text).digest('base64url'),
      cut: (principalId) => live.cut(principalId),
      issuerOf: siteIssuer,
    }),
  );
  await sites.load();
  const protection = new ProtectionService({
    proxies,
    routes,
    userIdOf: (name) => (users.find(name) ?? users.findByUsername(name))?.id,
    usernameOf: (id) => users.find(id)?.username,
  });
  return { sites, protection };
}

/** Somebody is another object as soon as anything of them has changed. */
const visitors = new WeakMap<Person, Visitor>();

function visitorOf(users: UserService, id: string): Visitor | undefined {
  const person = users.find(id);
  if (!person) return undefined;
  const known = visitors.get(person);
  if (known) return known;
  const { email, email_verified: isEmailVerified, groups } = person.document;
  const visitor = { id, username: person.username, email, isEmailVerified, groups };
  visitors.set(person, visitor);
  return visitor;
}
