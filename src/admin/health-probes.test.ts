import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { eventually } from '../../test/support/eventually.ts';
import { DAY, ManualClock, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { openSqlite } from '../store/sqlite.ts';
import { EventLoopWatch } from './event-loop.ts';
import {
  certificatesProbe,
  connectionsProbe,
  type DiskSpace,
  diskProbe,
  engineProbe,
  eventLoopProbe,
  type LogState,
  logWriterProbe,
  storeProbe,
  telemetryProbe,
} from './health-probes.ts';

const GIB = 1024 ** 3;

test('store: ok when what is written to a real database is read back', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'health-'));
  const database = await openSqlite(join(folder, 'state.db'), new ManualClock());
  t.after(() => rmSync(folder, { recursive: true }));
  const probe = storeProbe(async (value) => {
    const key = 'health_check';
    await database.change({}, async (tx) => {
      await tx
        .insertInto('meta')
        .values({ key, value })
        .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
        .execute();
    });
    return (await database.read.selectFrom('meta').select('value').where('key', '=', key).executeTakeFirst())
      ?.value;
  });
  assert.equal((await probe()).status, 'ok');
  assert.equal((await probe()).status, 'ok');
  await database[Symbol.asyncDispose]();
  await assert.rejects(probe());
});

test('store: down when something else is read back', async () => {
  assert.equal((await storeProbe(async () => 'stale')()).status, 'down');
  assert.equal((await storeProbe(async () => undefined)()).status, 'down');
});

test('disk: says how much is free, and is degraded or down when that is little', async () => {
  const judged = async (space: Partial<DiskSpace>) =>
    diskProbe('x', async () => ({ freeBytes: 9 * GIB, freeFiles: 900, totalFiles: 1000, ...space }))();
  assert.deepEqual(await judged({}), { status: 'ok', message: '9216 MiB free for data' });
  assert.equal((await judged({ freeBytes: GIB })).status, 'ok');
  assert.equal((await judged({ freeBytes: GIB - 1 })).status, 'degraded');
  assert.equal((await judged({ freeBytes: GIB / 32 })).status, 'down');
  assert.equal((await judged({ freeFiles: 9 })).status, 'degraded');
  assert.equal((await judged({ freeFiles: 0, totalFiles: 0 })).status, 'ok');
});

test('disk: asks the real file system of the folder, and fails where there is none', async () => {
  assert.match((await diskProbe(tmpdir())()).message, /^\d+ MiB free for data/);
  await assert.rejects(diskProbe('/no/such/folder')(), /ENOENT/);
});

test('certificates: degraded near expiry, down after it, absent when there is none', async () => {
  const clock = new ManualClock();
  const judged = (inMs: number | undefined) =>
    certificatesProbe(async () => (inMs === undefined ? undefined : clock.now() + inMs), clock)();
  assert.deepEqual(await judged(90 * DAY), {
    status: 'ok',
    message: 'the next certificate expires in 90 days',
  });
  assert.equal((await judged(14 * DAY)).status, 'ok');
  assert.equal((await judged(14 * DAY - 1)).status, 'degraded');
  assert.equal((await judged(0)).status, 'down');
  assert.equal((await judged(undefined)).status, 'absent');
});

test('container engine: absent with the reason when none is connected, failing when it does not answer', async () => {
  const judged = (ping: Parameters<typeof engineProbe>[0]['ping']) => engineProbe({ ping })();
  assert.deepEqual(await judged(async () => ({ connected: true, version: '29.0' })), {
    status: 'ok',
    message: 'container engine 29.0',
  });
  assert.deepEqual(await judged(async () => ({ connected: false, reason: 'no socket' })), {
    status: 'absent',
    message: 'no socket',
  });
  await assert.rejects(
    judged(() => Promise.reject(new AppError('UNAVAILABLE', 'silent'))),
    /silent/,
  );
});

test('event loop: degraded while turns have to wait, well again two windows later', async () => {
  const clock = new ManualClock();
  using watch = new EventLoopWatch(clock);
  const probe = eventLoopProbe(watch);
  const slow = await eventually(async () => {
    block(150);
    await turn();
    const finding = await probe();
    return finding.status === 'degraded' ? finding : undefined;
  }, 'a slow event loop');
  assert.match(slow.message, /^99 % of turns wait less than \d+ ms/);
  const { maxMs } = watch.state();
  assert.ok(maxMs > 50 && watch.state().maxMs >= maxMs, 'no reader takes the delay from the next one');
  clock.advance(MINUTE);
  assert.equal((await probe()).status, 'degraded');
  clock.advance(MINUTE);
  assert.equal((await probe()).status, 'ok');
});

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('log writer: degraded for a while after records were lost', async () => {
  const clock = new ManualClock();
  let dropped = 0;
  const probe = logWriterProbe(() => ({ dropped, writer: 'ok', problem: undefined }), clock);
  assert.deepEqual(await probe(), { status: 'ok', message: '0 records lost since the start' });
  dropped = 12;
  assert.equal((await probe()).status, 'degraded');
  clock.advance(5 * MINUTE - 1);
  assert.equal((await probe()).status, 'degraded');
  clock.advance(1);
  assert.deepEqual(await probe(), { status: 'ok', message: '12 records lost since the start' });
});

test('log writer: down while its thread does not run, degraded while it can not write, each with the reason', async () => {
  const judged = (state: Partial<LogState>) =>
    logWriterProbe(() => ({ dropped: 3, writer: 'ok', problem: undefined, ...state }), new ManualClock())();
  assert.deepEqual(await judged({ writer: 'down', problem: 'the log writer ended' }), {
    status: 'down',
    message: 'the log writer ended; 3 records lost since the start',
  });
  assert.deepEqual(await judged({ writer: 'failing', problem: 'no space left' }), {
    status: 'degraded',
    message: 'no space left; 3 records lost since the start',
  });
  assert.equal((await judged({ writer: 'down' })).status, 'down');
});

test('connections: says how many, and is degraded for a while after some were turned away', async () => {
  const clock = new ManualClock();
  let refused = 0;
  const probe = connectionsProbe(() => ({ open: 2, refused, requests: 1 }), clock);
  assert.deepEqual(await probe(), {
    status: 'ok',
    message: '2 open, 1 requests under way, 0 turned away since the start',
  });
  refused = 7;
  const { status, message } = await probe();
  assert.equal(status, 'degraded');
  assert.match(
    message,
    /7 turned away since the start, some of them just now; raise gateway\.max_connections/,
  );
  clock.advance(5 * MINUTE);
  assert.equal((await probe()).status, 'ok');
});

test('telemetry: ok while all arrives, degraded with the reason while it does not and for a while after a loss', async () => {
  const clock = new ManualClock();
  const traces = { sent: 5, lost: 0, queued: 2 };
  let problem: string | undefined;
  const probe = telemetryProbe(() => ({ counts: { traces }, problem }), clock);
  assert.deepEqual(await probe(), { status: 'ok', message: 'traces: 5 sent, 0 lost, 2 waiting' });
  problem = 'traces: the collector answered 401';
  assert.deepEqual(await probe(), {
    status: 'degraded',
    message: 'traces: the collector answered 401; see telemetry.otlp; traces: 5 sent, 0 lost, 2 waiting',
  });
  problem = undefined;
  assert.equal((await probe()).status, 'ok');
  traces.lost = 3;
  assert.equal((await probe()).status, 'degraded');
  clock.advance(5 * MINUTE);
  assert.equal((await probe()).status, 'ok');
});
