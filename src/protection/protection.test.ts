/** The gateway with what `protect_proxy` sets up, without the authorization server: who comes back is told to it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { DAY, MINUTE, systemClock } from '../core/clock.ts';
import { ManualClock } from '../core/clock.ts';
import type { Principal } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { type AllowList, identityPolicy, type OAuthPolicy } from '../proxies/auth-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import { openSqlite } from '../store/sqlite.ts';
import {
  ask,
  type Ask,
  echo,
  type Fixture,
  principalOf,
  proxyOf,
  read,
  routeOf,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import type { Visitor } from './policy.ts';
import { SESSION_IDLE_MS, SESSION_MAX_MS } from './sessions.ts';
import { Sites } from './site.ts';

const HOST = 'app.example.com';
const ORIGIN = `https://${HOST}`;
const ISSUER = 'https://login.example.com';
const SITE_CLIENT = 'ohp-sites';
const GRANT = 'grant-1';

const alice: Visitor = {
  id: 'usr_alice',
  username: 'alice',
  email: 'alice@example.com',
  isEmailVerified: true,
  groups: ['staff', 'ops'],
};
const bob: Visitor = { ...alice, id: 'usr_bob', username: 'bob', email: 'bob@example.net', groups: [] };

const nobody: AllowList = {
  everyone: false,
  users: [],
  emails: [],
  domains: [],
  groups: [],
  clients: [],
};

const policyOf = ({
  allow,
  ...more
}: Partial<Omit<OAuthPolicy, 'allow'>> & { allow?: Partial<AllowList> } = {}): OAuthPolicy => ({
  kind: 'oauth',
  mode: 'auto',
  scopes: ['access'],
  public_paths: [],
  identity: identityPolicy.parse({ kind: 'headers' }),
  ...more,
  allow: { ...nobody, users: [alice.id], ...allow },
});

const bearerOf = ({ id, username }: Visitor, scopes = ['access']): Principal => ({
  id: `${id}:client`,
  name: username,
  kind: 'user',
  permissions: new Set(),
  hostnames: undefined,
  expiresAt: undefined,
  oauth: { userId: id, clientId: 'https://client.example/', grantId: 'grant-2', tokenId: 'jti', scopes },
});

const machine: Principal = {
  ...bearerOf(alice),
  id: 'client:batch',
  name: 'batch',
  kind: 'client',
  oauth: { userId: undefined, clientId: 'batch', grantId: undefined, tokenId: 'jti', scopes: ['access'] },
};

interface Setup {
  policy?: OAuthPolicy;
  proxy?: Partial<Proxy>;
  clock?: ManualClock;
  settings?: Parameters<typeof startGateway>[0] extends infer O
    ? O extends { settings?: infer S }
      ? S
      : never
    : never;
}

async function setUp(t: TestContext, { policy = policyOf(), proxy = {}, clock, settings }: Setup = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'ohp-protect-'));
  const database = await openSqlite(join(directory, 'state.sqlite'), clock ?? systemClock);
  for (const { id, username } of [alice, bob])
    await database.change({}, (tx) =>
      tx
        .insertInto('users')
        .values({
          id,
          username,
          document: '{}',
          password_hash: null,
          created_at: 0,
          last_seen_at: null,
          version: 1,
        })
        .execute(),
    );
  const visitors = new Map([alice, bob].map((visitor) => [visitor.id, visitor]));
  const state = { grantAlive: true, redeemed: [] as unknown[], who: alice.id, cut: [] as string[] };
  const makeSites = () =>
    new Sites({
      database,
      sealer: createSealer(Buffer.alloc(32, 1)),
      clock: clock ?? systemClock,
      log: silentLog,
      clientId: SITE_CLIENT,
      paths: { authorization: '/oauth/authorize', endSession: '/oauth/sign-out' },
      visitor: (id) => visitors.get(id),
      isGrantAlive: () => state.grantAlive,
      isSignedIn: (id) => visitors.has(id),
      redeem: async (issuer, code) => {
        state.redeemed.push({ issuer, ...code });
        return code.code === 'good' ? { userId: state.who, grantId: GRANT } : undefined;
      },
      sign: (claims) => `signed.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`,
      mark: (text) => createHash('sha256').update(text).digest('base64url'),
      cut: (id) => {
        state.cut.push(id);
        gateway.live.cut(id);
      },
      issuerOf: () => ISSUER,
    });
  let sites = makeSites();
  const upstream = await startUpstream(echo);
  const served = proxyOf(HOST, upstream.url, { auth: policy, ...proxy });
  const gateway: Fixture = await startGateway({
    proxies: [served],
    settings: { publicUrl: ISSUER, ...settings },
    tokens: {
      alice: bearerOf(alice),
      bob: bearerOf(bob),
      narrow: bearerOf(alice, []),
      machine,
      api: principalOf('tok_1', ['system:write']),
      elsewhere: principalOf('tok_2', ['system:write'], ['other.example.com']),
    },
    protection: {
      sessionOf: (...q) => sites.sessionOf(...q),
      allows: (...q) => sites.allows(...q),
      lacksScopes: (...q) => sites.lacksScopes(...q),
      names: (...q) => sites.names(...q),
      mark: (text) => sites.mark(text),
      identityOf: (...q) => sites.identityOf(...q),
      beginSignIn: (...q) => sites.beginSignIn(...q),
    },
    handlers: {
      control: async ({ reply }) => void reply.end(),
      mcp: async ({ reply }) => void reply.end(),
      oauth: async ({ reply }) => void reply.end(),
      sites: (exchange) => sites.handle(exchange),
    },
  });
  t.after(async () => {
    await gateway[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
    sites[Symbol.dispose]();
    await database[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });
  const restart = async () => {
    sites[Symbol.dispose]();
    sites = makeSites();
    await sites.load();
  };
  return { gateway, upstream, served, state, visitors, database, restart };
}

const html = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
const cookiesOf = (lines: string | string[] | undefined): string[] =>
  [lines ?? []].flat().map((line) => line.split(';')[0] ?? '');
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** As a browser: sent to sign in, and back with what the authorization server answered. */
async function signIn(gateway: Fixture, path = '/', answer: Record<string, string> = {}) {
  const sent = await ask(gateway, { path, headers: html });
  assert.equal(sent.status, 302, sent.body);
  const location = new URL(sent.headers.location ?? '');
  const [flow = ''] = cookiesOf(sent.headers['set-cookie']);
  const query = new URLSearchParams({
    code: 'good',
    state: location.searchParams.get('state') ?? '',
    iss: ISSUER,
    ...answer,
  });
  const back = await ask(gateway, { path: `/.ohp/callback?${query.toString()}`, headers: { cookie: flow } });
  const cookie = cookiesOf(back.headers['set-cookie']).find((pair) => pair.startsWith('__Host-ohp=')) ?? '';
  return { sent, location, flow, back, cookie };
}

