/** A program that asks a person for access and gets a token: registration, consent, code, PKCE; by the library of clients. */
import * as oauth from 'oauth4webapi';
import type { Product } from './product.ts';
import { signInAs, Visitor } from './visitor.ts';

const REDIRECT_URI = 'https://client.example.net/callback';

export interface Access {
  readonly clientId: string;
  readonly token: string;
  readonly scope: string;
}

type Reached = Pick<Product, 'ca' | 'httpsPort' | 'adminToken'>;

/** Over HTTPS to the product, whatever the name of the host. */
export function fetchBy(
  visitor: Visitor,
): (
  url: string,
  options?: { method?: string; headers?: Record<string, string>; body?: unknown },
) => Promise<Response> {
  return async (url, { method = 'GET', headers = {}, body } = {}) => {
    const text = typeof body === 'string' || body instanceof URLSearchParams ? body.toString() : undefined;
    const {
      status,
      headers: fields,
      body: answer,
    } = await visitor.request(new URL(url), {
      method,
      headers,
      ...(text !== undefined && { body: text }),
    });
    const received = new Headers();
    for (const [name, value] of Object.entries(fields))
      for (const one of [value ?? []].flat()) received.append(name, one);
    return new Response(answer === '' ? null : answer, { status, headers: received });
  };
}

export async function discover(product: Reached, visitor: Visitor) {
  const issuer = new URL(`https://localhost:${product.httpsPort}`);
  const response = await oauth.discoveryRequest(issuer, {
    algorithm: 'oauth2',
    [oauth.customFetch]: fetchBy(visitor),
  });
  return oauth.processDiscoveryResponse(issuer, response);
}

/** A token for this resource, as the first user (or the one that is named), who agrees to what is asked. */
export async function accessTo(
  product: Reached,
  resource: string,
  { scope = 'access', username = 'root' }: { scope?: string; username?: string } = {},
): Promise<Access> {
  const visitor = new Visitor(product, REDIRECT_URI);
  const options = { [oauth.customFetch]: fetchBy(visitor) };
  const as = await discover(product, visitor);
  const client = await oauth.processDynamicClientRegistrationResponse(
    await oauth.dynamicClientRegistrationRequest(
      as,
      { client_name: 'An agent', redirect_uris: [REDIRECT_URI] },
      options,
    ),
  );
  const verifier = oauth.generateRandomCodeVerifier();
  const start = new URL(as.authorization_endpoint ?? '');
  start.search = new URLSearchParams({
    client_id: client.client_id,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope,
    state: 'state',
    resource,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }).toString();
  const back = await consent(visitor, start, { adminToken: product.adminToken, username });
  const params = oauth.validateAuthResponse(as, client, back, 'state');
  const response = await oauth.authorizationCodeGrantRequest(
    as,
    client,
    oauth.None(),
    params,
    REDIRECT_URI,
    verifier,
    { ...options, additionalParameters: { resource } },
  );
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  return { clientId: client.client_id, token: tokens.access_token, scope: tokens.scope ?? '' };
}

/** Signs in where that is asked, and agrees. */
async function consent(
  visitor: Visitor,
  start: URL,
  who: { adminToken: string; username: string },
): Promise<URL> {
  let page = await visitor.open(start);
  if (/name="(?:token|password)"/.test(page.body)) page = await signInAs(visitor, page, who);
  if (page.body.includes('name="decision"')) page = await visitor.submit(page, { decision: 'allow' });
  if (page.url.href.startsWith(REDIRECT_URI)) return page.url;
  throw new Error(`no answer to the client: ${page.status} ${page.url.href}\n${page.body}`);
}
