/** The guide docs/guides/protect-a-website.md: its commands as they stand there, and what it says of them. */
import assert from 'node:assert/strict';
import { verify as verifySignature, createPublicKey } from 'node:crypto';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { accessTo } from '../support/agent.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { PASSWORD, signInAs, Visitor } from '../support/visitor.ts';

const HOST = 'app.example.com';
const guide = new Guide('protect-a-website');
const CHROMIUM = '/usr/bin/chromium';

let product: Product;
let upstream: Upstream;

before(async () => {
  upstream = await startUpstream((request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(
      `<title>App</title><p id="who">${String(request.headers['x-auth-user'] ?? 'nobody')}</p>${request.url}`,
    );
  });
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  assert.equal(
    (await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url })).status,
    201,
  );
});
after(async () => {
  for (const one of [product, upstream]) await one?.[Symbol.asyncDispose]();
});

const protect = (body: object, hostname = HOST) =>
  product.api('PUT', `/v1/proxies/${hostname}/protection`, body);

test('an allow that lets nobody in is refused, and says what to name', async () => {
  for (const body of [{}, { allow: {} }, { allow: { users: [] } }]) {
    const { status, body: answer } = await protect(body);
    assert.equal(status, 400, JSON.stringify(answer));
  }
  const { body } = await protect({ allow: {} });
  assert.match(body.error.message, /lets nobody in: set everyone to true, or name users/);
  const unknown = await protect({ allow: { users: ['nobody-of-this-name'] } });
  assert.match(unknown.body.error.message, /there is no user "nobody-of-this-name"/);
});

const typed = async (command: string) => {
  const { code, out, err } = await runShell(`${command} --json`, { env: asAdministrator(product) });
  assert.equal(code, 0, err);
  return JSON.parse(out);
};

test('one call protects a website: a visitor signs in and is known to it', async () => {
  const { policy } = await typed(guide.block('bash', '"everyone": true').trimEnd());
  assert.equal(policy.mode, 'auto');
  const protectedBy = await protect({ allow: { everyone: true }, public_paths: ['/assets'] });
  assert.equal(protectedBy.status, 200, JSON.stringify(protectedBy.body));
  const visitor = new Visitor(product);
  assert.equal((await visitor.open(visitor.at(HOST, '/assets/logo.png'))).status, 200);
  const asked = await visitor.open(visitor.at(HOST, '/report?year=2026'));
  assert.equal(asked.url.hostname, 'localhost', asked.body);
  const page = await signInAs(visitor, asked, product);
  assert.equal(page.url.href, visitor.at(HOST, '/report?year=2026'), page.body);
  assert.match(page.body, /<p id="who">root<\/p>/);
  assert.ok(visitor.cookie(HOST, '__Host-ohp'));
  const test_route = await product.api('GET', `/v1/route-test?url=https://${HOST}/report`);
  assert.equal(test_route.body.auth.kind, 'oauth');
  assert.equal(test_route.body.auth.allow.everyone, true);
});

test('the same visitor is known to a second hostname without a password, and signs out of both', async () => {
  const second = 'two.example.com';
  await product.api('POST', '/v1/proxies', { hostname: second, target_url: upstream.url });
  await protect({ allow: { users: ['root'] } }, second);
  const visitor = new Visitor(product);
  await signInAs(visitor, await visitor.open(visitor.at(HOST)), product);
  const other = await visitor.open(visitor.at(second, '/x'));
  assert.equal(other.url.href, visitor.at(second, '/x'), other.body);
  assert.match(other.body, /root/);
  const form = await visitor.open(visitor.at(HOST, '/.ohp/sign-out'));
  const out = await visitor.submit(form, {});
  assert.equal(out.url.hostname, 'localhost');
  assert.equal(visitor.cookie(HOST, '__Host-ohp'), undefined);
});

test('an agent finds out by itself what it needs, and its token goes no further than the gateway', async () => {
  const url = `https://${HOST}:${product.httpsPort}/api`;
  const refused = await product.get(HOST, '/api');
  assert.equal(refused.status, 401);
  const challenge = String(refused.headers['www-authenticate']);
  const metadataUrl = /resource_metadata="([^"]+)"/.exec(challenge)?.[1] ?? '';
  assert.match(challenge, /scope="access"/);
  const metadata = JSON.parse((await product.get(HOST, new URL(metadataUrl).pathname)).body);
  assert.equal(metadata.resource, url);
  assert.deepEqual(metadata.authorization_servers, [`https://localhost:${product.httpsPort}`]);
  const { token, scope } = await accessTo(product, url, { scope: metadata.scopes_supported.join(' ') });
  assert.equal(scope, 'access');
  const seen = upstream.requests.length;
  const open = await product.get(HOST, '/api', { headers: { authorization: `Bearer ${token}` } });
  assert.match(open.body, /root/);
  assert.equal(upstream.requests[seen]?.headers.authorization, undefined);
  const elsewhere = await product.get(HOST, '/other', { headers: { authorization: `Bearer ${token}` } });
  assert.equal(elsewhere.status, 401, 'it is for /api and what is below it');
});