test('a browser is sent to sign in with PKCE and a state of its own, and comes back to where it wanted to go', async (t) => {
  const { gateway, state } = await setUp(t);
  const { location, sent, back, cookie } = await signIn(gateway, '/report?year=2026');
  assert.equal(location.origin + location.pathname, `${ISSUER}/oauth/authorize`);
  const asked = Object.fromEntries(location.searchParams);
  assert.deepEqual(
    { ...asked, state: '', code_challenge: '' },
    {
      client_id: SITE_CLIENT,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: `${ORIGIN}/.ohp/callback`,
      state: '',
      code_challenge: '',
      code_challenge_method: 'S256',
    },
  );
  assert.match(
    String(sent.headers['set-cookie']),
    /^__Host-ohp-flow-[0-9a-f]+=.*; Path=\/; .*HttpOnly; SameSite=Lax; Secure$/,
  );
  assert.equal(back.status, 303);
  assert.equal(back.headers.location, `${ORIGIN}/report?year=2026`);
  const line = [back.headers['set-cookie']].flat().find((one) => one?.startsWith('__Host-ohp='));
  assert.match(String(line), /; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure$/);
  assert.doesNotMatch(String(line), /Domain/i);
  assert.equal(state.redeemed.length, 1);
  const page = await ask(gateway, { path: '/report', headers: { cookie } });
  assert.equal(page.status, 200);
  assert.equal(page.json.headers['x-auth-user'], 'alice');
});

test('the upstream sees no cookie of ours, and the others as they were', async (t) => {
  const { gateway } = await setUp(t);
  const { cookie, flow } = await signIn(gateway);
  const page = await ask(gateway, { headers: { cookie: `theme=dark; ${cookie}; ${flow}; lang=en` } });
  assert.equal(page.json.headers.cookie, 'theme=dark; lang=en');
  const only = await ask(gateway, { headers: { cookie } });
  assert.equal(only.json.headers.cookie, undefined);
});

