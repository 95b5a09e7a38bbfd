/** The account at a CA knows how to reach us, as the settings have it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { HOUR } from '../core/clock.ts';
import { unreachable } from './fake-ca.fixture.ts';
import { issuer, openWorld } from './ordering.fixture.ts';

const at = (...contact: string[]) => ({ ...issuer, contact });

test('a changed acme.email is told to the CA once, with the next order, again after a failure and a restart, and holds no order up', async (t) => {
  let isAway = false;
  const issuers = [at('mailto:old@company.io')];
  const { ca, clock, start } = await openWorld(t, {
    issuers,
    trouble: (what) => {
      if (isAway && what === 'account') throw unreachable();
    },
  });
  let names = 0;
  const told = async (restarts: boolean, contact?: string[]) => {
    if (restarts) await one.stop();
    if (contact) issuers[0] = at(...contact);
    if (restarts) one = await start();
    const { state } = await one.call('request_certificate', { names: [`h${names++}.company.io`] });
    assert.equal(state, 'issued');
    return ca.contacts.map((each) => each.join());
  };
  let one = await start();
  assert.deepEqual(await told(false), []);
  assert.deepEqual(await told(true), []);
  isAway = true;
  assert.deepEqual(await told(true, ['mailto:new@company.io']), []);
  isAway = false;
  assert.deepEqual(await told(false), [], 'not asked with every order');
  clock.advance(HOUR);
  assert.deepEqual(await told(false), ['mailto:new@company.io']);
  assert.deepEqual(await told(true), ['mailto:new@company.io']);
  assert.deepEqual(await told(true, []), ['mailto:new@company.io', '']);
});

test('an account of before its address was kept is told of it once', async (t) => {
  const { ca, start } = await openWorld(t, { issuers: [at('mailto:me@company.io')] });
  const one = await start();
  await one.call('request_certificate', { names: ['a.company.io'] });
  await one.database.change({}, (tx) => tx.updateTable('acme_accounts').set({ contact: null }).execute());
  await one.stop();
  for (const name of ['b', 'c']) {
    const next = await start();
    await next.call('request_certificate', { names: [`${name}.company.io`] });
    await next.stop();
  }
  assert.deepEqual(ca.contacts, [['mailto:me@company.io']]);
});

test('an account whose making was not heard of is told of what the settings say by now', async (t) => {
  const issuers = [at('mailto:old@company.io')];
  let isLost = true;
  const { ca, clock, start } = await openWorld(t, {
    issuers,
    trouble: (what, when) => {
      if (isLost && what === 'newAccount' && when === 'after') throw unreachable();
    },
  });
  const one = await start();
  assert.equal((await one.call('request_certificate', { names: ['a.company.io'] })).state, 'waiting');
  await one.stop();
  isLost = false;
  issuers[0] = at('mailto:new@company.io');
  clock.advance(HOUR);
  const two = await start();
  assert.equal((await two.call('request_certificate', { names: ['a.company.io'] })).state, 'issued');
  assert.deepEqual([ca.accounts, ca.contacts], [1, [['mailto:new@company.io']]]);
});
