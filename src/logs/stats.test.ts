import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import fc from 'fast-check';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { aRecord, asTexts, NOON, someFiles } from './fixtures.test.ts';

import { parseFilter } from './filter.ts';
import type { LogFiles } from './query.ts';
import { Rollup } from './rollup.ts';
import { type StatsQuestion, statsOf } from './stats.ts';
import { dayOf, pathOf } from './folder.ts';
import { LogStore } from './store.ts';

const UNHURRIED = { milliseconds: Infinity, now: () => 0 };

function question(
  filter: Partial<StatsQuestion['filter']> = {},
  more: Partial<StatsQuestion> = {},
): StatsQuestion {
  const range = { since: NOON - DAY, until: NOON + DAY };
  return {
    filter: { kind: 'access', ...range, ...filter },
    groupBy: undefined,
    sortBy: 'count',
    top: 100,
    interval: undefined,
    ...more,
  };
}

/** Nothing is below it, but the counts by minute don't know it: the records are asked. */
const byRecords = { level: 'debug' } as const;

const hostnames = ['a.example.com', 'b.a.example.com', 'example.org', undefined];
const record = fc.record({
  time: fc.integer({ min: NOON - 26 * HOUR, max: NOON + 2 * HOUR }),
  kind: fc.constantFrom('access' as const, 'audit' as const),
  hostname: fc.constantFrom(...hostnames),
  status: fc.constantFrom(101, 200, 301, 404, 499, 500, 503, undefined),
  duration_ms: fc.oneof(fc.constant(undefined), fc.double({ min: 0, max: 200_000, noNaN: true })),
  bytes_in: fc.constantFrom(0, 10, undefined),
  bytes_out: fc.constantFrom(0, 7, undefined),
  detail: fc.constantFrom(
    undefined,
    { proxy: 'px_1', route: 'rt_1' },
    { proxy: 'px_1', note: '"route":"x"' },
  ),
});
const minute = fc.integer({ min: -26 * 60, max: 3 * 60 }).map((minutes) => NOON + minutes * MINUTE);

const asked = fc.record({
  one: minute,
  other: minute,
  groupBy: fc.constantFrom(undefined, 'host' as const, 'route' as const, 'status_class' as const),
  interval: fc.constantFrom(undefined, MINUTE, 15 * MINUTE, HOUR, DAY),
  hostname: fc.constantFrom(undefined, 'a.example.com', '*.example.com'),
  confinement: fc.oneof(
    { arbitrary: fc.constant(undefined), weight: 4 },
    fc.constantFrom(['example.org'], ['*.example.com', 'example.org'], []),
  ),
  filter: fc.constantFrom(
    '',
    '',
    'host:a.example.com',
    'host:*.example.com',
    'host:a.example.com,example.org',
    '-host:*.a.example.com',
  ),
});
type Asked = typeof asked extends fc.Arbitrary<infer Value> ? Value : never;

function bothWays(
  files: LogFiles,
  { one, other, groupBy, interval, hostname, confinement, filter: text }: Asked,
) {
  const [since, until] = [Math.min(one, other), Math.max(one, other) + MINUTE];
  const { terms } = parseFilter(text, NOON);
  const filter = { since, until, hostname, hostnames: confinement, terms };
  const shape = { groupBy, interval };
  const kept = statsOf(files, question(filter, shape), UNHURRIED);
  const counted = statsOf(files, question({ ...filter, ...byRecords }, shape), UNHURRIED);
  const groups = (answer: typeof kept) => answer.groups.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  assert.deepEqual(groups(kept), groups(counted));
  assert.deepEqual([kept.total, kept.buckets], [counted.total, counted.buckets]);
  assert.ok(kept.source === 'rollup' && counted.source !== 'both');
  return { since, until, total: kept.total };
}

