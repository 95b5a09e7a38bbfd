/**
 * Who an access token speaks for. A scope gives no more than its user may do now, whatever the user might have done
 * when it was granted. Answers from memory; called by the gate for every request with a token of this kind.
 */
import { createHash } from 'node:crypto';
import { SECOND } from '../core/clock.ts';
import { CLI_CLIENT_ID } from '../core/own-client.ts';
import type { Audience, Possession } from '../core/exchange.ts';
import { holds, type Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import type { AccessTokenClaims, AccessTokens } from './access-tokens.ts';
import type { ProofChecker } from './dpop.ts';
import type { LiveGrants } from './grants.ts';
import { permissionsOf } from './scopes.ts';

/** What this folder needs to know of a user. */
export interface SignedInUser {
  readonly id: string;
  readonly username: string;
  readonly permissions: ReadonlySet<Permission>;
  readonly hostnames: readonly string[] | undefined;
}

export interface AuthenticatorOptions {
  readonly tokens: AccessTokens;
  readonly proofs: ProofChecker;
  readonly grants: LiveGrants;
  /** Undefined: no such user, or one that is disabled. */
  readonly user: (id: string) => SignedInUser | undefined;
  /** Of a client that acts for itself; undefined: there is no such client, or no longer. */
  readonly clientPermissions: (clientId: string) => ReadonlySet<Permission> | undefined;
}

export class Authenticator {
  readonly #options: AuthenticatorOptions;
  #principals = new WeakMap<AccessTokenClaims, Principal>();

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
  }

  authenticate(token: string, audience: Audience | 'any', possession?: Possession): Principal | undefined {
    const claims = this.#options.tokens.read(token);
    if (!claims || (audience !== 'any' && !isFor(claims.aud, audience))) return undefined;
    if (audience !== 'any' && !this.#isHeld(token, claims, possession)) return undefined;
    const isAlive = claims.grant_id === undefined || this.#options.grants.find(claims.grant_id) !== undefined;
    if (!isAlive) return undefined;
    const known = this.#principals.get(claims);
    if (known) return known;
    const principal = this.#principalOf(claims);
    if (principal) this.#principals.set(claims, principal);
    return principal;
  }

  /**
   * A token that belongs to a key comes with a proof of it, and one that belongs to none as a bearer's.
   * @see {@link https://www.rfc-editor.org/rfc/rfc9449#section-7.1 | RFC 9449 §7.1}
   */
  #isHeld(token: string, { cnf }: AccessTokenClaims, possession: Possession | undefined): boolean {
    if (!cnf || !possession) return !cnf && !possession;
    return this.#options.proofs.isProven(token, cnf.jkt, possession);
  }

  /** A user or a client has changed: what they may do is worked out anew. */
  forget(): void {
    this.#principals = new WeakMap();
  }

  #principalOf(claims: AccessTokenClaims): Principal | undefined {
    const { sub, client_id: clientId, grant_id: grantId, scope, exp, jti } = claims;
    const facts = { clientId, grantId, tokenId: jti, scopes: scope === '' ? [] : scope.split(' ') };
    const expiresAt = exp * SECOND;
    if (grantId === undefined) {
      const held = sub === clientId ? this.#options.clientPermissions(clientId) : undefined;
      if (!held) return undefined;
      return {
        id: `client:${shortened(clientId)}`,
        name: clientId,
        kind: 'client',
        permissions: both(permissionsOf(scope), held),
        hostnames: undefined,
        expiresAt,
        oauth: { userId: undefined, ...facts },
      };
    }
    const user = this.#options.user(sub);
    if (!user) return undefined;
    return {
      id: principalIdOf(user.id, clientId),
      name: user.username,
      kind: 'user',
      permissions: inNameOf(clientId, both(permissionsOf(scope), user.permissions)),
      hostnames: user.hostnames,
      expiresAt,
      oauth: { userId: user.id, ...facts },
    };
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc8707#section-2 | RFC 8707 §2}; one slash at the end is no difference. */
export function isFor(audience: string, { origin, path, isControl }: Audience): boolean {
  if (!audience.startsWith(origin)) return false;
  const rest = withoutSlash(audience.slice(origin.length));
  if (isControl) return rest === withoutSlash(path) || (!isMcp(path) && (rest === '' || isMcp(rest)));
  return rest === '' ? audience.length - origin.length <= 1 : path === rest || path.startsWith(`${rest}/`);
}

const isMcp = (path: string): boolean => withoutSlash(path) === '/mcp';
const withoutSlash = (path: string): string => (path.endsWith('/') ? path.slice(0, -1) : path);

/** The same for whatever grants a user gives a client. */
export const principalIdOf = (userId: string, clientId: string): string => `${userId}:${shortened(clientId)}`;

const ID_LENGTH = 16;
/** Client ids may be whole URLs. */
const shortened = (clientId: string): string =>
  createHash('sha256').update(clientId).digest('hex').slice(0, ID_LENGTH);

/**
 * A client that a person lets act in their name may be a model's, whose token for `/mcp` is good for REST as well: it
 * is given no private keys, by any surface. The command line is the person.
 */
function inNameOf(clientId: string, permissions: ReadonlySet<Permission>): ReadonlySet<Permission> {
  if (clientId === CLI_CLIENT_ID) return permissions;
  return new Set([...permissions].filter((permission) => permission !== 'certificates:export'));
}

const both = (scopes: ReadonlySet<Permission>, held: ReadonlySet<Permission>): ReadonlySet<Permission> =>
  new Set([...scopes, ...held].filter((one) => holds(scopes, one) && holds(held, one)));
