import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { ManualClock } from './clock.ts';
import type { LogRecord } from './record.ts';
import { inPortions, PORTION_ROWS, readRow } from './rows.ts';

test('every row behind a key comes once and in order, however many portions that takes', async () => {
  const sizes = fc.oneof(fc.nat(3), fc.constantFrom(PORTION_ROWS - 1, PORTION_ROWS, 2 * PORTION_ROWS + 1));
  await fc.assert(
    fc.asyncProperty(sizes, fc.nat(10), async (size, after) => {
      const table = Array.from({ length: size }, (_, id) => ({ id }));
      const read = async (key: number, limit: number) => table.filter(({ id }) => id > key).slice(0, limit);
      const rows: { id: number }[] = [];
      for await (const row of inPortions(after, ({ id }: { id: number }) => id, read)) rows.push(row);
      assert.deepEqual(
        rows,
        table.filter(({ id }) => id > after),
      );
    }),
  );
});

test('no more is read than is asked for', async () => {
  let reads = 0;
  const read = async (key: number, limit: number) => {
    reads += 1;
    return Array.from({ length: limit }, (_, i) => key + 1 + i);
  };
  for await (const row of inPortions(0, (key: number) => key, read)) if (row === PORTION_ROWS) break;
  assert.equal(reads, 1);
});

test('a row that is damaged is reported, with clean words, and is none', () => {
  const records: LogRecord[] = [];
  const parts = {
    log: { write: (record: LogRecord) => void records.push(record), enabled: () => true },
    clock: new ManualClock(7),
  };
  const parse = () => {
    throw new Error('broken\u001b');
  };
  assert.equal(readRow(parse, parts, { message: "x can't be read", hostname: 'a.example.com' }), undefined);
  assert.equal(
    readRow(() => 5, parts, { message: 'unused' }),
    5,
  );
  assert.deepEqual(records, [
    {
      message: "x can't be read: broken\ufffd",
      hostname: 'a.example.com',
      time: 7,
      kind: 'system',
      level: 'error',
      component: 'store',
    },
  ]);
});
