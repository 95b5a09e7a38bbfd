/**
 * Who somebody is, an upstream hears from this system alone (Traefik CVE-2026-39858; Caddy GHSA-7r4p; oauth2-proxy
 * GHSA-7x63, CVE-2025-64484): not from a client, in any spelling, on public paths either; and no path, User-Agent or
 * forwarded header opens what is protected.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessTo } from '../support/agent.ts';
import { configFile, generous } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { signInAs, Visitor } from '../support/visitor.ts';

const HOST = 'app.example.com';
const RENAMED = 'renamed.example.com';
const CANARY = 'spoofed-by-the-client';

let product: Product;
let upstream: Upstream;
let token: string;
let visitor: Visitor;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  const identity = {
    kind: 'headers',
    user: 'Remote-User',
    email: null,
    groups: 'X-Forwarded-Groups',
    scopes: null,
  };
  for (const [hostname, more] of [
    [HOST, {}],
    [RENAMED, { identity }],
  ] as const) {
    await product.api('POST', '/v1/proxies', { hostname, target_url: upstream.url });
    const body = { allow: { everyone: true }, public_paths: ['/public'], ...more };
    assert.equal((await product.api('PUT', `/v1/proxies/${hostname}/protection`, body)).status, 200);
  }
  token = (await accessTo(product, `https://${HOST}:${product.httpsPort}/`)).token;
  visitor = new Visitor(product);
  await signInAs(visitor, await visitor.open(visitor.at(HOST)), product);
  await visitor.open(visitor.at(RENAMED));
});
after(async () => {
  for (const one of [product, upstream]) await one?.[Symbol.asyncDispose]();
});

const NAMES = [
  ...['User', 'Email', 'Groups', 'Scopes', 'Assertion', 'Name', 'Subject', 'Roles'].map(
    (what) => `X-Auth-${what}`,
  ),
  ...['User', 'Email', 'Groups', 'Preferred-Username', 'Access-Token'].map((what) => `X-Forwarded-${what}`),
  'Remote-User',
  'Remote-Groups',
  'X-Remote-User',
  'X-WebAuth-User',
  'X-Authenticated-User',
  'X-Pomerium-Jwt-Assertion',
  'Cf-Access-Jwt-Assertion',
  'X-Goog-Iap-Jwt-Assertion',
];
const spellings = (name: string): string[] => [
  name,
  name.toLowerCase(),
  name.toUpperCase(),
  name.replaceAll('-', '_'),
  name.replaceAll('-', '.'),
  name.replaceAll('-', '!'),
  name.replace('-', '_'),
];
const forged = (): Record<string, string> =>
  Object.fromEntries(NAMES.flatMap(spellings).map((name) => [name, CANARY]));

/** In portions, so that the head stays within its limits. */
function* portions(all: Record<string, string>): Generator<Record<string, string>> {
  const entries = Object.entries(all);
  for (let i = 0; i < entries.length; i += 60) yield Object.fromEntries(entries.slice(i, i + 60));
}

test('incident 14: nothing that a client says of itself reaches an upstream, by token, by cookie or on a public path', async () => {
  for (const hostname of [HOST, RENAMED])
    for (const headers of portions(forged())) {
      const seen = upstream.requests.length;
      await product.get(hostname, '/public/x', { headers });
      await visitor.request(new URL(visitor.at(hostname, '/x')), { headers });
      if (hostname === HOST)
        await product.get(HOST, '/x', { headers: { ...headers, authorization: `Bearer ${token}` } });
      const reached = upstream.requests.slice(seen);
      assert.equal(reached.length, hostname === HOST ? 3 : 2);
      for (const { rawHeaders } of reached) assert.ok(!rawHeaders.includes(CANARY), rawHeaders.join(' '));
    }
});

test('incident 14: who it is stands there once, under the names that were chosen', async () => {
  const seen = upstream.requests.length;
  await visitor.request(new URL(visitor.at(RENAMED, '/x')), { headers: { 'Remote-User': CANARY } });
  await product.get(HOST, '/x', { headers: { authorization: `Bearer ${token}`, 'X-Auth-User': CANARY } });
  const namesOf = (which: number) =>
    (upstream.requests[which]?.rawHeaders ?? [])
      .filter((_, index) => index % 2 === 0)
      .map((name) => name.toLowerCase());
  assert.equal(upstream.requests[seen]?.headers['remote-user'], 'root');
  assert.deepEqual(
    namesOf(seen).filter((name) => /user|auth/.test(name)),
    ['remote-user'],
  );
  assert.equal(upstream.requests[seen + 1]?.headers['x-auth-user'], 'root');
  assert.equal(namesOf(seen + 1).filter((name) => name === 'x-auth-user').length, 1);
});

test('incident 14: a policy takes no name that clients get through', async () => {
  for (const user of [
    'X-My-User',
    'User',
    'X-User',
    'Authorization',
    'Cookie',
    'Host',
    'X-Auth-Token',
    'X Auth User',
    'x_auth_user',
  ]) {
    const body = { allow: { everyone: true }, identity: { kind: 'headers', user } };
    const { status } = await product.api('PUT', `/v1/proxies/${HOST}/protection`, body);
    assert.equal(status, 400, user);
  }
});

test('incident 14: no path, User-Agent, method or forwarded header opens what is protected', async () => {
  const seen = upstream.requests.length;
  const paths = [
    '/',
    '/publicx',
    '/public/../x',
    '/public/%2e%2e/x',
    '/public/..;/x',
    '/public;/../x',
    '/PUBLIC/x',
    '/x/public',
    '//x/public',
    '/favicon.ico',
    '/robots.txt',
    '/.well-known/security.txt',
    '/.ohp/../x',
    '/oauth/token',
    '/healthz',
    '/ping',
    '/x?path=/public',
    '/x#/public',
  ];
  for (const path of paths) {
    const { status } = await product.get(HOST, path);
    assert.ok(status === 401 || status === 400, `${path}: ${status}`);
  }
  const lies: Record<string, string>[] = [
    { 'user-agent': 'kube-probe/1.30' },
    { 'user-agent': 'GoogleHC/1.0' },
    { 'x-forwarded-for': '127.0.0.1' },
    { 'x-real-ip': '127.0.0.1' },
    { 'x-original-url': '/public' },
    { 'x-forwarded-uri': '/public' },
    { 'x-rewrite-url': '/public' },
    { 'x-http-method-override': 'OPTIONS' },
    { 'access-control-request-method': 'GET', origin: 'https://evil.example' },
    { cookie: '__Host-ohp=guessed' },
    { cookie: 'ohp-session=guessed' },
    { authorization: 'Basic cm9vdDpyb290' },
  ];
  for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS', 'PROPFIND'])
    for (const headers of lies) {
      const { status } = await product.get(HOST, '/x', { method, headers });
      assert.equal(status, 401, `${method} ${JSON.stringify(headers)}`);
    }
  assert.equal(upstream.requests.length, seen);
});

test('incident 14: /auth/verify believes nobody who is not named', async () => {
  const headers = {
    authorization: `Bearer ${token}`,
    'x-forwarded-method': 'GET',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': HOST,
    'x-forwarded-uri': '/public',
  };
  for (const sent of [headers, { ...headers, 'x-forwarded-for': '127.0.0.1' }]) {
    const { status, headers: said } = await product.get('localhost', '/auth/verify', { headers: sent });
    assert.equal(status, 403);
    assert.equal(said['x-auth-user'], undefined);
  }
});