test('counts that were kept by minute and hour are those of the records, also after a crash', (t) => {
  const { directory, store, files } = someFiles(t);
  let writing = store;
  t.after(() => writing.close());
  const all: LogRecord[] = [];
  fc.assert(
    fc.property(fc.array(record, { maxLength: 40 }), fc.boolean(), asked, (records, crashes, wanted) => {
      const fresh = records.map((it) => aRecord(it));
      all.push(...fresh);
      writing.append(asTexts(...fresh));
      // What the writer knows and the file does not is gone: closing writes nothing.
      if (crashes) writing.close();
      if (crashes) writing = new LogStore(directory);
      const { since, until, total } = bothWays(files, wanted);
      const within = all.filter(({ time, kind }) => kind === 'access' && time >= since && time < until);
      if (wanted.hostname === undefined && wanted.confinement === undefined && wanted.filter === '')
        assert.equal(total.count, within.length);
    }),
    { numRuns: 120 },
  );
});

/** The next batch: how many minutes after the one before, and how late its records come. */
const batch = fc.record({
  minutes: fc.integer({ min: 0, max: 40 }),
  records: fc.array(fc.record({ it: record, lateMinutes: fc.constantFrom(0, 0, 0, 1, 20, 70) }), {
    maxLength: 6,
  }),
  crashes: fc.boolean(),
  wanted: asked,
});

test('counts are those of the records at any time of an hour, and of what comes late', (t) => {
  fc.assert(
    fc.property(fc.array(batch, { minLength: 3, maxLength: 12 }), (batches) => {
      const { directory, store, files } = someFiles(t);
      let [writing, now] = [store, NOON - 4 * HOUR];
      for (const { minutes, records, crashes, wanted } of batches) {
        now += minutes * MINUTE;
        const time = (late: number) => now - late * MINUTE;
        writing.append(
          asTexts(...records.map(({ it, lateMinutes }) => aRecord({ ...it, time: time(lateMinutes) }))),
        );
        if (crashes) writing.close();
        if (crashes) writing = new LogStore(directory);
        bothWays(files, wanted);
      }
      writing.close();
      files.close();
    }),
    { numRuns: 40 },
  );
});

test('a day whose hours an earlier version counted with each record is counted on', (t) => {
  const { directory, store, files } = someFiles(t);
  const fresh = () => asTexts(...fc.sample(record, 100).map((it) => aRecord(it)));
  store.append(fresh());
  store.close();
  for (const day of [NOON, NOON - DAY, NOON - 2 * DAY]
    .map(dayOf)
    .filter((one) => existsSync(pathOf(directory, one)))) {
    const raw = new BetterSqlite3(pathOf(directory, day));
    raw.transaction(() => new Rollup(raw).sumUpToEnd())();
    raw.exec('drop table counted');
    raw.close();
  }
  fc.assert(
    fc.property(asked, (wanted) => void bothWays(files, wanted)),
    { numRuns: 20 },
  );
  const next = new LogStore(directory);
  next.append(fresh());
  fc.assert(
    fc.property(asked, (wanted) => void bothWays(files, wanted)),
    { numRuns: 40 },
  );
  next.close();
});

test('counts of days that are packed are those of their records, whatever hostnames are asked for', (t) => {
  const { store, files } = someFiles(
    t,
    fc.sample(record, 300).map((it) => aRecord(it)),
  );
  while (store.pack(NOON + 10 * DAY, 7)) continue;
  fc.assert(
    fc.property(asked, (wanted) => void bothWays(files, wanted)),
    { numRuns: 60 },
  );
});

/** Two batches of the minute that runs. */
function aRunningMinute(t: TestContext) {
  const { directory, store, files } = someFiles(t, [aRecord({ hostname: 'a.example.com' })]);
  store.append(asTexts(aRecord({ hostname: 'a.example.com' }), aRecord({ kind: 'audit' })));
  const counted = () => {
    const raw = new BetterSqlite3(pathOf(directory, dayOf(NOON)), { readonly: true });
    const { count } = raw.prepare<[], { count: number }>('select sum(count) as count from sums').get()!;
    raw.close();
    return count;
  };
  return { store, files, counted };
}

