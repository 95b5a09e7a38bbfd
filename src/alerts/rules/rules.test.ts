import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, ManualClock, MINUTE } from '../../core/clock.ts';
import { anonymous } from '../../core/principal.ts';
import type { LogRecord } from '../../core/record.ts';
import type { Alert } from '../schema.ts';
import { shownTo } from '../shown.ts';
import { boundsOf, verdictOf } from './judge.ts';
import type { Sources, Traffic } from './measure.ts';
import { type Rule, ruleSchema, rulesSchema, withUsual } from './schema.ts';
import { isTold, nextStanding, type Standing, type Verdict } from './standing.ts';
import { RuleWatch } from './watch.ts';

const rule = (more: Record<string, unknown>): Rule => ruleSchema.parse({ name: 'one', ...more });

const FAILING = rule({ when: 'server_errors', above_percent: 10, clear_percent: 4 });

/** Everything that is measured, as the test says it. */
function world(rules: readonly Rule[], told: Alert[] = []) {
  const clock = new ManualClock();
  const records: LogRecord[] = [];
  const state = {
    traffic: [] as Traffic[],
    refusals: [] as { name: string; count: number }[],
    disk: { freeBytes: 2 ** 40, totalBytes: 2 ** 41 },
    certificates: [] as { id: string; notAfter: number; hostnames: string[] }[],
    targets: [] as { hostname: string; unhealthy: number; total: number }[],
    dropped: 0,
    fault: undefined as string | undefined,
    /** Set: counting does not end. */
    asked: undefined as PromiseWithResolvers<void> | undefined,
  };
  const spans: { since: number; until: number }[] = [];
  const sources: Sources = {
    async traffic(span, signal) {
      if (state.asked) {
        state.asked.resolve();
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(new Error('cut short'))),
        );
      }
      if (state.fault !== undefined) throw new Error(state.fault);
      spans.push(span);
      return state.traffic;
    },
    refusals: async () => state.refusals,
    disk: async () => state.disk,
    certificates: () => state.certificates,
    targets: () => state.targets,
  };
  let current: readonly Alert[] = [];
  const watch = new RuleWatch({
    clock,
    log: { write: (record) => void records.push(record), enabled: () => true },
    rules,
    sources,
    dropped: () => state.dropped,
    told: async () => told,
    async tell(alerts) {
      current = alerts;
    },
  });
  /** From now on counting does not end; resolves when it has begun. */
  const hang = () => (state.asked = Promise.withResolvers<void>()).promise;
  const minute = async (count = 1) => {
    for (let passed = 0; passed < count; passed++) {
      clock.advance(MINUTE);
      await watch.look();
    }
  };
  return {
    clock,
    records,
    state,
    spans,
    watch,
    minute,
    hang,
    keys: () => current.map(({ key }) => key),
    all: () => current,
  };
}

const traffic = (name: string, percent: number, count = 100): Traffic => ({
  name,
  count,
  serverErrors: (percent * count) / 100,
  p50: 10,
  p95: percent * 100,
  p99: 5000,
});

test('what is bad for as long as the rule says is told, and is over when it was good for as long as the rule says', async () => {
  const { state, minute, keys, all } = world([FAILING]);
  state.traffic = [traffic('app.example.com', 50)];
  await minute(2);
  assert.deepEqual(keys(), [], 'not before it has held');
  await minute();
  assert.deepEqual(keys(), ['rule/one/app.example.com']);
  const [alert] = all();
  assert.equal(alert?.hostname, 'app.example.com');
  assert.match(alert?.summary ?? '', /50 % of 100 requests in 5 minutes failed with 5xx, more than 10 %/);
  state.traffic = [traffic('app.example.com', 1)];
  await minute(10);
  assert.deepEqual(keys(), ['rule/one/app.example.com'], 'not before it was good for long enough');
  await minute();
  assert.deepEqual(keys(), []);
});

