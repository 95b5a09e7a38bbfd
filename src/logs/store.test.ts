import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import { DAY } from '../core/clock.ts';
import { aRecord, asTexts, NOON, temporaryFolder } from './fixtures.test.ts';
import { recordText } from './record-text.ts';
import { dayOf, pathOf } from './folder.ts';
import { LogStore } from './store.ts';

const FOREVER = { retentionDays: 3650, retentionBytes: Infinity };
const NOTHING_WRONG = { failed: 0, fault: undefined, error: undefined };

function aStore(t: TestContext): { store: LogStore; directory: string } {
  const directory = temporaryFolder(t);
  const store = new LogStore(directory);
  t.after(() => store.close());
  return { store, directory };
}

function rowsOf(directory: string, day: string): any[] {
  const connection = new BetterSqlite3(pathOf(directory, day), { readonly: true });
  try {
    return connection.prepare('select * from records order by id').all();
  } finally {
    connection.close();
  }
}

test('a record is in the file of its UTC day, whatever the order of arrival', (t) => {
  const { store, directory } = aStore(t);
  const midnight = Date.UTC(2026, 2, 11);
  const times = [midnight, midnight - 1, midnight - DAY, midnight + DAY - 1, midnight + DAY];
  assert.deepEqual(store.append(asTexts(...times.map((time) => aRecord({ time })))), NOTHING_WRONG);
  assert.deepEqual(
    Object.fromEntries(
      ['2026-03-10', '2026-03-11', '2026-03-12'].map((day) => [
        day,
        rowsOf(directory, day).map(({ time }) => time),
      ]),
    ),
    {
      '2026-03-10': [midnight - 1, midnight - DAY],
      '2026-03-11': [midnight, midnight + DAY - 1],
      '2026-03-12': [midnight + DAY],
    },
  );
});

test('files and folder are for the owner only', (t) => {
  const { store, directory } = aStore(t);
  store.append(asTexts(aRecord()));
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  const names = readdirSync(directory);
  assert.deepEqual(names.sort(), ['2026-03-10.sqlite', '2026-03-10.sqlite-shm', '2026-03-10.sqlite-wal']);
  for (const name of names) assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name);
});

test('a record that breaks the schema is counted and costs no other', (t) => {
  const { store, directory } = aStore(t);
  const result = store.append([
    ...asTexts(aRecord({ message: 'first' })),
    '[1773144000000,1,"access"]',
    '["soon"]',
    '{"time":1773144000000}',
    'not JSON',
    recordText(aRecord({ path: { not: 'text' } as never })),
    ...asTexts(aRecord({ message: 'last' })),
  ]);
  assert.equal(result.failed, 5);
  assert.equal(result.error, undefined);
  assert.ok(result.fault);
  assert.deepEqual(
    rowsOf(directory, dayOf(NOON)).map(({ message }) => message),
    ['first', 'last'],
  );
});

test('days beyond the age are deleted, whole, and today stays', (t) => {
  const { store, directory } = aStore(t);
  for (let age = 0; age < 6; age += 1) store.append(asTexts(aRecord({ time: NOON - age * DAY })));
  const { deleted } = store.sweep(NOON, { ...FOREVER, retentionDays: 3 });
  assert.deepEqual(deleted, ['2026-03-05', '2026-03-06', '2026-03-07']);
  assert.deepEqual(daysIn(directory), ['2026-03-08', '2026-03-09', '2026-03-10']);
  assert.deepEqual(store.sweep(NOON, { ...FOREVER, retentionDays: 3 }).deleted, []);
  assert.deepEqual(store.sweep(NOON + DAY, { ...FOREVER, retentionDays: 1 }).deleted, [
    '2026-03-08',
    '2026-03-09',
    '2026-03-10',
  ]);
});

test('beyond the size, the oldest days go first, and only as many as it takes', (t) => {
  const { store, directory } = aStore(t);
  for (let age = 0; age < 4; age += 1) store.append(asTexts(aRecord({ time: NOON - age * DAY })));
  store.close();
  const { bytes } = store.sweep(NOON, FOREVER);
  const one = bytes / 4;
  const swept = store.sweep(NOON, { ...FOREVER, retentionBytes: bytes - one });
  assert.deepEqual(swept, { deleted: ['2026-03-07'], bytes: 3 * one });
  assert.deepEqual(store.sweep(NOON, { ...FOREVER, retentionBytes: 1 }), {
    deleted: ['2026-03-08', '2026-03-09'],
    bytes: one,
  });
  assert.deepEqual(daysIn(directory), ['2026-03-10']);
});

test('the day goes on being written after a sweep deleted others, and a deleted day can come back', (t) => {
  const { store, directory } = aStore(t);
  store.append(asTexts(aRecord({ time: NOON - DAY }), aRecord()));
  store.sweep(NOON, { ...FOREVER, retentionDays: 1 });
  assert.deepEqual(store.append(asTexts(aRecord({ time: NOON - DAY }), aRecord())), NOTHING_WRONG);
  assert.equal(rowsOf(directory, '2026-03-09').length, 1);
  assert.equal(rowsOf(directory, '2026-03-10').length, 2);
});

test('foreign files in the folder are neither counted nor deleted', (t) => {
  const { store, directory } = aStore(t);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'notes.txt'), 'x'.repeat(1000));
  assert.deepEqual(store.sweep(NOON, { retentionDays: 1, retentionBytes: 1 }), { deleted: [], bytes: 0 });
  assert.ok(existsSync(join(directory, 'notes.txt')));
});

test('a file that is no database is set aside and the day is written anew', (t) => {
  const { store, directory } = aStore(t);
  mkdirSync(directory, { recursive: true });
  writeFileSync(pathOf(directory, '2026-03-10'), 'this is not a database at all'.repeat(100));
  assert.deepEqual(store.append(asTexts(aRecord())), NOTHING_WRONG);
  assert.equal(rowsOf(directory, '2026-03-10').length, 1);
  assert.match(readFileSync(`${pathOf(directory, '2026-03-10')}.damaged`, 'utf8'), /^this is not/);
  assert.deepEqual(store.sweep(NOON + DAY, { ...FOREVER, retentionDays: 1 }).deleted, ['2026-03-10']);
  assert.deepEqual(readdirSync(directory), []);
});

test('a file of another version of this program is left alone', (t) => {
  const { store, directory } = aStore(t);
  mkdirSync(directory, { recursive: true });
  const newer = new BetterSqlite3(pathOf(directory, '2026-03-10'));
  newer.pragma('user_version = 99');
  newer.close();
  const { failed, error } = store.append(asTexts(aRecord()));
  assert.equal(failed, 1);
  assert.match(error ?? '', /log format 99/);
});

test('a credential in any field of a record is not in the file', (t) => {
  const { store, directory } = aStore(t);
  const canary = `ohp_${'c4n4ry'.repeat(8)}`;
  const fields = ['message', 'path', 'user_agent', 'principal', 'hostname', 'operation', 'outcome'] as const;
  const records = fields.map((field) => aRecord({ [field]: `x ${canary} y` }));
  store.append(asTexts(...records, aRecord({ detail: { deep: [{ [canary]: canary }] } })));
  store.close();
  for (const name of readdirSync(directory))
    assert.ok(!readFileSync(join(directory, name), 'latin1').includes('c4n4ry'), name);
  assert.equal(rowsOf(directory, '2026-03-10').length, fields.length + 1);
});

function daysIn(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.sqlite'))
    .map((name) => name.slice(0, 10))
    .sort();
}
