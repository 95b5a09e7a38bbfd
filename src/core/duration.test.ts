import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, HOUR, MINUTE, SECOND } from './clock.ts';
import { parseDuration } from './duration.ts';

test('a duration is whole numbers with a unit each, the longest unit first', () => {
  const cases = { '30d': 30 * DAY, '12h': 12 * HOUR, '1d12h': 36 * HOUR, '2w': 14 * DAY, '90s': 90 * SECOND };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
});

test('what is not a duration is undefined, never a guess', () => {
  const bad = ['', ' ', '30', 'd', '1.5h', '-1d', '+1d', '1D', '1h1d', '1d1d', '1d 2h', '1y', '٣d', '1d\n'];
  for (const text of [...bad, '9'.repeat(50) + 'd']) assert.equal(parseDuration(text), undefined, text);
});

test('every combination of units is read as the sum of its parts', () => {
  const part = fc.option(fc.nat(999_999), { nil: undefined });
  fc.assert(
    fc.property(fc.record({ w: part, d: part, h: part, m: part, s: part }), (parts) => {
      const text = Object.entries(parts)
        .map(([unit, n]) => (n === undefined ? '' : `${n}${unit}`))
        .join('');
      fc.pre(text !== '');
      const { w = 0, d = 0, h = 0, m = 0, s = 0 } = parts;
      assert.equal(parseDuration(text), ((w * 7 + d) * 24 + h) * HOUR + m * MINUTE + s * SECOND);
    }),
  );
});

test('any text at all is either a duration or undefined, and never an exception or a number that is not exact', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const ms = parseDuration(text);
      assert.ok(ms === undefined || Number.isSafeInteger(ms));
    }),
  );
});
