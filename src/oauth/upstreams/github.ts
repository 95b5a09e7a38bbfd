/**
 * Adapter for GitHub, which is OAuth without OpenID Connect: there is no discovery and no ID token, so its metadata is
 * written here, and who it was is asked of its API with the access token that was just received.
 * @see https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
 */
import type { Configuration } from 'openid-client';
import { z } from 'zod';
import { type Identity, identity } from '../../users/schema.ts';
import { asking, authorizeAt, type Library } from './client.ts';
import type { AdapterOptions } from './oidc.ts';
import type { Asked, Begun, Proof, Upstream, UpstreamSettings } from './upstream.ts';

const GROUPS_SCOPE = 'read:org';
/** The most that one page holds; who is in more groups is known by the first ones. */
const PAGE = 'per_page=100';
const API_VERSION = '2022-11-28';

const userSchema = z.object({ id: z.int().positive(), login: z.string(), name: z.string().nullish() });
const emailsSchema = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));
const organizationsSchema = z.array(z.object({ login: z.string() }));
const teamsSchema = z.array(z.object({ slug: z.string(), organization: z.object({ login: z.string() }) }));

export class GitHubUpstream implements Upstream {
  readonly settings: UpstreamSettings;
  readonly #options: Pick<AdapterOptions, 'fetch'>;

  constructor(settings: UpstreamSettings, options: Pick<AdapterOptions, 'fetch'>) {
    this.settings = settings;
    this.#options = options;
  }

  begin({ redirectUri }: Asked): Promise<Begun> {
    return asking(this.settings, (client) =>
      authorizeAt(this.#configuration(client), this.settings, { redirectUri, more: () => ({}) }),
    );
  }

  finish(answer: URL, { state, verifier }: Proof): Promise<Identity> {
    return asking(this.settings, async (client) => {
      const { access_token: token } = await client.authorizationCodeGrant(
        this.#configuration(client),
        answer,
        {
          expectedState: state,
          pkceCodeVerifier: verifier,
        },
      );
      return this.#who(token);
    });
  }

  #configuration(client: Library): Configuration {
    const { issuer, clientId, clientSecret } = this.settings;
    const base = `${issuer}/login/oauth`;
    const metadata = {
      issuer: base,
      authorization_endpoint: `${base}/authorize`,
      token_endpoint: `${base}/access_token`,
    };
    const authentication = client.ClientSecretPost(clientSecret);
    const configuration = new client.Configuration(metadata, clientId, undefined, authentication);
    configuration[client.customFetch] = this.#options.fetch;
    if (issuer.startsWith('http:')) client.allowInsecureRequests(configuration);
    return configuration;
  }

  async #who(token: string): Promise<Identity> {
    const { issuer, scopes } = this.settings;
    const hasGroups = scopes.includes(GROUPS_SCOPE);
    const [user, emails, organizations, teams] = await Promise.all([
      this.#get(token, 'user', userSchema),
      this.#get(token, `user/emails?${PAGE}`, emailsSchema),
      hasGroups ? this.#get(token, `user/orgs?${PAGE}`, organizationsSchema) : [],
      hasGroups ? this.#get(token, `user/teams?${PAGE}`, teamsSchema) : [],
    ]);
    const primary = emails.find((one) => one.primary);
    return identity.parse({
      issuer,
      // A login can be given up and taken by somebody else; the number is of one account for ever.
      subject: String(user.id),
      label: user.login,
      name: user.name ?? undefined,
      email: primary?.email,
      isEmailVerified: primary?.verified === true,
      groups: [
        ...organizations.map(({ login }) => login),
        ...teams.map(({ slug, organization }) => `${organization.login}/${slug}`),
      ],
    });
  }

  async #get<T>(token: string, path: string, schema: z.ZodType<T>): Promise<T> {
    const response = await this.#options.fetch(`${apiOf(this.settings.issuer)}/${path}`, {
      headers: {
        accept: 'application/vnd.github+json',
        authorization: `Bearer ${token}`,
        'user-agent': 'oauth-https-proxy',
        'x-github-api-version': API_VERSION,
      },
    });
    const [name] = path.split('?');
    if (response.status !== 200) throw new Error(`/${name} answered ${response.status}`);
    const parsed = schema.safeParse(await response.json());
    // What is wrong with it may quote it.
    if (!parsed.success) throw new Error(`/${name} answered what it never does`);
    return parsed.data;
  }
}

/** @see https://docs.github.com/en/enterprise-server/rest and https://docs.github.com/en/enterprise-cloud/admin/data-residency */
function apiOf(issuer: string): string {
  const { hostname } = new URL(issuer);
  return hostname === 'github.com' || hostname.endsWith('.ghe.com')
    ? `https://api.${hostname}`
    : `${issuer}/api/v3`;
}
