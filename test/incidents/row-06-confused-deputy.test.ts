/**
 * A sign-in that one browser began must not be finished in another, and what a person agreed to is good for that
 * client, that redirect URI and those scopes only (FastMCP CVE-2026-27124, GHSA-c2jp-c369-7pvx; metamcp#232).
 */
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { type Product, startProduct } from '../support/product.ts';
import { navigation, type Page, PASSWORD, signInAs, Visitor } from '../support/visitor.ts';

const [FIRST, SECOND] = ['https://client.example.net/callback', 'https://client.example.net/other'] as const;

let product: Product;
let victim: Visitor;
let clientId: string;
before(async () => {
  product = await startProduct();
  victim = new Visitor(product, 'https://client.example.net/');
  clientId = await register('A client');
});
after(() => product[Symbol.asyncDispose]());

async function register(name: string): Promise<string> {
  const { body } = await victim.request(new URL(victim.at('localhost', '/oauth/register')), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_name: name, redirect_uris: [FIRST, SECOND] }),
  });
  return (JSON.parse(body) as { client_id: string }).client_id;
}

const authorizeUrl = (more: Record<string, string> = {}): string =>
  `${victim.at('localhost', '/oauth/authorize')}?${new URLSearchParams({
    client_id: clientId,
    redirect_uri: FIRST,
    response_type: 'code',
    scope: 'viewer',
    state: 's',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    ...more,
  }).toString()}`;

const signedIn = async (visitor: Visitor, page: Page): Promise<Page> =>
  /name="(?:token|password)"/.test(page.body)
    ? signInAs(visitor, page, { adminToken: product.adminToken })
    : page;

const asksForConsent = (page: Page): boolean => page.body.includes('name="decision"');
const hasCode = ({ url }: Page): boolean => url.searchParams.has('code');

const fieldOf = ({ body }: Page, name: string): string =>
  new RegExp(`name="${name}" value="([^"]*)"`).exec(body)?.[1] ?? '';
const formHeaders = (page: Page, more: Record<string, string> = {}) => ({
  'content-type': 'application/x-www-form-urlencoded',
  origin: page.url.origin,
  'sec-fetch-site': 'same-origin',
  ...more,
});

test('incident 06: consent is asked for once for a client, redirect URI and scopes, and anew when any of them differs', async () => {
  const first = await signedIn(victim, await victim.open(authorizeUrl()));
  assert.ok(asksForConsent(first));
  assert.match(first.body, /client\.example\.net/);
  assert.ok(hasCode(await victim.submit(first, { decision: 'allow' })));
  assert.ok(hasCode(await victim.open(authorizeUrl())), 'remembered');
  assert.ok(
    asksForConsent(await victim.open(authorizeUrl({ redirect_uri: SECOND }))),
    'another redirect URI',
  );
  assert.ok(asksForConsent(await victim.open(authorizeUrl({ scope: 'viewer operator' }))), 'another scope');
  assert.ok(
    asksForConsent(await victim.open(authorizeUrl({ resource: victim.at('localhost', '/mcp/') }))),
    'another resource',
  );
  assert.ok(
    asksForConsent(await victim.open(authorizeUrl({ client_id: await register('A client') }))),
    'another client of that name',
  );
  const again = await victim.open(authorizeUrl({ prompt: 'consent' }));
  assert.ok(asksForConsent(again) && again.body.includes('(viewer)'), 'prompt=consent');
  assert.ok(hasCode(await victim.open(authorizeUrl())), 'still remembered');
});

test('incident 06: what one browser began, no other browser finishes, not even with its form', async () => {
  const page = await victim.open(authorizeUrl({ redirect_uri: SECOND }));
  assert.ok(asksForConsent(page));
  const attacker = new Visitor(product);
  const { status } = await attacker.open(page.url);
  assert.equal(status, 400);
  const body = new URLSearchParams({ csrf: fieldOf(page, 'csrf'), decision: 'allow' }).toString();
  const target = new URL(`${page.url.pathname}/consent`, page.url);
  const sent = { method: 'POST', body, headers: formHeaders(page) };
  assert.equal((await attacker.request(target, sent)).status, 400, 'without an interaction');
  const own = await attacker.open(authorizeUrl({ redirect_uri: SECOND }));
  assert.equal((await attacker.request(target, sent)).status, 400, 'in an interaction of its own');
  const mixed = new URL(`${own.url.pathname}/consent`, own.url);
  assert.ok(
    [403, 404].includes((await attacker.request(mixed, sent)).status),
    'the form of the one in the other',
  );
  // The other way round: the victim is handed what the attacker began.
  assert.equal((await victim.open(own.url)).status, 400);
});

test('incident 06: a form without its token, of another page or another site, does nothing', async () => {
  const page = await victim.open(authorizeUrl({ redirect_uri: SECOND }));
  const target = new URL(`${page.url.pathname}/consent`, page.url);
  const csrf = fieldOf(page, 'csrf');
  const post = (fields: Record<string, string>, headers = formHeaders(page)) =>
    victim.request(target, { method: 'POST', body: new URLSearchParams(fields).toString(), headers });
  const allow = { decision: 'allow' };
  for (const wrong of [{}, { csrf: '' }, { csrf: `${csrf.slice(0, -1)}_` }, { csrf: csrf.toUpperCase() }])
    assert.equal((await post({ ...allow, ...wrong })).status, 403, JSON.stringify(wrong));
  for (const marks of [
    { origin: 'https://evil.example.net' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'null', 'sec-fetch-site': 'cross-site' },
    { origin: `http://localhost:${product.httpPort}`, 'sec-fetch-site': 'same-site' },
  ])
    assert.equal(
      (await post({ ...allow, csrf }, formHeaders(page, { 'sec-fetch-site': '', ...marks }))).status,
      403,
      JSON.stringify(marks),
    );
  const get = new URL(`${target.href}?${new URLSearchParams({ ...allow, csrf }).toString()}`);
  assert.equal((await victim.request(get, { headers: navigation })).status, 405, 'by GET');
  assert.equal((await post({ ...allow, csrf })).status, 303, 'and the right one works');
});