test('a sign-in that another browser began, or that comes from another issuer, signs nobody in', async (t) => {
  const { gateway, state } = await setUp(t);
  const mine = await ask(gateway, { headers: html });
  const location = new URL(mine.headers.location ?? '');
  const query = (more: Record<string, string>) =>
    new URLSearchParams({
      code: 'good',
      state: location.searchParams.get('state') ?? '',
      iss: ISSUER,
      ...more,
    }).toString();
  const theirs = cookiesOf((await ask(gateway, { headers: html })).headers['set-cookie'])[0] ?? '';
  const [flow = ''] = cookiesOf(mine.headers['set-cookie']);
  for (const [name, path, cookie] of [
    ['no cookie', query({}), ''],
    ['the cookie of another sign-in', query({}), theirs],
    ['a changed cookie', query({}), `${flow.slice(0, -2)}xx`],
    ['another state', query({ state: 'guessed' }), flow],
    ['another issuer', query({ iss: 'https://evil.example' }), flow],
    ['no issuer', query({}).replace(/&iss=[^&]*/, ''), flow],
    ['a code that is not good', query({ code: 'bad' }), flow],
    ['a refusal', query({ error: 'access_denied' }).replace(/code=good&/, ''), flow],
  ] as const) {
    const back = await ask(gateway, {
      path: `/.ohp/callback?${path}`,
      headers: { ...(cookie && { cookie }) },
    });
    assert.equal(back.status, 400, name);
    assert.ok(!cookiesOf(back.headers['set-cookie']).some((pair) => pair.startsWith('__Host-ohp=')), name);
  }
  assert.equal(state.redeemed.length, 1, 'only the code that is not good was looked at');
});

test('a sign-in takes ten minutes at most, and leads to this hostname only', async (t) => {
  const clock = new ManualClock(Date.now());
  const { gateway } = await setUp(t, { clock });
  for (const path of [
    '//evil.example/x',
    '/\\evil.example',
    '/https://evil.example',
    '/%2F%2Fevil.example',
  ]) {
    const { status, headers } = await ask(gateway, {
      path: `/.ohp/sign-in?return_to=${path}`,
      headers: html,
    });
    assert.equal(status, 303, path);
    const location = new URL(headers.location ?? '');
    const [flow = ''] = cookiesOf(headers['set-cookie']);
    const query = `code=good&iss=${ISSUER}&state=${location.searchParams.get('state') ?? ''}`;
    const back = await ask(gateway, { path: `/.ohp/callback?${query}`, headers: { cookie: flow } });
    assert.equal(new URL(back.headers.location ?? '').origin, ORIGIN, path);
  }
  const sent = await ask(gateway, { headers: html });
  const location = new URL(sent.headers.location ?? '');
  const [flow = ''] = cookiesOf(sent.headers['set-cookie']);
  clock.advance(10 * MINUTE);
  const query = `code=good&iss=${ISSUER}&state=${location.searchParams.get('state') ?? ''}`;
  const late = await ask(gateway, { path: `/.ohp/callback?${query}`, headers: { cookie: flow } });
  assert.equal(late.status, 400);
});

