/**
 * PKCE and codes: no way around the challenge, one token for one code, and what a replay costs (Pomerium ENG-3976,
 * better-auth GHSA-7w99, MetaMCP `plain`).
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as oauth from 'oauth4webapi';
import { configFile, generous } from '../support/callers.ts';
import { type Client, Person, REDIRECT_URI } from '../support/oauth.ts';
import { type Product, startProduct } from '../support/product.ts';

let product: Product;
let person: Person;
let client: Client;

before(async () => {
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
  client = await person.client();
  await client.signIn();
});
after(() => product[Symbol.asyncDispose]());

const opens = async (token: string): Promise<boolean> => {
  const headers = { authorization: `Bearer ${token}` };
  return (await person.visitor.request(new URL('/v1/me', person.issuer), { headers })).status === 200;
};

const challenges: Record<string, Record<string, string>> = {
  'no challenge': {},
  'an empty challenge': { code_challenge: '', code_challenge_method: 'S256' },
  'the method plain': { code_challenge: 'a'.repeat(43), code_challenge_method: 'plain' },
  'no method, which means plain': { code_challenge: 'a'.repeat(43) },
  'an unknown method': { code_challenge: 'a'.repeat(43), code_challenge_method: 'S512' },
  'a challenge that is too short': { code_challenge: 'a'.repeat(42), code_challenge_method: 'S256' },
};

for (const [what, parameters] of Object.entries(challenges))
  test(`incident 7: an authorization request with ${what} gets no code`, async () => {
    const url = new URL(client.as.authorization_endpoint ?? '');
    url.search = new URLSearchParams({
      client_id: client.client.client_id,
      redirect_uri: REDIRECT_URI,
      response_type: 'code',
      state: 's',
      ...parameters,
    }).toString();
    const { url: back } = await person.visitor.open(url);
    assert.equal(back.searchParams.get('code'), null);
    assert.equal(back.searchParams.get('error'), 'invalid_request');
  });

async function redeem(changes: Record<string, string | undefined>): Promise<number> {
  const { back } = await client.authorize();
  const form = new URLSearchParams();
  const parameters = {
    grant_type: 'authorization_code',
    code: back.searchParams.get('code') ?? '',
    redirect_uri: REDIRECT_URI,
    client_id: client.client.client_id,
    ...changes,
  };
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) form.set(name, value);
  const { status } = await person.visitor.request(new URL(client.as.token_endpoint ?? ''), {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: form.toString(),
  });
  return status;
}

test('incident 7: a code without its verifier, or with another one, is worth nothing', async () => {
  for (const code_verifier of [undefined, '', oauth.generateRandomCodeVerifier()])
    assert.equal(await redeem({ code_verifier }), 400, String(code_verifier));
});

test('incident 7: a code is for one client and one redirect URI', async () => {
  const other = await person.client();
  const { redeem: own } = await client.authorize();
  assert.equal(await redeem({ client_id: other.client.client_id }), 400);
  assert.equal(await redeem({ redirect_uri: 'https://evil.example/cb' }), 400);
  assert.equal((await own()).status, 200);
});

test('incident 7: a code that comes again ends what it gave', async () => {
  const fresh = await person.client();
  const { redeem: own } = await fresh.authorize();
  const tokens = await oauth.processAuthorizationCodeResponse(fresh.as, fresh.client, await own());
  assert.equal(await opens(tokens.access_token), true);
  assert.equal((await own()).status, 400);
  assert.equal(await opens(tokens.access_token), false);
  assert.equal((await fresh.refresh(tokens.refresh_token)).status, 400);
});

test('incident 7: a code is not used up by a wrong verifier', async () => {
  const fresh = await person.client();
  const { back, redeem: own } = await fresh.authorize();
  const form = new URLSearchParams({
    grant_type: 'authorization_code',
    code: back.searchParams.get('code') ?? '',
    redirect_uri: REDIRECT_URI,
    client_id: fresh.client.client_id,
    code_verifier: oauth.generateRandomCodeVerifier(),
  });
  const wrong = await person.visitor.request(new URL(fresh.as.token_endpoint ?? ''), {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: form.toString(),
  });
  assert.equal(wrong.status, 400);
  assert.equal((await own()).status, 200);
});
