/** Choosing among targets, for all that can stand there. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { choose, NONE, type Slot } from './choose.ts';

const NOW = 1000;

const standing = fc.record({
  open: fc.nat(50),
  outUntil: fc.constantFrom(0, 0, 0, NOW - 1, NOW, NOW + 1),
  isOnTrial: fc.boolean(),
  isSick: fc.boolean(),
});
const slots = fc.array(
  fc.record({
    endpoint: standing,
    weight: fc.integer({ min: 1, max: 100 }),
    isDrained: fc.boolean(),
    credit: fc.constant(0),
  }),
  { minLength: 1, maxLength: 16 },
);

const mayEver = ({ isDrained, endpoint }: Slot) =>
  !isDrained && !endpoint.isSick && (endpoint.outUntil === 0 || !endpoint.isOnTrial);
const mayNow = (slot: Slot) => mayEver(slot) && slot.endpoint.outUntil <= NOW;

test('who is chosen may get it, is in where anyone is, and somebody is chosen where anyone may', () => {
  fc.assert(
    fc.property(slots, fc.boolean(), fc.nat(2 ** 16 - 1), (all, isLeast, tried) => {
      const open = all.filter((_, i) => (tried & (1 << i)) === 0);
      const at = choose(all, isLeast, tried, NOW);
      const chosen = all[at];
      if (!chosen) {
        assert.equal(at, NONE);
        assert.ok(!open.some(mayEver));
        return;
      }
      assert.ok(open.includes(chosen) && mayEver(chosen));
      assert.ok(mayNow(chosen) || !open.some(mayNow), 'one that is out only where none is in');
    }),
  );
});

test('in turn, each gets its share by weight, to the request', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 16 }), (weights) => {
      const all = weights.map((weight) => ({
        endpoint: { open: 0, outUntil: 0, isOnTrial: false, isSick: false },
        weight,
        isDrained: false,
        credit: 0,
      }));
      const total = weights.reduce((sum, weight) => sum + weight);
      for (let round = 1; round <= 3; round++) {
        const counts = weights.map(() => 0);
        for (let i = 0; i < total; i++) {
          const at = choose(all, false, 0, NOW);
          counts[at] = (counts[at] ?? 0) + 1;
        }
        assert.deepEqual(counts, weights);
      }
    }),
  );
});

test('by connections, nobody has fewer for its weight than who is chosen', () => {
  fc.assert(
    fc.property(slots, (all) => {
      const chosen = all[choose(all, true, 0, NOW)];
      if (!chosen) return;
      const eligible = all.filter(all.some(mayNow) ? mayNow : mayEver);
      for (const { endpoint, weight } of eligible)
        assert.ok(chosen.endpoint.open / chosen.weight <= endpoint.open / weight);
    }),
  );
});
