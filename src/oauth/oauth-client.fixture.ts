/** For tests: a client as `oauth4webapi` makes one, and a browser whose person agrees to everything. */
import assert from 'node:assert/strict';
import * as oauth from 'oauth4webapi';

export const REDIRECT_URI = 'http://127.0.0.1:9/callback';
export const insecure = { [oauth.allowInsecureRequests]: true } as const;
const MAX_HOPS = 12;

export async function discover(issuer: string): Promise<oauth.AuthorizationServer> {
  const url = new URL(issuer);
  return oauth.processDiscoveryResponse(
    url,
    await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure }),
  );
}

export async function register(as: oauth.AuthorizationServer, metadata: Record<string, unknown> = {}) {
  const response = await oauth.dynamicClientRegistrationRequest(
    as,
    { client_name: 'A client', redirect_uris: [REDIRECT_URI], ...metadata },
    insecure,
  );
  const client = await oauth.processDynamicClientRegistrationResponse(response);
  return Object.assign(client, managementOf(client));
}

/** What a client needs to change its registration, and its secret; texts where there are any. */
function managementOf(client: oauth.Client) {
  const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    secret: textOf(client['client_secret']),
    manageUrl: textOf(client['registration_client_uri']),
    manageToken: textOf(client['registration_access_token']),
  };
}

/** Follows redirects to where the client waits for the answer. */
export async function browse(start: URL, until = REDIRECT_URI): Promise<URL> {
  const jar = new Map<string, string>();
  let url = start;
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [pair = ''] = line.split(';');
      jar.set(pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1));
    }
    const location = response.headers.get('location');
    assert.ok(location, `${response.status} ${url.href}: ${await response.text()}`);
    url = new URL(location, url);
    if (url.href.startsWith(until)) return url;
  }
  throw new Error('too many redirects');
}

/** The question of an authorization request, and the verifier that belongs to it. Undefined leaves a parameter away. */
export async function question(
  as: oauth.AuthorizationServer,
  client: oauth.Client,
  extra: Record<string, string | undefined> = {},
): Promise<{ url: URL; verifier: string }> {
  const verifier = oauth.generateRandomCodeVerifier();
  const parameters = {
    client_id: client.client_id,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope: 'viewer',
    state: 'st',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...extra,
  };
  const url = new URL(as.authorization_endpoint ?? '');
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined) url.searchParams.set(name, value);
  return { url, verifier };
}

export async function authorize(
  as: oauth.AuthorizationServer,
  client: oauth.Client,
  extra: Record<string, string | undefined> = {},
) {
  const { url, verifier } = await question(as, client, extra);
  const back = await browse(url, extra['redirect_uri']);
  const redeem = (auth: oauth.ClientAuth = oauth.None(), options: oauth.TokenEndpointRequestOptions = {}) => {
    const params = oauth.validateAuthResponse(as, client, back, 'st');
    const redirectUri = extra['redirect_uri'] ?? REDIRECT_URI;
    return oauth.authorizationCodeGrantRequest(as, client, auth, params, redirectUri, verifier, {
      ...insecure,
      ...options,
    });
  };
  return { back, redeem };
}

/** The whole flow. */
export async function signIn(
  as: oauth.AuthorizationServer,
  client: oauth.Client,
  extra: Record<string, string | undefined> = {},
) {
  const { redeem } = await authorize(as, client, extra);
  return oauth.processAuthorizationCodeResponse(as, client, await redeem());
}

export const refresh = (as: oauth.AuthorizationServer, client: oauth.Client, token = '') =>
  oauth.refreshTokenGrantRequest(as, client, oauth.None(), token, insecure);
