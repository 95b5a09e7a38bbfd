/** For tests: an authorization server behind a plain HTTP listener, with people who agree to everything. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Provider from 'oidc-provider';
import { createSealer } from '../config/secrets.ts';
import { type Clock, ManualClock } from '../core/clock.ts';
import { createEvents } from '../core/events.ts';
import type { Exchange } from '../core/exchange.ts';
import { bundles, expandPermissions, type Permission } from '../core/permissions.ts';
import type { Database } from '../store/database.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Pages } from './provider.ts';
import { controlScopes } from './scopes.ts';
import type { Middleware } from './server.ts';
import { OAuthService } from './service.ts';

const KEY_BYTES = 32;
export const USER = 'usr_0001';
/** A protected hostname. */
export const ELSEWHERE = 'https://app.example/';

/** What the person of the fixture may do. */
const held: ReadonlySet<Permission> = expandPermissions(bundles.operator);

export interface FixtureOptions {
  readonly fetch?: typeof globalThis.fetch;
  /** In front of those who agree. */
  readonly middleware?: (parts: { database: Database; clock: Clock }) => readonly Middleware[];
}

export async function startAuthorizationServer({ fetch, middleware }: FixtureOptions = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'ohp-oauth-'));
  const clock = new ManualClock(Date.now());
  const database = await openSqlite(join(directory, 'state.sqlite'), clock);
  const sealer = createSealer(Buffer.alloc(KEY_BYTES, 1));
  const { events, gone, revoked } = listening();
  const http = createServer();
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  const issuer = `http://127.0.0.1:${port}`;
  const open = async () => {
    const service = new OAuthService({
      database,
      sealer,
      clock,
      events,
      cookieKeys: ['a secret of tests only'],
      user: (id) =>
        id === USER ? { id, username: 'somebody', permissions: held, hostnames: undefined } : undefined,
      isIssuer: (url) => url === issuer,
      resource: (identifier) =>
        [`${issuer}/mcp`, `${issuer}/other`, ELSEWHERE].includes(identifier)
          ? { scopes: controlScopes }
          : undefined,
      defaultResource: (url) => `${url}/mcp`,
      claims: (id) => (id === USER ? { name: 'Somebody' } : undefined),
      isSignedIn: () => true,
      fetch: fetch ?? globalThis.fetch,
      allowsRegistration: true,
      allowsMetadata: true,
      mayFetch: () => true,
      sites: { isCallback: () => false, remember: () => Promise.resolve() },
      pages: plainPages,
      middleware: (provider) => [...(middleware?.({ database, clock }) ?? []), agreeToEverything(provider)],
    });
    await service.load();
    return service;
  };
  const current = { service: await open() };
  http.on('request', (request, response) => {
    current.service
      .handle(exchangeOf(request, response, issuer), issuer)
      .catch((error: unknown) => response.destroy(error as Error));
  });
  return {
    issuer,
    clock,
    database,
    sealer,
    gone,
    revoked,
    get service() {
      return current.service;
    },
    /** Who this token speaks for at `/mcp`. */
    principal: (token: string) =>
      current.service.authenticate(token, { origin: issuer, path: '/mcp', isControl: true }),
    /** Forgets all that is only in memory. */
    async reopen() {
      current.service = await open();
    },
    async [Symbol.asyncDispose]() {
      http.closeAllConnections();
      http.close();
      await database[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

function listening() {
  const events = createEvents();
  const [gone, revoked]: [string[], string[]] = [[], []];
  events.on('grant.ended', ({ grantId }) => void gone.push(grantId));
  events.on('access-token.revoked', ({ tokenId }) => void revoked.push(tokenId));
  return { events, gone, revoked };
}

const agreeToEverything =
  (provider: Provider): Middleware =>
  async (context, next) => {
    if (!context.path.startsWith('/oauth/interaction/')) return next();
    const details = await provider.interactionDetails(context.req, context.res);
    const { prompt, params, session } = details;
    if (prompt.name === 'login') {
      context.respond = false;
      return provider.interactionFinished(context.req, context.res, { login: { accountId: USER } });
    }
    const grant = new provider.Grant({
      accountId: session?.accountId,
      clientId: String(params['client_id']),
    });
    const { missingOIDCScope, missingResourceScopes } = prompt.details as {
      missingOIDCScope?: string[];
      missingResourceScopes?: Record<string, string[]>;
    };
    if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
    for (const [indicator, scopes] of Object.entries(missingResourceScopes ?? {}))
      grant.addResourceScope(indicator, scopes.join(' '));
    context.respond = false;
    return provider.interactionFinished(context.req, context.res, {
      consent: { grantId: await grant.save() },
    });
  };

async function answer(context: { body: unknown }, text: string): Promise<void> {
  context.body = text;
}

const plainPages: Pages = {
  error: (context, { error, error_description }) => answer(context, `${error}: ${error_description ?? ''}`),
  signOut: (context, form) => answer(context, form),
  signedOut: (context) => answer(context, 'signed out'),
  deviceCode: (context, form) => answer(context, form),
  deviceConfirm: (context, form) => answer(context, form),
  deviceDone: (context) => answer(context, 'done'),
};

function exchangeOf(request: IncomingMessage, response: ServerResponse, issuer: string): Exchange {
  const url = new URL(request.url ?? '/', issuer);
  return {
    traceId: '0'.repeat(32),
    span: undefined,
    joinTrace: () => {},
    clientAddress: '127.0.0.1',
    scheme: 'http',
    hostname: url.hostname,
    authority: url.host,
    method: request.method ?? 'GET',
    path: url.pathname,
    query: url.search.slice(1),
    headers: request.headers,
    body: request,
    reply: response as unknown as Exchange['reply'],
    signal: new AbortController().signal,
    note: () => undefined,
    tell: () => undefined,
    gate: { caller: 'test', charge: () => 0, challenge: () => 'Bearer' },
  };
}