test('only whole minutes are counted, those before now', async () => {
  const { spans, minute, clock } = world([FAILING]);
  clock.advance(17_000);
  await minute();
  const until = clock.now() - (clock.now() % MINUTE);
  assert.deepEqual([spans.at(-1)?.since, spans.at(-1)?.until], [until - 5 * MINUTE, until]);
});

test('what is between the two bounds begins nothing and ends nothing', async () => {
  const { state, minute, keys } = world([FAILING]);
  state.traffic = [traffic('app.example.com', 7)];
  await minute(10);
  assert.deepEqual(keys(), []);
  state.traffic = [traffic('app.example.com', 50)];
  await minute(5);
  state.traffic = [traffic('app.example.com', 7)];
  await minute(100);
  assert.equal(keys().length, 1);
});

test('a rule that can not see every hostname says so once', async () => {
  const { state, minute, records, keys } = world([FAILING]);
  state.traffic = [{ ...traffic('(others)', 90, 700), isRest: true }];
  await minute(5);
  assert.deepEqual(keys(), []);
  assert.deepEqual(
    records.map(({ message }) => /the rule one does not see 700 requests/.test(message ?? '')),
    [true],
  );
});

test('a few requests begin nothing, and do not end what still fails', async () => {
  const { state, minute, keys } = world([FAILING]);
  state.traffic = [traffic('app.example.com', 100, 19)];
  await minute(10);
  assert.deepEqual(keys(), []);
  state.traffic = [traffic('app.example.com', 100, 20)];
  await minute(3);
  state.traffic = [traffic('app.example.com', 100, 3)];
  await minute(50);
  assert.equal(keys().length, 1);
});

test('what can not be asked stays as it is, and is reported once', async () => {
  const { state, minute, keys, records } = world([FAILING]);
  state.traffic = [traffic('app.example.com', 50)];
  await minute(3);
  state.fault = 'the log is closed';
  await minute(30);
  assert.equal(keys().length, 1);
  assert.deepEqual(
    records.map(({ message }) => message),
    ["the rule one can't be asked: the log is closed"],
  );
});

test('what an earlier process told goes on until it is good, and of rules that are gone it is over', async () => {
  const told = ['rule/one/app.example.com', 'rule/gone/app.example.com'].map(
    (key): Alert => ({ key, stage: 1, code: 'requests.failing', level: 'warn', summary: 'fails', facts: {} }),
  );
  const { state, minute, keys } = world([FAILING], told);
  state.traffic = [traffic('app.example.com', 7)];
  await minute();
  assert.deepEqual(keys(), ['rule/one/app.example.com']);
  state.traffic = [];
  await minute(11);
  assert.deepEqual(keys(), []);
});

test('who stops waits for nothing that is being counted, and what was cut short is neither told nor reported', async () => {
  const { watch, records, all, clock, hang } = world([FAILING]);
  const asked = hang();
  clock.advance(MINUTE);
  const looking = watch.look();
  await asked;
  await watch[Symbol.asyncDispose]();
  await looking;
  assert.deepEqual([all(), records], [[], []]);
});

test('names that are none, and what was too much to count apart, raise nothing', async () => {
  const { state, minute, keys } = world([FAILING]);
  state.traffic = [traffic('(others)', 90), traffic('', 90), traffic('10.0.0.1', 90)];
  await minute(5);
  assert.deepEqual(keys(), []);
});

test('whoever makes up names by the thousand makes alerts for the worst 200 at most', async () => {
  const { state, minute, keys } = world([FAILING]);
  for (let round = 0; round < 5; round++) {
    state.traffic = Array.from({ length: 1000 }, (_, i) => traffic(`h${round}-${i}.example.com`, 90));
    await minute(4);
  }
  assert.ok(keys().length <= 400, String(keys().length));
});

