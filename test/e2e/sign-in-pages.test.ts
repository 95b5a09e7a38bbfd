/** Every page of the authorization server, in a real browser: first account, consent, passkeys, invitation, device, faults. */
import assert from 'node:assert/strict';
import { after, before, test as nodeTest } from 'node:test';
import type { Browser } from 'playwright-core';
import {
  addAuthenticator,
  openChromium,
  openPage,
  requireSound,
  withoutChromium,
} from '../support/chromium.ts';
import { type Product, startProduct } from '../support/product.ts';

const REDIRECT_URI = 'http://127.0.0.1:9/callback';
const PASSWORD = 'correct horse battery';

/** Of the page, its style and its script, as they come uncompressed. */
const MAX_PAGE_BYTES = 30_000;
let product: Product;
let browser: Browser;
let issuer: string;

const test = (title: string, run: () => Promise<void>) =>
  void nodeTest(title, { skip: withoutChromium }, run);

before(async () => {
  if (withoutChromium !== false) return;
  product = await startProduct();
  browser = await openChromium();
  issuer = `http://localhost:${product.httpPort}`;
});
after(async () => {
  await browser?.close();
  await product?.[Symbol.asyncDispose]();
});

async function register(metadata: Record<string, unknown> = {}): Promise<string> {
  const response = await fetch(`${issuer}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_name: 'Claude', redirect_uris: [REDIRECT_URI], ...metadata }),
  });
  return ((await response.json()) as { client_id: string }).client_id;
}

const usersNow = async (): Promise<{ username: string; sign_in: string[] }[]> =>
  (await product.api('GET', '/v1/users')).body.users;

const authorizeUrl = (clientId: string, scope = 'viewer admin'): string =>
  `${issuer}/oauth/authorize?${new URLSearchParams({
    client_id: clientId,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    scope,
    state: 's',
    resource: `${issuer}/mcp`,
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  }).toString()}`;

async function openContext() {
  const context = await browser.newContext();
  const { page, said } = await openPage(context);
  return { context, page, said, device: await addAuthenticator(context, page) };
}

test('first account, consent, a passkey, sign-out, sign-in by it: every page sound, and quiet in the console', async () => {
  const { context, page, said, device } = await openContext();
  const clientId = await register();
  await page.goto(authorizeUrl(clientId));
  await requireSound(page, 'the question for the token');
  await page.fill('#token', 'not the token of this system, by far');
  await page.click('button.first');
  await page.waitForSelector('[role=alert]');
  await page.fill('#token', product.adminToken);
  await page.click('button.first');
  await page.waitForSelector('#username');
  await requireSound(page, 'the first account');
  await page.fill('#username', 'ada');
  await page.fill('#password', PASSWORD);
  await page.click('button.first');
  await page.waitForSelector('text=to act for you');
  await requireSound(page, 'consent');
  assert.match(await page.innerText('dl'), /127\.0\.0\.1:9/);
  await page.click('text=your account');
  await page.waitForSelector('text=How you sign in');
  await requireSound(page, 'the account');

  await page.fill('#name', 'my <phone>');
  await page.click('text=Add a passkey');
  await page.waitForSelector('.said');
  await requireSound(page, 'the account with a passkey');
  assert.equal((await device.credentials()).length, 1);
  assert.match(await page.innerText('.rows'), /my <phone>/);

  await page.click('text=Sign out here');
  await requireSound(page, 'sign-out');
  await page.click('button.first');
  await page.waitForSelector('h1:has-text("Signed out")');
  await requireSound(page, 'signed out');

  await page.goto(authorizeUrl(clientId));
  await requireSound(page, 'sign-in');
  await page.click('text=Sign in with a passkey');
  await page.waitForSelector('text=to act for you');
  const [back] = await Promise.all([
    page.waitForRequest((request) => request.url().startsWith(REDIRECT_URI)),
    page.click('button.first'),
  ]);
  assert.match(back.url(), /[?&]code=/);
  // Of the wrong token, and of where nobody listens.
  assert.deepEqual(
    said.filter((text) => !/401 \(Unauthorized\)|ERR_(?:UNSAFE_PORT|CONNECTION)/.test(text)),
    [],
  );
  await context.close();
});

test('the sign-in page weighs at most 30 KB, with everything that it loads', async () => {
  const page = await browser.newPage();
  const bodies: Promise<Buffer>[] = [];
  page.on('response', (response) => {
    if (response.ok()) bodies.push(response.body());
  });
  await page.goto(authorizeUrl(await register()), { waitUntil: 'load' });
  await page.waitForSelector('#password');
  const sizes = (await Promise.all(bodies.splice(0))).map(({ length }) => length);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total > 0 && total <= MAX_PAGE_BYTES, JSON.stringify(sizes));
});

test('a passkey that was not verified by its owner, was copied, or was removed, signs nobody in', async () => {
  const { context, page, device } = await openContext();
  const { body: bob } = await product.api('POST', '/v1/users', { username: 'bob', role: 'viewer' });
  await page.goto(bob.invite_url);
  await requireSound(page, 'the invitation');
  await page.click('text=Use a passkey of this device');
  await page.waitForSelector('text=You are signed in as bob');
  await page.goto(bob.invite_url);
  await page.waitForSelector('[role=alert]');
  await requireSound(page, 'an invitation that was used');
  const [credential] = await device.credentials();
  assert.ok(credential?.isResidentCredential);

  const signIn = async () => {
    await context.clearCookies();
    await page.goto(`${issuer}/oauth/account`);
    await page.click('text=Sign in with a passkey');
    await page.waitForSelector('[role=alert], [role=status]:not(:empty), h1:has-text("Your account")');
    return page.innerText('main');
  };
  assert.match(await signIn(), /signed in as bob/);
  const [used] = await device.credentials();
  await device.remove(used!.credentialId);
  await device.add({ ...used!, signCount: 0 });
  assert.match(await signIn(), /not known here, or was not accepted/, 'a counter that went back');
  await device.remove(used!.credentialId);
  await device.add({ ...used!, signCount: used!.signCount + 10 });
  assert.match(await signIn(), /signed in as bob/);
  await device.setVerified(false);
  assert.match(await signIn(), /No passkey was used/);
  await device.setVerified(true);
  await product.api('PATCH', `/v1/users/${bob.id}`, { disabled: true });
  assert.match(await signIn(), /not known here, or was not accepted/, 'a disabled user');
  await product.api('PATCH', `/v1/users/${bob.id}`, { disabled: false });
  assert.match(await signIn(), /signed in as bob/);
  await page.click('button:has-text("Remove")');
  await page.waitForSelector('text=your only way to sign in');
  await page.fill('#password', PASSWORD);
  await page.click('button:has-text("Set a password")');
  await page.waitForSelector('.said');
  await page.click('button:has-text("Remove")');
  await page.waitForSelector('text=The passkey is gone');
  assert.deepEqual((await usersNow()).find(({ username }) => username === 'bob')?.sign_in, ['password']);
  await context.close();
});

test('a challenge is for one page of one browser, once', async () => {
  const { context, page } = await openContext();
  const { body: eve } = await product.api('POST', '/v1/users', { username: 'eve' });
  await page.goto(eve.invite_url);
  await page.click('text=Use a passkey of this device');
  await page.waitForSelector('text=You are signed in as eve');
  await context.clearCookies();
  await page.goto(`${issuer}/oauth/account`);
  // The answer of the device, kept by whoever sits in the page.
  await page.evaluate(
    `HTMLFormElement.prototype.submit = function () { window.kept = new URLSearchParams(new FormData(this)).toString(); }`,
  );
  await page.click('text=Sign in with a passkey');
  await page.waitForFunction('window.kept');
  const kept = new URLSearchParams(String(await page.evaluate('window.kept')));
  const uid = new URL(page.url()).pathname.split('/').at(-1);
  const send = (form: URLSearchParams, to = uid) =>
    context.request.post(`${issuer}/oauth/interaction/${to}/passkey`, {
      headers: { 'content-type': 'application/x-www-form-urlencoded', origin: issuer },
      data: form.toString(),
      maxRedirects: 0,
    });
  const other = await browser.newContext();
  const { page: elsewhere } = await openPage(other);
  await elsewhere.goto(`${issuer}/oauth/account`);
  const theirs = new URLSearchParams(kept);
  theirs.set('csrf', await elsewhere.inputValue('input[name=csrf]'));
  const stolen = await other.request.post(`${elsewhere.url()}/passkey`, {
    headers: { 'content-type': 'application/x-www-form-urlencoded', origin: issuer },
    data: theirs.toString(),
    maxRedirects: 0,
  });
  assert.equal(stolen.status(), 401, 'in another browser');
  assert.equal((await send(kept)).status(), 303);
  await page.goto(`${issuer}/oauth/account/confirm`);
  const again = new URLSearchParams(kept);
  again.set('csrf', await page.inputValue('input[name=csrf]'));
  assert.equal(
    (await send(again, new URL(page.url()).pathname.split('/').at(-1))).status(),
    401,
    'once more',
  );
  await Promise.all([context.close(), other.close()]);
});

test('a device is connected by its code, after the person has compared it and agreed', async () => {
  const { context, page } = await openContext();
  const clientId = await register({
    client_name: 'A television',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  });
  const response = await fetch(`${issuer}/oauth/device/authorization`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ client_id: clientId, scope: 'viewer', resource: `${issuer}/mcp` }),
  });
  const device = (await response.json()) as Record<string, string>;
  await page.goto(device['verification_uri'] ?? '');
  await requireSound(page, 'the question for the code');
  await page.fill('#user_code', 'AAAA-AAAA');
  await page.click('button.first');
  await page.waitForSelector('[role=alert]');
  await requireSound(page, 'a code that is not known');
  await page.fill('#user_code', (device['user_code'] ?? '').toLowerCase());
  await page.click('button.first');
  await page.waitForSelector('text=Is this your device?');
  await requireSound(page, 'the comparison of the code');
  assert.match(await page.innerText('main'), new RegExp(`A television[\\s\\S]*${device['user_code']}`));
  await page.click('button.first');
  await page.waitForSelector('#password');
  await page.fill('#username', 'ada');
  await page.fill('#password', PASSWORD);
  await page.click('button.first');
  await page.waitForSelector('text=to act for you');
  await requireSound(page, 'consent for a device');
  assert.match(
    await page.innerText('main'),
    /the device that showed the code[\s\S]*Whoever holds the device/,
  );
  await page.click('button.first');
  await page.waitForSelector('h1:has-text("Connected")');
  await requireSound(page, 'the end of the device flow');
  const token = await fetch(`${issuer}/oauth/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      client_id: clientId,
      device_code: device['device_code'] ?? '',
    }),
  });
  const told = (await token.json()) as Record<string, string>;
  assert.equal(token.status, 200, JSON.stringify(told));
  assert.equal(told['scope'], 'viewer');
  await context.close();
});

