/**
 * Registration by strangers: bounded in rate, quiet about secrets, and nothing that a narrow credential can manage
 * (activepieces#15016; context-forge ee676553f). The cap and the expiry are in `src/oauth/registration.test.ts`.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { configFile, generous, grant, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { REDIRECT_URI } from '../support/oauth.ts';
import { type Product, startProduct } from '../support/product.ts';

let product: Product;

before(async () => {
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
});
after(() => product[Symbol.asyncDispose]());

const register = (metadata: object = {}) =>
  send(product, {
    method: 'POST',
    path: '/oauth/register',
    body: { client_name: 'A client', redirect_uris: [REDIRECT_URI], ...metadata },
  });

test('incident 11: secrets of clients are in no record of the log, and none is told again', async () => {
  const reply = await register({ token_endpoint_auth_method: 'client_secret_basic' });
  assert.equal(reply.status, 201);
  const { client_id, client_secret, registration_access_token } = reply.json;
  const made = await product.api('POST', '/v1/clients', { name: 'job', permissions: ['proxies:read'] });
  const secrets = [client_secret, registration_access_token, made.body.secret] as string[];
  const listed = await product.api('GET', '/v1/clients?limit=200');
  assert.ok(JSON.stringify(listed.body).includes(client_id));
  const records = await eventually(async () => {
    const { body } = await product.api('GET', '/v1/logs?operation=create_client');
    return JSON.stringify(body).includes('create_client') ? JSON.stringify(body) : undefined;
  }, 'the record of create_client');
  const stored = readdirSync(join(product.dataDir, 'logs'))
    .map((name) => readFileSync(join(product.dataDir, 'logs', name), 'latin1'))
    .join('');
  const state = readFileSync(join(product.dataDir, 'state.sqlite'), 'latin1');
  for (const secret of secrets)
    for (const place of [records, stored, state, product.output(), JSON.stringify(listed.body)])
      assert.equal(place.includes(secret), false);
});

test('incident 11: a credential that may do everything but clients, or is confined, manages none', async () => {
  const { client_id } = (await register()).json;
  const narrow = await grant(product, { permissions: ['proxies:write', 'tokens:write', 'users:write'] });
  const confined = await grant(product, { bundle: 'admin', hostnames: ['a.example.com'] });
  for (const { secret: token } of [narrow, confined]) {
    assert.equal((await send(product, { path: '/v1/clients', token })).status, 403);
    const remove = { method: 'DELETE', path: `/v1/clients/${client_id}`, token };
    assert.equal((await send(product, remove)).status, 403);
    const create = { method: 'POST', path: '/v1/clients', token, body: { name: 'x', bundle: 'admin' } };
    assert.equal((await send(product, create)).status, 403);
  }
});

test('incident 11: a flood of registrations is refused, and everything else goes on', async () => {
  const statuses: number[] = [];
  for (let i = 0; i < 40; i++) statuses.push((await register()).status);
  assert.ok(statuses.includes(429));
  assert.equal(statuses.at(-1), 429);
  const last = await register();
  assert.ok(Number(last.headers['retry-after']) > 0);
  assert.equal((await product.api('GET', '/v1/proxies')).status, 200);
});
