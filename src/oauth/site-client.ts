/**
 * The client by which browsers sign in at protected hostnames: this system itself. Nobody is asked whether it may know
 * who they are, and it gets nothing else. What comes back is redeemed within this process (`redeem`), never over the
 * network. One grant for each user and hostname, so that `list_grants` shows it and `revoke_grant` signs them out.
 */
import { createHash } from 'node:crypto';
import type Provider from 'oidc-provider';
import { type ClientMetadata, errors } from 'oidc-provider';
import { SITE_CLIENT_ID } from '../core/own-client.ts';
import { isSameText } from '../core/same-text.ts';

export interface SiteRules {
  /** Whether this is the callback of a hostname where browsers sign in. */
  readonly isCallback: (uri: string) => boolean;
  readonly remember: (consent: {
    userId: string;
    clientId: string;
    redirectUri: string;
    grantId: string;
  }) => Promise<void>;
}

export const siteClient: ClientMetadata = {
  client_id: SITE_CLIENT_ID,
  client_name: 'a protected site',
  // Never used: `allowSiteCallbacks` decides by what is protected at that moment.
  redirect_uris: ['https://closed.invalid/.ohp/callback'],
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code'],
  response_types: ['code'],
};

export function allowSiteCallbacks(provider: Provider, { isCallback }: SiteRules): void {
  const { prototype } = provider.Client;
  // It is called with the client as `this`, below.
  // oxlint-disable-next-line typescript/unbound-method -- see the sentence above
  const registered = prototype.redirectUriAllowed;
  prototype.redirectUriAllowed = function (uri) {
    return this.clientId === SITE_CLIENT_ID ? isCallback(uri) : registered.call(this, uri);
  };
}

export async function siteGrant(
  provider: Provider,
  { userId, redirectUri }: { userId: string; redirectUri: string },
  {
    consentedGrant,
    sites,
  }: {
    consentedGrant: (userId: string, clientId: string, redirectUri: string) => Promise<string | undefined>;
    sites: SiteRules;
  },
) {
  const known = await consentedGrant(userId, SITE_CLIENT_ID, redirectUri);
  const grant = known === undefined ? undefined : await provider.Grant.find(known);
  if (grant?.accountId === userId && grant.clientId === SITE_CLIENT_ID) return grant;
  const fresh = new provider.Grant({ accountId: userId, clientId: SITE_CLIENT_ID });
  fresh.addOIDCScope('openid');
  const grantId = await fresh.save();
  await sites.remember({ userId, clientId: SITE_CLIENT_ID, redirectUri, grantId });
  return fresh;
}

export interface SiteCode {
  readonly code: string;
  /** @see {@link https://www.rfc-editor.org/rfc/rfc7636#section-4.6 | RFC 7636 §4.6} */
  readonly verifier: string;
  readonly redirectUri: string;
}

/** Who signed in; undefined when the code is not of this sign-in, has expired or was used. */
export async function redeemSiteCode(
  provider: Provider,
  { code, verifier, redirectUri }: SiteCode,
): Promise<{ userId: string; grantId: string } | undefined> {
  const found = await provider.AuthorizationCode.find(code);
  const challenge = createHash('sha256').update(verifier).digest('base64url');
  const isOurs =
    found?.isValid === true &&
    found.clientId === SITE_CLIENT_ID &&
    found.redirectUri === redirectUri &&
    found.codeChallengeMethod === 'S256' &&
    isSameText(found.codeChallenge ?? '', challenge);
  if (!isOurs || found.accountId === undefined || found.grantId === undefined) return undefined;
  try {
    await found.consume();
  } catch (cause) {
    if (cause instanceof errors.InvalidGrant) return undefined; // Somebody else was faster.
    throw cause;
  }
  return { userId: found.accountId, grantId: found.grantId };
}
