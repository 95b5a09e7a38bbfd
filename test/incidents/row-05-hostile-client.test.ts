/**
 * What a client says of itself was written by a stranger: names that are markup or terminal commands, links that are
 * programs (mcp-remote CVE-2025-6514). Nothing of it runs, on the consent page or in a result.
 */
import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { type Product, startProduct } from '../support/product.ts';
import { navigation, signInAs, Visitor } from '../support/visitor.ts';

let product: Product;
let visitor: Visitor;
before(async () => {
  product = await startProduct();
  visitor = new Visitor(product);
});
after(() => product[Symbol.asyncDispose]());

const REDIRECT_URI = 'https://client.example.net/callback';
const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202egnp.exe\u001b[31m`;

async function register(metadata: Record<string, unknown>) {
  const { status, body } = await visitor.request(new URL(visitor.at('localhost', '/oauth/register')), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ redirect_uris: [REDIRECT_URI], ...metadata }),
  });
  return { status, client: JSON.parse(body) as Record<string, string> };
}

const authorizeUrl = (clientId: string, redirectUri = REDIRECT_URI): string =>
  `${visitor.at('localhost', '/oauth/authorize')}?${new URLSearchParams({
    client_id: clientId,
    redirect_uri: redirectUri,
    response_type: 'code',
    scope: 'viewer',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  }).toString()}`;

async function pageFor(clientId: string) {
  const page = await visitor.open(authorizeUrl(clientId));
  return /name="(?:token|password)"/.test(page.body)
    ? await signInAs(visitor, page, { adminToken: product.adminToken })
    : page;
}

test('incident 05: a name of markup and control characters is text on every page and in every result', async () => {
  const { status, client } = await register({ client_name: HOSTILE });
  assert.equal(status, 201);
  const signIn = await visitor.open(authorizeUrl(client['client_id'] ?? ''));
  const consent = await pageFor(client['client_id'] ?? '');
  assert.match(consent.body, /Allow “&lt;script&gt;/);
  await visitor.submit(consent, { decision: 'allow' }).catch(() => undefined);
  const account = await visitor.open(visitor.at('localhost', '/oauth/account'));
  assert.match(account.body, /&lt;script&gt;/);
  for (const { body, headers } of [signIn, consent, account]) {
    // oxlint-disable-next-line no-control-regex -- the very characters that must not be there
    assert.doesNotMatch(body, /<script>|<img|\u202e|\u001b/);
    assert.match(String(headers['content-security-policy']), /default-src 'none'/);
    assert.doesNotMatch(String(headers['content-security-policy']), /unsafe-inline|unsafe-eval/);
  }
  const clients = JSON.stringify((await product.api('GET', '/v1/clients')).body);
  const grants = JSON.stringify((await product.api('GET', '/v1/grants')).body);
  for (const text of [clients, grants]) assert.doesNotMatch(text, /\u202e|\\u001b/);
});

test('incident 05: links of a client are never shown, and ones that are programs are refused', async () => {
  const links = ['logo_uri', 'client_uri', 'tos_uri', 'policy_uri'];
  for (const name of links)
    for (const uri of [
      'javascript:alert(1)',
      'file:///etc/passwd',
      'data:text/html,<script>alert(1)</script>',
      'vbscript:x',
      'ms-msdt:/id',
    ]) {
      const { status } = await register({ [name]: uri });
      assert.equal(status, 400, `${name}: ${uri}`);
    }
  const shown = Object.fromEntries(links.map((name) => [name, `https://tracker.example.net/${name}`]));
  const { client } = await register({ client_name: 'With links', ...shown });
  const { body } = await pageFor(client['client_id'] ?? '');
  assert.match(body, /With links/);
  assert.doesNotMatch(body, /tracker\.example\.net/);
});

test('incident 05: a redirect URI that is a program is refused at registration and at the request', async () => {
  for (const uri of [
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'data:text/html,x',
    'file:///tmp/x',
    'vbscript:x',
    'http://client.example.net/plain',
  ])
    assert.equal((await register({ redirect_uris: [uri] })).status, 400, uri);
  const { client } = await register({});
  for (const uri of ['javascript:alert(1)', `${REDIRECT_URI}/../evil`, 'https://evil.example.net/callback']) {
    const url = new URL(authorizeUrl(client['client_id'] ?? '', uri));
    const { status, headers } = await visitor.request(url, { headers: navigation });
    assert.equal(status, 400, uri);
    assert.equal(headers['location'], undefined, uri);
  }
});

test('incident 05: metadata of this server names no address but its own, whatever Host a request has', async () => {
  for (const path of ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration']) {
    const { body } = await visitor.request(new URL(visitor.at('localhost', path)), {
      headers: { 'x-forwarded-host': 'evil.example.net', forwarded: 'host=evil.example.net' },
    });
    const urls = Object.entries(JSON.parse(body) as Record<string, unknown>).filter(([, value]) =>
      /^[a-z]+:\//.test(String(value)),
    );
    assert.ok(urls.length > 5);
    for (const [name, value] of urls)
      assert.ok(
        String(value).startsWith(`https://localhost:${product.httpsPort}`),
        `${name}: ${String(value)}`,
      );
  }
});
