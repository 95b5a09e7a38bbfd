/**
 * Sign-in by a provider elsewhere: what one browser began, no other one finishes, whichever URL was captured; an answer
 * counts once, for what it was asked for; and an e-mail address takes no account over
 * (FastMCP CVE-2026-27124, GHSA-c2jp-c369-7pvx).
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import {
  approve,
  CLIENT_ID,
  CLIENT_SECRET,
  type OidcProvider,
  type Provider,
  startGitHub,
  startOidcProvider,
} from '../support/providers.ts';
import { invite, type Page, PASSWORD, signInAs, Visitor } from '../support/visitor.ts';

const REDIRECT_URI = 'https://client.example.net/callback';

let keycloak: OidcProvider;
let github: Provider;
let product: Product;
before(async () => {
  [keycloak, github] = await Promise.all([startOidcProvider(), startGitHub()]);
  const client = { client_id: CLIENT_ID, client_secret: CLIENT_SECRET };
  const upstreams = [
    {
      name: 'keycloak',
      title: 'Keycloak',
      kind: 'oidc',
      issuer: keycloak.issuer,
      ...client,
      groups_claim: 'groups',
      allow: { domains: ['example.com'], groups: ['contractors'] },
      create_users: true,
    },
    { name: 'github', title: 'GitHub', kind: 'github', issuer: github.issuer, ...client },
  ];
  product = await startProduct({ env: { OHP_CONFIG: configFile({ ...generous, oauth: { upstreams } }) } });
  const root = new Visitor(product);
  await signInAs(root, await root.open(root.at('localhost', '/oauth/account')), product);
});
after(async () => {
  for (const one of [product, keycloak, github]) await one?.[Symbol.asyncDispose]();
});

let browsers = 1;
/** Each from a network of its own. */
const someBrowser = (destination?: string) => new Visitor(product, destination, `127.0.0.${++browsers}`);
const account = (visitor: Visitor) => visitor.at('localhost', '/oauth/account');
const isSignedIn = ({ body }: Page): boolean => body.includes('You are signed in as');
const users = async () => (await product.api('GET', '/v1/users')).body.users as Record<string, unknown>[];
const userOf = async (username: string) => (await users()).find((one) => one['username'] === username);

/** The person presses the button; the browser has not gone anywhere yet. */
async function begin(visitor: Visitor, page: Page, provider: string): Promise<string> {
  const form = /<form[^>]*action="([^"]*\/(?:upstream|link))"[^>]*>([\s\S]*?)<\/form>/.exec(page.body);
  assert.ok(form, page.body);
  const hidden = [...(form[2] ?? '').matchAll(/name="([^"]+)" value="([^"]*)"/g)].filter(
    ([, name]) => name !== 'provider',
  );
  const body = new URLSearchParams([
    ...hidden.map(([, name = '', value = '']): [string, string] => [name, value]),
    ['provider', provider],
  ]);
  const answer = await visitor.request(new URL(form[1] ?? '', page.url), {
    method: 'POST',
    body: body.toString(),
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      origin: page.url.origin,
      'sec-fetch-site': 'same-origin',
    },
  });
  assert.equal(answer.status, 200, answer.body);
  return (
    /content="0; url=([^"]+)"/.exec(answer.body)?.[1]?.replaceAll('&amp;', '&') ?? assert.fail(answer.body)
  );
}

async function comeBy(provider: 'keycloak' | 'github', visitor = someBrowser()): Promise<Page> {
  const page = await visitor.open(account(visitor));
  const away = await begin(visitor, page, provider);
  return visitor.open(await approve(away));
}

const ada = { subject: '1001', label: 'ada', email: 'ada@example.com', isEmailVerified: true };

test('incident 06: a stranger whom the settings allow gets an account of their own, viewer and no more; the next time it is the same one', async () => {
  keycloak.someone = { ...ada, name: 'Ada Lovelace', groups: ['staff'] };
  const first = await comeBy('keycloak');
  assert.ok(isSignedIn(first), first.body);
  assert.match(first.body, /ada@keycloak/);
  const made = await userOf('ada@keycloak');
  assert.deepEqual(
    [
      made?.['role'],
      made?.['sign_in'],
      made?.['email'],
      made?.['email_verified'],
      made?.['groups'],
      made?.['name'],
    ],
    ['viewer', ['keycloak'], 'ada@example.com', true, ['keycloak:staff'], 'Ada Lovelace'],
  );
  keycloak.someone = { ...ada, label: 'ada.l', email: 'lovelace@example.com', groups: [] };
  assert.match((await comeBy('keycloak')).body, /ada@keycloak/);
  const after = await userOf('ada@keycloak');
  assert.deepEqual(
    [after?.['id'], after?.['email'], after?.['groups']],
    [made?.['id'], 'lovelace@example.com', []],
  );
});