test('incident 06: saying no answers the client, gives no code, and is not remembered as a yes', async () => {
  const page = await victim.open(authorizeUrl({ scope: 'operator' }));
  const { url } = await victim.submit(page, { decision: 'deny' });
  assert.equal(url.searchParams.get('error'), 'access_denied');
  assert.equal(url.searchParams.get('iss'), victim.at('localhost', '').replace(/\/$/, ''));
  assert.equal(url.searchParams.has('code'), false);
  assert.ok(asksForConsent(await victim.open(authorizeUrl({ scope: 'operator' }))));
});

test('incident 06: a session id from before the sign-in is not signed in by it, and cookies are of this host only', async () => {
  const browser = new Visitor(product);
  await browser.open(browser.at('localhost', '/oauth/device'));
  const before = browser.cookie('localhost', '__Host-ohp_session');
  assert.ok(before);
  const account = await signedIn(browser, await browser.open(browser.at('localhost', '/oauth/account')));
  assert.match(account.body, /signed in as <strong>root/);
  assert.notEqual(browser.cookie('localhost', '__Host-ohp_session'), before);
  const fixed = await browser.request(new URL(browser.at('localhost', '/oauth/account')), {
    headers: { cookie: `__Host-ohp_session=${before}` },
  });
  assert.equal(fixed.status, 303, 'is asked to sign in');
  const { headers } = await new Visitor(product).request(new URL(authorizeUrl()), { headers: navigation });
  for (const line of [headers['set-cookie'] ?? []]
    .flat()
    .filter((one) => !one.includes('expires=Thu, 01 Jan 1970'))) {
    assert.match(line, /^__(?:Host|Secure)-/);
    assert.match(line, /;\s*secure/i);
    assert.match(line, /;\s*httponly/i);
    assert.match(line, /;\s*samesite=lax/i);
    assert.doesNotMatch(line, /;\s*domain=/i);
  }
});

test('incident 06: a scope that the user cannot give is withheld, and asked for again once they can', async () => {
  const { body: bob } = await product.api('POST', '/v1/users', { username: 'bob', role: 'viewer' });
  const visitor = new Visitor(product, 'https://client.example.net/');
  const invite = new URL(bob.invite_url);
  const welcome = await visitor.open(visitor.at('localhost', invite.pathname + invite.search));
  await visitor.submit(welcome, { code: fieldOf(welcome, 'code'), password: PASSWORD });
  const page = await visitor.open(authorizeUrl({ scope: 'viewer admin' }));
  assert.match(page.body, /Withheld[^<]*<code>admin<\/code>/);
  assert.doesNotMatch(page.body, /<small>\(admin\)/);
  assert.ok(hasCode(await visitor.submit(page, { decision: 'allow' })));
  assert.ok(hasCode(await visitor.open(authorizeUrl({ scope: 'viewer admin' }))), 'not asked again');
  await product.api('PATCH', `/v1/users/${bob.id}`, { role: 'admin' });
  const after = await visitor.open(authorizeUrl({ scope: 'viewer admin' }));
  assert.ok(asksForConsent(after));
  assert.match(after.body, /<small>\(admin\)/);
  await product.api('PATCH', `/v1/users/${bob.id}`, { role: 'none' });
  const nothing = await visitor.open(authorizeUrl({ scope: 'operator', prompt: 'consent' }));
  assert.match(nothing.body, /may give nothing/);
  assert.doesNotMatch(nothing.body, /value="allow"/);
});

test('incident 06: the open session of a user who is disabled, reset or deleted does not go on', async () => {
  const { body: eve } = await product.api('POST', '/v1/users', { username: 'eve', role: 'viewer' });
  const open = async (url: string) => {
    const visitor = new Visitor(product, 'https://client.example.net/');
    const invite = new URL(url);
    const welcome = await visitor.open(visitor.at('localhost', invite.pathname + invite.search));
    const account = await visitor.submit(welcome, { code: fieldOf(welcome, 'code'), password: PASSWORD });
    assert.match(account.body, /signed in as <strong>eve/);
    return visitor;
  };
  const isOut = async (visitor: Visitor) => {
    assert.match((await visitor.open(visitor.at('localhost', '/oauth/account'))).body, /name="password"/);
    const page = await visitor.open(authorizeUrl());
    assert.match(page.body, /<h1>Sign in<\/h1>/, page.body);
  };
  const first = await open(eve.invite_url);
  await product.api('PATCH', `/v1/users/${eve.id}`, { disabled: true });
  await isOut(first);
  await product.api('PATCH', `/v1/users/${eve.id}`, { disabled: false });
  await isOut(first);
  const { body: reset } = await product.api('PATCH', `/v1/users/${eve.id}`, { reset_sign_in: true });
  const second = await open(reset.invite_url);
  const { body: again } = await product.api('PATCH', `/v1/users/${eve.id}`, { reset_sign_in: true });
  await isOut(second);
  const third = await open(again.invite_url);
  await product.api('DELETE', `/v1/users/${eve.id}`);
  await isOut(third);
});