test('the target can check an assertion with the key set', async () => {
  await protect({ allow: { everyone: true }, identity: { kind: 'assertion' } });
  const { token } = await accessTo(product, `https://${HOST}:${product.httpsPort}/`);
  const seen = upstream.requests.length;
  await product.get(HOST, '/', { headers: { authorization: `Bearer ${token}` } });
  const assertion = String(upstream.requests[seen]?.headers['x-auth-assertion']);
  const [head = '', body = '', signature = ''] = assertion.split('.');
  const { kid, typ } = JSON.parse(Buffer.from(head, 'base64url').toString());
  const { keys } = JSON.parse((await product.get('localhost', '/oauth/jwks')).body);
  const key = createPublicKey({ key: keys.find((one: { kid: string }) => one.kid === kid), format: 'jwk' });
  const isGood = verifySignature(
    'sha256',
    Buffer.from(`${head}.${body}`),
    { key, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  );
  assert.ok(isGood);
  assert.equal(typ, 'ohp-assertion+jwt');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  assert.equal(claims.aud, `https://${HOST}:${product.httpsPort}`);
  assert.equal(claims.preferred_username, 'root');
  // It opens nothing here.
  const again = await product.get(HOST, '/', { headers: { authorization: `Bearer ${assertion}` } });
  assert.equal(again.status, 401);
  await protect({ allow: { everyone: true } });
});

test('the exceptions and the identities of the guide, as they are typed', async () => {
  const [open = '', route = ''] = guide.block('bash', '--public-paths').trimEnd().split('\n');
  const exceptions = await typed(open);
  assert.deepEqual(exceptions.policy.allow.groups, ['staff']);
  assert.deepEqual(exceptions.policy.public_paths, ['/assets', '/health']);
  const made = await product.api('POST', '/v1/routes', {
    hostname: HOST,
    path: '/admin',
    target_url: upstream.url,
  });
  const own = await typed(route.replace('rte_…', made.body.id));
  assert.deepEqual([own.route, own.policy.scopes], [made.body.id, ['admin-panel']]);
  const told = await product.get(HOST, '/admin');
  assert.match(String(told.headers['www-authenticate']), /scope="admin-panel"/);
  const identities = [...guide.text.matchAll(/`(?:--identity '|)(\{"kind": [^`']*\})'?`/g)].map(
    ([, one = '']) => one,
  );
  assert.equal(identities.length, 3);
  for (const one of identities) {
    const { policy } = await typed(
      `npx ohp protect proxy ${HOST} --allow '{"everyone": true}' --identity '${one}'`,
    );
    assert.equal(policy.identity.kind, JSON.parse(one).kind);
  }
  assert.equal((await product.api('DELETE', `/v1/routes/${made.body.id}`)).status, 200);
  await protect({ allow: { everyone: true } });
});

test('unprotect_proxy says first what it opens, and then opens it', async () => {
  const hostname = 'three.example.com';
  await product.api('POST', '/v1/proxies', { hostname, target_url: upstream.url });
  await protect({ allow: { everyone: true } }, hostname);
  assert.equal((await product.get(hostname, '/')).status, 401);
  const shown = await product.api('GET', `/v1/proxies/${hostname}/protection`);
  assert.equal(shown.body.policy.mode, 'auto');
  const opened = await product.api('DELETE', `/v1/proxies/${hostname}/protection`);
  assert.equal(opened.status, 200, JSON.stringify(opened.body));
  assert.equal((await product.get(hostname, '/')).status, 200);
});

test('Chromium signs in, keeps the cookie to the one hostname, and is signed out when its grant is revoked', {
  skip: existsSync(CHROMIUM) ? false : `no ${CHROMIUM} on this machine`,
}, async () => {
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', `--host-resolver-rules=MAP ${HOST} 127.0.0.1`],
  });
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(`https://${HOST}:${product.httpsPort}/report#part`);
    await page.fill('input[name=username]', 'root');
    await page.fill('input[name=password]', PASSWORD);
    await page.click('button.first');
    await page.waitForSelector('#who');
    assert.equal(await page.textContent('#who'), 'root');
    assert.equal(new URL(page.url()).pathname, '/report');
    const cookies = await context.cookies(`https://${HOST}:${product.httpsPort}`);
    const session = cookies.find(({ name }) => name === '__Host-ohp');
    assert.deepEqual(
      [session?.domain, session?.httpOnly, session?.secure, session?.sameSite],
      [HOST, true, true, 'Lax'],
    );
    const { grants } = (await product.api('GET', '/v1/grants?client=ohp-sites')).body;
    for (const { id } of grants) await product.api('DELETE', `/v1/grants/${id}`);
    await context.clearCookies({ domain: 'localhost' });
    await page.reload();
    await page.waitForSelector('input[name=password]');
  } finally {
    await browser.close();
  }
});
