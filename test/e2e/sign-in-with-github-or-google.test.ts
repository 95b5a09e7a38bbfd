/** The guide docs/guides/sign-in-with-github-or-google.md, as it stands there. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { configFile, generous } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import {
  CLIENT_ID,
  CLIENT_SECRET,
  type OidcProvider,
  type Provider,
  startGitHub,
  startOidcProvider,
} from '../support/providers.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { type Page, signInAs, Visitor } from '../support/visitor.ts';

const HOST = 'app.example.com';
const guide = readFileSync(
  join(import.meta.dirname, '../../docs/guides/sign-in-with-github-or-google.md'),
  'utf8',
);
const [, written = ''] = /```yaml\n([\s\S]*?)```/.exec(guide) ?? [];

let [google, github]: [OidcProvider, Provider] = [undefined as never, undefined as never];
let product: Product;
let site: Upstream;
let folder: string;

/** As it is written, but for where the providers are. */
const settings = () => {
  const { oauth } = parse(written) as { oauth: { upstreams: Record<string, unknown>[] } };
  const upstreams = oauth.upstreams.map((entry) => ({
    ...entry,
    issuer: entry['name'] === 'google' ? google.issuer : github.issuer,
    client_id: CLIENT_ID,
    client_secret_file: join(folder, String(entry['client_secret_file'])),
  }));
  return { ...generous, oauth: { upstreams } };
};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ohp-secrets-'));
  for (const name of ['google', 'github'])
    writeFileSync(join(folder, `${name}.secret`), `${CLIENT_SECRET}\n`);
  [google, github] = await Promise.all([startOidcProvider(), startGitHub()]);
  site = await startUpstream(({ headers }, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(
      `<p id="who">${String(headers['x-auth-user'])} ${String(headers['x-auth-email'])} ${String(headers['x-auth-groups'])}</p>`,
    );
  });
  product = await startProduct({ env: { OHP_CONFIG: configFile(settings()) } });
  await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: site.url });
  const root = new Visitor(product);
  await signInAs(root, await root.open(root.at('localhost', '/oauth/account')), product);
});
after(async () => {
  for (const one of [product, google, github, site]) await one?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const protect = async (allow: object) => {
  const { status, body } = await product.api('PUT', `/v1/proxies/${HOST}/protection`, { allow });
  assert.equal(status, 200, JSON.stringify(body));
};

let browsers = 1;
const someBrowser = () => new Visitor(product, undefined, `127.0.0.${++browsers}`);

/** Somebody opens the website and presses the button of a provider. */
async function visit(provider: string, visitor = someBrowser()): Promise<Page> {
  const asked = await visitor.open(visitor.at(HOST, '/report?year=2026'));
  return visitor.submit(asked, { provider });
}

test('the settings are taken as they are written, and their secrets come from files', async () => {
  const read = (path: string) => (path.endsWith('.secret') ? `${CLIENT_SECRET}\n` : written);
  const { oauth } = await loadConfig({ OHP_CONFIG: 'config.yaml' }, read);
  assert.deepEqual(
    oauth.upstreams.map(({ name, client_secret, role, create_users }) => [
      name,
      client_secret,
      role,
      create_users,
    ]),
    [
      ['google', CLIENT_SECRET, 'viewer', true],
      ['github', CLIENT_SECRET, 'viewer', false],
    ],
  );
});

test('the sign-in page has a button for each, and the callback URL is the one to register', async () => {
  const visitor = someBrowser();
  const page = await visitor.open(visitor.at('localhost', '/oauth/account'));
  assert.match(page.body, /Go on with Google[\s\S]*Go on with GitHub/);
  await visitor.submit(page, { provider: 'google' });
  const asked = google.requests.findLast(({ url }) => url.pathname === '/authorize');
  const { pathname } = new URL(/^https:\S+$/m.exec(guide)?.[0] ?? '');
  assert.equal(asked?.url.searchParams.get('redirect_uri'), visitor.at('localhost', pathname));
});

test('a protected website lets in a verified address of the domain, and tells it who comes', async () => {
  await protect({ domains: ['example.com'] });
  google.someone = { subject: '1001', label: 'ada', email: 'ada@example.com', isEmailVerified: true };
  const page = await visit('google');
  assert.equal(page.status, 200, page.body);
  assert.equal(page.url.search, '?year=2026');
  assert.match(page.body, /<p id="who">ada@google ada@example\.com/);
});

test('an address of the domain that the provider has not verified is refused, also of who has an account', async () => {
  await protect({ domains: ['example.com'], emails: ['ada@example.com'] });
  google.someone = { subject: '1001', label: 'ada', email: 'ada@example.com', isEmailVerified: false };
  const refused = await visit('google');
  assert.equal(refused.status, 403);
  assert.match(refused.body, /has not verified an address/);
  // By GitHub they come in here, but not to the website: the address is what GitHub says of it.
  const visitor = someBrowser();
  google.someone = { ...google.someone, isEmailVerified: true };
  await visit('google', visitor);
  github.someone = {
    subject: '42',
    label: 'ada',
    email: 'ada@example.com',
    isEmailVerified: false,
    groups: ['my-organization'],
  };
  const account = await visitor.open(visitor.at('localhost', '/oauth/account'));
  await visitor.submit(account, { provider: 'github' });
  assert.equal((await visitor.open(visitor.at(HOST))).status, 403, 'at once, where they are signed in');
  assert.equal((await visit('github')).status, 403);
  github.someone.isEmailVerified = true;
  assert.equal((await visit('github')).status, 200);
});

test('a group of the provider opens what names it, and closes when it is gone at the next sign-in', async () => {
  await protect({ groups: ['github:my-organization/admins'] });
  github.someone = { subject: '42', label: 'ada', groups: ['my-organization', 'my-organization/admins'] };
  const visitor = someBrowser();
  const page = await visit('github', visitor);
  assert.match(page.body, /github:my-organization,github:my-organization\/admins/);
  github.someone.groups = ['my-organization'];
  assert.equal((await visit('github')).status, 403);
  assert.equal((await visitor.open(visitor.at(HOST))).status, 403, 'in the other browser too');
});

test('a group of the same name elsewhere is not the one here', async () => {
  await protect({ groups: ['staff'] });
  github.someone = { subject: '42', label: 'ada', groups: ['my-organization', 'staff'] };
  assert.equal((await visit('github')).status, 403);
});

test('who left the organization does not come in at all', async () => {
  await protect({ everyone: true });
  github.someone = { subject: '42', label: 'ada', groups: [] };
  const page = await visit('github');
  assert.equal(page.status, 403);
  assert.match(page.body, /not one that may come in here/);
});

test('an address that changed at the provider is the one that counts', async () => {
  await protect({ emails: ['ada@example.com'] });
  google.someone = { subject: '1001', label: 'ada', email: 'ada@example.com', isEmailVerified: true };
  assert.equal((await visit('google')).status, 200);
  google.someone.email = 'lovelace@example.com';
  assert.equal((await visit('google')).status, 403);
  await protect({ emails: ['lovelace@example.com'] });
  assert.equal((await visit('google')).status, 200);
});
