/** What a proxy wants of its certificate: which CA is asked, with which key, and when a change makes a new order. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR } from '../core/clock.ts';
import { engine, issuer, turn, world } from './engine.fixture.ts';
import { FakeCa, unreachable } from './fake-ca.fixture.ts';
import type { Issuer } from './issuers.ts';
import { payerOf } from './payer.ts';
import type { CertificateWish } from './wishes.ts';

const NAME = 'a.company.io';

async function two(t: Parameters<typeof world>[0], { isFirstAway = false } = {}) {
  const { clock, folder, database, ca } = await world(t);
  const first = new FakeCa({
    clock,
    lifeMs: 90 * DAY,
    trouble: () => {
      if (isFirstAway) throw unreachable();
    },
  });
  const issuers: Issuer[] = [
    { ...issuer, name: 'first' },
    { ...issuer, name: 'second', directoryUrl: 'https://second.test/dir' },
  ];
  let wish: CertificateWish | undefined;
  const one = await engine(folder, {
    clock,
    ca: ({ name }) => (name === 'first' ? first : ca),
    database,
    wanted: [NAME],
    issuers,
    wishOf: () => wish,
  });
  t.after(() => one[Symbol.asyncDispose]());
  const change = async (wanted: CertificateWish | undefined) => {
    wish = wanted;
    one.events.emit('proxy.changed', { hostnames: [NAME] });
    await one.issuance.settle();
  };
  await one.issuance.start();
  await one.issuance.settle();
  return { clock, one, first, second: ca, change };
}

test('a proxy that wants another CA gets a certificate of it; one that would take the CA in use does not', async (t) => {
  const { first, second, change } = await two(t);
  assert.deepEqual([first.orders.size, second.orders.size], [1, 0]);
  await change({ issuers: ['second', 'first'] });
  assert.deepEqual([first.orders.size, second.orders.size], [1, 0], 'what is in use is one of those');
  await change({ issuers: ['second'] });
  assert.deepEqual([first.orders.size, second.orders.size], [1, 1]);
  await change(undefined);
  await change({ issuers: ['second', 'internal'] });
  assert.deepEqual([first.orders.size, second.orders.size], [1, 1]);
});

test('the CA that is wanted now is used, though it dates its certificates back further than the one before', async (t) => {
  const { one, clock, first, second, change } = await two(t);
  second.aheadMs = -20 * HOUR;
  await change({ issuers: ['second'] });
  const { id } = one.serving(NAME) ?? {};
  for (let hours = 0; hours < 3; hours++) {
    clock.advance(HOUR);
    await turn(one);
  }
  assert.deepEqual([first.asked.length, second.asked.length], [1, 1]);
  assert.equal(one.serving(NAME)?.id, id);
});

test('an order that waits for a CA that is not wanted any more is ended for one that is', async (t) => {
  const { one, second, change } = await two(t, { isFirstAway: true });
  assert.equal(one.serving(NAME), undefined);
  await change({ issuers: ['second'] });
  assert.equal(second.orders.size, 1);
  assert.ok(one.serving(NAME));
});

test('another kind of key or profile takes a new order, no wish for one takes none; the newest is served', async (t) => {
  const { first, change, one, clock } = await two(t);
  await change({ profile: 'shortlived' });
  assert.equal(first.orders.size, 2);
  const [, made] = [...first.orders.values()];
  assert.equal(made?.profile, 'shortlived');
  assert.equal(new Date(one.serving(NAME)?.notAfter ?? 0).getTime() > clock.now() + 89 * DAY, true);
  await change({});
  await change({ keyType: 'p256' });
  assert.equal(first.orders.size, 2);
  await change({ keyType: 'p384' });
  assert.equal(first.orders.size, 3);
});

test('only the internal CA, when that is wanted: nobody is asked, and what is there is not renewed', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  let wish: CertificateWish | undefined;
  const options = { clock, ca: () => ca, database, wanted: [NAME], wishOf: () => wish };
  await using one = await engine(folder, options);
  await turn(one);
  wish = { issuers: ['internal'] };
  clock.advance(80 * DAY);
  await turn(one);
  assert.equal(ca.orders.size, 1);
  wish = {};
  await turn(one);
  assert.equal(ca.orders.size, 2);
});

test('orders count in the name of the first confined one of those who made each other', () => {
  const identities = {
    tok_admin: { isConfined: false, madeBy: 'system' },
    tok_team: { isConfined: true, madeBy: 'tok_admin' },
    tok_child: { isConfined: true, madeBy: 'tok_team' },
    usr_a: { isConfined: true, madeBy: undefined },
    tok_of_user: { isConfined: true, madeBy: 'usr_a:0123' },
  };
  const of = (id: string) => payerOf(id, (one) => identities[one as keyof typeof identities]);
  assert.equal(of('tok_admin'), undefined);
  assert.equal(of('tok_team'), 'tok_team');
  assert.equal(of('tok_child'), 'tok_team');
  assert.equal(of('usr_a:0123'), 'usr_a');
  assert.equal(of('usr_a:4567'), 'usr_a');
  assert.equal(of('tok_of_user'), 'usr_a');
  assert.equal(of('tok_gone'), 'tok_gone');
});
