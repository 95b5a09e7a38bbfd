import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, HOUR, ManualClock } from '../core/clock.ts';
import { aRecord, NOON, someFiles } from './fixtures.test.ts';
import { patternOf } from './pattern.ts';
import {
  addPattern,
  MAX_PATTERNS,
  OTHER_LINES,
  type Pattern,
  searchText,
  type TextQuestion,
} from './search.ts';
import { searchLogs } from './search-service.ts';

const ENOUGH = { milliseconds: 60_000, now: () => performance.now() };
const aRow = (fields: Partial<Parameters<typeof patternOf>[0]>) => ({
  message: 'm',
  hostname: null,
  path: null,
  method: null,
  status: null,
  user_agent: null,
  detail: null,
  ...fields,
});

for (const [row, text, pattern] of [
  [
    {
      message: 'GET a.example.com/items/17 404',
      hostname: 'a.example.com',
      method: 'GET',
      path: '/items/17',
      status: 404,
    },
    'items',
    'GET {host}/items/# 404',
  ],
  [
    {
      message: 'GET a.example.com/ 502',
      hostname: 'a.example.com',
      method: 'GET',
      path: '/',
      status: 502,
      detail: '{"proxy":"prx_0a","reason":"connect ECONNREFUSED 10.0.0.7:8080"}',
    },
    'econnrefused',
    'GET {host}/ 502 … reason: connect ECONNREFUSED #',
  ],
  [
    {
      message: 'order ord_0011223344556677889900aa of a.example.com failed after 1500 ms',
      hostname: 'a.example.com',
    },
    'failed',
    'order # of {host} failed after # ms',
  ],
  [{ message: 'hello', user_agent: 'curl/8.9.1' }, 'curl', 'hello … agent: curl/#'],
  [{ message: 'took 17 of 18' }, '17', 'took 17 of #'],
] as const)
  test(`the kind of ${JSON.stringify(row.message)}, searched for ${text}`, () => {
    assert.equal(patternOf(aRow(row), text), pattern);
  });

test('whatever a stranger wrote, a pattern is short and has no control characters', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary', minLength: 1 }),
      (message, text) => {
        const pattern = patternOf(
          aRow({ message: message + text, detail: JSON.stringify({ a: [text] }) }),
          text,
        );
        assert.ok(pattern.length <= 161);
        assert.doesNotMatch(pattern, /\p{Cc}/u);
      },
    ),
  );
});

test('a search counts hits over days, by kinds of lines and by days', (t) => {
  const { files } = someFiles(t, [
    ...Array.from({ length: 40 }, (_, index) =>
      aRecord({
        time: NOON - index * HOUR,
        message: `upstream ${index} timed out`,
        hostname: 'a.example.com',
      }),
    ),
    aRecord({ message: 'target Timed Out', level: 'warn', hostname: 'b.example.com' }),
    aRecord({ message: 'fine' }),
  ]);
  const answer = searchText(files, { filter: { contains: 'TIMED out' }, before: undefined }, ENOUGH);
  assert.equal(answer.hits, 41);
  assert.deepEqual(
    answer.patterns.map(({ pattern, count, level }) => [pattern, count, level]),
    [
      ['target Timed Out', 1, 'warn'],
      ['upstream # timed out', 40, 'info'],
    ],
  );
  const [, upstream] = answer.patterns;
  assert.deepEqual(
    [upstream?.first, upstream?.last, upstream?.hostname],
    [NOON - 39 * HOUR, NOON, 'a.example.com'],
  );
  assert.equal(upstream?.ids.length, 3);
  assert.deepEqual(answer.days, [
    { day: '2026-03-10', hits: 14 },
    { day: '2026-03-09', hits: 24 },
    { day: '2026-03-08', hits: 3 },
  ]);
});

test('who is confined to hostnames finds nothing else', (t) => {
  const { files } = someFiles(t, [
    aRecord({ hostname: 'a.example.com' }),
    aRecord({ hostname: 'b.example.com' }),
    aRecord({}),
  ]);
  const filter = { contains: 'request', hostnames: ['a.example.com'] };
  assert.equal(searchText(files, { filter, before: undefined }, ENOUGH).hits, 1);
});

test('pieces of a search are the whole of it, whatever the time allows at once', (t) => {
  const records = Array.from({ length: 200 }, (_, index) =>
    aRecord({ time: NOON - index * HOUR, message: `line ${index}` }),
  );
  const { files } = someFiles(t, records);
  let hits = 0;
  let before: TextQuestion['before'];
  do {
    let looks = 4;
    const budget = { milliseconds: 1, now: () => (looks-- > 0 ? 0 : 2) };
    const answer = searchText(files, { filter: { contains: 'line' }, before }, budget);
    assert.ok(answer.next === undefined || answer.next.time < (before?.time ?? Infinity));
    hits += answer.hits;
    before = answer.next;
  } while (before !== undefined);
  assert.equal(hits, records.length);
});

test('many hits of one moment are found in pieces, none twice: each piece comes further', (t) => {
  const { files } = someFiles(
    t,
    Array.from({ length: 2000 }, (_, index) => aRecord({ message: `line ${index}` })),
  );
  let [hits, pieces] = [0, 0];
  let before: TextQuestion['before'];
  do {
    // Time is up as soon as a window has begun.
    let looks = 3;
    const budget = { milliseconds: 1, now: () => (looks-- > 0 ? 0 : 2) };
    const answer = searchText(
      files,
      { filter: { contains: 'line', since: NOON, until: NOON + 1 }, before },
      budget,
    );
    assert.ok(answer.hits > 0 && answer.hits < 500);
    hits += answer.hits;
    pieces += 1;
    before = answer.next;
  } while (before !== undefined);
  assert.equal(hits, 2000);
  assert.ok(pieces > 4);
});

test('a search that takes too long says how far it came, and goes on by its cursor', async () => {
  const clock = new ManualClock(NOON);
  const asked: TextQuestion[] = [];
  const search = async (question: TextQuestion) => {
    asked.push(question);
    clock.advance(6000);
    return { hits: 1, patterns: [], days: [], next: { time: NOON - asked.length * DAY, id: 7 } };
  };
  const parts = { search, clock, context: {} };
  const first = await searchLogs({ text: 'x' }, { contains: 'x' }, parts);
  assert.deepEqual([first.hits, first.truncated], [2, true]);
  assert.match(first.hint ?? '', /Searched back to 2026-03-08T12:00:00/);
  await searchLogs({ text: 'x', cursor: first.next_cursor }, { contains: 'x' }, parts);
  assert.deepEqual(asked[2]?.before, { time: NOON - 2 * DAY, id: 7 });
});

test('very many kinds of lines are told apart up to a limit, and all of them counted', () => {
  const patterns = new Map<string, Pattern>();
  const found = { count: 1, first: 0, last: 0, level: 'info' as const, hostname: undefined };
  for (let index = 0; index < MAX_PATTERNS + 50; index += 1)
    addPattern(patterns, { ...found, pattern: `kind ${index}`, ids: [`${index}`] });
  assert.equal(patterns.size, MAX_PATTERNS + 1);
  assert.equal(patterns.get(OTHER_LINES)?.count, 50);
});
