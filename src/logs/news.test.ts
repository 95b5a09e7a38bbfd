import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { ManualClock, MINUTE } from '../core/clock.ts';
import { type Principal, system } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { createLogArchive } from './archive.ts';
import { aRecord, aSink } from './fixtures.test.ts';
import { LogNews, type LogNewsParts, NEWS_EVERY_MS, ROUND_MS } from './news.ts';
import { getLogs } from './operations.ts';
import { createLogService } from './service.ts';
import { LATE_MS } from './tail.ts';

const confined: Principal = { ...system, id: 'tok_a', kind: 'token', hostnames: ['a.example.com'] };

function setUp(t: TestContext, ...followed: [name: string, principal: Principal, filter?: string][]) {
  const { sink, clock, directory } = aSink(t);
  const archive = createLogArchive({ directory, clock, log: silentLog });
  t.after(() => archive.close());
  const told: string[] = [];
  const followers = followed.map(([name, principal, filter]) => ({
    holder: principal.id,
    uri: `ohp://logs?filter=${filter}`,
    principal,
    raw: filter === undefined ? {} : { filter },
    tell: () => void told.push(name),
  }));
  const logs = createLogService({ sink, archive, clock });
  const news = new LogNews({ clock, sink, logs, followers: () => followers });
  t.after(() => news[Symbol.dispose]());
  /** Who hears of these records. */
  const hears = async (...records: Parameters<typeof aRecord>[0][]) => {
    for (const record of records) sink.write(aRecord({ time: clock.now(), ...record }));
    await news.look();
    return told.splice(0).sort();
  };
  return { hears, clock, followers };
}

test('who follows is told once of what is new and matches the filter, and of no record that it may not read', async (t) => {
  const { hears } = setUp(t, ['all', system], ['failed', system, 'status>=500'], ['confined', confined]);
  assert.deepEqual(await hears({ hostname: 'b.example.com', status: 200 }), ['all']);
  assert.deepEqual(await hears({ hostname: 'b.example.com', status: 502 }), ['all', 'failed']);
  assert.deepEqual(await hears({ hostname: 'a.example.com', status: 200 }, { hostname: 'a.example.com' }), [
    'all',
    'confined',
  ]);
  assert.deepEqual(await hears(), [], 'nothing was written');
  assert.deepEqual(await hears({ message: 'of no hostname', status: 200 }), ['all']);
});

test('a record that comes in late is told, and none of before it began', async (t) => {
  const { hears, clock } = setUp(t, ['all', system]);
  assert.deepEqual(await hears({ time: clock.now() - MINUTE }), []);
  const late = clock.now() - 1;
  clock.advance(NEWS_EVERY_MS - 1);
  assert.deepEqual(await hears({}), ['all']);
  assert.deepEqual(await hears({ time: late }), ['all']);
});

test('a filter that is none costs the others nothing, and two connections of one principal hear alike', async (t) => {
  const { hears, followers } = setUp(t, ['broken', system, 'nonsense:::'], ['one', system], ['two', system]);
  assert.deepEqual(await hears({ status: 200 }), ['one', 'two']);
  followers.pop();
  assert.deepEqual(await hears({ status: 200 }), ['one']);
});

for (const [what, filter, refusal] of [
  ['longer than get_logs takes it', 'a '.repeat(10) + 'b'.repeat(1000), /filter: .*1000/],
  ['with a zero byte', 'a\0b', /zero byte/],
  ['with a beginning', 'status>=500 since:1h', /since and until are not for/],
  ['with an end', 'until:1h', /since and until are not for/],
  ['that is none', 'nonsense:::', /nonsense/],
] as const)
  test(`a filter ${what} can not be followed, and nobody is told by it`, async (t) => {
    assert.throws(() => getLogs.resourceBy?.check(filter), { code: 'INVALID_INPUT', message: refusal });
    const { hears } = setUp(t, ['wrong', system, filter], ['all', system]);
    assert.deepEqual(await hears({ status: 502, message: 'a b' }), ['all']);
  });

/** Looks of which each takes so long, in rounds that the test begins. */
function aSlowLog(looksMs: number) {
  const clock = new ManualClock();
  const looked: [uri: string, from: number][] = [];
  let written = 0;
  const followers: ReturnType<typeof setUp>['followers'] = [];
  const follow = (holder: string, filter: string) =>
    followers.push({
      holder,
      uri: filter,
      principal: { ...system, id: holder },
      raw: { filter },
      tell: () => {},
    });
  const lookFrom = async (filter: string | undefined, from: number) => {
    looked.push([filter ?? '', from]);
    clock.advance(looksMs);
    return [];
  };
  const sink = { stats: () => ({ ...noStats, written }) };
  const still = { now: () => clock.now(), every: noTimer, after: noTimer };
  const news = new LogNews({ clock: still, sink, logs: { lookFrom }, followers: () => followers });
  const round = async (hasNews = true) => {
    if (hasNews) written += 1;
    await news.look();
    return looked.splice(0);
  };
  return { clock, follow, round };
}

const noTimer = () => ({ cancel() {} });
const noStats = { written: 0, queued: 0, dropped: 0, writer: 'ok' } as unknown as ReturnType<
  LogNewsParts['sink']['stats']
>;

test('principals take turns, however much one of them follows, and a round takes its share of time and no more', async () => {
  const { follow, round } = aSlowLog(ROUND_MS / 2);
  for (const n of [1, 2, 3, 4]) follow('much', `m${n}`);
  follow('little', 'l1');
  const uris = async (hasNews?: boolean) => (await round(hasNews)).map(([uri]) => uri);
  assert.deepEqual(await uris(), ['m1', 'l1']);
  assert.deepEqual(await uris(), ['m2', 'l1']);
  assert.deepEqual(await uris(false), ['m3', 'm4'], 'without anything new the rest is looked for');
  assert.deepEqual(await uris(false), ['m1'], 'once');
  assert.deepEqual(await uris(false), []);
});

test('what waits for its turn is looked for from where it was looked at last', async () => {
  const { clock, follow, round } = aSlowLog(ROUND_MS);
  const began = clock.now();
  follow('one', 'a');
  follow('other', 'b');
  assert.deepEqual(await round(), [['a', began - LATE_MS]]);
  clock.advance(MINUTE);
  assert.deepEqual(await round(), [['b', began - LATE_MS]]);
  assert.deepEqual(await round(false), [['a', began - LATE_MS]]);
});

test('after a look that took long as many rounds are left out as it cost', async () => {
  const { follow, round } = aSlowLog(2 * ROUND_MS);
  follow('one', 'a');
  const looks = [];
  for (let n = 0; n < 4; n++) looks.push((await round()).length);
  assert.deepEqual(looks, [1, 0, 1, 0]);
});