test('incident 06: who is not allowed, or whose address is not verified, gets nothing', async () => {
  const before = (await users()).length;
  for (const someone of [
    { subject: '2001', label: 'eve', email: 'eve@example.net', isEmailVerified: true },
    { subject: '2002', label: 'eve', email: 'eve@example.com', isEmailVerified: false },
    { subject: '2003', label: 'eve', email: 'eve@sub.example.com', isEmailVerified: true },
    { subject: '2004', label: 'eve', email: 'eve@example.com.evil.net', isEmailVerified: true },
    { subject: '2005', label: 'eve', groups: ['other'] },
  ]) {
    keycloak.someone = someone;
    const page = await comeBy('keycloak');
    assert.equal(page.status, 403, page.body);
    assert.match(page.body, /not one that may come in here/);
  }
  github.someone = { subject: '2006', label: 'eve', email: 'eve@example.com', isEmailVerified: true };
  const page = await comeBy('github');
  assert.equal(page.status, 403);
  assert.match(page.body, /no account here that is let in is linked/i);
  assert.equal((await users()).length, before);
});

test('incident 06: who was let in and is no longer allowed stays out at the next sign-in', async () => {
  keycloak.someone = { subject: '3001', label: 'con', groups: ['contractors'] };
  assert.ok(isSignedIn(await comeBy('keycloak')));
  keycloak.someone = { ...keycloak.someone, groups: [] };
  assert.equal((await comeBy('keycloak')).status, 403);
});

test('incident 06: the address of an account here, verified elsewhere, does not lead into it', async () => {
  const id = await invite(product, 'boss', { email: 'boss@example.com', role: 'admin' });
  keycloak.someone = { subject: '4001', label: 'boss', email: 'boss@example.com', isEmailVerified: true };
  const page = await comeBy('keycloak');
  assert.match(page.body, /boss@keycloak/);
  const [local, other] = [await userOf('boss'), await userOf('boss@keycloak')];
  assert.equal(local?.['id'], id);
  assert.notEqual(other?.['id'], id);
  assert.deepEqual([local?.['sign_in'], local?.['role'], other?.['role']], [['password'], 'admin', 'viewer']);
});

test('incident 06: a captured URL of the way there, approved in another browser, signs nobody in there', async () => {
  keycloak.someone = ada;
  const [victim, attacker] = [someBrowser(), someBrowser()];
  const away = await begin(attacker, await attacker.open(account(attacker)), 'keycloak');
  // The victim, who is signed in at the provider, is led to the attacker's URL.
  const page = await victim.open(await approve(away));
  assert.equal(page.status, 403);
  assert.match(page.body, /belongs to no sign-in that this browser has begun/);
  assert.equal(isSignedIn(await victim.open(account(victim))), false);
  assert.equal(isSignedIn(await attacker.open(account(attacker))), false, 'nor the attacker');
});

test('incident 06: a captured URL of the way back works in no other browser, also one with a sign-in of its own, and is used up by it', async () => {
  keycloak.someone = ada;
  const [victim, attacker] = [someBrowser(), someBrowser()];
  const away = await begin(victim, await victim.open(account(victim)), 'keycloak');
  const back = await approve(away);
  await begin(attacker, await attacker.open(account(attacker)), 'keycloak');
  assert.equal((await attacker.open(back)).status, 403);
  assert.equal(isSignedIn(await attacker.open(account(attacker))), false);
  assert.equal((await victim.open(back)).status, 403, 'it is gone whatever came of it');
});

