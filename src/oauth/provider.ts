/**
 * One `oidc-provider` for one issuer: what is allowed, how long it lives, where it is kept. The library owns the
 * protocol; sign-in and consent are ours (`interactions/`). Made anew when the signing keys rotate, which costs
 * nobody anything, since nothing is kept in it.
 */
import Provider, {
  type Adapter,
  type Configuration,
  errors,
  type JWKS,
  type KoaContextWithOIDC,
} from 'oidc-provider';
import { PROOF_ALGORITHMS } from '../core/bearer.ts';
import { newId } from '../core/ids.ts';
import { SITE_CLIENT_ID } from '../core/own-client.ts';
import { DEFAULT_SCOPE, type Permission } from '../core/permissions.ts';
import type { AccessTokenClaims } from './access-tokens.ts';
import {
  allowRedirects,
  cliClient,
  clientMetadata,
  identityScopes,
  isIdentityOnly,
  isOwnToken,
  mayIntrospect,
  scopesFor,
} from './client-rules.ts';
import { ACCESS_TOKEN_MS, lifetimes } from './lifetimes.ts';
import { IssuedTokens } from './issued-tokens.ts';
import { type IsSignedIn, policyWith } from './interactions/policy.ts';
import { SIGNING_ALGORITHM, type SigningKey } from './keys.ts';
import { INTERACTION_PREFIX, isDiscovery, PATHS } from './paths.ts';
import { Records, type RecordsOptions } from './records.ts';
import { dropOutgrown } from './rejections.ts';
import { allowSiteCallbacks, siteClient, siteGrant, type SiteRules } from './site-client.ts';

/** What is fetched of a client: the draft recommends 5 kilobytes for its metadata (§6.6). */
const MAX_DOCUMENT_BYTES = 5 * 1024;
const MAX_KEY_SET_BYTES = 64 * 1024;

export interface ResourceFacts {
  /** What may be asked for. */
  readonly scopes: readonly string[];
}

export interface ProviderOptions {
  readonly issuer: string;
  readonly records: RecordsOptions;
  readonly keys: readonly SigningKey[];
  readonly cookieKeys: readonly string[];
  /** Undefined: nothing is protected under this URL, and no token is issued for it. */
  readonly resource: (identifier: string) => ResourceFacts | undefined;
  /** What a client gets that names no resource. */
  readonly defaultResource: (issuer: string) => string;
  readonly claims: (userId: string) => Readonly<Record<string, unknown>> | undefined;
  /** The grant that this user gave this client for answers to this redirect URI, if it is still there. */
  readonly consentedGrant: (
    userId: string,
    clientId: string,
    redirectUri: string,
  ) => Promise<string | undefined>;
  readonly isSignedIn: IsSignedIn;
  /** What a user may do now; undefined: no such user. */
  readonly rightsOf: (userId: string) => ReadonlySet<Permission> | undefined;
  readonly fetch: typeof globalThis.fetch;
  /** Whether strangers may register clients (RFC 7591). */
  readonly allowsRegistration: boolean;
  /** Whether a client may be the URL of its own metadata. */
  readonly allowsMetadata: boolean;
  /** Whether this client address may make this server fetch one more metadata document now. */
  readonly mayFetch: (clientAddress: string) => boolean;
  readonly pages: Pages;
  readonly sites: SiteRules;
  readonly issued: IssuedRules;
  /** Of a client that acts for itself. */
  readonly clientPermissions: (clientId: string) => ReadonlySet<Permission> | undefined;
}

/** Of signed access tokens, which nobody stores. */
export interface IssuedRules {
  /** Undefined when it is not ours, expired or revoked. */
  readonly read: (token: string) => AccessTokenClaims | undefined;
  readonly revoke: (tokenId: string, expiresAt: number) => Promise<void>;
}

/** Own pages in the place of the library's. */
export interface Pages {
  error(
    context: KoaContextWithOIDC,
    fault: { error: string; error_description?: string | undefined },
  ): Promise<void>;
  signOut(context: KoaContextWithOIDC, form: string): Promise<void>;
  signedOut(context: KoaContextWithOIDC): Promise<void>;
  deviceCode(context: KoaContextWithOIDC, form: string, fault: Error | undefined): Promise<void>;
  deviceConfirm(
    context: KoaContextWithOIDC,
    form: string,
    facts: { userCode: string; clientName: string },
  ): Promise<void>;
  deviceDone(context: KoaContextWithOIDC): Promise<void>;
}

