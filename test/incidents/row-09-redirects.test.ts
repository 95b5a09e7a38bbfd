/**
 * Where answers go, and who a client is: exact redirects, no open redirect on a fault, the registered way to
 * authenticate (better-auth GHSA-86j7, CVE-2025-4143, CVE-2026-41427).
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as oauth from 'oauth4webapi';
import { configFile, generous } from '../support/callers.ts';
import { Person, REDIRECT_URI } from '../support/oauth.ts';
import { type Product, startProduct } from '../support/product.ts';

let product: Product;
let person: Person;

before(async () => {
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
});
after(() => product[Symbol.asyncDispose]());

/** The first answer to an authorization request. */
async function first(parameters: Record<string, string>) {
  const as = await person.discover();
  const url = new URL(as.authorization_endpoint ?? '');
  url.search = new URLSearchParams({ response_type: 'code', state: 's', ...parameters }).toString();
  return person.visitor.request(url, {});
}

const spellings = [
  'https://client.example.net/callback/',
  'https://client.example.net/callback?x=1',
  'https://client.example.net/callback#x',
  'https://client.example.net/Callback',
  'https://CLIENT.example.net/callback',
  'https://client.example.net:443/callback',
  'https://client.example.net/a/../callback',
  'https://client.example.net/%63allback',
  'https://client.example.net@evil.example/callback',
  'https://client.example.net.evil.example/callback',
  'http://client.example.net/callback',
  '//client.example.net/callback',
  'javascript:alert(1)//https://client.example.net/callback',
  'https://evil.example/callback',
  '',
];

test('incident 9: a redirect URI in another spelling, or of somebody else, is no way out', async () => {
  const { client } = await person.client();
  for (const redirect_uri of spellings) {
    const { status, headers } = await first({ client_id: client.client_id, redirect_uri });
    assert.equal(status, 400, redirect_uri);
    assert.equal(headers['location'], undefined, redirect_uri);
  }
});

test('incident 9: a fault of an unknown client is shown here, and sends nobody anywhere', async () => {
  for (const client_id of ['unknown', '', 'https://127.0.0.1/client.json', 'https://169.254.169.254/']) {
    const { status, headers } = await first({ client_id, redirect_uri: REDIRECT_URI });
    assert.ok(status >= 400 && status < 500, `${client_id}: ${status}`);
    assert.equal(headers['location'], undefined, client_id);
  }
});

test('incident 9: a client with a secret is nobody without it', async () => {
  const { as, client } = await person.client({ token_endpoint_auth_method: 'client_secret_basic' });
  const ask = async (auth: oauth.ClientAuth) =>
    (await oauth.refreshTokenGrantRequest(as, client, auth, 'guess', person.options)).status;
  assert.equal(await ask(oauth.None()), 401);
  assert.equal(await ask(oauth.ClientSecretBasic('guess')), 401);
  assert.equal(await ask(oauth.ClientSecretPost('guess')), 401);
});

test('incident 9: registering gives a client no scope, no grant and no right', async () => {
  const { as, client } = await person.client({
    token_endpoint_auth_method: 'client_secret_basic',
    scope: 'admin system:write',
  });
  const secret = client['client_secret'];
  assert.ok(typeof secret === 'string');
  const parameters = { scope: 'admin', resource: person.mcp };
  const auth = oauth.ClientSecretBasic(secret);
  const response = await oauth.clientCredentialsGrantRequest(as, client, auth, parameters, person.options);
  assert.equal(response.status, 400);
  const { body } = await product.api('GET', `/v1/grants?client=${client.client_id}`);
  assert.deepEqual(body.grants, []);
});