test('only who looks at a page is redirected; scripts, other methods and sockets are told 401', async (t) => {
  const { gateway } = await setUp(t);
  const cases: [string, Ask][] = [
    ['a script', { headers: { accept: '*/*' } }],
    ['fetch of a browser', { headers: { ...html, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' } }],
    ['an image', { headers: { ...html, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' } }],
    ['a frame', { headers: { ...html, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' } }],
    ['XMLHttpRequest', { headers: { ...html, 'x-requested-with': 'XMLHttpRequest' } }],
    ['a form', { method: 'POST', headers: { ...html, 'content-length': '0' } }],
    ['a credential', { headers: { ...html, ...bearer('unknown') } }],
  ];
  for (const [name, sent] of cases) {
    const { status, headers } = await ask(gateway, sent);
    assert.equal(status, 401, name);
    assert.match(
      String(headers['www-authenticate']),
      /^Bearer .*resource_metadata="https:\/\/app\.example\.com\/\.well-known\/oauth-protected-resource\/"/,
      name,
    );
    assert.match(String(headers['www-authenticate']), /scope="access"/, name);
  }
});

test('the metadata names the URL as it was typed, at the root and below', async (t) => {
  const { gateway } = await setUp(t, { proxy: { serve_mcp: false } });
  const at = async (path: string) =>
    (await ask(gateway, { path: `/.well-known/oauth-protected-resource${path}` })).json;
  for (const path of ['', '/', '/api', '/api/v1/items', '/mcp', '/mcp/'])
    assert.deepEqual(
      await at(path),
      {
        resource: ORIGIN + path,
        authorization_servers: [ISSUER],
        scopes_supported: ['access'],
        bearer_methods_supported: ['header'],
        resource_name: HOST,
      },
      path,
    );
  const { headers } = await ask(gateway, { path: '/api/v1/items?x=1' });
  assert.match(
    String(headers['www-authenticate']),
    /resource_metadata="https:\/\/app\.example\.com\/\.well-known\/oauth-protected-resource\/api\/v1\/items"/,
  );
});

test('a token opens by who it is for and by its scopes, and goes no further than the gateway', async (t) => {
  const { gateway } = await setUp(t, { policy: policyOf({ mode: 'bearer', scopes: ['read', 'access'] }) });
  gateway.tokens['wide'] = bearerOf(alice, ['access', 'read', 'more']);
  const open = await ask(gateway, { headers: bearer('wide') });
  assert.equal(open.status, 200);
  assert.equal(open.json.headers.authorization, undefined);
  assert.equal(open.json.headers['x-auth-scopes'], 'access read more');
  const narrow = await ask(gateway, { headers: bearer('alice') });
  assert.equal(narrow.status, 403);
  assert.match(String(narrow.headers['www-authenticate']), /error="insufficient_scope", scope="read access"/);
  const other = await ask(gateway, { headers: bearer('bob') });
  assert.equal(other.status, 403);
  assert.equal(other.headers['www-authenticate'], undefined, 'more scopes would not help');
  const unknown = await ask(gateway, { headers: bearer('unknown') });
  assert.equal(unknown.status, 401);
  assert.match(String(unknown.headers['www-authenticate']), /error="invalid_token"/);
});

test('programs that come for themselves are let in by name only', async (t) => {
  const { gateway, served } = await setUp(t, { policy: policyOf({ allow: { everyone: true } }) });
  for (const token of ['machine', 'api', 'elsewhere'])
    assert.equal((await ask(gateway, { headers: bearer(token) })).status, 403, token);
  const auth = policyOf({ allow: { users: [], clients: ['batch', 'tok_1', 'tok_2'] } });
  gateway.gateway.publisher.prepare({ putProxies: [{ ...served, auth }] }).publish();
  const named = await ask(gateway, { headers: bearer('machine') });
  assert.equal(named.json.headers['x-auth-user'], 'client:batch');
  const api = await ask(gateway, { headers: bearer('api') });
  assert.equal(api.json.headers['x-auth-user'], 'token:tok_1');
  assert.equal((await ask(gateway, { headers: bearer('elsewhere') })).status, 403);
  assert.equal((await ask(gateway, { headers: bearer('alice') })).status, 403);
});

test('users, verified addresses, their domains and groups are each enough, and nothing else is', async (t) => {
  const { gateway, served, visitors } = await setUp(t);
  const statusWith = async (allow: Partial<AllowList>) => {
    const auth = policyOf({ allow: { users: [], ...allow } });
    gateway.gateway.publisher.prepare({ putProxies: [{ ...served, auth }] }).publish();
    return (await ask(gateway, { headers: bearer('alice') })).status;
  };
  const email = alice.email ?? '';
  assert.equal(await statusWith({ everyone: true }), 200);
  assert.equal(await statusWith({ emails: [email] }), 200);
  assert.equal(await statusWith({ domains: ['example.com'] }), 200);
  assert.equal(await statusWith({ groups: ['ops'] }), 200);
  for (const allow of [
    {},
    { users: ['alice'] },
    { users: [bob.id] },
    { emails: ['alice@example.org'] },
    { domains: ['ample.com', 'com', 'mail.example.com'] },
    { groups: ['op', 'Ops'] },
    { clients: [alice.id, 'https://client.example/'] },
  ])
    assert.equal(await statusWith(allow), 403, JSON.stringify(allow));
  visitors.set(alice.id, { ...alice, isEmailVerified: false });
  assert.equal(await statusWith({ emails: [email], domains: ['example.com'] }), 403);
});

test('a mode takes what it is for: no cookie where tokens are asked for, no token where people sign in', async (t) => {
  const { gateway, served } = await setUp(t);
  const { cookie } = await signIn(gateway);
  const put = (policy: Partial<OAuthPolicy>) =>
    gateway.gateway.publisher
      .prepare({ putProxies: [{ ...served, auth: { ...policyOf(), ...policy } }] })
      .publish();
  put({ mode: 'bearer' });
  assert.equal((await ask(gateway, { headers: { cookie, ...html } })).status, 401);
  put({ mode: 'redirect' });
  const token = await ask(gateway, { headers: bearer('alice') });
  assert.deepEqual([token.status, token.headers['www-authenticate']], [401, `Cookie realm="${ORIGIN}"`]);
  assert.equal((await ask(gateway, { headers: { cookie } })).status, 200);
  const metadata = { path: '/.well-known/oauth-protected-resource/x', headers: html };
  assert.equal((await ask(gateway, metadata)).status, 302);
});

test('public paths are open, by whole segments and as they are spelt; nobody is named on them', async (t) => {
  const { gateway } = await setUp(t, { policy: policyOf({ public_paths: ['/assets', '/a!b'] }) });
  const forged = { 'x-auth-user': 'root' };
  for (const path of ['/assets', '/assets/', '/assets/x.css?v=1', '/x/../assets/y']) {
    const { status, json } = await ask(gateway, { path, headers: forged });
    assert.equal(status, 200, path);
    assert.equal(json.headers['x-auth-user'], undefined);
  }
  for (const path of [
    '/assetsx',
    '/Assets/x',
    '/assets/../private',
    '/assets;/x',
    '/a%21b',
    '/assets/%2e%2e/x',
  ])
    assert.equal((await ask(gateway, { path })).status, 401, path);
});

test('a route may ask for more, or for other people, than its proxy', async (t) => {
  const { gateway, upstream } = await setUp(t, { policy: policyOf({ allow: { everyone: true } }) });
  const auth = policyOf({ scopes: ['admin-panel'], allow: { users: [bob.id] } });
  const route = routeOf(HOST, '/admin', upstream.url, { auth });
  gateway.gateway.publisher.prepare({ putRoutes: [route] }).publish();
  assert.equal((await ask(gateway, { path: '/', headers: bearer('alice') })).status, 200);
  assert.equal((await ask(gateway, { path: '/admin/x', headers: bearer('alice') })).status, 403);
  const step = await ask(gateway, { path: '/admin/x', headers: bearer('bob') });
  assert.match(String(step.headers['www-authenticate']), /insufficient_scope", scope="admin-panel"/);
  const { json } = await ask(gateway, { path: '/.well-known/oauth-protected-resource/admin' });
  assert.deepEqual(json.scopes_supported, ['admin-panel']);
});

test('who somebody is cannot be forged in any spelling, under names of one’s own too', async (t) => {
  const identity = identityPolicy.parse({
    kind: 'headers',
    user: 'X-WebAuth-User',
    email: null,
    groups: 'Remote-Groups',
  });
  const { gateway } = await setUp(t, { policy: policyOf({ identity }) });
  const { json } = await ask(gateway, {
    headers: {
      ...bearer('alice'),
      'X-WebAuth-User': 'root',
      x_webauth_user: 'root',
      'Remote-Groups': 'admins',
      'REMOTE.GROUPS': 'admins',
      'X-Auth-Email': 'root@example.com',
      'X-Auth-User': 'root',
    },
  });
  const said = Object.entries(json.headers).filter(([name]) => /auth|remote/i.test(name));
  assert.deepEqual(
    said.sort(([a], [b]) => (a < b ? -1 : 1)),
    [
      ['remote-groups', 'staff,ops'],
      ['x-auth-scopes', 'access'],
      ['x-webauth-user', 'alice'],
    ],
  );
  assert.throws(() => identityPolicy.parse({ kind: 'headers', user: 'X-My-User' }));
});

test('an assertion is for the origin, lives shortly, and is signed again only when it has half of its life behind it', async (t) => {
  const clock = new ManualClock(Date.now());
  const identity = identityPolicy.parse({ kind: 'assertion' });
  const { gateway } = await setUp(t, { policy: policyOf({ identity }), clock });
  const get = async () => {
    const { json } = await ask(gateway, { headers: { ...bearer('alice'), 'x-auth-assertion': 'forged' } });
    const text = String(json.headers['x-auth-assertion']);
    return JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString());
  };
  const first = await get();
  assert.deepEqual([first.iss, first.aud, first.sub], [ISSUER, ORIGIN, alice.id]);
  assert.equal(first.exp - first.iat, 120);
  clock.advance(30_000);
  assert.equal((await get()).iat, first.iat);
  clock.advance(60_000);
  assert.ok((await get()).iat > first.iat);
});

test('a session counts for requests of its own origin: siblings change nothing in its name', async (t) => {
  const { gateway } = await setUp(t);
  const { cookie } = await signIn(gateway);
  const post = (headers: Record<string, string>) =>
    ask(gateway, { method: 'POST', headers: { cookie, 'content-length': '0', ...headers } });
  assert.equal((await post({ origin: ORIGIN })).status, 200);
  assert.equal((await post({})).status, 200);
  for (const headers of [
    { origin: 'https://evil.example.com' },
    { origin: 'null' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'cross-site' },
  ])
    assert.equal((await post(headers)).status, 401, JSON.stringify(headers));
});

test('a session is good on its own hostname only, outlives a restart, and ends when it is left alone or grows old', async (t) => {
  const clock = new ManualClock(Date.now());
  const { gateway, served, restart, upstream } = await setUp(t, { clock });
  const other = { ...proxyOf('two.example.com', upstream.url), auth: served.auth };
  gateway.gateway.publisher.prepare({ putProxies: [other] }).publish();
  const { cookie } = await signIn(gateway);
  const status = async (host = HOST) => (await ask(gateway, { host, headers: { cookie } })).status;
  assert.equal(await status('two.example.com'), 401);
  assert.equal(await status(), 200);
  await restart();
  assert.equal(await status(), 200);
  clock.advance(SESSION_IDLE_MS - 1);
  assert.equal(await status(), 200, 'used in time');
  for (let age = SESSION_IDLE_MS; age < SESSION_MAX_MS - DAY; age += DAY) {
    clock.advance(DAY);
    assert.equal(await status(), 200);
  }
  clock.advance(2 * DAY - 1);
  assert.equal(await status(), 401, 'however it is used');
});

test('a session ends with its grant, with its user, and when its person signs out', async (t) => {
  const { gateway, state, visitors } = await setUp(t);
  const { cookie } = await signIn(gateway);
  const status = async () => (await ask(gateway, { headers: { cookie } })).status;
  state.grantAlive = false;
  assert.equal(await status(), 401);
  state.grantAlive = true;
  visitors.delete(alice.id);
  assert.equal(await status(), 401);
  visitors.set(alice.id, alice);
  assert.equal(await status(), 200);
  const form = await ask(gateway, { path: '/.ohp/sign-out', headers: { cookie } });
  assert.match(form.body, /<form method="post">/);
  assert.equal(await status(), 200, 'a link signs nobody out');
  const forged = await ask(gateway, {
    method: 'POST',
    path: '/.ohp/sign-out',
    headers: { cookie, origin: 'https://evil.example.com', 'content-length': '0' },
  });
  assert.equal(forged.status, 400);
  assert.equal(await status(), 200);
  const out = await ask(gateway, {
    method: 'POST',
    path: '/.ohp/sign-out',
    headers: { cookie, origin: ORIGIN, 'content-length': '0' },
  });
  assert.deepEqual([out.status, out.headers.location], [303, `${ISSUER}/oauth/sign-out`]);
  assert.match(String(out.headers['set-cookie']), /^__Host-ohp=; Path=\/; Max-Age=0/);
  assert.equal(await status(), 401);
  assert.equal(state.cut.length, 1);
});

test('nothing that is protected is served in the clear, but to this machine', async (t) => {
  const { gateway } = await setUp(t, {
    proxy: { redirect_to_https: false },
    settings: { trustedProxies: ['127.0.0.1'] },
  });
  const plain = (method: string, headers: Record<string, string>) =>
    new Promise<{ status: number; headers: Record<string, unknown> }>((resolve, reject) => {
      const request = plainRequest({
        host: '127.0.0.1',
        port: gateway.httpPort,
        method,
        path: '/x',
        headers: { host: HOST, ...headers },
      });
      request.on('error', reject);
      request.on('response', (response) => void read(response).then(resolve, reject));
      request.end();
    });
  const from = { 'x-forwarded-for': '203.0.113.9' };
  assert.equal((await plain('GET', { ...from, ...bearer('alice') })).status, 308);
  assert.equal((await plain('POST', { ...from, ...bearer('alice') })).status, 403);
  assert.equal((await plain('GET', bearer('alice'))).status, 200);
  const sent = await plain('GET', html);
  assert.match(
    String(sent.headers['set-cookie']),
    /^ohp-flow-[0-9a-f]+=[^;]*; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax$/,
  );
});

const verify = (more: Record<string, string>, query = ''): Ask => ({
  host: 'localhost',
  path: `/auth/verify${query}`,
  headers: {
    'x-forwarded-method': 'GET',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': HOST,
    'x-forwarded-uri': '/x?y=1',
    ...more,
  },
});

test('/auth/verify tells a trusted front who may pass, and everybody else nothing', async (t) => {
  const stranger = await setUp(t);
  assert.equal((await ask(stranger.gateway, verify(bearer('alice')))).status, 403);
  const policy = policyOf({ public_paths: ['/assets'] });
  const { gateway } = await setUp(t, { policy, settings: { trustedProxies: ['127.0.0.1'] } });
  const pass = await ask(gateway, verify(bearer('alice')));
  assert.equal(pass.status, 200);
  assert.deepEqual(
    ['user', 'email', 'groups', 'scopes'].map((what) => pass.headers[`x-auth-${what}`]),
    ['alice', 'alice@example.com', 'staff,ops', 'access'],
  );
  const { cookie } = await signIn(gateway);
  assert.equal((await ask(gateway, verify({ cookie }))).headers['x-auth-user'], 'alice');
  const away = await ask(gateway, verify(html));
  assert.equal(away.status, 302);
  const redirectUri = new URL(away.headers.location ?? '').searchParams.get('redirect_uri');
  assert.equal(redirectUri, `${ORIGIN}/.ohp/callback`);
  assert.equal((await ask(gateway, verify(html, '?redirect=never'))).status, 401);
  assert.equal((await ask(gateway, verify({ ...html, 'x-forwarded-method': 'POST' }))).status, 401);
  assert.equal(
    (await ask(gateway, verify({ cookie, 'x-forwarded-method': 'POST', origin: 'https://evil.example.com' })))
      .status,
    401,
  );
  assert.equal((await ask(gateway, verify(bearer('bob')))).status, 403);
  assert.equal((await ask(gateway, verify({ 'x-forwarded-uri': '/assets/x' }))).status, 200);
  const { 'x-forwarded-uri': _, ...ingress } = verify({}).headers as Record<string, string>;
  const original = { ...ingress, ...bearer('alice'), 'x-original-url': `${ORIGIN}/assets/../x` };
  assert.equal((await ask(gateway, { ...verify({}), headers: original })).status, 200);
  for (const headers of [
    { 'x-forwarded-uri': '/assets/..%2fx' },
    { 'x-forwarded-uri': 'assets' },
    { 'x-forwarded-host': `${HOST}, ${HOST}` },
    { 'x-forwarded-host': 'unknown.example.com' },
    { 'x-forwarded-host': '' },
  ])
    assert.equal(
      (await ask(gateway, verify({ ...bearer('alice'), ...headers }))).status,
      403,
      JSON.stringify(headers),
    );
});

test('a policy that becomes narrower ends what is open under it, at once', async (t) => {
  const { gateway, served, upstream } = await setUp(t, { policy: policyOf({ allow: { everyone: true } }) });
  upstream.server.removeAllListeners('request');
  upstream.server.on('request', (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 1\n\n');
  });
  const opened = (token: string) =>
    ask(gateway, { headers: bearer(token) }).then(
      () => 'ended',
      () => 'cut',
    );
  const streams = [opened('alice'), opened('bob')] as const;
  while (gateway.gateway.connections().requests < 2) await new Promise(setImmediate);
  const auth = policyOf({ allow: { users: [alice.id] } });
  gateway.gateway.publisher.prepare({ putProxies: [{ ...served, auth }] }).publish();
  assert.equal(await streams[1], 'cut');
  assert.equal(gateway.gateway.connections().requests, 1, 'who is still let in goes on');
  const closed = policyOf({ allow: { users: [] } });
  gateway.gateway.publisher.prepare({ putProxies: [{ ...served, auth: closed }] }).publish();
  assert.equal(await streams[0], 'cut');
});
