/**
 * Refreshing: clients with several processes race each other, and a thief replays (better-auth GHSA-392p, GHSA-pw9m;
 * claude-code#65408). The grace and the end of a token's life are in `test/oauth/grants.test.ts`, over `kill -9`.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { Person } from '../support/oauth.ts';
import { type Product, startProduct } from '../support/product.ts';

let product: Product;
let person: Person;

before(async () => {
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
});
after(() => product[Symbol.asyncDispose]());

const statusOf = async (token: string): Promise<number> => {
  const headers = { authorization: `Bearer ${token}` };
  return (await person.visitor.request(new URL('/v1/me', person.issuer), { headers })).status;
};

test('incident 8: two processes of a client refresh at once, for generations, and neither is locked out', async () => {
  const client = await person.client();
  const first = await client.signIn();
  let [one, other] = [first.refresh_token, first.refresh_token];
  for (let generation = 0; generation < 10; generation++) {
    const [a, b] = await Promise.all([client.refreshed(one), client.refreshed(other)]);
    // They keep what came last, whichever that was.
    [one, other] =
      generation % 2 === 0 ? [a.refresh_token, b.refresh_token] : [b.refresh_token, b.refresh_token];
    assert.deepEqual(await Promise.all([statusOf(a.access_token), statusOf(b.access_token)]), [200, 200]);
  }
});

test('incident 8: a refresh token gives a stranger nothing, and stays good for its own client', async () => {
  const [client, stranger] = [await person.client(), await person.client()];
  const { refresh_token } = await client.signIn();
  assert.equal((await stranger.refresh(refresh_token)).status, 400);
  assert.equal((await client.refresh(refresh_token)).status, 200);
});

test('incident 8: a refresh gives no more than was granted, and never another resource', async () => {
  const client = await person.client();
  const { refresh_token = '' } = await client.signIn({ scope: 'viewer' });
  const ask = (more: Record<string, string>) =>
    person.visitor.request(new URL(client.as.token_endpoint ?? ''), {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token,
        client_id: client.client.client_id,
        ...more,
      }).toString(),
    });
  assert.equal((await ask({ scope: 'admin' })).status, 400);
  assert.equal((await ask({ resource: 'https://other.example/' })).status, 400);
  assert.equal((await ask({})).status, 200);
});

test('incident 8: what a revoked grant gave is refused, never a fault', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  const { body } = await product.api('GET', `/v1/grants?client=${client.client.client_id}`);
  assert.equal(body.grants.length, 1);
  const ended = await product.api('DELETE', `/v1/grants/${body.grants[0].id}`);
  assert.equal(ended.status, 200);
  assert.equal(await statusOf(tokens.access_token), 401);
  assert.equal((await client.refresh(tokens.refresh_token)).status, 400);
});
