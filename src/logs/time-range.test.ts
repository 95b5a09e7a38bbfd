import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { AppError } from '../core/errors.ts';
import { parseTime } from './time-range.ts';

const NOW = Date.UTC(2026, 2, 10, 12);
const MAX_YEAR_9999 = Date.UTC(9999, 11, 31);

test('every date and time of RFC 3339 is understood, with any offset', () => {
  const instant = fc.date({ min: new Date(0), max: new Date(MAX_YEAR_9999), noInvalidDate: true });
  const offset = fc.integer({ min: -23 * 60 - 59, max: 23 * 60 + 59 });
  fc.assert(
    fc.property(instant, offset, (date, minutes) => {
      assert.equal(parseTime('since', date.toISOString(), NOW), date.getTime());
      const sign = minutes < 0 ? '-' : '+';
      const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
      const zone = `${sign}${String(hours).padStart(2, '0')}:${String(rest).padStart(2, '0')}`;
      const written = date.toISOString().replace('Z', zone);
      assert.equal(parseTime('since', written, NOW), date.getTime() - minutes * 60_000);
    }),
  );
});

test('a duration is that long before now', () => {
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
  const unit = fc.constantFrom(...(Object.keys(seconds) as (keyof typeof seconds)[]));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999 }), unit, (count, name) => {
      assert.equal(parseTime('since', `${count}${name}`, NOW), NOW - count * seconds[name] * 1000);
    }),
  );
});

test('any other text is refused with the argument, the text and what is allowed, and nothing else is thrown', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'0123456789-:TtZz.+ smhdw'.split('')) })),
      (text) => {
        try {
          assert.ok(Number.isFinite(parseTime('since', text, NOW)));
        } catch (error) {
          assert.ok(error instanceof AppError);
          assert.equal(error.code, 'INVALID_INPUT');
          assert.match(error.message, /^since: ".*use 2026-01-31T08:00:00Z/s);
        }
      },
    ),
  );
});

for (const [text, why] of [
  ['2026-02-30T00:00:00Z', 'no such day'],
  ['2026-13-01', 'no such day'],
  ['2026-00-10', 'no such day'],
  ['2026-03-10T24:00:00Z', 'no such day or hour'],
  ['2026-03-10T10:61:00Z', 'no such day or hour'],
  ['2026-03-10T10:00:00+25:00', 'no such day or hour'],
  ['2026-03-10T10:00:00', 'has no time zone'],
  ['yesterday', 'is not a time'],
  ['15', 'is not a time'],
  ['-5m', 'is not a time'],
  ['1000000s', 'is not a time'],
] as const) {
  test(`${text} is refused because it ${why}`, () => {
    assert.throws(() => parseTime('until', text, NOW), new RegExp(`until: .*${why}`));
  });
}

test('a date is its midnight in UTC; a leap second is the next second', () => {
  assert.equal(parseTime('since', '2026-03-10', NOW), Date.UTC(2026, 2, 10));
  assert.equal(parseTime('since', '2016-12-31T23:59:60Z', NOW), Date.UTC(2017, 0, 1));
  assert.equal(parseTime('since', '2026-03-10 08:00:00.5z', NOW), Date.UTC(2026, 2, 10, 8, 0, 0, 500));
});
