import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import { type ChallengeDns, ChallengeRecords, Unpublished } from './challenge-records.ts';
import type { ChallengeRecord } from './dns/providers.ts';
import { LEASE_MS, LeaseLost, Orders } from './orders.ts';

const signal = new AbortController().signal;
const answer = { hostname: '*.a.example.com', recordName: '_acme-challenge.a.example.com', value: 'v1' };

/** A zone in memory, whose faults are the test's. */
class Zone implements ChallengeDns {
  readonly propagationTimeoutMs = MINUTE;
  readonly values: string[] = [];
  /** Before the act; may throw. */
  trouble: (what: 'locate' | 'publish' | 'withdraw' | 'wait', record: { value: string }) => unknown = () =>
    undefined;

  async locate({ name, value }: { name: string; value: string }): Promise<ChallengeRecord> {
    await this.trouble('locate', { value });
    return { asked: name, name, zone: 'example.com', provider_zone: 'example.com', value };
  }

  async publish(record: ChallengeRecord): Promise<void> {
    await this.trouble('publish', record);
    this.values.push(record.value);
  }

  async withdraw(record: ChallengeRecord, _signal: AbortSignal): Promise<void> {
    await this.trouble('withdraw', record);
    const at = this.values.indexOf(record.value);
    if (at >= 0) this.values.splice(at, 1);
  }

  async waitUntilVisible(record: ChallengeRecord) {
    await this.trouble('wait', record);
    return [];
  }
}