test('each kind of rule tells what it is for', async () => {
  const { state, minute, all, clock } = world([
    rule({ name: 'slow', when: 'latency', above_ms: 1000, for_minutes: 0, per: 'all' }),
    rule({ name: 'rate', when: 'server_errors', above_per_minute: 5, for_minutes: 0 }),
    rule({ name: 'guess', when: 'auth_failures', above_count: 50 }),
    rule({ name: 'space', when: 'disk', below_percent: 10, for_minutes: 0 }),
    rule({ name: 'lost', when: 'dropped_records' }),
    rule({ name: 'month', when: 'certificate_expiry', days: 30 }),
    rule({ name: 'half', when: 'targets_down', above_percent: 40, for_minutes: 0 }),
  ]);
  await minute();
  assert.deepEqual(all(), []);
  state.traffic = [traffic('app.example.com', 30)];
  state.refusals = [
    { name: '203.0.113.7', count: 60 },
    { name: '203.0.113.8', count: 50 },
  ];
  state.disk = { freeBytes: 5 * 2 ** 30, totalBytes: 100 * 2 ** 30 };
  state.dropped = 3;
  state.certificates = [{ id: 'crt_1', notAfter: clock.now() + 20 * DAY, hostnames: ['app.example.com'] }];
  state.targets = [{ hostname: 'app.example.com', unhealthy: 1, total: 2 }];
  await minute();
  assert.deepEqual(
    all().map(({ key, code, hostname }) => [key, code, hostname]),
    [
      ['rule/slow/app.example.com', 'requests.slow', undefined],
      ['rule/rate/app.example.com', 'requests.failing', 'app.example.com'],
      ['rule/guess/203.0.113.7', 'access.refused', undefined],
      ['rule/space/', 'disk.low', undefined],
      ['rule/lost/', 'log.dropping', undefined],
      ['rule/month/crt_1', 'certificate.expiring', 'app.example.com'],
      ['rule/half/app.example.com', 'targets.down', 'app.example.com'],
    ],
  );
  for (const { summary } of all()) assert.doesNotMatch(summary, /undefined|NaN/, summary);
  assert.match(all()[3]?.summary ?? '', /5120 MiB \(5 %\) are free for data/);
});

test('of a certificate with several hostnames who is confined to one reads of no other', async () => {
  const { state, minute, all, clock } = world([rule({ when: 'certificate_expiry', days: 30 })]);
  const names = ['a.example.com', 'b.example.com', 'c.example.com'];
  state.certificates = [{ id: 'crt_1', notAfter: clock.now() + 20 * DAY, hostnames: names }];
  await minute(2);
  const [alert] = all();
  assert.ok(alert);
  assert.match(alert.summary, /a\.example\.com, b\.example\.com, c\.example\.com/);
  const row = { id: 'alr_1', key: alert.key, source: 'rules', document: '', raised_at: 0, told_at: 0 };
  const shown = shownTo(
    { ...anonymous, hostnames: ['b.example.com'] },
    { ...row, resolved_at: null, acknowledged: null },
    alert,
  );
  assert.match(shown.summary, /b\.example\.com ends in 19 days/);
  assert.doesNotMatch(JSON.stringify(shown), /[ac]\.example\.com/);
  assert.deepEqual(shown.hostnames, ['b.example.com']);
});

test("a certificate that was renewed, and hostnames that no rule names, are nobody's concern", async () => {
  const { state, minute, keys, clock } = world([
    rule({ when: 'certificate_expiry', days: 30, hostnames: ['*.example.com'] }),
  ]);
  state.certificates = ['app.example.com', 'app.example.org'].map((hostname, i) => ({
    id: `crt_${i}`,
    notAfter: clock.now() + DAY,
    hostnames: [hostname],
  }));
  await minute();
  assert.deepEqual(keys(), ['rule/one/crt_0']);
  state.certificates = [];
  await minute(2);
  assert.deepEqual(keys(), []);
});

test('lost records are counted in their window only', async () => {
  const { state, minute, keys } = world([rule({ when: 'dropped_records', resolve_after_minutes: 1 })]);
  await minute(10);
  state.dropped = 7;
  await minute(5);
  assert.equal(keys().length, 1);
  await minute(2);
  assert.deepEqual(keys(), []);
});

