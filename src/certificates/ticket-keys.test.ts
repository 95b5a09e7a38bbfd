import assert from 'node:assert/strict';
import test from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { ManualClock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import { openTicketKeys, TICKET_PERIOD_MS, TICKET_REFRESH_MS } from './ticket-keys.ts';

async function setUp(t: test.TestContext) {
  const clock = new ManualClock();
  const database = await openSqlite(':memory:', clock);
  t.after(() => database[Symbol.asyncDispose]());
  const records: LogRecord[] = [];
  const log = { write: (record: LogRecord) => void records.push(record), enabled: () => true };
  const open = (master = 0) =>
    openTicketKeys({ database, clock, log, sealer: createSealer(Buffer.alloc(32, master)) });
  const text = async () =>
    (await database.read.selectFrom('meta').selectAll().execute()).map(({ value }) => value).join();
  return { clock, database, records, open, text };
}

test('tickets of one process are good in every other on the same store, and after a restart', async (t) => {
  const { open, text } = await setUp(t);
  await using one = await open();
  await using two = await open();
  const { name, mac, cipher } = one.current();
  assert.deepEqual(two.current(), one.current());
  assert.deepEqual(two.find(name)?.mac, mac);
  for (const secret of [mac, cipher])
    assert.ok(!(await text()).includes(secret.toString('base64')), 'sealed at rest');
});

test('keys change every period; the one before is still taken, the one before that is forgotten and deleted', async (t) => {
  const { clock, open } = await setUp(t);
  await using keys = await open();
  const first = keys.current();
  clock.advance(TICKET_PERIOD_MS);
  await keys.refresh();
  const second = keys.current();
  assert.notDeepEqual(second.name, first.name);
  assert.ok(keys.find(first.name));
  clock.advance(TICKET_PERIOD_MS);
  assert.equal(keys.find(first.name), undefined, 'also before the store is asked');
  await keys.refresh();
  assert.ok(keys.find(second.name));
  await using later = await open();
  assert.equal(later.find(first.name), undefined);
  assert.ok(later.find(second.name));
});

test('a process that looks late has the key that another one began to use', async (t) => {
  const { clock, open } = await setUp(t);
  await using early = await open();
  await using late = await open();
  clock.advance(TICKET_PERIOD_MS - TICKET_REFRESH_MS);
  await early.refresh();
  clock.advance(TICKET_REFRESH_MS);
  assert.ok(late.find(early.current().name));
  assert.deepEqual(late.current().name, early.current().name);
});

test('keys that can not be opened are made anew and reported, and a store that is away stops no handshake', async (t) => {
  const { clock, database, open, records } = await setUp(t);
  await using before = await open();
  await using after = await open(1);
  assert.notDeepEqual(after.current().name, before.current().name);
  assert.match(records.at(-1)?.message ?? '', /made anew/);
  database.change = async () => {
    throw new Error('the disk is full');
  };
  clock.advance(3 * TICKET_PERIOD_MS);
  const key = after.current();
  assert.equal(after.current(), key);
  assert.equal(after.find(key.name), key);
});
