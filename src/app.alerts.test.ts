/** Rules over the real log: written by its writer, counted by its reader, in files. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import type { Alert } from './alerts/schema.ts';
import { openRules, whole } from './app.alerts.ts';
import { loadConfig } from './config/load.ts';
import { MINUTE } from './core/clock.ts';
import type { LogRecord } from './core/record.ts';
import { createLogArchive } from './logs/archive.ts';
import { aRecord, aSink, NOON, until } from './logs/fixtures.test.ts';

async function world(t: TestContext, rules: readonly object[], records: readonly LogRecord[]) {
  const { sink, clock, directory } = aSink(t);
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  const archive = stack.use(createLogArchive({ directory, clock, log: sink }));
  for (const record of records) sink.write(record);
  await sink.flush(MINUTE);
  const alerts = {
    defaults: { disk: false, dropped_records: false },
    rules: rules.map((rule, i) => ({ name: `rule-${i}`, for_minutes: 0, ...rule })),
  };
  const config = await loadConfig({ OHP_CONFIG: 'x.yaml' }, () => JSON.stringify({ alerts }));
  const told: (readonly Alert[])[] = [];
  clock.advance(MINUTE);
  openRules(
    config,
    {
      clock,
      log: sink,
      sink,
      archive,
      dataDir: directory,
      alerts: { all: async () => [], reconcile: async (_source, current) => void told.push(current) },
      certificates: { *used() {} },
      gateway: {
        snapshot: () => assert.fail('no rule is about targets'),
        targets: () => undefined,
      },
    },
    stack,
  );
  await until('it has looked', () => told.length > 0);
  return told.at(-1) ?? [];
}

const of = (count: number, fields: Partial<LogRecord>): LogRecord[] =>
  Array.from({ length: count }, () => aRecord({ duration_ms: 10, status: 200, outcome: 'OK', ...fields }));

test('failures and slowness are found in what was counted, of each hostname by itself', async (t) => {
  const found = await world(
    t,
    [
      { when: 'server_errors', above_percent: 10 },
      { when: 'server_errors', above_per_minute: 5, hostnames: ['*.example.org'] },
      { when: 'latency', above_ms: 1000 },
      { when: 'server_errors', above_percent: 1, per: 'all' },
    ],
    [
      ...of(80, { hostname: 'well.example.com' }),
      ...of(20, { hostname: 'bad.example.com' }),
      ...of(10, { hostname: 'bad.example.com', status: 502 }),
      ...of(30, { hostname: 'slow.example.com', duration_ms: 4000 }),
      ...of(30, { hostname: 'down.example.org', status: 500 }),
      // A minute that is not over, and one that was before the window.
      ...of(90, { hostname: 'well.example.com', status: 500, time: NOON + MINUTE }),
      ...of(90, { hostname: 'well.example.com', status: 500, time: NOON - 5 * MINUTE }),
    ],
  );
  assert.deepEqual(
    found.map(({ key, facts }) => [key, facts['value'], facts['requests']]),
    [
      ['rule/rule-0/down.example.org', 100, 30],
      ['rule/rule-0/bad.example.com', 33.3, 30],
      ['rule/rule-1/down.example.org', 6, 30],
      ['rule/rule-2/slow.example.com', found[3]?.facts['value'], 30],
      ['rule/rule-3/', 23.5, 170],
    ],
  );
});

test('refusals of this system are counted by who was refused, those of targets are not', async (t) => {
  const refused = { status: 401, outcome: 'UNAUTHENTICATED', hostname: 'app.example.com' };
  const found = await world(
    t,
    ['client_address', 'principal', 'hostname'].map((by) => ({ when: 'auth_failures', above_count: 10, by })),
    [
      ...of(11, { ...refused, client_address: '203.0.113.7', principal: 'anonymous' }),
      ...of(10, { ...refused, client_address: '203.0.113.8', principal: 'anonymous' }),
      ...of(12, {
        ...refused,
        outcome: 'FORBIDDEN',
        client_address: '203.0.113.9',
        principal: 'tok_1',
        kind: 'mcp',
        status: 403,
      }),
      ...of(50, { ...refused, outcome: 'OK', client_address: '203.0.113.10' }),
      ...of(50, { ...refused, kind: 'audit', client_address: '203.0.113.11' }),
    ],
  );
  assert.deepEqual(
    found.map(({ key, facts }) => [key, facts['value']]),
    [
      ['rule/rule-0/203.0.113.9', 12],
      ['rule/rule-0/203.0.113.7', 11],
      ['rule/rule-1/tok_1', 12],
      ['rule/rule-2/app.example.com', 33],
    ],
  );
});

test('the disk is asked of the file system', async (t) => {
  const found = await world(
    t,
    [
      { when: 'disk', below_bytes: 2 ** 50 },
      { when: 'disk', below_bytes: 1 },
    ],
    of(1, {}),
  );
  assert.deepEqual(
    found.map(({ code }) => code),
    ['disk.low'],
  );
});

test('a count that is not of all that was asked for is none', () => {
  const figures = { count: 0, per_second: 0, client_errors: 0, server_errors: 0, bytes_in: 0, bytes_out: 0 };
  const answer = { total: figures, groups: [], groupCount: 0, groupsCut: false, buckets: [] };
  const counted = { ...answer, source: 'rollup', countedBackTo: undefined } as const;
  assert.equal(whole(counted), counted);
  assert.throws(() => whole({ ...counted, countedBackTo: NOON }), /could not be counted whole/);
  assert.throws(() => whole({ ...counted, leftOut: [{ day: '2026-03-10', why: 'damaged' }] }));
});
