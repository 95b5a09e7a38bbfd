import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import fc from 'fast-check';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { confines } from '../core/hostname.ts';
import { type LogRecord, logLevels, recordKinds } from '../core/record.ts';
import { aRecord, asTexts, NOON, someFiles } from './fixtures.test.ts';
import { levelRank } from './levels.ts';
import { type LogFilter, type Position, statementOf, withNames } from './conditions.ts';
import { LogFiles } from './query.ts';
import { dayOf, pathOf } from './folder.ts';
import { parseFilter } from './filter.ts';
import { LogStore } from './store.ts';

const UNHURRIED = { milliseconds: Infinity, now: () => 0 };

function messages(files: LogFiles, filter: LogFilter = {}, limit = 1000, after?: Position): string[] {
  return files.search({ filter, limit, after }, UNHURRIED).rows.map(({ message }) => message);
}

const hostnames = [
  'app.example.com',
  'a.dev.example.com',
  'b.a.dev.example.com',
  '*.dev.example.com',
  'example.org',
];
const records = fc.array(
  fc.record({
    time: fc.integer({ min: NOON - 2 * DAY, max: NOON }),
    level: fc.constantFrom(...logLevels),
    kind: fc.constantFrom(...recordKinds),
    component: fc.constant('gateway' as const),
    message: fc.constantFrom('request', 'a%b', 'a_b', 'say "x\\y"', ''),
    hostname: fc.option(fc.constantFrom(...hostnames), { nil: undefined }),
    status: fc.option(fc.constantFrom(200, 301, 399, 400, 404, 500, 503), { nil: undefined }),
    client_address: fc.constantFrom('192.0.2.1', '192.0.2.2', undefined),
    principal: fc.constantFrom('anonymous', 'tok_1', 'tok_2', undefined),
    path: fc.constantFrom('/', '/api/x', '/api', '/API', '/50%', undefined),
    trace_id: fc.constantFrom('0a', '0b', undefined),
    operation: fc.constantFrom('get_logs', 'tools/call', undefined),
    detail: fc.constantFrom(undefined, { note: 'Needle' }),
  }),
  { maxLength: 30 },
);

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });
const status = fc.constantFrom(200, 301, 400, 401, 500, 599);
const filters = fc.record({
  level: optional(fc.constantFrom(...logLevels)),
  kind: optional(fc.constantFrom(...recordKinds)),
  hostname: optional(fc.constantFrom(...hostnames, '*.example.com')),
  statusMin: optional(status),
  statusMax: optional(status),
  clientAddress: optional(fc.constantFrom('192.0.2.1', '192.0.2.9')),
  principal: optional(fc.constantFrom('anonymous', 'tok_1')),
  pathPrefix: optional(fc.constantFrom('/', '/api', '/50%')),
  traceId: optional(fc.constantFrom('0a', '0c')),
  operation: optional(fc.constantFrom('get_logs')),
  contains: optional(fc.constantFrom('%', '_', '\\', 'needle', 'API', '"')),
  since: optional(fc.integer({ min: NOON - 2 * DAY, max: NOON })),
  until: optional(fc.integer({ min: NOON - 2 * DAY, max: NOON })),
  hostnames: optional(
    fc.array(fc.constantFrom(...hostnames, '*.example.com', '*.a.dev.example.com'), { maxLength: 3 }),
  ),
});

/** Each filter left in with even odds, so that many are alone and many meet. */
const fewFilters = fc
  .tuple(filters, fc.array(fc.boolean(), { minLength: 14, maxLength: 14 }))
  .map(([filter, kept]) => Object.fromEntries(Object.entries(filter).filter((_, i) => kept[i])) as LogFilter);