test('a fault is told on a page of ours, and every page forbids scripts, frames and referrers', async () => {
  const { context, page } = await openContext();
  const response = await page.goto(`${issuer}/oauth/authorize?client_id=nobody`);
  await requireSound(page, 'a fault');
  assert.equal(response?.status(), 400);
  for (const path of [
    '/oauth/authorize?client_id=nobody',
    '/oauth/device',
    '/oauth/invite?code=x',
    '/oauth/account',
  ]) {
    const headers = (await page.goto(`${issuer}${path}`))?.headers() ?? {};
    const policy = headers['content-security-policy'] ?? '';
    assert.match(policy, /^default-src 'none'; style-src 'sha256-[^']+';/, path);
    assert.match(policy, /base-uri 'none'; frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe|\*/, path);
    assert.equal(headers['x-frame-options'], 'DENY', path);
    assert.equal(headers['referrer-policy'], 'no-referrer', path);
    assert.equal(headers['cache-control'], 'no-store', path);
    assert.equal(await page.locator('script:not([src])').count(), 0, path);
  }
  await context.close();
});

test('everything but passkeys works without script', async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${issuer}/oauth/account`);
  assert.equal(await page.isVisible('text=Sign in with a passkey'), false);
  await page.fill('#username', 'ada');
  await page.fill('#password', PASSWORD);
  await page.click('button.first');
  await page.waitForSelector('text=You are signed in as ada');
  assert.equal(await page.isVisible('text=Add a passkey'), false);
  await page.click('text=Take back');
  await page.waitForSelector('text=It has lost access');
  await context.close();
});