test('a minute is written to the file when it is over, and its records are counted until then', (t) => {
  const { store, files, counted } = aRunningMinute(t);
  assert.equal(counted(), 1);
  for (const shape of [{}, { groupBy: 'host' as const }, { interval: MINUTE }]) {
    const { total, source } = statsOf(files, question({}, shape), UNHURRIED);
    assert.deepEqual([total.count, source], [2, 'rollup']);
  }
  store.append(asTexts(aRecord({ time: NOON + MINUTE })));
  assert.equal(counted(), 3);
  assert.equal(statsOf(files, question(), UNHURRIED).total.count, 3);
});

test('what is packed is counted to its end', (t) => {
  const { store, files, counted } = aRunningMinute(t);
  assert.equal(counted(), 1);
  while (store.pack(NOON + 10 * DAY, 7)) continue;
  const { total, source } = statsOf(files, question(), UNHURRIED);
  assert.deepEqual([total.count, source], [2, 'rollup']);
});

test('percentiles are at most a fifth or a millisecond beside the true ones', (t) => {
  const spread = Array.from({ length: 1000 }, (_, index) => 1 + index * 3);
  const alike = (duration: number): number[] => Array.from({ length: 100 }, () => duration);
  for (const durations of [
    spread,
    alike(1024),
    alike(1),
    alike(0.2),
    alike(100_000),
    [...alike(3), ...alike(2000)],
  ]) {
    const { files } = someFiles(
      t,
      durations.map((duration_ms) => aRecord({ duration_ms })),
    );
    const { total } = statsOf(files, question(), UNHURRIED);
    for (const [found, share] of [
      [total.p50_ms, 0.5],
      [total.p95_ms, 0.95],
      [total.p99_ms, 0.99],
    ] as const) {
      const real = durations[Math.ceil(share * durations.length) - 1] ?? 0;
      assert.ok(
        found !== undefined && Math.abs(found - real) <= Math.max(1, real / 5),
        `${found} for ${real}`,
      );
    }
  }
  assert.equal(statsOf(someFiles(t, [aRecord()]).files, question(), UNHURRIED).total.p50_ms, undefined);
});

test('any column can be a group, with what failed, in the order that is asked for', (t) => {
  const { files } = someFiles(t, [
    ...Array.from({ length: 3 }, () =>
      aRecord({ principal: 'tok_1', status: 200, client_address: '192.0.2.1' }),
    ),
    ...Array.from({ length: 2 }, () =>
      aRecord({ principal: 'tok_2', status: 502, client_address: '192.0.2.1' }),
    ),
    aRecord({ principal: 'tok_2', status: 403, client_address: '192.0.2.2' }),
    aRecord({ kind: 'mcp', detail: { tool: 'echo' } }),
  ]);
  const keys = (
    groupBy: StatsQuestion['groupBy'],
    more: Partial<StatsQuestion> = {},
    kind: 'access' | 'mcp' = 'access',
  ) =>
    statsOf(files, question({ kind }, { groupBy, ...more }), UNHURRIED).groups.map((group) => [
      group.name,
      group.count,
      group.client_errors,
      group.server_errors,
    ]);
  assert.deepEqual(keys('principal'), [
    ['tok_1', 3, 0, 0],
    ['tok_2', 3, 1, 2],
  ]);
  assert.deepEqual(keys('principal', { sortBy: 'server_errors', top: 1 }), [['tok_2', 3, 1, 2]]);
  assert.deepEqual(keys('client'), [
    ['192.0.2.1', 5, 0, 2],
    ['192.0.2.2', 1, 1, 0],
  ]);
  assert.deepEqual(keys('status'), [
    ['200', 3, 0, 0],
    ['502', 2, 0, 2],
    ['403', 1, 1, 0],
  ]);
  assert.deepEqual(keys('tool', {}, 'mcp'), [['echo', 1, 0, 0]]);
  assert.deepEqual(keys('level'), [['info', 6, 1, 2]]);
  assert.deepEqual(
    keys('status_class').map(([name]) => name),
    ['2xx', '5xx', '4xx'],
  );
});