export function createProvider(options: ProviderOptions): Provider {
  const provider = new Provider(options.issuer, configurationOf(options));
  // The gateway wrote these fields itself (`bridge.ts`).
  provider.proxy = true;
  provider.use(tellDefaultScope);
  provider.use(keepRefusal);
  allowRedirects(provider);
  allowSiteCallbacks(provider, options.sites);
  return provider;
}

/**
 * Of what this host's own operations know, only what everyone begins with: clients ask for all that they find there.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8414#section-2 | RFC 8414 §2}, scopes_supported
 */
const tellDefaultScope: Parameters<Provider['use']>[0] = async (context, next) => {
  await next();
  const told = context.body as { scopes_supported?: string[] } | undefined;
  if (isDiscovery(context.path)) told?.scopes_supported?.push(DEFAULT_SCOPE);
};

/**
 * What comes to the device page without the session it belongs to is refused with a page, and then the library fails
 * to save the session that never was.
 */
const keepRefusal: Parameters<Provider['use']>[0] = async (context, next) => {
  try {
    await next();
  } catch (cause) {
    const isRefused = context.status >= 400 && context.status < 500 && Boolean(context.body);
    if (!context.path.startsWith(PATHS.code_verification) || !isRefused) throw cause;
  }
};

function configurationOf(options: ProviderOptions): Configuration {
  const { issuer, keys, cookieKeys, claims, pages } = options;
  const isSecure = issuer.startsWith('https:');
  return {
    adapter: (name: string) => adapterFor(name, options),
    jwks: { keys: keys.map(({ privateJwk }) => privateJwk) } as JWKS,
    cookies: cookiesOf(isSecure, cookieKeys),
    routes: PATHS,
    scopes: [...identityScopes],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    responseTypes: ['code'],
    clients: [siteClient, cliClient],
    pkce: { required: () => true },
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    clientDefaults: {
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: SIGNING_ALGORITHM,
    },
    enabledJWA: {
      idTokenSigningAlgValues: [SIGNING_ALGORITHM],
      dPoPSigningAlgValues: [...PROOF_ALGORITHMS],
    },
    ttl: lifetimes,
    rotateRefreshToken: true,
    expiresWithSession: () => false,
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
    extraTokenClaims: (_context, token) =>
      'grantId' in token && token.grantId ? { grant_id: token.grantId } : undefined,
    findAccount: (_context, id) => {
      const known = claims(id);
      return known ? { accountId: id, claims: () => ({ sub: id, ...known }) } : undefined;
    },
    loadExistingGrant: (context) => existingGrant(context, options),
    extraClientMetadata: clientMetadata,
    interactions: {
      url: (_context, { uid }) => `${INTERACTION_PREFIX}${uid}`,
      policy: policyWith(options.isSignedIn),
    },
    clientBasedCORS: () => true,
    conformIdTokenClaims: false,
    allowOmittingSingleRegisteredRedirectUri: false,
    fetch: options.fetch,
    fetchResponseBodyLimits: {
      'client_id metadata document': MAX_DOCUMENT_BYTES,
      jwks_uri: MAX_KEY_SET_BYTES,
      sector_identifier_uri: MAX_DOCUMENT_BYTES,
    },
    renderError: (context, out) => pages.error(context, out),
    features: featuresOf(options),
  };
}

function adapterFor(name: string, { records, issued, issuer }: ProviderOptions): Adapter {
  const stored = new Records(name, records);
  if (name !== 'AccessToken' && name !== 'ClientCredentials') return stored;
  return new IssuedTokens({
    ...issued,
    kind: name,
    stored,
    issuer,
    grants: new Records('Grant', records),
    isForUserinfo: () => Provider.ctx?.oidc?.route === 'userinfo',
    lifeMs: ACCESS_TOKEN_MS,
    now: () => records.clock.now(),
  });
}

