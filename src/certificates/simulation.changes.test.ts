/** Months in which everything changes at once: CAs, lives of certificates, names, clocks. What is asked of each CA is counted. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR, type ManualClock, MINUTE } from '../core/clock.ts';
import { LETS_ENCRYPT_LIMITS } from './budget.ts';
import { engine, issuer, turn, world } from './engine.fixture.ts';
import { FakeCa, type FakeCaOptions, problem, unreachable } from './fake-ca.fixture.ts';
import type { Issuer } from './issuers.ts';
import { random } from './simulation.fixture.ts';

const SEEDS = [1];
const DAYS = 100;
const STEP_MS = 6 * HOUR;
const ALONE = ['a.company.io', 'b.company.io', 'c.other.io'];
const SHARED = ['d.company.io', 'moves.company.io'];
const ALL = [...ALONE, ...SHARED];
const FIRST: Issuer = { ...issuer, name: 'first', limits: LETS_ENCRYPT_LIMITS };
const SECOND: Issuer = { ...FIRST, name: 'second', directoryUrl: 'https://second.test/dir' };
/** Of the shortest life here nearly two thirds. */
const DUE_MS = 3.5 * DAY;
/** What was wanted at once is held by limits for so long at most. */
const HELD_DAYS = 7;
/** Of one name, one attempt with each of two challenges, and those after a lost reply. */
const MOST_IN_AN_HOUR = 5;
/** By how much our clock is wrong for a while. */
const JUMP_MS = 2 * DAY;

/** Days on which something is so. */
const days = {
  firstIsAway: [20, 26],
  secondIsAway: [22, 24],
  lifeIsShort: [40, 70],
  /** ARI says that everything should be renewed now. */
  everythingIsUrgent: [75, 78],
  otherNameHasMoved: [55, 68],
  clockIsAhead: [82, 86],
  clockIsBehind: [90, 92],
} as const;

function calendar(clock: ManualClock) {
  const start = clock.now();
  let wrongMs = 0;
  const time = () => clock.now() - wrongMs;
  const is = (what: keyof typeof days): boolean => {
    const day = (time() - start) / DAY;
    return day >= days[what][0] && day < days[what][1];
  };
  const set = (ms: number) => {
    clock.advance(ms - wrongMs);
    wrongMs = ms;
  };
  return {
    /** As the world has it. */
    time,
    is,
    wrongMs: () => wrongMs,
    correct: () => set(is('clockIsAhead') ? JUMP_MS : is('clockIsBehind') ? -JUMP_MS : 0),
  };
}

for (const seed of SEEDS)
  test(`${DAYS} days, seed ${seed}: with CAs that go away, refuse and change their minds and a clock that jumps, nothing in use expires, no certificate is ordered again before it is due, and no more than five orders for the same names are sent in an hour`, async (t) => {
    const chance = random(seed);
    const { clock, folder, database } = await world(t);
    const start = clock.now();
    const now = calendar(clock);
    const make = (name: 'first' | 'second', more: Omit<FakeCaOptions, 'clock' | 'lifeMs'>) =>
      new FakeCa({
        clock,
        lifeMs: 90 * DAY,
        ...more,
        fails: (hostname) => hostname === SHARED[1] && now.is('otherNameHasMoved'),
        trouble: (what, when) => {
          if (when === 'before' && now.is(`${name}IsAway`)) throw unreachable();
          if (when === 'after' && chance() < 0.02) throw unreachable();
          if (when === 'before' && chance() < 0.02) throw problem('serverInternal', 500);
          if (what === 'orders' && name === 'second') throw problem('malformed', 404);
        },
        renewalInfo: () =>
          now.is('everythingIsUrgent')
            ? {
                start: clock.now() - DAY,
                end: clock.now() - HOUR,
                explanationUrl: undefined,
                checkAgainMs: HOUR,
              }
            : undefined,
      });
    const cas = {
      first: make('first', { refusesReplaces: () => problem('malformed', 404) }),
      second: make('second', {}),
    };
    const wanted = [...ALL];
    await using one = await engine(folder, {
      clock,
      ca: ({ name }) => (name === 'first' ? cas.first : cas.second),
      database,
      wanted,
      issuers: [FIRST, SECOND],
    });
    await one.issuance.request({ names: SHARED, issuer: 'first', reason: 'requested', owner: undefined });
    await one.issuance.settle();
    const had = new Set<string>();
    const steps = (DAYS * DAY) / STEP_MS;
    for (let step = 0; step < steps; step++) {
      now.correct();
      for (const ca of Object.values(cas)) {
        ca.aheadMs = -now.wrongMs();
        ca.lifeMs = now.is('lifeIsShort') ? 6 * DAY : 90 * DAY;
      }
      // Twice within minutes, as the product looks: what came is not ordered again.
      for (let look = 0; look < 2; look++) {
        await turn(one);
        clock.advance(MINUTE);
      }
      for (const name of ALL) {
        const isServed = one.serving(name) !== undefined;
        if (isServed) had.add(name);
        const mayBeGone = name === SHARED[1] && now.is('otherNameHasMoved');
        assert.ok(
          isServed || mayBeGone || !had.has(name),
          `${name} expired on day ${step * (STEP_MS / DAY)}`,
        );
      }
      clock.advance(STEP_MS - 2 * MINUTE);
    }
    assert.equal(had.size, ALL.length);
    for (const name of ALL) assert.ok(one.serving(name), name);
    for (const [name, ca] of Object.entries(cas)) requireRates(name, ca);
    requireOnce(Object.values(cas), start);
  });

/** By the CA's own count of what it was asked for, and of what it made. */
function requireRates(ca: string, { asked }: FakeCa): void {
  const sent = asked.map(({ at, names }) => ({ at, key: names.join() }));
  for (const { at, key } of sent) {
    const within = sent.filter((other) => other.at >= at && other.at < at + HOUR && other.key === key).length;
    assert.ok(within <= MOST_IN_AN_HOUR, `${ca}: ${within} orders for ${key} in an hour`);
  }
  const { ordersPerThreeHours } = LETS_ENCRYPT_LIMITS;
  for (const { at } of sent) {
    const within = sent.filter((other) => other.at >= at && other.at < at + 3 * HOUR).length;
    assert.ok(within <= ordersPerThreeHours, `${ca}: ${within} orders in three hours`);
  }
}

/** Whichever CA gave it: nothing that came is ordered again before it is due, and never within an hour. */
function requireOnce(cas: readonly FakeCa[], start: number): void {
  const made = cas
    .flatMap(({ orders }) => [...orders.values()])
    .filter(({ chainPem }) => chainPem !== undefined);
  for (const name of ALL) {
    const times = made
      .filter(({ names }) => names.includes(name))
      .map(({ at }) => at)
      .sort((a, b) => a - b);
    for (const [i, at] of times.entries()) {
      const before = times[i - 1];
      if (before === undefined) continue;
      const day = (at - start) / DAY;
      const isUrgent = day >= days.everythingIsUrgent[0] && day < days.everythingIsUrgent[1] + HELD_DAYS;
      assert.ok(at - before > (isUrgent ? HOUR : DUE_MS), `${name} came twice, on day ${day}`);
    }
  }
}