test('incident 06: an answer counts once, for its own provider, and only while that sign-in is the one of this browser', async () => {
  keycloak.someone = ada;
  const visitor = someBrowser();
  const back = await approve(await begin(visitor, await visitor.open(account(visitor)), 'keycloak'));
  assert.ok(isSignedIn(await visitor.open(back)));
  assert.equal((await visitor.open(back)).status, 403, 'a second time');
  const other = someBrowser();
  const mixed = await approve(await begin(other, await other.open(account(other)), 'keycloak'));
  mixed.pathname = mixed.pathname.replace('keycloak', 'github');
  assert.equal((await other.open(mixed)).status, 403, 'at the callback of another provider');
  const third = someBrowser();
  const late = await approve(await begin(third, await third.open(account(third)), 'keycloak'));
  await third.open(account(third));
  assert.equal((await third.open(late)).status, 403, 'after another sign-in was begun');
  for (const query of ['', 'code=x', 'state=', 'state=x&code=y', 'error=access_denied']) {
    const bare = await someBrowser().open(
      other.at('localhost', `/oauth/upstream/keycloak/callback?${query}`),
    );
    assert.equal(bare.status, 403, query);
  }
});

test('incident 06: the cookie that binds it is of this host only, and no page can read it', async () => {
  const visitor = someBrowser();
  const page = await visitor.open(account(visitor));
  await begin(visitor, page, 'keycloak');
  const value = visitor.cookie('localhost', '__Host-ohp_upstream');
  assert.match(value ?? '', /^[\w-]{43}$/);
  const form = /action="([^"]*\/upstream)"/.exec(page.body)?.[1] ?? '';
  const csrf = /name="csrf" value="([^"]*)"/.exec(page.body)?.[1] ?? '';
  const { headers } = await visitor.request(new URL(form, page.url), {
    method: 'POST',
    body: new URLSearchParams({ csrf, provider: 'keycloak' }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  const line = [headers['set-cookie'] ?? []].flat().find((one) => one.includes('ohp_upstream')) ?? '';
  assert.match(
    line,
    /^__Host-ohp_upstream=[\w-]{43}; path=\/; expires=[^;]+; samesite=lax; secure; httponly$/i,
  );
});

test('incident 06: a client is asked about after a sign-in elsewhere as after any other, and no button is pressed by another site', async () => {
  keycloak.someone = ada;
  const visitor = someBrowser(REDIRECT_URI);
  const registered = await visitor.request(new URL(visitor.at('localhost', '/oauth/register')), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_name: 'A client', redirect_uris: [REDIRECT_URI] }),
  });
  const authorize = `${visitor.at('localhost', '/oauth/authorize')}?${new URLSearchParams({
    client_id: JSON.parse(registered.body).client_id,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope: 'viewer',
    state: 's',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  }).toString()}`;
  const page = await visitor.open(authorize);
  const forged = await visitor.request(new URL(`${page.url.pathname}/upstream`, page.url), {
    method: 'POST',
    body: 'provider=keycloak',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      origin: 'https://evil.example.net',
      'sec-fetch-site': 'cross-site',
    },
  });
  assert.equal(forged.status, 403);
  const asked = await visitor.open(await approve(await begin(visitor, page, 'keycloak')));
  assert.match(asked.body, /to act for you/, asked.body);
  assert.ok((await visitor.submit(asked, { decision: 'allow' })).url.searchParams.has('code'));
});

test('incident 06: an account is linked by who is signed in to it, once, and unlinked', async () => {
  await invite(product, 'lin');
  const visitor = someBrowser();
  const own = await visitor.submit(await visitor.open(account(visitor)), {
    username: 'lin',
    password: PASSWORD,
  });
  github.someone = { subject: '5001', label: 'lin-at-work', email: 'lin@example.org', isEmailVerified: true };
  const linked = await visitor.open(await approve(await begin(visitor, own, 'github')));
  assert.match(linked.body, /GitHub<\/strong><br><small>as lin-at-work/, linked.body);
  assert.deepEqual((await userOf('lin'))?.['sign_in'], ['password', 'github']);
  assert.ok(isSignedIn(await comeBy('github')));

  const other = someBrowser();
  await invite(product, 'mel');
  const theirs = await other.submit(await other.open(account(other)), {
    username: 'mel',
    password: PASSWORD,
  });
  const taken = await other.open(await approve(await begin(other, theirs, 'github')));
  assert.equal(taken.status, 409);
  assert.match(taken.body, /linked to another account/);

  const unlinked = await visitor.submit(linked, { issuer: github.issuer, subject: '5001' });
  assert.match(unlinked.body, /no longer linked/);
  assert.deepEqual(
    [(await userOf('lin'))?.['sign_in'], (await userOf('lin'))?.['email_verified']],
    [['password'], false],
  );
  assert.equal((await comeBy('github')).status, 403);
});