function cookiesOf(isSecure: boolean, keys: readonly string[]): NonNullable<Configuration['cookies']> {
  const common = { httpOnly: true, sameSite: 'lax', signed: true, secure: isSecure } as const;
  const prefix = isSecure ? '__Host-' : '';
  return {
    keys: [...keys],
    names: {
      session: `${prefix}ohp_session`,
      interaction: `${prefix}ohp_interaction`,
      // Lives on the path of one request; `__Host-` would need the root.
      resume: `${isSecure ? '__Secure-' : ''}ohp_resume`,
    },
    long: { ...common, path: '/' },
    short: { ...common, path: '/' },
  };
}

function featuresOf(options: ProviderOptions): NonNullable<Configuration['features']> {
  const { issuer, pages, resource, defaultResource } = options;
  return {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_context, _client, oneOf) => oneOf?.[0] ?? defaultResource(issuer),
      // Who asks for nothing but who the user is gets a token for that (userinfo), and not for the default resource.
      useGrantedResource: (_context, { scope }) => !isIdentityOnly(scope),
      getResourceServerInfo: (context, identifier, client) => {
        const known = resource(identifier);
        if (!known) throw new errors.InvalidTarget('nothing of this URL is protected here');
        return {
          scope: scopesFor(known.scopes, context, client, options.clientPermissions).join(' '),
          audience: audienceOf(identifier),
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetimes.AccessToken,
          jwt: { sign: { alg: SIGNING_ALGORITHM } },
        };
      },
    },
    clientCredentials: { enabled: true },
    clientIdMetadataDocument: {
      enabled: options.allowsMetadata,
      ack: 'draft-02',
      allowFetch: (context) => options.mayFetch(context.ip),
    },
    deviceFlow: {
      enabled: true,
      mask: '****-****',
      charset: 'base-20',
      userCodeInputSource: (context, form, _out, fault) => pages.deviceCode(context, form, fault),
      userCodeConfirmSource: (...[context, form, client, , userCode]) =>
        pages.deviceConfirm(context, form, { userCode, clientName: client.clientName ?? client.clientId }),
      successSource: (context) => pages.deviceDone(context),
    },
    dPoP: { enabled: true },
    introspection: {
      enabled: true,
      allowedPolicy: (_context, client, token) => mayIntrospect(client, token),
    },
    pushedAuthorizationRequests: { enabled: true },
    registration: { enabled: options.allowsRegistration, idFactory: () => newId('dcr') },
    registrationManagement: { enabled: options.allowsRegistration, rotateRegistrationAccessToken: false },
    revocation: { enabled: true, allowedPolicy: (_context, client, token) => isOwnToken(client, token) },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (context, form) => pages.signOut(context, form),
      postLogoutSuccessSource: (context) => pages.signedOut(context),
    },
    userinfo: { enabled: true },
  } as NonNullable<Configuration['features']>;
}

/**
 * Scheme and host in capitals, or the scheme's own port, are the same resource; the rest is as the client wrote it.
 * @see {@link https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2.1 | RFC 3986 §6.2.2.1}; MCP 2026-07-28, Canonical Server URI
 */
function audienceOf(identifier: string): string {
  const origin = URL.parse(identifier)?.origin;
  return origin === undefined ? identifier : identifier.replace(/^[^:]+:\/\/[^/?#]*/, origin);
}

async function existingGrant({ oidc }: KoaContextWithOIDC, options: ProviderOptions) {
  const { consentedGrant, sites } = options;
  const { session, client, params, provider, result } = oidc;
  const chosen = result?.consent?.grantId;
  if (chosen) return provider.Grant.find(chosen);
  const redirectUri = params?.['redirect_uri'];
  const userId = session?.accountId;
  if (userId === undefined || !client || typeof redirectUri !== 'string') return undefined;
  if (client.clientId === SITE_CLIENT_ID)
    return siteGrant(provider, { userId, redirectUri }, { consentedGrant, sites });
  const grant = await grantOf(provider, await consentedGrant(userId, client.clientId, redirectUri));
  if (grant?.accountId !== userId || grant.clientId !== client.clientId) return undefined;
  dropOutgrown(grant, options.rightsOf(userId) ?? new Set());
  return grant;
}

const grantOf = (provider: Provider, id: string | undefined) =>
  id === undefined ? undefined : provider.Grant.find(id);