async function world(t: TestContext) {
  const clock = new ManualClock();
  const folder = mkdtempSync(join(tmpdir(), 'records-'));
  const database = await openSqlite(join(folder, 'state.db'), clock);
  t.after(async () => {
    await database[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  const written: LogRecord[] = [];
  const log: Log = { write: (record) => void written.push(record), enabled: () => true };
  const sealer = createSealer(Buffer.alloc(32, 1));
  const zone = new Zone();
  /** As of one process. */
  const process = () => {
    const orders = new Orders({ database, sealer, clock, log });
    return { orders, records: new ChallengeRecords({ database, clock, log, dns: zone, orders }) };
  };
  const { orders, records } = process();
  const open = async (hostname: string) => {
    const order = await orders.open({
      names: [hostname],
      issuer: 'ca',
      keyType: 'p256',
      profile: undefined,
      owner: undefined,
      reason: 'served',
      replaces: undefined,
      urgency: 1,
    });
    assert.ok(await orders.claim(order.id));
    return order;
  };
  const order = await open(answer.hostname);
  const rows = () => database.read.selectFrom('challenge_records').selectAll().execute();
  return { clock, zone, database, orders, records, open, order, rows, written, process };
}

test('a record is in the store before it is in the DNS, and gone from both when it is withdrawn', async (t) => {
  const { zone, records, order, rows } = await world(t);
  zone.trouble = async (what) => what === 'publish' && assert.equal((await rows()).length, 1);
  await records.publish(order, [answer], signal);
  assert.deepEqual(zone.values, ['v1']);
  await records.withdraw(order.id);
  assert.deepEqual([zone.values, await rows()], [[], []]);
});

test('of several records the failure of one stops the others, and nothing is under way any more when it is told', async (t) => {
  const { zone, records, order } = await world(t);
  let isLate = false;
  zone.trouble = async (what, { value }) => {
    if (what !== 'publish') return;
    if (value === 'v1') throw new AppError('RATE_LIMITED', 'no', { details: { retry_after_ms: 5000 } });
    await new Promise(setImmediate);
    isLate = true;
  };
  const publishing = records.publish(order, [answer, { ...answer, value: 'v2' }], signal);
  await assert.rejects(publishing, (cause) => {
    assert.ok(cause instanceof Unpublished);
    assert.deepEqual([cause.stage, cause.retryAfterMs, isLate], ['refused', 5000, true]);
    return true;
  });
  await records.withdraw(order.id);
  assert.deepEqual(zone.values, []);
});

test('who has lost the order to another process publishes nothing', async (t) => {
  const { zone, records, order, clock, process, rows } = await world(t);
  clock.advance(LEASE_MS + 1);
  assert.ok(await process().orders.claim(order.id));
  await assert.rejects(records.publish(order, [answer], signal), LeaseLost);
  assert.deepEqual([zone.values, await rows()], [[], []]);
});

test('while name servers are waited for, the order stays ours', async (t) => {
  const { zone, records, order, clock, process } = await world(t);
  const other = process();
  zone.trouble = async (what) => {
    if (what !== 'wait') return;
    for (let passed = 0; passed < 2 * LEASE_MS; passed += MINUTE) {
      clock.advance(MINUTE);
      // The store does one change at a time: this one comes after the lease.
      assert.equal(await other.orders.claim(order.id), false);
    }
  };
  await records.publish(order, [answer], signal);
});

test('what could not be withdrawn is withdrawn later, at first soon', async (t) => {
  const { zone, orders, records, order, clock, written } = await world(t);
  await records.publish(order, [answer], signal);
  zone.trouble = (what) => {
    if (what === 'withdraw') throw new AppError('UNAVAILABLE', 'the host is away');
  };
  await records.withdraw(order.id);
  assert.match(
    written.at(-1)?.message ?? '',
    /_acme-challenge\.a\.example\.com is not withdrawn: the host is away; next attempt/,
  );
  await orders.step(order, { state: 'abandoned' });
  zone.trouble = () => undefined;
  await records.sweep(signal);
  assert.deepEqual(zone.values, ['v1'], 'not at once');
  clock.advance(MINUTE);
  await records.sweep(signal);
  assert.deepEqual(zone.values, []);
});

test('what a process that died has left is withdrawn when the order is over or waits, and not while it is worked on', async (t) => {
  const { zone, orders, records, order, clock, process, rows } = await world(t);
  await records.publish(order, [answer], signal);
  const next = process();
  await next.records.sweep(signal);
  assert.deepEqual(zone.values, ['v1'], 'the other process still has the order');
  clock.advance(LEASE_MS + 1);
  await next.records.sweep(signal);
  assert.deepEqual(zone.values, ['v1'], 'it is about to be driven, and will need it');
  assert.ok(await next.orders.claim(order.id));
  await next.orders.step(order, { nextAttemptAt: clock.now() + DAY });
  await next.orders.release(order.id);
  await next.records.sweep(signal);
  assert.deepEqual([zone.values, await rows()], [[], []]);
  assert.ok(await orders.claim(order.id), 'the lease was given back');
});

test('a record whose zone has no provider any more is left after thirty days, and that is told', async (t) => {
  const { zone, orders, records, order, clock, rows, written } = await world(t);
  await records.publish(order, [answer], signal);
  await orders.step(order, { state: 'abandoned' });
  zone.trouble = () => {
    throw new AppError('PRECONDITION_FAILED', 'no DNS provider is set for the zone any more');
  };
  for (let hours = 0; hours <= 31 * 24; hours += 6) {
    await records.sweep(signal);
    clock.advance(6 * HOUR);
  }
  assert.deepEqual(await rows(), []);
  assert.match(written.at(-1)?.message ?? '', /it is left there/);
});

test('a host that never answers is not waited for on the way out, and nothing counts as failed', async (t) => {
  const { zone, orders, records, order, open, rows } = await world(t);
  for (const each of [order, await open('*.b.example.com'), await open('*.c.example.com')]) {
    await records.publish(each, [{ ...answer, value: each.id }], signal);
    await orders.step(each, { state: 'abandoned' });
  }
  const stop = new AbortController();
  let asked = 0;
  zone.withdraw = async (_record, until) => {
    asked++;
    stop.abort();
    until.throwIfAborted();
    assert.fail('nobody stopped it');
  };
  await records.sweep(stop.signal);
  assert.equal(asked, 1);
  assert.deepEqual(
    (await rows()).map(({ failures }) => failures),
    [0, 0, 0],
  );
});

test('a record that can not be read is told, and the others are withdrawn', async (t) => {
  const { zone, database, orders, records, order, open, rows, written } = await world(t);
  const other = await open('*.b.example.com');
  for (const each of [order, other]) {
    await records.publish(each, [{ ...answer, value: each.id }], signal);
    await orders.step(each, { state: 'abandoned' });
  }
  await database.change({}, (tx) =>
    tx
      .updateTable('challenge_records')
      .set({ document: '{}' })
      .where('order_id', '=', order.id)
      .executeTakeFirst(),
  );
  await records.sweep(signal);
  assert.deepEqual(zone.values, [order.id]);
  assert.deepEqual(
    (await rows()).map(({ order_id: id, failures }) => [id, failures]),
    [[order.id, 1]],
  );
  assert.match(written.at(-1)?.message ?? '', /is not withdrawn/);
});
