import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { performance } from 'node:perf_hooks';
import BetterSqlite3 from 'better-sqlite3';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { aRecord, asTexts, aSink, NOON, someFiles, until } from './fixtures.test.ts';
import { packedPathOf, packingPathOf, pathOf, unpackedFolderOf } from './folder.ts';
import { leftOutHints } from './left-out.ts';
import { LogFiles } from './query.ts';
import { searchText } from './search.ts';
import { statsOf } from './stats.ts';
import { LogStore } from './store.ts';

const LATER = NOON + 10 * DAY;
const TODAY = '2026-03-10';
const ENOUGH = { milliseconds: 60_000, now: () => performance.now() };
/** Time is up after so many looks at the clock. */
const looks = (count: number) => ({ milliseconds: 1, now: () => (count-- > 0 ? 0 : 2) });

const records = Array.from({ length: 500 }, (_, index) =>
  aRecord({
    time: NOON + index * MINUTE,
    message: `request ${index}`,
    hostname: `app${index % 5}.example.com`,
    status: index % 50 === 0 ? 502 : 200,
    duration_ms: index,
    bytes_in: 1,
    bytes_out: 2,
    detail: { route: `rte_${index % 3}` },
  }),
);
const question = (filter = {}) => ({
  filter: { kind: 'access' as const, since: 0, until: LATER, ...filter },
  groupBy: 'host' as const,
  sortBy: 'count' as const,
  top: 10,
  interval: undefined,
});
const whole = (files: LogFiles, filter = {}) =>
  files.search({ filter, limit: 1000, after: undefined }, ENOUGH);

function aPackedDay(t: TestContext) {
  const made = someFiles(t, records);
  const before = { rows: whole(made.files).rows, stats: statsOf(made.files, question(), ENOUGH) };
  while (made.store.pack(LATER, 7)) continue;
  return { ...made, before };
}

test('a day that is packed answers what it answered before, in a fraction of its bytes', (t) => {
  const { directory, files, store, before } = aPackedDay(t);
  const names = readdirSync(directory).filter((name) => name !== 'unpacked');
  assert.deepEqual(
    names,
    ['2026-03-10.packed', '2026-03-11.packed'].filter((name) => names.includes(name)),
  );
  assert.equal(before.rows.length, records.length);
  assert.deepEqual(whole(files).rows, before.rows);
  assert.deepEqual(statsOf(files, question(), ENOUGH), before.stats);
  assert.equal(whole(files, { hostname: 'app3.example.com', statusMin: 500 }).rows.length, 0);
  assert.equal(searchText(files, { filter: { contains: 'REQUEST 49' }, before: undefined }, ENOUGH).hits, 11);
  assert.equal(store.sweep(LATER, { retentionDays: 30, retentionBytes: Infinity }).deleted.length, 0);
});

test('counts of a packed day need nothing unpacked', (t) => {
  const { directory, files, before } = aPackedDay(t);
  assert.deepEqual(statsOf(files, question(), ENOUGH), { ...before.stats, source: 'rollup' });
  assert.equal(existsSync(unpackedFolderOf(directory)), false);
});

test('what was unpacked goes with the reader', (t) => {
  const { directory, files } = aPackedDay(t);
  whole(files);
  assert.ok(readdirSync(unpackedFolderOf(directory)).length > 0);
  files.close();
  assert.equal(existsSync(unpackedFolderOf(directory)), false);
});

test('who has no time to unpack is told how far the search came, and goes on there', (t) => {
  const { files } = aPackedDay(t);
  const { rows, next, searchedBackTo } = files.search(
    { filter: {}, limit: 1000, after: undefined },
    looks(1),
  );
  assert.deepEqual(rows, []);
  assert.ok(searchedBackTo !== undefined && next);
  assert.equal(files.search({ filter: {}, limit: 1000, after: next }, ENOUGH).rows.length, records.length);
});

test('today and the days before it stay as they are until they are old enough', (t) => {
  const { store, directory } = someFiles(t, records);
  assert.equal(store.pack(NOON + 7 * DAY, 7), false);
  assert.ok(existsSync(pathOf(directory, TODAY)));
});

test('a record that comes late makes its day plain again, with all that was in it', (t) => {
  const { directory, store, files } = aPackedDay(t);
  store.append(asTexts(aRecord({ time: NOON + HOUR, message: 'late' })));
  assert.ok(existsSync(pathOf(directory, TODAY)));
  assert.equal(existsSync(packedPathOf(directory, TODAY)), false);
  assert.equal(whole(files).rows.length, records.length + 1);
});

test('a record that comes while its day is being packed is kept', (t) => {
  const { directory, store, files } = someFiles(t, records);
  assert.ok(store.pack(LATER, 7));
  assert.ok(existsSync(packingPathOf(directory, TODAY)));
  store.append(asTexts(aRecord({ time: NOON + HOUR, message: 'late' })));
  assert.equal(existsSync(packingPathOf(directory, TODAY)), false);
  while (store.pack(LATER, 7)) continue;
  assert.equal(whole(files).rows.length, records.length + 1);
});

test('a process that was killed in the middle of packing left the day whole, and the next one packs it', (t) => {
  const { directory, store, files } = someFiles(t, records);
  store.pack(LATER, 7);
  store.close();
  writeFileSync(packingPathOf(directory, TODAY), 'half');
  const next = new LogStore(directory);
  t.after(() => next.close());
  assert.equal(whole(files).rows.length, records.length);
  while (next.pack(LATER, 7)) continue;
  assert.equal(existsSync(packingPathOf(directory, TODAY)), false);
  assert.equal(whole(files).rows.length, records.length);
});

