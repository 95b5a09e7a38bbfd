/**
 * OAuth as the composition root holds it: authorization server, keys, grants and the check of access tokens, put
 * together. Operations call it; the gate calls `authenticate`; the gateway hands it what is below `/oauth/`.
 */
import type { Clock } from '../core/clock.ts';
import type { Events } from '../core/events.ts';
import type { Authenticate, Exchange } from '../core/exchange.ts';
import type { Principal } from '../core/principal.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import { AccessTokens, looksLikeJwt } from './access-tokens.ts';
import { Authenticator, type AuthenticatorOptions } from './authenticate.ts';
import { ProofChecker } from './dpop.ts';
import { LiveGrants } from './grants.ts';
import { CreatedClients } from './created-clients.ts';
import { KeyRing } from './keys.ts';
import { RevokedTokens } from './revoked-tokens.ts';
import { AuthorizationServer, type ServerOptions } from './server.ts';
import type { SiteCode } from './site-client.ts';

export interface OAuthOptions
  extends Omit<
      ServerOptions,
      'keys' | 'records' | 'consentedGrant' | 'issued' | 'clientPermissions' | 'rightsOf'
    >,
    Pick<AuthenticatorOptions, 'user'> {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly events: Events;
}

export class OAuthService {
  readonly keys: KeyRing;
  readonly grants: LiveGrants;
  readonly clients: CreatedClients;
  readonly server: AuthorizationServer;
  readonly #revoked: RevokedTokens;
  readonly #tokens: AccessTokens;
  readonly #authenticator: Authenticator;
  readonly #options: OAuthOptions;

  constructor(options: OAuthOptions) {
    const { database, sealer, clock, events, user, ...rest } = options;
    this.#options = options;
    this.keys = new KeyRing({ database, sealer, clock });
    this.grants = new LiveGrants({ database, events, clock });
    this.clients = new CreatedClients({ database, sealer, clock });
    this.#revoked = new RevokedTokens({ database, events, clock });
    const clientPermissions = (id: string) => this.clients.permissions(id);
    this.#tokens = new AccessTokens({
      keys: this.keys,
      clock,
      isIssuer: rest.isIssuer,
      isRevoked: ({ jti }) => this.#revoked.has(jti),
    });
    this.#authenticator = new Authenticator({
      tokens: this.#tokens,
      proofs: new ProofChecker(clock),
      grants: this.grants,
      user,
      clientPermissions,
    });
    this.server = new AuthorizationServer({
      ...rest,
      keys: this.keys,
      records: {
        database,
        sealer,
        clock,
        onGrantGone: (id) => this.grants.end(id),
        onGrantSaved: (grant) => this.grants.put(grant),
      },
      consentedGrant: (...question) => this.#consentedGrant(...question),
      rightsOf: (id) => user(id)?.permissions,
      issued: {
        read: (token) => this.#tokens.read(token),
        revoke: (...which) => this.#revoked.add(...which),
      },
      clientPermissions,
    });
  }

  async load(): Promise<void> {
    await this.keys.load();
    await this.grants.load();
    await this.clients.load();
    await this.#revoked.load();
  }

  /** What has expired leaves the memory. */
  sweep(): void {
    this.grants.sweep();
    this.#revoked.sweep();
  }

  authenticate(...[credential, audience, possession]: Parameters<Authenticate>): Principal | undefined {
    return looksLikeJwt(credential)
      ? this.#authenticator.authenticate(credential, audience, possession)
      : undefined;
  }

  /** Who came back from a sign-in for a protected hostname. */
  async redeem(issuer: string, code: SiteCode): Promise<{ userId: string; grantId: string } | undefined> {
    const { redeemSiteCode } = await import('./site-client.ts');
    return redeemSiteCode(await this.server.provider(issuer), code);
  }

  handle(exchange: Exchange, issuer: string): Promise<void> {
    return this.server.handle(exchange, issuer);
  }

  /** What users and clients may do has changed. */
  forget(): void {
    this.#authenticator.forget();
  }

  async rotateKeys(): Promise<void> {
    await this.keys.rotate();
    this.server.renew();
    this.#tokens.forget();
  }

  async #consentedGrant(userId: string, clientId: string, redirectUri: string): Promise<string | undefined> {
    const row = await this.#options.database.read
      .selectFrom('consents')
      .select('grant_id')
      .where('user_id', '=', userId)
      .where('client_id', '=', clientId)
      .where('redirect_uri', '=', redirectUri)
      .executeTakeFirst();
    return row?.grant_id;
  }
}
