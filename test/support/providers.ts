/**
 * Providers elsewhere, on loopback: one that speaks OpenID Connect (oauth2-mock-server), and a stand-in for GitHub, which
 * no test reaches: its authorize and token endpoints and the four of its API that are used, as its documentation says.
 */
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { type MutableToken, OAuth2Issuer, OAuth2Service } from 'oauth2-mock-server';

export const CLIENT_ID = 'ohp-at-the-provider';
export const CLIENT_SECRET = 'secret-of-the-provider-0123456789';
const FOUND = 302;

/** Whoever sits at the provider's page. */
export interface Someone {
  subject: string;
  label: string;
  name?: string;
  email?: string;
  isEmailVerified?: boolean;
  groups?: string[];
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export interface Provider extends AsyncDisposable {
  readonly issuer: string;
  /** Who says yes at its page. */
  someone: Someone;
  /** Instead of its own answer to a path. */
  readonly instead: Map<string, Handler>;
  /** Every request: method, path, and body. */
  readonly requests: { method: string; url: URL; body: string; headers: IncomingMessage['headers'] }[];
}

export interface OidcProvider extends Provider {
  /** Changes the next ID tokens. */
  tamper: ((token: MutableToken) => void) | undefined;
  /** What stands in the discovery document besides. */
  metadata: Record<string, unknown>;
  readonly tokens: OAuth2Issuer;
}

export async function startOidcProvider(): Promise<OidcProvider> {
  const tokens = new OAuth2Issuer();
  await tokens.keys.generate('RS256');
  const service = new OAuth2Service(tokens);
  const listening = await listen((request, response) => service.requestHandler(request, response));
  tokens.url = listening.issuer;
  const provider: OidcProvider = Object.assign(listening, {
    someone: { subject: '248289761001', label: 'ada' },
    tamper: undefined,
    metadata: {},
    tokens,
  });
  const claims = () => {
    const { subject: sub, label, name, email, isEmailVerified, groups } = provider.someone;
    return { sub, preferred_username: label, name, email, email_verified: isEmailVerified, groups };
  };
  service.on('beforeTokenSigning', (token: MutableToken) => {
    // Of the access token nothing is read here; the ID token is for a client.
    if (token.payload['aud'] === undefined) return;
    Object.assign(token.payload, claims());
    provider.tamper?.(token);
  });
  service.on('beforeUserinfo', (answer: { body: unknown }) => {
    answer.body = claims();
  });
  service.on('beforeWellKnownOpenIdConfiguration', (answer: { body: object }) => {
    Object.assign(
      answer.body,
      { token_endpoint_auth_methods_supported: ['client_secret_post'] },
      provider.metadata,
    );
  });
  return provider;
}

/** GitHub answers 200 to a wrong code, with `error`; and `scope` is a list with commas. */
export async function startGitHub(): Promise<Provider> {
  const codes = new Map<string, { challenge: string; redirectUri: string }>();
  const tokens = new Set<string>();
  const routes: Record<string, (url: URL, body: string, request: IncomingMessage) => unknown> = {
    '/login/oauth/authorize': ({ searchParams }) => {
      const code = randomUUID();
      const redirectUri = searchParams.get('redirect_uri') ?? '';
      codes.set(code, { challenge: searchParams.get('code_challenge') ?? '', redirectUri });
      const back = new URL(redirectUri);
      back.search = new URLSearchParams({ code, state: searchParams.get('state') ?? '' }).toString();
      return back;
    },
    '/login/oauth/access_token': (_url, body) => {
      const form = new URLSearchParams(body);
      const known = codes.get(form.get('code') ?? '');
      codes.delete(form.get('code') ?? '');
      const challenge = createHash('sha256')
        .update(form.get('code_verifier') ?? '')
        .digest('base64url');
      const isRight =
        known?.challenge === challenge &&
        known.redirectUri === form.get('redirect_uri') &&
        form.get('client_id') === CLIENT_ID &&
        form.get('client_secret') === CLIENT_SECRET;
      if (!isRight) return { error: 'bad_verification_code', error_description: 'The code is incorrect.' };
      const token = `gho_${randomUUID()}`;
      tokens.add(token);
      return { access_token: token, token_type: 'bearer', scope: 'read:org,user:email' };
    },
  };
  const api: Record<string, () => unknown> = {
    '/api/v3/user': () => {
      const { subject, label, name } = provider.someone;
      return { id: Number(subject), login: label, name: name ?? null, email: 'public@example.net' };
    },
    '/api/v3/user/emails': () => {
      const { email, isEmailVerified = false } = provider.someone;
      const other = { email: 'other@example.net', primary: false, verified: true, visibility: null };
      return email === undefined ? [other] : [other, { email, primary: true, verified: isEmailVerified }];
    },
    '/api/v3/user/orgs': () =>
      (provider.someone.groups ?? []).filter((one) => !one.includes('/')).map((login) => ({ login })),
    '/api/v3/user/teams': () =>
      (provider.someone.groups ?? [])
        .map((one) => one.split('/'))
        .filter(([, slug]) => slug !== undefined)
        .map(([login, slug]) => ({ slug, organization: { login } })),
  };
  const listening = await listen(async (request, response) => {
    const url = new URL(request.url ?? '', 'http://localhost');
    const body = await text(request);
    const isKnown = tokens.has((request.headers.authorization ?? '').replace(/^Bearer /, ''));
    const answer = isKnown ? api[url.pathname]?.() : routes[url.pathname]?.(url, body, request);
    if (answer instanceof URL) return void response.writeHead(FOUND, { location: answer.href }).end();
    response.writeHead(answer === undefined ? 401 : 200, {
      'content-type': 'application/json; charset=utf-8',
    });
    response.end(JSON.stringify(answer ?? { message: 'Requires authentication' }));
  });
  const provider: Provider = Object.assign(listening, { someone: { subject: '583231', label: 'octocat' } });
  return provider;
}

async function listen(answer: Handler) {
  const requests: Provider['requests'] = [];
  const instead: Provider['instead'] = new Map();
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://localhost');
    const entry = { method: request.method ?? '', url, body: '', headers: request.headers };
    requests.push(entry);
    request.on('data', (chunk: Buffer) => void (entry.body += chunk.toString()));
    Promise.resolve((instead.get(url.pathname) ?? answer)(request, response)).catch((cause: unknown) =>
      response.destroy(cause as Error),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    issuer: `http://localhost:${port}`,
    requests,
    instead,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The way of a browser through the provider's page, to where it is sent back. */
export async function approve(authorizeUrl: string): Promise<URL> {
  const response = await fetch(authorizeUrl, { redirect: 'manual' });
  const location = response.headers.get('location');
  if (location === null) throw new Error(`no way back: ${response.status} ${await response.text()}`);
  return new URL(location);
}
