/**
 * In the place of somebody who signs in and agrees, for `diagnose_connector`: the code that the sign-in page would send
 * back, for the very user who asks and for no more than a minute. It is redeemed at the real endpoint, by the client
 * that the diagnosis registered, and everything that came of it ends with the diagnosis.
 */
import type Provider from 'oidc-provider';
import { MINUTE, SECOND } from '../core/clock.ts';

/** Also without `end`, nothing of it outlives this. */
const LIFE_SECONDS = (2 * MINUTE) / SECOND;

export interface StandInRequest {
  readonly issuer: string;
  readonly clientId: string;
  readonly redirectUri: string;
  readonly resource: string;
  readonly scope: string;
  /** S256 of the verifier. @see {@link https://www.rfc-editor.org/rfc/rfc7636#section-4.2 | RFC 7636 §4.2} */
  readonly challenge: string;
}

export class StandIn {
  readonly #userId: string;
  readonly #providerOf: (issuer: string) => Promise<Provider>;
  readonly #grants: { readonly provider: Provider; readonly id: string }[] = [];

  constructor(userId: string, providerOf: (issuer: string) => Promise<Provider>) {
    this.#userId = userId;
    this.#providerOf = providerOf;
  }

  async code(asked: StandInRequest): Promise<string> {
    const provider = await this.#providerOf(asked.issuer);
    const client = await provider.Client.find(asked.clientId);
    if (!client) throw new Error('the client that was registered is not there');
    const accountId = this.#userId;
    // The library reads it and its types do not have it.
    const life = { expiresIn: LIFE_SECONDS };
    const grant = Object.assign(new provider.Grant({ accountId, clientId: asked.clientId }), life);
    grant.addResourceScope(asked.resource, asked.scope);
    const grantId = await grant.save();
    this.#grants.push({ provider, id: grantId });
    const code = new provider.AuthorizationCode({
      accountId,
      client,
      grantId,
      redirectUri: asked.redirectUri,
      resource: asked.resource,
      scope: asked.scope,
      codeChallenge: asked.challenge,
      codeChallengeMethod: 'S256',
      expiresWithSession: false,
      expiresIn: LIFE_SECONDS,
      gty: 'authorization_code',
    });
    return code.save();
  }

  async end(): Promise<void> {
    for (const { provider, id } of this.#grants.splice(0)) {
      await provider.RefreshToken.revokeByGrantId(id);
      await provider.AuthorizationCode.revokeByGrantId(id);
      const grant = await provider.Grant.find(id);
      await grant?.destroy();
    }
  }
}