test('killed between the packed file and the end of the plain one: each record is there once', (t) => {
  const { directory, store, files } = someFiles(t, records);
  const plain = pathOf(directory, TODAY);
  store.close();
  writeFileSync(packedPathOf(directory, TODAY), 'of before');
  assert.equal(whole(files).rows.length, records.length);
  const next = new LogStore(directory);
  t.after(() => next.close());
  while (next.pack(LATER, 7)) continue;
  assert.equal(existsSync(plain), false);
  assert.equal(whole(files).rows.length, records.length);
});

for (const [how, damage] of [
  ['cut off', (path: string) => truncateSync(path, statSync(path).size - 8192)],
  ['no file of this kind', (path: string) => writeFileSync(path, 'no database')],
  [
    'with a piece that is another',
    (path: string) => {
      const raw = new BetterSqlite3(path);
      raw.prepare('update pieces set data = ?').run(Buffer.from('nothing that was ever packed'));
      raw.close();
    },
  ],
] as const)
  test(`a packed day that is damaged (${how}) is named, and costs the other days nothing`, (t) => {
    const { directory, store, files } = aPackedDay(t);
    store.append(asTexts(aRecord({ time: NOON + 5 * DAY }), aRecord({ time: NOON - 5 * DAY })));
    const rest = records.filter(({ time }) => time >= Date.parse(TODAY) + DAY).length + 2;
    damage(packedPathOf(directory, TODAY));
    for (let times = 0; times < 2; times++) {
      assert.equal(whole(files).rows.length, rest);
      assert.deepEqual(files.leftOut(), [{ day: TODAY, why: 'damaged' }]);
    }
    const byRecords = question({ level: 'debug' });
    assert.equal(statsOf(files, byRecords, ENOUGH).total.count, rest);
    assert.equal(
      searchText(files, { filter: { contains: 'request' }, before: undefined }, ENOUGH).hits,
      rest,
    );
    assert.deepEqual(files.leftOut(), [{ day: TODAY, why: 'damaged' }]);
    assert.equal(whole(files, { since: NOON + 2 * DAY }).rows.length, 1);
    assert.deepEqual(files.leftOut(), [], 'only where it was asked for');
    assert.match(
      leftOutHints([{ day: TODAY, why: 'damaged' }]).join(),
      /Without 2026-03-10: the file is damaged/,
    );
  });

test('without room for it nothing is unpacked, and the question is told so', (t) => {
  const { directory } = aPackedDay(t);
  const files = new LogFiles(directory, Number.MAX_SAFE_INTEGER);
  t.after(() => files.close());
  assert.deepEqual(whole(files).rows, []);
  assert.ok(files.leftOut().every(({ why }) => why === 'no_room') && files.leftOut().length > 0);
  assert.deepEqual(readdirSync(unpackedFolderOf(directory)), []);
  assert.match(
    leftOutHints(files.leftOut()).join(),
    /no room on the disk to unpack it; make room and ask again/,
  );
  assert.equal(statsOf(files, question(), ENOUGH).total.count, records.length, 'counts need none');
});

test('a day that can not be begun to be packed leaves nothing behind', (t) => {
  const { directory, store } = someFiles(t, records);
  const raw = new BetterSqlite3(pathOf(directory, '2026-03-01'));
  raw.exec("pragma encoding = 'UTF-16'; create table records (id)");
  raw.close();
  assert.throws(() => store.pack(LATER, 7), /encoding/);
  assert.equal(existsSync(packingPathOf(directory, '2026-03-01')), false);
});

test('a day that cannot be packed holds up no other one, and is tried again after the next sweep', (t) => {
  const { directory, store } = someFiles(t, [...records, aRecord({ time: NOON - 2 * DAY })]);
  const broken = pathOf(directory, '2026-03-01');
  writeFileSync(broken, 'no database');
  assert.throws(() => store.pack(LATER, 7));
  while (store.pack(LATER, 7)) continue;
  assert.ok(existsSync(packedPathOf(directory, TODAY)) && existsSync(packedPathOf(directory, '2026-03-08')));
  assert.ok(existsSync(broken));
  assert.equal(existsSync(packingPathOf(directory, '2026-03-01')), false);
  store.sweep(LATER, { retentionDays: 30, retentionBytes: Infinity });
  assert.throws(() => store.pack(LATER, 7));
});

test('retention takes packed days by age, and by the bytes that they have now', (t) => {
  const { directory, store } = aPackedDay(t);
  const { bytes } = store.sweep(LATER, { retentionDays: 30, retentionBytes: Infinity });
  assert.ok(bytes > 0);
  assert.deepEqual(store.sweep(LATER, { retentionDays: 30, retentionBytes: bytes }).deleted, []);
  assert.deepEqual(store.sweep(LATER, { retentionDays: 5, retentionBytes: Infinity }).bytes, 0);
  assert.deepEqual(readdirSync(directory), []);
});

test('the writer packs old days by itself, while records come', async (t) => {
  const { sink, clock, directory } = aSink(t, { compressAfterDays: 2 });
  for (const record of records) sink.write(record);
  await sink.flush(60_000);
  clock.advance(5 * DAY);
  sink.write(aRecord({ time: clock.now() }));
  await until('the day is packed', () => existsSync(packedPathOf(directory, TODAY)));
  await sink.flush(60_000);
  assert.deepEqual([sink.stats().dropped, sink.stats().written], [0, records.length + 1]);
});
