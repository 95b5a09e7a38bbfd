import assert from 'node:assert/strict';
import test from 'node:test';
import { CLI_CLIENT_ID } from '../core/own-client.ts';
import { type Permission, permissions } from '../core/permissions.ts';
import { Authenticator, type AuthenticatorOptions } from './authenticate.ts';

/** For an administrator, whatever the client is. */
function principalFor(clientId: string, scope: string, held: readonly Permission[] = permissions) {
  const claims = {
    aud: 'https://control.test/mcp',
    sub: 'usr_1',
    client_id: clientId,
    scope,
    exp: 2_000_000_000,
    jti: 'jti',
    grant_id: 'grant',
  };
  const parts = {
    tokens: { read: () => claims },
    grants: { find: () => ({}) },
    user: () => ({ id: 'usr_1', username: 'ann', permissions: new Set(held), hostnames: undefined }),
    clientPermissions: () => undefined,
  };
  // What is asked of neither is left out.
  const authenticator = new Authenticator(parts as unknown as AuthenticatorOptions);
  return authenticator.authenticate('token', 'any');
}

test('a client that acts in the name of a person is given no private keys, whatever was consented to; the command line is', () => {
  for (const scope of ['admin', 'certificates:export', 'admin certificates:export']) {
    assert.equal(principalFor('some-agent', scope)?.permissions.has('certificates:export'), false, scope);
    assert.equal(principalFor(CLI_CLIENT_ID, scope)?.permissions.has('certificates:export'), true, scope);
  }
  const agent = principalFor('some-agent', 'admin');
  assert.equal(agent?.permissions.size, permissions.length - 1);
  assert.equal(principalFor(CLI_CLIENT_ID, 'operator')?.permissions.has('certificates:export'), false);
});

test('a scope for one command of the settings gives that one, to who may run it by itself or as one of all', () => {
  const given = (scope: string, held: readonly Permission[]) => [
    ...(principalFor('some-agent', scope, held)?.permissions ?? []),
  ];
  assert.deepEqual(given('commands:run:say', permissions), ['commands:run:say']);
  assert.deepEqual(given('commands:run:say', ['commands:run:say']), ['commands:run:say']);
  assert.deepEqual(given('commands:run', ['commands:run:say']), ['commands:run:say']);
  assert.deepEqual(given('commands:run:say', ['commands:run:other', 'logs:read']), []);
  assert.deepEqual(given('commands:run:Not_a_name', permissions), []);
});
