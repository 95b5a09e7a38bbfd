/** The part of the composition root that gives the sign-in pages the people, their passkeys and their grants. */
import type { Clock } from './core/clock.ts';
import { AppError, messageOf } from './core/errors.ts';
import type { Events } from './core/events.ts';
import type { LiveStreams } from './core/live-streams.ts';
import { permissions } from './core/permissions.ts';
import type { Principal } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { AccessService } from './oauth/access.ts';
import { Attempts } from './oauth/interactions/attempts.ts';
import { Errands } from './oauth/interactions/errands.ts';
import { invitePageOf } from './oauth/interactions/invite.ts';
import type { Granted, InteractionOptions, Passkeys, People, Report } from './oauth/interactions/scene.ts';
import { admissionOf } from './oauth/upstreams/admission.ts';
import type { UpstreamDirectory } from './oauth/upstreams/directory.ts';
import { rateKey } from './gateway/client-address.ts';
import type { Database } from './store/database.ts';
import type { TokenService } from './tokens/service.ts';
import { IdentityService } from './users/identities.ts';
import { PasskeyService } from './users/passkeys.ts';
import { username } from './users/schema.ts';
import type { UserService } from './users/service.ts';
import type { Provider } from './users/ways.ts';

export interface PeopleParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly events: Events;
  readonly live: LiveStreams;
  readonly users: UserService;
}

/** What the pages of sign-in, consent and account need. */
export function openInteractions(
  parts: PeopleParts & {
    readonly tokens: TokenService;
    readonly upstreams: UpstreamDirectory;
    readonly secret: Buffer;
  },
  asked: Pick<InteractionOptions, 'scopesOf' | 'defaultResource' | 'rememberConsent' | 'asks'> & {
    readonly access: () => AccessService;
  },
  stack: AsyncDisposableStack,
): InteractionOptions {
  const { database, clock, users, tokens, upstreams, secret } = parts;
  const providers = upstreams.list;
  const { access, ...rest } = asked;
  return {
    ...rest,
    people: peopleOf(users),
    passkeys: passkeysOf(parts, providers),
    upstreams,
    identities: admissionOf(new IdentityService({ database, clock, users, providers })),
    errands: new Errands(clock),
    granted: grantedBy(access),
    clock,
    secret,
    isAdministratorToken: (token) => isAdministrator(tokens.authenticate(token)),
    attempts: stack.use(new Attempts({ clock, networkOf: rateKey })),
    report: reporter(parts),
  };
}

function peopleOf(users: UserService): People {
  return {
    get count() {
      return users.count;
    },
    find: (id) => users.find(id),
    idOf: (name) => users.findByUsername(name)?.id,
    isSignedIn: (id, startedAt) => users.isSignedIn(id, startedAt),
    signIn: (name, password) => users.signIn(name, password),
    seen: (id) => users.seen(id),
    createFirst: ({ username: name, password }) =>
      users.createFirst({ username: requireUsername(name), password }),
    invited: (code) => users.invited(code),
    acceptWithPassword: (code, password) => users.acceptWithPassword(code, password),
    changePassword: (own, password) => users.changePassword(own, password),
    signOut: (id) => users.signOut(id),
  };
}

function requireUsername(text: string): string {
  const parsed = username.safeParse(text.trim());
  if (parsed.success) return parsed.data;
  throw new AppError('INVALID_INPUT', `the username ${parsed.error.issues[0]?.message ?? 'will not do'}`);
}

function passkeysOf({ database, clock, users }: PeopleParts, providers: readonly Provider[]): Passkeys {
  const passkeys = new PasskeyService({ database, clock, find: (id) => users.find(id), providers });
  return {
    signInOptions: (issuer, page) => passkeys.signInOptions(issuer, page),
    signIn: (issuer, page, answer) => passkeys.signIn(issuer, page, answer),
    registrationOptions: (issuer, page, id) => passkeys.registrationOptions(issuer, page, users.require(id)),
    async register(issuer, page, { userId, startedAt, ...wanted }) {
      const passkey = await passkeys.verify(issuer, page, { person: users.require(userId), ...wanted });
      await users.alterOwn({ userId, startedAt }, async (tx, person) => {
        await passkeys.add(tx, userId, passkey);
        return person;
      });
    },
    async accept(issuer, code, wanted) {
      const person = await users.invited(code);
      if (!person) return users.accept(code, async (_tx, nobody) => nobody);
      const passkey = await passkeys.verify(issuer, invitePageOf(code), { person, ...wanted });
      return users.accept(code, async (tx, accepted) => {
        await passkeys.add(tx, accepted.id, passkey);
        return accepted;
      });
    },
    list: (id) => passkeys.list(id),
    remove: (id, passkey) => passkeys.remove(users.require(id), passkey),
  };
}

/** What a user may see and end of their own, as the operations do it. */
function grantedBy(access: () => AccessService): Granted {
  const as = (userId: string): { principal: Principal } => ({
    principal: {
      id: userId,
      name: userId,
      kind: 'user',
      permissions: new Set(),
      hostnames: undefined,
      expiresAt: undefined,
      oauth: { userId, clientId: '', grantId: undefined, tokenId: '', scopes: [] },
    },
  });
  return {
    list: async (userId) => (await access().listGrants({}, as(userId))).grants,
    revoke: (userId, id) => access().revokeGrant(id, as(userId)),
  };
}

const isAdministrator = (principal: Principal | undefined): boolean =>
  principal !== undefined &&
  principal.hostnames === undefined &&
  permissions.every((permission) => principal.permissions.has(permission));

/** Sign-in, consent and what people change in their own account, in the audit record. */
const reporter =
  ({ log, clock }: { log: Log; clock: Clock }) =>
  ({ event, outcome, address, userId, clientId, detail }: Report): void =>
    log.write({
      time: clock.now(),
      kind: 'audit',
      level: outcome === 'OK' ? 'info' : 'warn',
      component: 'oauth',
      message: event,
      client_address: address,
      principal: userId,
      outcome,
      detail: { ...detail, ...(clientId !== undefined && { client: clientId }) },
    });

/** Who is gone, disabled or signed out: their sessions, streams and grants end. */
export function followPeople(
  { events, live, users, log, clock }: PeopleParts,
  { access, forget }: { access: AccessService; forget: () => void },
): () => void {
  const stops = [
    events.on('user.changed', forget),
    events.on('user.cut', ({ userId, signedOut }) => {
      live.cutUser(userId);
      if (!signedOut) return;
      const isGone = users.find(userId) === undefined;
      const ended = isGone ? access.endGrantsOf(userId) : access.endSessionsOf(userId);
      // They are refused in any case: `find` and `isSignedIn` know.
      ended.catch((cause: unknown) => reportFault({ log, clock }, userId, cause));
    }),
  ];
  return () => stops.forEach((stop) => stop());
}

function reportFault({ log, clock }: { log: Log; clock: Clock }, userId: string, cause: unknown): void {
  log.write({
    time: clock.now(),
    kind: 'system',
    level: 'error',
    component: 'oauth',
    message: `grants and sessions of ${userId} could not be ended: ${messageOf(cause)}`,
  });
}
