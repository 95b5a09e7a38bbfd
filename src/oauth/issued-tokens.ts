/**
 * Access tokens as the library would find them had it kept them. It signs them and forgets them, so that it could
 * neither revoke one (RFC 7009), nor say what is in it (RFC 7662), nor answer to one (userinfo); what it would have
 * stored is in the token itself. Those it does keep (for nothing but userinfo) are with the other records.
 */
import type { Adapter, AdapterPayload } from 'oidc-provider';
import type { AccessTokenClaims } from './access-tokens.ts';
import { tokenBehind } from './forms.ts';
import type { Records } from './records.ts';

export interface IssuedTokensOptions {
  readonly kind: 'AccessToken' | 'ClientCredentials';
  /** Of the same kind. */
  readonly stored: Records;
  readonly grants: Records;
  readonly issuer: string;
  /** Undefined when it is not ours, expired or revoked. */
  readonly read: (token: string) => AccessTokenClaims | undefined;
  readonly revoke: (tokenId: string, expiresAt: number) => Promise<void>;
  /** Whether the token is being shown to the userinfo endpoint. */
  readonly isForUserinfo: () => boolean;
  /** The longest life of such a token, milliseconds. */
  readonly lifeMs: number;
  readonly now: () => number;
}

export class IssuedTokens implements Adapter {
  readonly #options: IssuedTokensOptions;

  constructor(options: IssuedTokensOptions) {
    this.#options = options;
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    const { read, kind, stored } = this.#options;
    const token = tokenBehind(id);
    if (token === undefined) return stored.find(id);
    const claims = read(token);
    return claims && kindOf(claims) === kind ? this.#payloadOf(claims) : undefined;
  }

  /** By the id that `find` told. */
  async destroy(id: string): Promise<void> {
    const { stored, revoke, lifeMs, now } = this.#options;
    if (await stored.find(id)) return stored.destroy(id);
    await revoke(id, now() + lifeMs);
  }

  upsert(id: string, payload: AdapterPayload, expiresInSeconds: number): Promise<void> {
    return this.#options.stored.upsert(id, payload, expiresInSeconds);
  }

  findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.#options.stored.findByUid(uid);
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.#options.stored.findByUserCode(userCode);
  }

  consume(id: string): Promise<void> {
    return this.#options.stored.consume(id);
  }

  /** Signed ones end with their grant, which the gate knows of (`grants.ts`). */
  revokeByGrantId(grantId: string): Promise<void> {
    return this.#options.stored.revokeByGrantId(grantId);
  }

  async #payloadOf(claims: AccessTokenClaims): Promise<AdapterPayload> {
    const { jti, iat, exp, sub, aud, scope, client_id, grant_id, cnf } = claims;
    const payload = {
      kind: this.#options.kind,
      jti,
      iat,
      exp,
      clientId: client_id,
      scope,
      aud,
      ...(cnf && { jkt: cnf.jkt }),
      ...(grant_id !== undefined && { accountId: sub, grantId: grant_id }),
    };
    return this.#options.isForUserinfo() ? this.#forUserinfo(payload) : payload;
  }

  /**
   * A token for this host's own operations also tells who its user is, as far as the user allowed that to the client.
   * One for another resource does not, as OpenID Connect Core 1.0 §5.3 and RFC 9068 §4 have it.
   */
  async #forUserinfo(payload: AdapterPayload): Promise<AdapterPayload> {
    const { aud, grantId } = payload;
    const isOwn = typeof aud === 'string' && URL.parse(aud)?.origin === this.#options.issuer;
    if (!isOwn || grantId === undefined) return payload;
    const grant = await this.#options.grants.find(grantId);
    return { ...payload, scope: identityOf(grant), aud: undefined };
  }
}

/** What the user lets the client know of them. */
function identityOf(grant: AdapterPayload | undefined): string {
  const { scope } = (grant?.openid ?? {}) as { scope?: string };
  return scope ?? '';
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9068#section-2.2 | RFC 9068 §2.2}: a client of its own is its subject. */
const kindOf = ({ grant_id }: AccessTokenClaims): IssuedTokensOptions['kind'] =>
  grant_id === undefined ? 'ClientCredentials' : 'AccessToken';
