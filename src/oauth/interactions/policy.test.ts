import assert from 'node:assert/strict';
import test from 'node:test';
import type { KoaContextWithOIDC } from 'oidc-provider';
import { policyWith } from './policy.ts';

test('a session that was saved again after its user was signed out is asked to sign in', async () => {
  const asked: [string, number][] = [];
  const policy = policyWith(
    (userId, startedAt) => asked.push([userId, startedAt]) > 0 && userId === 'usr_in',
  );
  const check = policy
    .find(({ name }) => name === 'login')
    ?.checks.find(({ reason }) => reason === 'session_over');
  const isAsked = (session: object) => check?.check({ oidc: { session } } as unknown as KoaContextWithOIDC);
  assert.equal(await isAsked({ accountId: 'usr_out', loginTs: 5 }), true);
  assert.equal(await isAsked({ accountId: 'usr_in', loginTs: 5 }), false);
  assert.equal(await isAsked({ accountId: 'usr_out' }), true);
  assert.equal(await isAsked({}), false, 'nobody: the library asks by itself');
  assert.deepEqual(asked[0], ['usr_out', 5000]);
});
