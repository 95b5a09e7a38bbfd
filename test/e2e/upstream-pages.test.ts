/** Sign-in by a provider elsewhere in a real browser: glewlwyd, and the stand-in for GitHub; every page of ours sound. */
import assert from 'node:assert/strict';
import { after, before, test as nodeTest } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { configFile, generous } from '../support/callers.ts';
import { openChromium, openPage, requireSound, withoutChromium } from '../support/chromium.ts';
import { PATIENCE_MS } from '../support/eventually.ts';
import { ADA, type Glewlwyd, startGlewlwyd, withoutGlewlwyd } from '../support/glewlwyd.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';
import { CLIENT_ID, CLIENT_SECRET, type Provider, startGitHub } from '../support/providers.ts';

const PASSWORD = 'correct horse battery';
const isSkipped = withoutChromium || withoutGlewlwyd;

let [browser, glewlwyd, github, product]: [Browser, Glewlwyd, Provider, Product] = [
  undefined as never,
  undefined as never,
  undefined as never,
  undefined as never,
];
let issuer: string;

const test = (title: string, run: () => Promise<void>) => void nodeTest(title, { skip: isSkipped }, run);

before(async () => {
  if (isSkipped) return;
  const port = await freePort();
  issuer = `http://localhost:${port}`;
  glewlwyd = await startGlewlwyd(`${issuer}/oauth/upstream/glewlwyd/callback`);
  github = await startGitHub();
  browser = await openChromium();
  const client = { client_id: CLIENT_ID, client_secret: CLIENT_SECRET };
  const upstreams = [
    {
      name: 'glewlwyd',
      title: 'Glewlwyd',
      kind: 'oidc',
      issuer: glewlwyd.issuer,
      ...client,
      scopes: ['openid'],
      allow: { domains: ['example.com'] },
      create_users: true,
    },
    { name: 'github', title: 'GitHub', kind: 'github', issuer: github.issuer, ...client },
  ];
  const env = { OHP_HTTP_PORT: String(port), OHP_CONFIG: configFile({ ...generous, oauth: { upstreams } }) };
  product = await startProduct({ env });
});
after(async () => {
  await browser?.close();
  for (const one of [product, glewlwyd, github]) await one?.[Symbol.asyncDispose]();
});

/**
 * glewlwyd's own page is made by scripts that Debian has in other packages, so the person signs in there and agrees by its
 * API, in the same browser, and goes on where that page would send them.
 */
async function signInThere(page: Page): Promise<void> {
  const { origin } = new URL(glewlwyd.issuer);
  await page.waitForURL((url) => url.origin === origin);
  const { request } = page.context();
  const { username, password } = ADA;
  const signedIn = await request.post(`${origin}/api/auth/`, { data: { username, password } });
  const granted = await request.put(`${origin}/api/auth/grant/${CLIENT_ID}`, { data: { scope: 'openid' } });
  assert.deepEqual([signedIn.status(), granted.status()], [200, 200]);
  const onward = new URL(page.url()).searchParams.get('callback_url') ?? '';
  await page.goto(`${onward}&g_continue`);
}

test('the administrator makes the first account; a stranger whom the provider vouches for gets one, and it is theirs again', async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE_MS);
  const { page } = await openPage(context);
  await page.goto(`${issuer}/oauth/account`);
  assert.equal(await page.isVisible('text=Go on with'), false);
  await page.fill('#token', product.adminToken);
  await page.click('button.first');
  await page.fill('#username', 'root');
  await page.fill('#password', PASSWORD);
  await page.click('button.first');
  await page.waitForSelector('text=You are signed in as root');
  await requireSound(page, 'the account, nothing linked');
  await page.click('text=Link GitHub');
  await page.waitForSelector('text=as octocat');
  await requireSound(page, 'the account, one linked');
  await context.close();

  for (const round of ['first', 'second']) {
    const stranger = await browser.newContext();
    stranger.setDefaultTimeout(PATIENCE_MS);
    const { page: theirs, said } = await openPage(stranger);
    await theirs.goto(`${issuer}/oauth/account`);
    await requireSound(theirs, 'sign-in with two providers');
    await theirs.click('text=Go on with Glewlwyd');
    await signInThere(theirs);
    await theirs.waitForSelector('text=You are signed in as');
    assert.match(await theirs.innerText('main'), /signed in as \S+@glewlwyd\./, round);
    assert.deepEqual(
      said.filter((line) => line.includes(issuer)),
      [],
    );
    await stranger.close();
  }
  const users = (await product.api('GET', '/v1/users')).body.users as Record<string, unknown>[];
  assert.equal(users.length, 2);
  const made = users.find(({ username }) => username !== 'root');
  assert.deepEqual(
    [made?.['name'], made?.['email'], made?.['email_verified'], made?.['role'], made?.['sign_in']],
    [ADA.name, ADA.email, true, 'viewer', ['glewlwyd']],
  );
});

test('the page on the way there is sound, and so is a refusal', async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE_MS);
  const { page } = await openPage(context);
  await page.goto(`${issuer}/oauth/account`);
  const form = { csrf: await page.locator('input[name=csrf]').first().inputValue(), provider: 'github' };
  const sent = await context.request.post(`${page.url()}/upstream`, { form, headers: { origin: issuer } });
  const onTheWay = await sent.text();
  assert.match(onTheWay, /<meta http-equiv="refresh" content="0; url=http:/);
  github.someone = { subject: '99', label: 'stranger' };
  await page.click('text=Go on with GitHub');
  await page.waitForSelector('[role=alert]');
  assert.match(await page.innerText('[role=alert]'), /No account here that is let in is linked/);
  await requireSound(page, 'a refusal');
  await page.setContent(onTheWay.replace(/<meta http-equiv="refresh"[^>]*>/, ''));
  await requireSound(page, 'the page on the way');
  await context.close();
});

test('it all works without script', async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  context.setDefaultTimeout(PATIENCE_MS);
  const { page } = await openPage(context);
  github.someone = { subject: '583231', label: 'octocat' };
  await page.goto(`${issuer}/oauth/account`);
  await page.click('text=Go on with GitHub');
  await page.waitForSelector('text=You are signed in as root');
  await context.close();
});
