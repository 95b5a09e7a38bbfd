import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { NOON } from './fixtures.test.ts';
import type { LogEntry } from './schema.ts';
import { tail } from './tail.ts';

const entry = (number: number, time: number): LogEntry => ({
  time: new Date(time).toISOString(),
  level: 'info',
  kind: 'access',
  message: `request ${number}`,
  id: `20260310.${number}`,
});

/** A log that somebody writes while it is followed: each look advances the clock. */
function following(writes: readonly (readonly LogEntry[])[], { followMs = 10 * SECOND, lines = 100 } = {}) {
  const clock = new ManualClock(NOON);
  const written: LogEntry[] = [];
  const told: string[] = [];
  const leave = new AbortController();
  let looks = 0;
  const done = tail(
    { followMs, lines },
    {
      clock,
      context: { signal: leave.signal, progress: ({ message = '' }) => void told.push(message) },
      async look(since) {
        written.push(...(writes[looks] ?? []));
        looks += 1;
        setImmediate(() => clock.advance(SECOND));
        return written.filter(({ time }) => Date.parse(time) >= since).reverse();
      },
    },
  );
  return { done, told, leave, looks: () => looks };
}

const idsOf = ({ records }: { records: LogEntry[] }): string[] => records.map(({ id }) => id);

test('what is written while somebody follows is told once, in its order, also when it comes late', async () => {
  const late = entry(2, NOON + 400);
  const { done, told } = following([
    [],
    [entry(1, NOON + 300), entry(3, NOON + 900)],
    [late],
    [entry(4, NOON + 2500)],
  ]);
  const result = await done;
  assert.deepEqual(idsOf(result), ['20260310.1', '20260310.3', '20260310.2', '20260310.4']);
  assert.deepEqual(told.length, 4);
  assert.match(told[0] ?? '', /request 1$/);
  assert.equal(result.left_out, 0);
});

test('it ends when so many have come, when the time is over, or when the caller goes away', async () => {
  const many = Array.from({ length: 5 }, (_, index) => entry(index, NOON + index));
  const counted = following([many], { lines: 2 });
  assert.equal((await counted.done).records.length, 2);
  const timed = following([], { followMs: 3 * SECOND });
  assert.deepEqual(idsOf(await timed.done), []);
  assert.ok(timed.looks() >= 3);
  const left = following([]);
  left.leave.abort();
  await left.done;
  assert.ok(left.looks() <= 2);
});

test('what does not fit is told as progress only, and counted', async () => {
  const long = Array.from({ length: 60 }, (_, index) => ({
    ...entry(index, NOON + index),
    path: 'x'.repeat(190),
  }));
  const { done, told } = following([long], { followMs: SECOND });
  const { records, left_out } = await done;
  assert.deepEqual([told.length, records.length + left_out, records.at(-1)?.id], [60, 60, '20260310.59']);
  assert.ok(left_out > 0);
});