/** The same question, asked of an array. */
function matches(record: LogRecord, filter: LogFilter): boolean {
  const { hostname = '', status: code, path = '', time } = record;
  const texts = [record.message, record.path, JSON.stringify(record.detail)];
  const checks: [unknown, () => boolean][] = [
    [filter.level, () => levelRank(record.level) >= levelRank(filter.level!)],
    [filter.kind, () => record.kind === filter.kind],
    [filter.hostname, () => confines(filter.hostname!, hostname)],
    [filter.statusMin, () => code !== undefined && code >= filter.statusMin!],
    [filter.statusMax, () => code !== undefined && code <= filter.statusMax!],
    [filter.clientAddress, () => record.client_address === filter.clientAddress],
    [filter.principal, () => record.principal === filter.principal],
    [filter.pathPrefix, () => path.startsWith(filter.pathPrefix!)],
    [filter.traceId, () => record.trace_id === filter.traceId],
    [filter.operation, () => record.operation === filter.operation],
    [
      filter.contains,
      () => texts.some((text) => text?.toLowerCase().includes(filter.contains!.toLowerCase())),
    ],
    [filter.since, () => time >= filter.since!],
    [filter.until, () => time < filter.until!],
    [filter.hostnames, () => filter.hostnames!.some((pattern) => confines(pattern, hostname))],
  ];
  return checks.every(([asked, holds]) => asked === undefined || holds());
}

test('any combination of filters finds exactly the records it describes, newest first', () => {
  // Many questions of the same files: making them takes longer than asking.
  const questions = fc.array(fewFilters, { minLength: 10, maxLength: 10 });
  fc.assert(
    fc.property(records, questions, (generated, asked) => {
      const made = generated.map((record, index) => ({ ...record, outcome: String(index) }));
      withFiles(made, (files) => {
        for (const filter of asked) assertFound(files, filter, made);
      });
    }),
    { numRuns: 20 },
  );
});

function assertFound(files: LogFiles, filter: LogFilter, made: readonly LogRecord[]): void {
  const { rows, next } = files.search({ filter, limit: 1000, after: undefined }, UNHURRIED);
  const expected = made.filter((record) => matches(record, filter));
  assert.deepEqual(
    new Set(rows.map(({ outcome }) => outcome)),
    new Set(expected.map(({ outcome }) => outcome)),
  );
  assert.deepEqual(
    rows.map(({ time }) => time),
    expected.map(({ time }) => time).sort((a, b) => b - a),
  );
  assert.equal(next, undefined);
}

test('pages of any size, one after the other, are the whole without a gap or a repetition', () => {
  fc.assert(
    fc.property(records, fc.integer({ min: 1, max: 7 }), (generated, limit) => {
      withFiles(generated, (files) => {
        const whole = files.search({ filter: {}, limit: 1000, after: undefined }, UNHURRIED).rows;
        const pages = [];
        let after: Position | undefined;
        do {
          const { rows, next } = files.search({ filter: {}, limit, after }, UNHURRIED);
          assert.ok(rows.length === limit || next === undefined);
          pages.push(...rows);
          after = next;
        } while (after);
        assert.deepEqual(pages, whole);
      });
    }),
    { numRuns: 25 },
  );
});

function withFiles(made: LogRecord[], run: (files: LogFiles) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'logs-test-'));
  const store = new LogStore(directory);
  const files = new LogFiles(directory);
  try {
    assert.equal(store.append(asTexts(...made)).failed, 0);
    run(files);
  } finally {
    files.close();
    store.close();
    rmSync(directory, { recursive: true });
  }
}

test('the next page is the same whatever arrives in between', (t) => {
  const old = Array.from({ length: 10 }, (_, i) =>
    aRecord({ time: NOON - (i % 3) * DAY, message: `old ${i}` }),
  );
  const { store, files } = someFiles(t, old);
  const whole = messages(files);
  const first = files.search({ filter: {}, limit: 4, after: undefined }, UNHURRIED);
  store.append(asTexts(aRecord({ message: 'new' }), aRecord({ time: NOON + DAY, message: 'newer' })));
  assert.deepEqual(messages(files, {}, 1000, first.next), whole.slice(4));
  assert.deepEqual(messages(files, {}, 2), ['newer', 'new']);
});

