/** What was written while our clock was ahead holds nothing up once it is right. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR, ManualClock } from '../core/clock.ts';
import { engine, issuer, turn, world } from './engine.fixture.ts';
import { unreachable } from './fake-ca.fixture.ts';

const NAME = 'a.company.io';
const limits = {
  failedValidationsPerNameAndHour: 5,
  ordersPerThreeHours: 1,
  certificatesPerDomainAndWeek: 50,
  duplicatesPerWeek: 5,
};

/** Engines on one store whose clock is a year ahead, and then right. `isAway`: the CA, until then. */
async function years(t: TestContext, isAway: boolean) {
  let isRight = false;
  const { clock, folder, database, ca } = await world(t, {
    trouble: () => {
      if (isAway && !isRight) throw unreachable();
    },
  });
  const ahead = new ManualClock(clock.now() + 365 * DAY);
  const issuers = [{ ...issuer, limits }];
  const open = (at: ManualClock, wanted: string[]) => {
    isRight = at === clock;
    return engine(folder, { clock: at, ca: () => ca, database, wanted, issuers, isAlone: false });
  };
  return { ahead, clock, open, ca };
}

test('an order that waits for a time that is a year ahead, or that a dead process holds until then, is driven', async (t) => {
  const { ahead, clock, open } = await years(t, true);
  const wrong = await open(ahead, [NAME]);
  await turn(wrong);
  const [order] = await wrong.issuance.orders.latest(1);
  assert.ok(order && order.nextAttemptAt > clock.now() + 300 * DAY);
  ahead.advance(DAY);
  assert.ok(await wrong.issuance.orders.claim(order.id));
  await wrong[Symbol.asyncDispose]();
  await using right = await open(clock, [NAME]);
  await turn(right);
  assert.ok(right.serving(NAME));
});

test('asking by hand does not wait for a time that is a year ahead', async (t) => {
  const { ahead, clock, open } = await years(t, true);
  const wrong = await open(ahead, [NAME]);
  await turn(wrong);
  await wrong[Symbol.asyncDispose]();
  await using right = await open(clock, []);
  await right.issuance.request({ names: [NAME], issuer: 'ca', reason: 'requested', owner: undefined });
  await right.issuance.settle();
  assert.ok(right.serving(NAME));
});

test('what was counted a year ahead does not count, and what was counted just now does', async (t) => {
  const { ahead, clock, open, ca } = await years(t, false);
  const wrong = await open(ahead, ['b.company.io']);
  await turn(wrong);
  await wrong[Symbol.asyncDispose]();
  const wanted = [NAME];
  await using right = await open(clock, wanted);
  await turn(right);
  assert.ok(right.serving(NAME));
  wanted.push('c.company.io');
  await turn(right);
  assert.equal(ca.asked.length, 2);
  clock.advance(4 * HOUR);
  await turn(right);
  assert.equal(ca.asked.length, 3);
});