const verdicts = fc.array(fc.constantFrom<Verdict>('bad', 'between', 'good', 'unknown'), { maxLength: 60 });
const times = fc.record({
  forMs: fc.integer({ min: 0, max: 5 }).map((n) => n * MINUTE),
  resolveAfterMs: fc.integer({ min: 0, max: 5 }).map((n) => n * MINUTE),
});

test('a value that wobbles between the two bounds causes at most one alert', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom<Verdict>('bad', 'between', 'unknown'), { maxLength: 80 }),
      times,
      (seen, of) => {
        let standing: Standing | undefined;
        let begun = 0;
        for (const [minute, verdict] of seen.entries()) {
          const next = nextStanding(standing, verdict, of, minute * MINUTE);
          if (isTold(next) && !isTold(standing)) begun += 1;
          standing = next;
        }
        assert.ok(begun <= 1);
      },
    ),
  );
});

test('nothing begins before it was bad for the time, nor ends before it was good for the time, whatever comes', () => {
  fc.assert(
    fc.property(verdicts, times, (seen, of) => {
      let standing: Standing | undefined;
      for (const [minute, verdict] of seen.entries()) {
        const now = minute * MINUTE;
        const next = nextStanding(standing, verdict, of, now);
        const since = (wanted: Verdict) => {
          const last = seen.slice(0, minute + 1).findLastIndex((one) => one !== wanted && one !== 'unknown');
          return minute - last - 1;
        };
        if (isTold(next) && !isTold(standing)) assert.ok(since('bad') * MINUTE >= of.forMs);
        if (!isTold(next) && isTold(standing)) assert.ok(since('good') * MINUTE >= of.resolveAfterMs);
        standing = next;
      }
    }),
  );
});

test('of every rule that is accepted a value is either bad or good or between, and never both', () => {
  const bound = fc.double({ min: 0, max: 100, noNaN: true });
  fc.assert(
    fc.property(bound, bound, bound, (above, clear, value) => {
      const settings = [
        { when: 'server_errors', above_percent: above, clear_percent: clear },
        { when: 'disk', below_percent: above, clear_percent: clear },
      ];
      for (const one of settings) {
        const parsed = ruleSchema.safeParse({ name: 'x', ...one });
        if (!parsed.success) continue;
        const bounds = boundsOf(parsed.data);
        const verdict = verdictOf(parsed.data, { subject: '', value });
        const isBeyond = bounds.isFloor ? value < bounds.bound : value > bounds.bound;
        assert.equal(verdict === 'bad', isBeyond);
      }
    }),
  );
});

test('a rule that would end before it begins, says two things or has a name twice is refused where it stands', () => {
  const faults = (rules: unknown) =>
    rulesSchema.safeParse(rules).error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  assert.deepEqual(faults([{ ...FAILING, clear_percent: 20 }]), [
    '0.clear_percent: has to be at most 10, where it begins',
  ]);
  assert.deepEqual(faults([{ name: 'x', when: 'disk', below_percent: 10, clear_percent: 5 }]), [
    '0.clear_percent: has to be at least 10, where it begins',
  ]);
  assert.deepEqual(faults([{ name: 'x', when: 'disk' }]), [
    '0.when: needs exactly one of below_bytes and below_percent',
  ]);
  assert.deepEqual(faults([FAILING, FAILING]), ['1.name: is the name of another rule as well']);
});

test('disk and lost records are watched without a rule, unless that is turned off or a rule has the name', () => {
  const names = (rules: readonly Rule[]) => rules.map(({ name }) => name);
  const both = { disk: true, dropped_records: true };
  assert.deepEqual(names(withUsual([], both)), ['disk-low', 'disk-full', 'records-lost']);
  assert.deepEqual(withUsual([], { disk: false, dropped_records: false }), []);
  const own = rule({ name: 'disk-low', when: 'disk', below_percent: 20 });
  assert.deepEqual(names(withUsual([own], both)), ['disk-low', 'disk-full', 'records-lost']);
});
