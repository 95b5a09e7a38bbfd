import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { systemClock } from '../core/clock.ts';
import { Challenges } from './challenges.ts';

const account = {
  url: 'https://ca.test/acct/1',
  key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
};
const placing = (token: string, value = 'a.company.io') => ({
  authorization: { identifier: { type: 'dns', value } },
  challenge: { type: 'tls-alpn-01' as const, token },
  account,
});

test('two orders for a name by TLS-ALPN-01 have their turns: the answer of the first stays until it is taken away', async () => {
  const challenges = new Challenges(systemClock);
  const first = await challenges.place(placing('one'));
  const answer = challenges.tls('a.company.io');
  assert.ok(answer);
  const second = challenges.place(placing('two'));
  // Other names don't wait, and take as long as the second would without waiting.
  for (const name of ['b', 'c', 'd', 'e']) {
    const other = await challenges.place(placing(name, `${name}.company.io`));
    await other.remove();
  }
  assert.equal(challenges.tls('a.company.io'), answer);
  await first.remove();
  const placed = await second;
  const next = challenges.tls('a.company.io');
  assert.ok(next && next !== answer);
  await placed.remove();
  assert.equal(challenges.isAskedByTls, false);
});

test('a challenge by TLS is answered under its name in any case, and under no other', async () => {
  const challenges = new Challenges(systemClock);
  const placed = await challenges.place(placing('token'));
  assert.ok(challenges.tls('a.company.io'));
  assert.equal(challenges.tls('A.Company.IO'), challenges.tls('a.company.io'));
  assert.equal(challenges.tls('b.company.io'), undefined);
  await placed.remove();
  assert.equal(challenges.tls('A.Company.IO'), undefined);
});