test('incident 06: a link begun in one session is finished in no other', async () => {
  const visitor = someBrowser();
  const own = await visitor.submit(await visitor.open(account(visitor)), {
    username: 'lin',
    password: PASSWORD,
  });
  github.someone = { subject: '5002', label: 'lin' };
  const back = await approve(await begin(visitor, own, 'github'));
  const confirm = await visitor.open(`${account(visitor)}/confirm`);
  await visitor.submit(confirm, { username: 'mel', password: PASSWORD });
  assert.equal((await visitor.open(back)).status, 403);
  assert.equal((await comeBy('github')).status, 403, 'it is nobody’s');
});

test('incident 06: what was begun before an account was reset or disabled, and is slow at the provider, links nothing to it', async () => {
  for (const change of [{ reset_sign_in: true }, { disabled: true }]) {
    const [name, subject] = 'disabled' in change ? ['dis', '5101'] : ['res', '5102'];
    const id = await invite(product, name);
    const visitor = someBrowser();
    const own = await visitor.submit(await visitor.open(account(visitor)), {
      username: name,
      password: PASSWORD,
    });
    // Sessions know when they began to the second.
    const second = Math.floor(Date.now() / 1000);
    await eventually(async () => Math.floor(Date.now() / 1000) > second || undefined, 'the next second');
    github.someone = { subject, label: 'thief' };
    const back = await approve(await begin(visitor, own, 'github'));
    const asked = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    github.instead.set('/api/v3/user', async (_request, response) => {
      asked.resolve();
      await released.promise;
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ id: Number(subject), login: 'thief' }));
    });
    const page = visitor.open(back);
    await asked.promise;
    assert.equal((await product.api('PATCH', `/v1/users/${id}`, change)).status, 200);
    released.resolve();
    assert.equal(isSignedIn(await page), false);
    github.instead.clear();
    await product.api('PATCH', `/v1/users/${id}`, { disabled: false });
    assert.deepEqual((await userOf(name))?.['sign_in'], 'disabled' in change ? ['password'] : []);
    assert.equal((await comeBy('github')).status, 403);
  }
});

test('incident 06: the only way to sign in is not unlinked', async () => {
  keycloak.someone = ada;
  const visitor = someBrowser();
  const page = await comeBy('keycloak', visitor);
  const refused = await visitor.submit(page, { issuer: keycloak.issuer, subject: '1001' });
  assert.match(refused.body, /your only way to sign in/);
  assert.ok(isSignedIn(await comeBy('keycloak')));
});

test('incident 06: an invitation is accepted by an account elsewhere, once', async () => {
  const { body } = await product.api('POST', '/v1/users', { username: 'gus', role: 'operator' });
  const visitor = someBrowser();
  const { pathname, search } = new URL(body.invite_url);
  const welcome = await visitor.open(visitor.at('localhost', pathname + search));
  github.someone = { subject: '6001', label: 'gus-hub' };
  const done = await visitor.open(await approve(await begin(visitor, welcome, 'github')));
  assert.match(done.body, /signed in as <strong>gus</);
  assert.deepEqual((await userOf('gus'))?.['sign_in'], ['github']);
  assert.equal((await someBrowser().open(visitor.at('localhost', pathname + search))).status, 404);
  assert.match((await comeBy('github')).body, /signed in as <strong>gus</);
});

test('incident 06: who is disabled, reset or deleted does not come by a provider any more', async () => {
  github.someone = { subject: '6001', label: 'gus-hub' };
  const { id } = (await userOf('gus')) ?? {};
  await product.api('PATCH', `/v1/users/${String(id)}`, { disabled: true });
  assert.equal((await comeBy('github')).status, 403);
  await product.api('PATCH', `/v1/users/${String(id)}`, { disabled: false });
  assert.ok(isSignedIn(await comeBy('github')));
  await product.api('PATCH', `/v1/users/${String(id)}`, { reset_sign_in: true });
  assert.equal((await comeBy('github')).status, 403);
  await product.api('DELETE', `/v1/users/${String(id)}`);
  assert.equal((await comeBy('github')).status, 403);
  keycloak.someone = ada;
  const made = await userOf('ada@keycloak');
  await product.api('DELETE', `/v1/users/${String(made?.['id'])}`);
  assert.ok(isSignedIn(await comeBy('keycloak')));
  assert.notEqual((await userOf('ada@keycloak'))?.['id'], made?.['id'], 'somebody new');
});

