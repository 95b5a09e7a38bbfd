import assert from 'node:assert/strict';
import test from 'node:test';
import { aRecord } from './fixtures.test.ts';
import { recordText } from './record-text.ts';

const BOUND = 32 * 1024;

test('an ordinary record is its JSON', () => {
  const record = aRecord({ path: '/x', detail: { a: [1] } });
  assert.deepEqual(JSON.parse(recordText(record) ?? ''), record);
});

test('a record of any size becomes a text of bounded size that still says what it was', () => {
  const huge = 'x'.repeat(1_000_000);
  const text = recordText(aRecord({ message: huge, path: huge, user_agent: huge, detail: { huge } })) ?? '';
  assert.ok(text.length < BOUND, String(text.length));
  const record = JSON.parse(text);
  assert.equal(record.kind, 'access');
  assert.ok(record.path.startsWith('xxxx'));
  assert.match(record.detail.cut, /^\{"huge":"xxx/);
});

test('a detail that JSON cannot hold costs the detail, not the record', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  for (const detail of [cycle, { big: 1n }]) {
    const record = JSON.parse(recordText(aRecord({ detail })) ?? '');
    assert.equal(record.message, 'request');
    assert.deepEqual(record.detail, { omitted: 'could not be written as JSON' });
  }
});
