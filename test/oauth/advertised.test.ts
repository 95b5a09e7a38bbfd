/** What the specifications demand of the authorization server and its resources, as somebody from outside sees it. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createLocalJWKSet, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import { bundles, expandPermissions } from '../../src/core/permissions.ts';
import { configFile, generous } from '../support/callers.ts';
import { type Client, Person, REDIRECT_URI, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import { signInAs, Visitor } from '../support/visitor.ts';

let product: Product;
let person: Person;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
});
after(() => product[Symbol.asyncDispose]());

const get = async (path: string, headers: Record<string, string> = {}) => {
  const {
    status,
    body,
    headers: fields,
  } = await person.visitor.request(new URL(path, person.issuer), { headers });
  return { status, fields, json: JSON.parse(body) };
};

test('the metadata advertises what clients look for, over HTTPS, and nothing in it is null', async () => {
  const { json } = await get('/.well-known/oauth-authorization-server');
  assert.deepEqual(json.code_challenge_methods_supported, ['S256']);
  assert.equal(json.authorization_response_iss_parameter_supported, true);
  assert.equal(json.client_id_metadata_document_supported, true);
  assert.ok(json.token_endpoint_auth_methods_supported.includes('none'));
  for (const type of ['authorization_code', 'refresh_token', 'client_credentials'])
    assert.ok(json.grant_types_supported.includes(type), type);
  assert.deepEqual(json.response_types_supported, ['code']);
  for (const [name, value] of Object.entries(json)) {
    assert.notEqual(value, null, name);
    if (name.endsWith('_endpoint') || name === 'jwks_uri')
      assert.ok(String(value).startsWith(`${person.issuer}/`), name);
  }
});

test('neither a challenge nor the metadata of a resource names offline_access: both name what everyone begins with', async () => {
  for (const path of ['', '/mcp', '/mcp/']) {
    const { json } = await get(`/.well-known/oauth-protected-resource${path}`);
    assert.deepEqual(json.scopes_supported, ['viewer']);
  }
  const { fields } = await get('/mcp');
  assert.match(String(fields['www-authenticate']), /scope="viewer"/);
});

test('an access token is of the form of RFC 9068, lives an hour at most, and its signature verifies with the published keys', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  const keys = createLocalJWKSet((await get('/oauth/jwks')).json);
  const { payload, protectedHeader } = await jwtVerify(tokens.access_token, keys, {
    issuer: person.issuer,
    audience: person.mcp,
  });
  assert.equal(protectedHeader.typ, 'at+jwt');
  assert.match(String(payload.sub), /^usr_/);
  assert.equal(payload['client_id'], client.client.client_id);
  assert.equal(payload['scope'], 'viewer');
  assert.ok(payload.jti && payload.iat && payload.exp);
  assert.ok(payload.exp - payload.iat <= 3600);
  assert.equal(tokens.expires_in, payload.exp - payload.iat);
});

test('capitals in scheme and host name the same resource', async () => {
  const client = await person.client();
  const resource = person.mcp.replace('https://localhost', 'HTTPS://LocalHost');
  const { access_token } = await client.signIn({ resource });
  const { status } = await get('/v1/me', { authorization: `Bearer ${access_token}` });
  assert.equal(status, 200);
});

test('a scope gives what the scopes below it give: admin operator, operator viewer, and who may write may read', async () => {
  const client = await person.client();
  for (const [scope, wanted] of [
    ['admin', bundles.operator],
    ['operator', bundles.viewer],
    ['routes:write', ['routes:read']],
  ] as const) {
    const { access_token } = await client.signIn({ scope });
    const { json } = await get('/v1/me', { authorization: `Bearer ${access_token}` });
    for (const permission of expandPermissions(wanted))
      assert.ok(json.permissions.includes(permission), `${scope} lacks ${permission}`);
  }
});

test('consent says where the answer goes, and warns where that is the machine of the person, or an app on it', async () => {
  const client = await person.client({
    redirect_uris: [
      REDIRECT_URI,
      'http://127.0.0.1:8787/callback',
      'cursor://anysphere.cursor-mcp/oauth/callback',
    ],
  });
  const told = async (redirect_uri: string) => {
    const visitor = new Visitor(product, redirect_uri);
    const start = new URL(client.as.authorization_endpoint ?? '');
    start.search = new URLSearchParams({
      client_id: client.client.client_id,
      redirect_uri,
      response_type: 'code',
      resource: person.mcp,
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    }).toString();
    return (await signInAs(visitor, await visitor.open(start), product)).body;
  };
  const web = await told(REDIRECT_URI);
  assert.match(web, /<strong>client\.example\.net<\/strong>/);
  assert.doesNotMatch(web, /on your own computer/);
  const local = await told('http://127.0.0.1:8787/callback');
  assert.match(local, /<strong>127\.0\.0\.1:8787<\/strong>/);
  assert.match(local, /on your own computer/);
  const app = await told('cursor://anysphere.cursor-mcp/oauth/callback');
  assert.match(app, /<strong>an app that opens cursor: links<\/strong>/);
  assert.match(app, /on your own computer/);
});

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

test('no token and no secret of a client stands readable in what is stored', async () => {
  const client = await person.client({ token_endpoint_auth_method: 'client_secret_post' });
  const other = await person.client();
  const { access_token, refresh_token = '' } = await other.signIn();
  const secret = textOf(client.client['client_secret']);
  const management = textOf(other.client['registration_access_token']);
  assert.ok(secret.length > 20 && management.length > 20);
  const stored = globSync(join(product.dataDir, '**/*.sqlite*')).map((file) => readFileSync(file, 'latin1'));
  assert.ok(stored.length > 0);
  for (const credential of [access_token, refresh_token, secret, management])
    for (const text of stored) assert.ok(!text.includes(credential));
});

