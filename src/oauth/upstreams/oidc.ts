/** Adapter for whoever speaks OpenID Connect: Google, Entra, Keycloak … */
import type { Configuration, ServerMetadata } from 'openid-client';
import { type Clock, HOUR } from '../../core/clock.ts';
import { type Identity, identity } from '../../users/schema.ts';
import { asking, authorizeAt, type Library } from './client.ts';
import type { UpstreamFetch } from './fetch.ts';
import {
  type Asked,
  type Begun,
  type Proof,
  type Upstream,
  UpstreamFault,
  type UpstreamSettings,
} from './upstream.ts';

/** How long discovery is believed; keys are looked up anew when one is not known. */
const DISCOVERY_MS = HOUR;

export interface AdapterOptions {
  readonly clock: Clock;
  readonly fetch: UpstreamFetch;
}

type Claims = Readonly<Record<string, unknown>>;

export class OidcUpstream implements Upstream {
  readonly settings: UpstreamSettings;
  readonly #options: AdapterOptions;
  #discovered: { readonly configuration: Promise<Configuration>; readonly until: number } | undefined;

  constructor(settings: UpstreamSettings, options: AdapterOptions) {
    this.settings = settings;
    this.#options = options;
  }

  begin({ redirectUri, isAgain }: Asked): Promise<Begun> {
    return asking(this.settings, async (client) =>
      authorizeAt(await this.#configuration(client), this.settings, {
        redirectUri,
        // Google ignores it; who honours it asks for the password again.
        more: (nonce) => ({ nonce, ...(isAgain && { prompt: 'login' }) }),
      }),
    );
  }

  finish(answer: URL, { state, nonce, verifier }: Proof): Promise<Identity> {
    return asking(this.settings, async (client) => {
      const configuration = await this.#configuration(client);
      const tokens = await client.authorizationCodeGrant(configuration, answer, {
        expectedState: state,
        expectedNonce: nonce,
        pkceCodeVerifier: verifier,
        idTokenExpected: true,
      });
      const claims = tokens.claims();
      if (!claims) throw new Error('no ID token');
      const { sub } = claims;
      const more = this.#isAllThere(configuration, claims)
        ? {}
        : await client.fetchUserInfo(configuration, tokens.access_token, sub);
      return this.#identityOf(sub, claims, more);
    });
  }

  /** Discovered at the first sign-in, so that a provider that is down stops nothing else. Many at once ask once. */
  #configuration(client: Library): Promise<Configuration> {
    const { clock } = this.#options;
    if (this.#discovered && clock.now() < this.#discovered.until) return this.#discovered.configuration;
    const configuration = this.#discover(client);
    const discovered = { configuration, until: clock.now() + DISCOVERY_MS };
    this.#discovered = discovered;
    configuration.catch(() => {
      if (this.#discovered === discovered) this.#discovered = undefined;
    });
    return configuration;
  }

  async #discover(client: Library): Promise<Configuration> {
    const { issuer, clientId, clientSecret } = this.settings;
    const isPlain = issuer.startsWith('http:');
    const found = await client.discovery(new URL(issuer), clientId, undefined, undefined, {
      [client.customFetch]: this.#options.fetch,
      execute: isPlain ? [client.allowInsecureRequests] : [],
    });
    const metadata = found.serverMetadata();
    // For Microsoft the library lets an issuer pass that only looks like this one.
    if (metadata.issuer.replace(/\/$/, '') !== issuer)
      throw this.#misled(`it calls itself another issuer than the settings do`);
    const configuration = new client.Configuration(
      metadata,
      clientId,
      { client_secret: clientSecret },
      authenticationOf(client, metadata, clientSecret),
    );
    configuration[client.customFetch] = this.#options.fetch;
    if (isPlain) client.allowInsecureRequests(configuration);
    // The ID token comes over TLS, and is checked by its signature all the same.
    client.enableNonRepudiationChecks(configuration);
    return configuration;
  }

  #misled(reason: string): UpstreamFault {
    const { title } = this.settings;
    return new UpstreamFault(
      'UPSTREAM_FAILED',
      `${title} is not who it should be; tell the operator`,
      reason,
    );
  }

  #isAllThere(configuration: Configuration, claims: Claims): boolean {
    const { groupsClaim } = this.settings;
    const wanted = ['email', ...(groupsClaim === undefined ? [] : [groupsClaim])];
    const canAsk = configuration.serverMetadata().userinfo_endpoint !== undefined;
    return !canAsk || wanted.every((name) => claims[name] !== undefined);
  }

  #identityOf(subject: string, claims: Claims, more: Claims): Identity {
    const { issuer, groupsClaim } = this.settings;
    // An address and whether it is verified are of one document.
    const addressed = claims['email'] === undefined ? more : claims;
    const all: Claims = { ...more, ...claims };
    const groups = groupsClaim === undefined ? [] : all[groupsClaim];
    return identity.parse({
      issuer,
      subject,
      label: all['preferred_username'] ?? all['email'],
      name: all['name'],
      email: addressed['email'],
      isEmailVerified: addressed['email_verified'] === true,
      groups: Array.isArray(groups) ? groups : [],
    });
  }
}

/**
 * Basic where nothing is said (RFC 8414 §2), but in the body where that may be: not every provider decodes what Basic
 * encodes. @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1 | RFC 6749 §2.3.1}
 */
function authenticationOf(client: Library, metadata: ServerMetadata, secret: string) {
  const methods = metadata.token_endpoint_auth_methods_supported ?? [];
  return methods.includes('client_secret_post')
    ? client.ClientSecretPost(secret)
    : client.ClientSecretBasic(secret);
}