test('what the writer has committed is found at once, also in a file that is new', (t) => {
  const { store, files } = someFiles(t);
  assert.deepEqual(messages(files), []);
  for (const time of [NOON, NOON + 1, NOON + DAY, NOON]) {
    store.append(asTexts(aRecord({ time, message: `at ${time}` })));
    assert.ok(messages(files).includes(`at ${time}`));
  }
});

test('a day that retention deleted is gone, and one that comes back is read anew', (t) => {
  const { store, files } = someFiles(t, [aRecord({ time: NOON - DAY, message: 'yesterday' }), aRecord()]);
  assert.deepEqual(messages(files), ['request', 'yesterday']);
  store.sweep(NOON, { retentionDays: 1, retentionBytes: Infinity });
  assert.deepEqual(messages(files), ['request']);
  store.append(asTexts(aRecord({ time: NOON - DAY, message: 'late' })));
  assert.deepEqual(messages(files), ['request', 'late']);
});

test('a file that is not ours to read hides no other day', (t) => {
  const { directory, files } = someFiles(t, [aRecord()]);
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    pathOf(directory, '2026-03-09'),
    'not a database, but long enough to be looked at'.repeat(50),
  );
  const newer = new BetterSqlite3(pathOf(directory, '2026-03-08'));
  newer.pragma('user_version = 99');
  newer.close();
  assert.deepEqual(messages(files), ['request']);
});

test('a search that runs out of time says how far it looked, and goes on from there', (t) => {
  const { files } = someFiles(
    t,
    Array.from({ length: 48 }, (_, i) => aRecord({ time: NOON - i * HOUR, message: `${i}` })),
  );
  const wanted = Array.from({ length: 48 }, (_, i) => `${i}`);
  const found: string[] = [];
  let after: Position | undefined;
  let searches = 0;
  do {
    let now = 0;
    const budget = { milliseconds: 400, now: () => (now += 90) };
    const some = files.search({ filter: {}, limit: 1000, after }, budget);
    found.push(...some.rows.map(({ message }) => message));
    assert.equal(some.next === undefined, some.searchedBackTo === undefined);
    if (some.next) assert.deepEqual(some.next, { time: some.searchedBackTo, id: 0 });
    after = some.next;
    searches += 1;
  } while (after);
  assert.deepEqual(found, wanted);
  assert.ok(searches > 1);
});

for (const [what, filter, windows] of [
  ['ten minutes of a day', { pathPrefix: '/nowhere' }, 45],
  ['an hour of a client, who may be everybody', { clientAddress: '192.0.2.99' }, 10],
] as const) {
  test(`no step reads more than ${what}, whose hours to come are none, however quiet it was`, (t) => {
    const busy = Array.from({ length: 200 }, (_, minute) => aRecord({ time: NOON + minute * MINUTE }));
    const { files } = someFiles(t, [...busy, aRecord({ time: NOON + 10 * HOUR, message: 'late' })]);
    // Three looks at the clock in a window: the time is up after so many of them, in the busy hours.
    let looks = 0;
    const budget = { milliseconds: 1, now: () => (looks++ < 3 * windows ? 0 : 2) };
    const { searchedBackTo = 0 } = files.search({ filter, limit: 1, after: undefined }, budget);
    const [from, to] = [NOON + 2 * HOUR, NOON + 3 * HOUR];
    assert.ok(searchedBackTo > from && searchedBackTo < to, new Date(searchedBackTo).toISOString());
  });
}

test('since is included, until is not', (t) => {
  const { files } = someFiles(
    t,
    [-1, 0, 1].map((i) => aRecord({ time: NOON + i * MINUTE, message: `${i}` })),
  );
  assert.deepEqual(messages(files, { since: NOON, until: NOON + MINUTE }), ['0']);
});

const said = (text: string) => ({ terms: parseFilter(text, NOON).terms });

