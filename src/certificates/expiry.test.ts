import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR } from '../core/clock.ts';
import { thresholdOf } from './expiry.ts';

const at = (lifeDays: number, left: number) =>
  thresholdOf({ notBefore: 0, notAfter: lifeDays * DAY }, lifeDays * DAY - left)?.days;

test('a certificate of ninety days or more is near its end 14, 7, 3 and 1 days before it', () => {
  for (const life of [90, 398])
    assert.deepEqual(
      [15, 14.01, 14, 7.01, 7, 3.01, 3, 1.01, 1, 0, -5].map((days) => at(life, days * DAY)),
      [undefined, undefined, 14, 14, 7, 7, 3, 3, 1, 1, 1],
    );
});

test('one of six days, which is renewed with two days left, is near its end a day before it, and in proportion', () => {
  assert.deepEqual(
    [48, 23, 22, 12, 11, 5, 4, 2, 1].map((hours) => at(6, hours * HOUR)),
    [undefined, undefined, 14, 14, 7, 7, 3, 3, 1],
  );
});

test('what is renewed in time is never near its end', () => {
  for (const life of [1, 6, 47, 90, 398])
    assert.equal(at(life, (life * DAY) / 3), life > 90 && life / 3 <= 14 ? 14 : undefined);
});