test('a client proves itself by a key of its own (private_key_jwt), and by no other', async () => {
  const keys = await oauth.generateKeyPair('ES256', { extractable: true });
  const stranger = await oauth.generateKeyPair('ES256');
  const jwk = {
    ...(await crypto.subtle.exportKey('jwk', keys.publicKey)),
    kid: 'one',
    use: 'sig',
    alg: 'ES256',
  };
  const client = await person.client({
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [jwk] },
  });
  const redeem = async (key: oauth.CryptoKey) => {
    const { as, client: made } = client;
    const { parameters, verifier } = await client.authorize();
    const auth = oauth.PrivateKeyJwt({ key, kid: 'one' });
    return oauth.authorizationCodeGrantRequest(
      as,
      made,
      auth,
      parameters,
      REDIRECT_URI,
      verifier,
      person.options,
    );
  };
  assert.equal((await redeem(stranger.privateKey)).status, 401);
  assert.equal((await redeem(keys.privateKey)).status, 200);
});

test('a pushed request is good for one sign-in, of the client that pushed it', async () => {
  const [client, other] = [await person.client(), await person.client()];
  const { as } = client;
  const form = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    state: 'state',
    resource: person.mcp,
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  });
  const response = await oauth.pushedAuthorizationRequest(
    as,
    client.client,
    oauth.None(),
    form,
    person.options,
  );
  const { request_uri, expires_in } = await oauth.processPushedAuthorizationResponse(
    as,
    client.client,
    response,
  );
  assert.ok(expires_in <= 600);
  const open = ({ client: { client_id } }: Client) => {
    const start = new URL(as.authorization_endpoint ?? '');
    start.search = new URLSearchParams({ client_id, request_uri }).toString();
    return person.visitor.open(start);
  };
  assert.equal((await open(other)).url.origin, person.issuer, 'nobody else');
  const answered = await person.agree(await open(client));
  assert.ok(answered.url.searchParams.get('code'));
  const again = await open(client);
  assert.equal(again.url.searchParams.get('code'), null, 'not twice');
});
