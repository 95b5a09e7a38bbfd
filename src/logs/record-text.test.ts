import assert from 'node:assert/strict';
import test from 'node:test';
import { aRecord } from './fixtures.test.ts';
import { parseRecordText, recordText } from './record-text.ts';
import { columns } from './row.ts';

const BOUND = 32 * 1024;

function read(text: string): Record<string, any> {
  const { row, detail } = parseRecordText(text);
  const fields = columns.map((name, i) => [name, row[i]] as const).filter(([, value]) => value !== null);
  return { ...Object.fromEntries(fields), detail: detail && JSON.parse(detail) };
}

test('an ordinary record is its row and its detail', () => {
  const detail = { a: [1], text: 'two\nlines' };
  const record = aRecord({ path: '/x', message: 'with\na break', duration_ms: 1.5, detail });
  assert.deepEqual(read(recordText(record)), { ...record, level: 1 });
  const { row, detail: none } = parseRecordText(recordText(aRecord()));
  assert.deepEqual([row.length, none], [columns.length, undefined]);
});

test('a record of any size becomes a text of bounded size that still says what it was', () => {
  const huge = 'x'.repeat(1_000_000);
  const text = recordText(aRecord({ message: huge, path: huge, user_agent: huge, detail: { huge } }));
  assert.ok(text.length < BOUND, String(text.length));
  const record = read(text);
  assert.equal(record.kind, 'access');
  assert.ok(record.path.startsWith('xxxx'));
  assert.match(record.detail.cut, /^\{"huge":"xxx/);
});

test('a detail that JSON cannot hold costs the detail, not the record', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  for (const detail of [cycle, { big: 1n }]) {
    const record = read(recordText(aRecord({ detail })));
    assert.equal(record.message, 'request');
    assert.deepEqual(record.detail, { omitted: 'could not be written as JSON' });
  }
});