test('a file of an earlier version gets its counts when it is opened for writing, and is counted by records until then', (t) => {
  const { directory, store, files } = someFiles(t, [aRecord({ hostname: 'a.example.com' }), aRecord()]);
  store.close();
  files.close();
  const raw = new BetterSqlite3(pathOf(directory, dayOf(NOON)));
  raw.exec('drop table sums; drop index records_audit');
  raw.close();
  const before = statsOf(files, question({}, { groupBy: 'host' }), UNHURRIED);
  assert.deepEqual([before.source, before.total.count], ['records', 2]);
  store.append(asTexts(aRecord()));
  const after = statsOf(files, question({}, { groupBy: 'host' }), UNHURRIED);
  assert.deepEqual([after.source, after.total.count], ['rollup', 3]);
  assert.deepEqual(
    after.groups.map(({ name, count }) => [name, count]),
    [
      ['', 2],
      ['a.example.com', 1],
    ],
  );
});

test('hostnames that strangers make up by the hundred are counted as one, and cost a served name nothing', (t) => {
  const served = aRecord({ hostname: 'a.example.com', detail: { request: 'proxied' } });
  const refused = { request: 'refused' };
  const made = Array.from({ length: 300 }, (_, index) =>
    aRecord({ hostname: `x${index}.example.net`, detail: refused }),
  );
  const late = aRecord({ hostname: 'a.example.com', detail: refused, status: 400 });
  const { directory, files } = someFiles(t, [served, ...made, served, late]);
  const raw = new BetterSqlite3(pathOf(directory, dayOf(NOON)), { readonly: true });
  const rows = raw.prepare('select count(distinct hostname) as names from sums').get();
  raw.close();
  assert.deepEqual(rows, { names: 202 });
  const all = statsOf(files, question({}, { groupBy: 'host', top: 1000 }), UNHURRIED);
  const countOf = (host: string) => all.groups.find(({ name }) => name === host)?.count;
  assert.deepEqual(
    [all.total.count, countOf('a.example.com'), countOf('(others, not served)')],
    [303, 3, 100],
  );
  // A served one by its name, also for who is confined to it, is still told at once.
  for (const filter of [{ hostname: 'a.example.com' }, { hostnames: ['a.example.com'] }]) {
    const { total, source } = statsOf(files, question(filter), UNHURRIED);
    assert.deepEqual([total.count, source], [3, 'rollup']);
  }
  // Of those that were too many only the records know.
  const one = statsOf(files, question({ hostname: 'x299.example.net' }), UNHURRIED);
  assert.deepEqual([one.total.count, one.source], [1, 'records']);
});

test('a large file of an earlier version is left without counts, and takes records as before', (t) => {
  const { directory, store, files } = someFiles(t, [aRecord()]);
  store.close();
  const raw = new BetterSqlite3(pathOf(directory, dayOf(NOON)));
  raw.exec('drop table sums; drop index records_audit; update records set id = 1000000');
  raw.close();
  const { failed } = store.append(asTexts(aRecord()));
  const { source, total } = statsOf(files, question(), UNHURRIED);
  assert.deepEqual([failed, source, total.count], [0, 'records', 2]);
});

test('when the time is up it says how far back it counted', (t) => {
  const hours = Array.from({ length: 20 }, (_, index) => aRecord({ time: NOON - index * HOUR }));
  const { files } = someFiles(t, hours);
  let now = 0;
  const hurried = { milliseconds: 5, now: () => (now += 1) };
  const answer = statsOf(files, question({ ...byRecords, until: NOON + 1 }), hurried);
  assert.ok(answer.countedBackTo !== undefined && answer.countedBackTo > NOON - DAY);
  assert.equal(answer.total.count, hours.filter(({ time }) => time >= (answer.countedBackTo ?? 0)).length);
});
