import assert from 'node:assert/strict';
import test from 'node:test';
import { SECOND } from '../core/clock.ts';
import { discover, refresh, register, signIn } from './oauth-client.fixture.ts';
import { ACCESS_TOKEN_MS } from './lifetimes.ts';
import { startAuthorizationServer } from './server.fixture.ts';

test('an access token opens nothing once its hour is over; its refresh token gives another one', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const client = await register(as);
  const { access_token, refresh_token } = await signIn(as, client);
  // A token is dated by the machine's clock, in whole seconds, and judged by ours.
  const payload = JSON.parse(Buffer.from(access_token.split('.')[1] ?? '', 'base64url').toString());
  fixture.clock.advance(payload.exp * SECOND - fixture.clock.now() - 1);
  assert.ok(fixture.principal(access_token));
  fixture.clock.advance(1);
  assert.equal(fixture.principal(access_token), undefined);
  assert.equal(payload.exp - payload.iat, ACCESS_TOKEN_MS / SECOND);
  assert.equal((await refresh(as, client, refresh_token)).status, 200);
});

test('a text that is no token of ours, or one that was changed, speaks for nobody', async () => {
  await using fixture = await startAuthorizationServer();
  const as = await discover(fixture.issuer);
  const { access_token } = await signIn(as, await register(as));
  const [head = '', body = '', signature = ''] = access_token.split('.');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  const wider = Buffer.from(JSON.stringify({ ...claims, scope: 'admin' })).toString('base64url');
  const none = Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url');
  for (const text of [
    `${head}.${wider}.${signature}`,
    `${none}.${body}.`,
    `${head}.${body}`,
    `${head}.${body}.${signature}.x`,
    `${head}.${body}.`,
    'eyJ',
    '',
  ])
    assert.equal(fixture.principal(text), undefined, text);
  assert.ok(fixture.principal(access_token));
});
