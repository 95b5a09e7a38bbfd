import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { ManualClock, MINUTE, SECOND } from './clock.ts';
import { RateLimiter } from './rate-limit.ts';

test('so many may come at once, then one at a time', () => {
  const clock = new ManualClock();
  const limiter = new RateLimiter(clock, 60, 100);
  for (let i = 0; i < 60; i++) assert.equal(limiter.take('a'), 0);
  assert.equal(limiter.take('a'), SECOND);
  assert.equal(limiter.wait('a'), SECOND);
  assert.equal(limiter.take('b'), 0);
  clock.advance(SECOND);
  assert.equal(limiter.wait('a'), 0);
  assert.equal(limiter.take('a'), 0);
  assert.equal(limiter.take('a'), SECOND);
});

test('many count as so many, and none of them when they are too many', () => {
  const limiter = new RateLimiter(new ManualClock(), 60, 100);
  assert.equal(limiter.take('a', 40), 0);
  assert.equal(limiter.wait('a', 21), SECOND);
  assert.equal(limiter.take('a', 21), SECOND);
  assert.equal(limiter.take('a', 20), 0);
  assert.equal(limiter.take('a'), SECOND);
});

test('asking for the wait counts nothing', () => {
  const limiter = new RateLimiter(new ManualClock(), 1, 100);
  for (let i = 0; i < 10; i++) assert.equal(limiter.wait('a'), 0);
  assert.equal(limiter.take('a'), 0);
  assert.ok(limiter.wait('a') > 0);
});

test('no more keys are kept than allowed, and none that are whole again', () => {
  const clock = new ManualClock();
  const limiter = new RateLimiter(clock, 10, 5);
  for (let i = 0; i < 50; i++) limiter.take(`key ${i}`);
  assert.equal(limiter.size, 5);
  clock.advance(2 * MINUTE);
  assert.equal(limiter.size, 0);
  limiter.stop();
});

test('property: in any minute no more than twice the limit get through', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 300 }),
      (limit, gaps) => {
        const clock = new ManualClock();
        const limiter = new RateLimiter(clock, limit, 10);
        const passed: number[] = [];
        for (const gap of gaps) {
          clock.advance(gap);
          if (limiter.take('a') === 0) passed.push(clock.now());
        }
        return passed.every(
          (at) => passed.filter((other) => other >= at && other < at + MINUTE).length <= 2 * limit,
        );
      },
    ),
  );
});