/** All that the log has written, byte for byte. */
const logged = (): string =>
  globSync('logs/*', { cwd: product.dataDir })
    .map((path) => readFileSync(join(product.dataDir, path), 'latin1'))
    .join('\n');

test('incident 06: what a provider says goes wrong is told, escaped, on the page to try again, and recorded; nothing secret is', async () => {
  const visitor = someBrowser();
  const away = await begin(visitor, await visitor.open(account(visitor)), 'keycloak');
  const state = new URL(away).searchParams.get('state') ?? '';
  const callback = `/oauth/upstream/keycloak/callback?${new URLSearchParams({ error: 'access_denied', error_description: '<script>alert(1)</script>', state }).toString()}`;
  const denied = await visitor.open(visitor.at('localhost', callback));
  assert.equal(denied.status, 401);
  assert.match(denied.body, /not signed in at Keycloak, or said no there/);
  assert.doesNotMatch(denied.body, /alert\(/);
  keycloak.instead.set('/token', (_request, response) => {
    response.writeHead(400, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: 'invalid_grant', error_description: 'canary-of-the-provider' }));
  });
  const broken = await visitor.open(await approve(await begin(visitor, denied, 'keycloak')));
  keycloak.instead.clear();
  assert.equal(broken.status, 502);
  assert.match(broken.body, /Keycloak gave an answer that is not accepted/);
  assert.match(broken.body, /name="password"/, 'another way is there at once');
  const told = await eventually(async () => {
    const all = logged();
    return /access_denied/.test(all) && /invalid_grant/.test(all) ? all : undefined;
  }, 'the records');
  for (const event of [
    'sign-in refused',
    'signed in',
    'account made',
    'provider linked',
    'provider unlinked',
    'invitation accepted',
  ])
    assert.ok(told.includes(event), event);
  for (const secret of [CLIENT_SECRET, 'canary-of-the-provider', 'gho_', 'eyJ', state, 'code_verifier'])
    assert.ok(!told.includes(secret), secret);
  assert.ok(!product.output().includes(CLIENT_SECRET));
});

test('incident 06: a provider that is down stops neither the start nor anybody else', async () => {
  await using gone = await startOidcProvider();
  const { issuer } = gone;
  await gone[Symbol.asyncDispose]();
  const upstreams = [
    { name: 'gone', title: 'Gone', kind: 'oidc', issuer, client_id: 'x', client_secret: CLIENT_SECRET },
    {
      name: 'github',
      title: 'GitHub',
      kind: 'github',
      issuer: github.issuer,
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
    },
  ];
  await using other = await startProduct({ env: { OHP_CONFIG: configFile({ oauth: { upstreams } }) } });
  const visitor = new Visitor(other);
  const url = visitor.at('localhost', '/oauth/account');
  const first = await visitor.open(url);
  assert.doesNotMatch(first.body, /GitHub/, 'the first account is the administrator’s');
  const own = await signInAs(visitor, first, other);
  const down = await visitor.submit(own, { provider: 'gone' });
  assert.equal(down.status, 503);
  assert.match(down.body, /Gone does not answer now/);
  github.someone = { subject: '7001', label: 'root' };
  const linked = await visitor.submit(down, { provider: 'github' });
  assert.match(linked.body, /GitHub<\/strong>/, linked.body);
});

test('incident 06: the first account is not made by a provider, not even of who is allowed', async () => {
  const upstreams = [
    {
      name: 'keycloak',
      title: 'Keycloak',
      kind: 'oidc',
      issuer: keycloak.issuer,
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      allow: { everyone: true },
      create_users: true,
    },
  ];
  await using fresh = await startProduct({ env: { OHP_CONFIG: configFile({ oauth: { upstreams } }) } });
  const visitor = new Visitor(fresh);
  const page = await visitor.open(visitor.at('localhost', '/oauth/account'));
  const csrf = /name="csrf" value="([^"]*)"/.exec(page.body)?.[1] ?? '';
  const answer = await visitor.request(new URL(`${page.url.pathname}/upstream`, page.url), {
    method: 'POST',
    body: new URLSearchParams({ csrf, provider: 'keycloak' }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  assert.equal(answer.status, 404);
  assert.deepEqual((await fresh.api('GET', '/v1/users')).body.users, []);
});
