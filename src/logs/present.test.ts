import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { cleanText } from '../core/untrusted.ts';
import { NOON } from './fixtures.test.ts';
import { present } from './present.ts';
import type { LogRow } from './query.ts';
import { logEntrySchema } from './schema.ts';

const nothing = {
  trace_id: null,
  hostname: null,
  method: null,
  path: null,
  status: null,
  duration_ms: null,
  bytes_in: null,
  bytes_out: null,
  client_address: null,
  principal: null,
  user_agent: null,
  operation: null,
  outcome: null,
  detail: null,
};

const aRow = (fields: Partial<LogRow> = {}): LogRow => ({
  ...nothing,
  id: 7,
  time: NOON,
  level: 1,
  kind: 'access',
  component: 'gateway',
  message: 'request',
  ...fields,
});

const found = (...rows: LogRow[]) => ({ rows, next: undefined, searchedBackTo: undefined });
const ALL = { verbose: true, maxCharacters: Infinity };

test('a record has only the fields that say something', () => {
  const [entry] = present(found(aRow({ status: 200, duration_ms: 1.26 })), ALL).records;
  assert.deepEqual(entry, {
    id: '20260310.7',
    time: '2026-03-10T12:00:00.000Z',
    level: 'info',
    kind: 'access',
    message: 'request',
    status: 200,
    duration_ms: 1.3,
  });
  const [system] = present(found(aRow({ kind: 'system', component: 'store', level: 3 })), ALL).records;
  assert.equal(system?.component, 'store');
  assert.equal(system?.level, 'error');
});

test('user agent, bytes and detail come only when asked for', () => {
  const row = aRow({ user_agent: 'x', bytes_in: 1, bytes_out: 2, detail: '{"a":1}' });
  const [short] = present(found(row), { ...ALL, verbose: false }).records;
  const [long] = present(found(row), ALL).records;
  const extras = { user_agent: 'x', bytes_in: 1, bytes_out: 2, detail: { a: 1 } };
  assert.deepEqual(long, { ...short, ...extras });
});

test('every text of strangers is cleaned and cut, in detail too, at any depth', () => {
  const hostile = fc
    .string({ unit: 'grapheme', maxLength: 20 })
    .map((text) => `\u001b[2J\u202e${text}\u0000${'x'.repeat(9000)}`);
  fc.assert(
    fc.property(hostile, (text) => {
      const texts = Object.fromEntries(
        [
          'message',
          'hostname',
          'method',
          'path',
          'client_address',
          'principal',
          'user_agent',
          'operation',
          'outcome',
        ].map((name) => [name, text]),
      );
      const detail = JSON.stringify({ [text]: { deep: [text, { text }] }, many: Array(5000).fill('x') });
      const [entry] = present(found(aRow({ ...texts, detail })), ALL).records;
      const json = JSON.stringify(entry);
      assert.equal(cleanText(json, Infinity), json);
      assert.ok(json.length < 8000, String(json.length));
      logEntrySchema.parse(entry);
    }),
  );
});

test('records together stay within the size asked for, and the next page begins with the first left out', () => {
  const rows = Array.from({ length: 50 }, (_, i) => aRow({ id: 50 - i, path: '/x'.repeat(i) }));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 6000 }), (maxCharacters) => {
      const { records, next, cut } = present(found(...rows), { verbose: false, maxCharacters });
      assert.ok(records.length === 1 || JSON.stringify(records).length <= maxCharacters + 2);
      assert.equal(cut, records.length < rows.length);
      assert.deepEqual(next, cut ? { time: NOON, id: rows[records.length - 1]!.id } : undefined);
    }),
  );
});