for (const [what, filter, index, by = ''] of [
  ['everything', {}, 'records_time'],
  ['a level that is rare', { level: 'error' }, 'records_trouble'],
  ['failed requests', { statusMin: 500, level: 'info' }, 'records_failed'],
  ['failed requests of a host', { statusMin: 404, hostname: 'app.example.com' }, 'records_failed_hostname'],
  ['failed requests of a client', { statusMin: 404, clientAddress: '192.0.2.1' }, 'records_failed_client'],
  ['a host', { hostname: 'app.example.com' }, 'records_hostname'],
  [
    'a host, for somebody confined',
    { hostname: 'app.example.com', hostnames: ['app.example.com'] },
    'records_hostname',
  ],
  ['the hosts of somebody confined', { hostnames: ['app.example.com', 'example.org'] }, 'records_hostname'],
  [
    'a client',
    { clientAddress: '192.0.2.1', level: 'error' },
    'records_client_address',
    '<expr>=? AND client_address=? AND time>? AND time<?',
  ],
  ['a caller', { principal: 'tok_1', hostname: 'app.example.com' }, 'records_principal'],
  ['hosts below a wildcard', { hostname: '*.example.com' }, 'records_hostname'],
  [
    'several clients',
    said('client:192.0.2.1,192.0.2.2'),
    'records_client_address',
    '<expr>=? AND client_address=? AND time>? AND time<?',
  ],
  ['several requests', said('trace:0a,0b'), 'records_trace_id', '<expr>=? AND trace_id=?'],
  ['slow requests', said('duration>2s'), 'records_slow'],
  ['refused requests', said('outcome:FORBIDDEN,UNAUTHENTICATED'), 'records_not_ok'],
  ['changes', said('kind:audit'), 'records_audit'],
  [
    'refusals of somebody at a host',
    { refused: true, hostname: 'a.example.com', principal: 'tok_1', clientAddress: '192.0.2.1' },
    'records_refused',
  ],
  ['trouble of the system', { level: 'warn', ...said('kind:system,tls') }, 'records_trouble'],
  ['several hosts', said('host:a.example.com,b.example.com'), 'records_hostname'],
  ['nobody in particular', { principal: 'anonymous' }, 'records_time'],
  [
    'one request',
    { traceId: '0a', hostname: 'app.example.com', principal: 'tok_1' },
    'records_trace_id',
    '<expr>=? AND trace_id=?',
  ],
] as const) {
  test(`a question about ${what} is answered by ${index}`, (t) => {
    const { directory } = someFiles(t, [aRecord()]);
    const connection = new BetterSqlite3(pathOf(directory, dayOf(NOON)), { readonly: true });
    t.after(() => connection.close());
    const { sql, values } = statementOf(filter);
    const plan = connection.prepare(`explain query plan ${sql}`).all(0, NOON, ...values, 100) as {
      detail: string;
    }[];
    const { detail = '' } = plan[0] ?? {};
    assert.match(detail, new RegExp(`USING INDEX ${index} `));
    assert.ok(detail.includes(by), detail);
  });
}

test('names below a wildcard are looked up once in a file, and only where no better index is', () => {
  const below = said('host:*.example.com,example.org');
  const asked: unknown[] = [];
  const ask = (_sql: string, values: readonly unknown[]) => {
    asked.push(values);
    return ['a.example.com', 'b.example.com', 'example.org'];
  };
  const { sql, values } = statementOf(withNames(below, ask));
  assert.equal(asked.length, 1);
  assert.match(sql, /hostname in \(select value from json_each\(\?\)\)/);
  assert.deepEqual(values, ['["a.example.com","b.example.com","example.org"]']);
  const one = withNames({ ...below, hostname: '*.example.org' }, () => ['a.example.org']);
  assert.deepEqual(statementOf(one).values, ['a.example.org', 'a.example.org']);
  for (const better of [{ traceId: '0a' }, { hostname: 'a.example.com' }, { refused: true }])
    withNames({ ...below, ...better }, ask);
  assert.equal(asked.length, 1);
});
