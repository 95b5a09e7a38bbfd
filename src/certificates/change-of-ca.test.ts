/** The CA behind a name changes, as from staging to production: a CA is known by its directory. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR } from '../core/clock.ts';
import type { CaLimits } from './budget.ts';
import { engine, issuer, turn, world } from './engine.fixture.ts';
import { FakeCa, unreachable } from './fake-ca.fixture.ts';
import type { Issuer } from './issuers.ts';

const NAME = 'a.company.io';
const STAGING: Issuer = { ...issuer, name: 'default', directoryUrl: 'https://staging.test/dir' };
const PRODUCTION: Issuer = { ...issuer, name: 'default', directoryUrl: 'https://ca.test/dir' };

/** `isStuck`: staging takes orders, and does nothing with them. */
async function start(
  t: TestContext,
  { isStuck = false, limits }: { isStuck?: boolean; limits?: CaLimits } = {},
) {
  const { clock, folder, database, ca: production } = await world(t);
  const staging = new FakeCa({
    clock,
    lifeMs: 90 * DAY,
    trouble: (what) => {
      if (isStuck && what === 'authorization') throw unreachable();
    },
  });
  const open = (one: Issuer) =>
    engine(folder, {
      clock,
      ca: ({ directoryUrl }) => (directoryUrl === STAGING.directoryUrl ? staging : production),
      database,
      wanted: [NAME],
      issuers: [{ ...one, limits }],
    });
  return { clock, staging, production, open };
}

test('a certificate of a CA that is not set up any more is replaced at once, and the new CA is not told what by', async (t) => {
  const { clock, staging, production, open } = await start(t);
  const before = await open(STAGING);
  await turn(before);
  const { id } = before.serving(NAME) ?? {};
  await before[Symbol.asyncDispose]();
  await using after = await open(PRODUCTION);
  for (let hours = 0; hours < 3; hours++) {
    await turn(after);
    clock.advance(HOUR);
  }
  assert.notEqual(after.serving(NAME)?.id, id);
  assert.deepEqual(
    [staging, production].map(({ asked }) => asked.map(({ replaces }) => replaces)),
    [[undefined], [undefined]],
  );
});

test('an order that is open at a CA that is not set up any more goes on at the one that is', async (t) => {
  const { clock, production, open } = await start(t, { isStuck: true });
  const before = await open(STAGING);
  await turn(before);
  await before[Symbol.asyncDispose]();
  clock.advance(HOUR);
  await using after = await open(PRODUCTION);
  await turn(after);
  assert.ok(after.serving(NAME));
  const [order] = await after.issuance.orders.latest(1);
  assert.equal(order?.document.failures, 0);
  assert.equal(order.document.directory, PRODUCTION.directoryUrl);
  assert.equal(production.asked.length, 1);
});

test('what one CA counted does not hold off an order at another one of the same name', async (t) => {
  const limits = {
    failedValidationsPerNameAndHour: 5,
    ordersPerThreeHours: 1,
    certificatesPerDomainAndWeek: 1,
    duplicatesPerWeek: 1,
  };
  const { open } = await start(t, { limits });
  const before = await open(STAGING);
  await turn(before);
  await before[Symbol.asyncDispose]();
  await using after = await open(PRODUCTION);
  await turn(after);
  // Made in the same moment as the one before, so in any order.
  const orders = await after.issuance.orders.latest(2);
  const order = orders.find(({ document }) => document.directory === PRODUCTION.directoryUrl);
  assert.equal(order?.state, 'issued');
});

test('a CA that has another name now is the same one', async (t) => {
  const { staging, open } = await start(t);
  const before = await open(STAGING);
  await turn(before);
  await before[Symbol.asyncDispose]();
  await using after = await open({ ...STAGING, name: 'letsencrypt' });
  await turn(after);
  assert.equal(staging.asked.length, 1);
});
