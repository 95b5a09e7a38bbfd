import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { chance, isGivenUp, renewalTime, waitAfter } from './renewal.ts';

const START = Date.UTC(2026, 0, 1);
const life = fc
  .record({
    notBefore: fc.integer({ min: START, max: START + 365 * DAY }),
    days: fc.integer({ min: 1, max: 400 }),
  })
  .map(({ notBefore, days }) => ({ notBefore, notAfter: notBefore + days * DAY }));
const consequence = fc.constantFrom('retry_later', 'order', 'account', 'person', 'network');

test('without ARI a certificate is renewed between 61 % and 67 % of its life, one of 6 days too', () => {
  fc.assert(
    fc.property(life, fc.string(), (one, seed) => {
      const part = (renewalTime(one, undefined, seed) - one.notBefore) / (one.notAfter - one.notBefore);
      assert.ok(part > 0.61 && part <= 2 / 3, String(part));
    }),
  );
  const sixDays = { notBefore: START, notAfter: START + 6 * DAY };
  const left = sixDays.notAfter - renewalTime(sixDays, undefined, 'x');
  assert.ok(left >= 2 * DAY && left < 2.4 * DAY);
});

test('with ARI it is renewed inside the window, and whatever the CA suggests before the last tenth of its life', () => {
  const window = fc.record({
    start: fc.integer({ min: START - 900 * DAY, max: START + 900 * DAY }),
    length: fc.integer({ min: 1, max: 30 * DAY }),
  });
  fc.assert(
    fc.property(life, window, fc.string(), (one, { start, length }, seed) => {
      const at = renewalTime(one, { start, end: start + length }, seed);
      const latest = one.notAfter - (one.notAfter - one.notBefore) / 10;
      assert.ok(at <= latest);
      assert.ok(at >= Math.min(start, latest) && (at <= start + length || at === latest));
    }),
  );
});

test('the same certificate is always renewed at the same time, and many are spread over the days', () => {
  const one = { notBefore: START, notAfter: START + 90 * DAY };
  const times = Array.from({ length: 200 }, (_, i) => renewalTime(one, undefined, `crt_${i}`));
  assert.deepEqual(
    times,
    times.map((_, i) => renewalTime(one, undefined, `crt_${i}`)),
  );
  assert.ok(Math.max(...times) - Math.min(...times) > 3 * DAY);
  assert.ok(chance('') >= 0 && chance('') < 1);
});

test('the wait grows with the failures, has an end, and is never shorter than the CA wants', () => {
  fc.assert(
    fc.property(
      consequence,
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 7 * DAY }),
      (kind, failures, retryAfterMs) => {
        const wait = waitAfter({ consequence: kind, retryAfterMs, failures, restMs: undefined, seed: 'a' });
        assert.ok(wait >= MINUTE && wait >= retryAfterMs);
        assert.ok(wait <= Math.max(retryAfterMs, 1.25 * DAY));
      },
    ),
  );
});

test('while nothing nears its end no name fails more than five validations in any hour, one for each of two challenges of an attempt', () => {
  const times: number[] = [];
  for (let now = 0, failures = 2; failures < 40; failures += 2) {
    times.push(now, now);
    now += waitAfter({
      consequence: 'order',
      retryAfterMs: undefined,
      failures,
      restMs: undefined,
      seed: 'a',
    });
  }
  for (const from of times) assert.ok(times.filter((at) => at >= from && at < from + HOUR).length <= 5);
});

test('what nears its end is tried again sooner', () => {
  const failure = { consequence: 'order', retryAfterMs: undefined, failures: 12, seed: 'a' } as const;
  const long = waitAfter({ ...failure, restMs: undefined });
  const short = waitAfter({ ...failure, restMs: 8 * HOUR });
  assert.ok(short < long && short >= 15 * MINUTE && short <= 1.25 * HOUR);
});

test('a CA at fault is left for the next one: at once where a person or a setting stands in the way', () => {
  assert.ok(isGivenUp({ consequence: 'person', retryAfterMs: undefined }, 1));
  assert.ok(isGivenUp({ consequence: 'account', retryAfterMs: undefined }, 1));
  assert.ok(!isGivenUp({ consequence: 'order', retryAfterMs: undefined }, 1));
  assert.ok(isGivenUp({ consequence: 'order', retryAfterMs: undefined }, 2));
  assert.ok(!isGivenUp({ consequence: 'retry_later', retryAfterMs: MINUTE }, 3));
  assert.ok(isGivenUp({ consequence: 'retry_later', retryAfterMs: DAY }, 1));
});
