/** What every database adapter promises. Each adapter's test calls this with a way to open (and reopen) one. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, type ManualClock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Database } from './database.ts';
import { createIdempotencyStore } from './idempotency.ts';

const ticket = {
  principalId: 'tok_1',
  operation: 'create_proxy',
  key: 'key-12345',
  inputDigest: 'digest',
  seal: (text: string) => text,
};
/** Sealing is tested where it is made; here it would only hide what is stored. */
const plain = { seal: (text: string) => text, open: (text: string) => text };

export function databaseContract(
  adapter: string,
  clock: ManualClock,
  open: (log?: Log) => Promise<{ database: Database; reopen: () => Promise<Database> }>,
): void {
  const title = (requirement: string) => `${adapter}: ${requirement}`;

  test(title('what a change wrote is there after closing and opening again'), async () => {
    const { database, reopen } = await open();
    await write(database, 'a');
    await database[Symbol.asyncDispose]();
    await using again = await reopen();
    assert.deepEqual(await keys(again), ['a']);
  });

  test(title('a change that throws leaves nothing behind and tells no news'), async () => {
    await using database = (await open()).database;
    let told = false;
    await assert.rejects(
      database.change({}, async (tx, afterCommit) => {
        await tx.insertInto('meta').values({ key: 'x', value: '' }).execute();
        afterCommit(() => void (told = true));
        throw new Error('stop');
      }),
      /stop/,
    );
    assert.deepEqual(await keys(database), []);
    assert.equal(told, false);
    await write(database, 'after');
    assert.deepEqual(await keys(database), ['after']);
  });

  test(
    title('changes run one after the other, and the news of one comes before the next begins'),
    async () => {
      await using database = (await open()).database;
      const order: string[] = [];
      const change = (name: string) =>
        database.change({}, async (tx, afterCommit) => {
          order.push(`${name} begins`);
          await tx.insertInto('meta').values({ key: name, value: '' }).execute();
          afterCommit(() => void order.push(`${name} told`));
        });
      await Promise.all([change('a'), change('b')]);
      assert.deepEqual(order, ['a begins', 'a told', 'b begins', 'b told']);
    },
  );

  for (const [how, all] of [
    ['many changes at once', (names: string[], one: Write) => Promise.all(names.map(one))],
    ['changes that each begin when the one before has ended', inTurn],
  ] as const)
    test(title(`${how} do not keep the event loop: there are turns between them`), async () => {
      await using database = (await open()).database;
      const names = Array.from({ length: 20 }, (_, index) => `key-${index}`);
      let turns = 0;
      let isOver = false;
      const count = () => {
        turns += 1;
        if (!isOver) setImmediate(count);
      };
      setImmediate(count);
      await all(names, (name) => write(database, name));
      isOver = true;
      assert.ok(turns >= names.length, `${turns} turns for ${names.length} changes`);
    });

  test(title('news that fails is reported and hides neither the change nor the other news'), async () => {
    const records: LogRecord[] = [];
    const log: Log = { write: (record) => void records.push(record), enabled: () => false };
    await using database = (await open(log)).database;
    const told: string[] = [];
    const result = await database.change({}, async (tx, afterCommit) => {
      await tx.insertInto('meta').values({ key: 'x', value: '' }).execute();
      afterCommit(() => void told.push('first'));
      afterCommit(() => {
        throw new Error('the second could not be told');
      });
      afterCommit(() => void told.push('third'));
      return 'the result';
    });
    assert.equal(result, 'the result');
    assert.deepEqual(told, ['first', 'third']);
    assert.deepEqual(await keys(database), ['x']);
    assert.deepEqual(
      records.map(({ level, component }) => [level, component]),
      [['error', 'store']],
    );
    assert.match(records[0]?.message ?? '', /the second could not be told/);
  });

  test(title('a lost update is not possible: read and write inside one change'), async () => {
    await using database = (await open()).database;
    await database.change({}, (tx) => tx.insertInto('meta').values({ key: 'n', value: '0' }).execute());
    const increment = () =>
      database.change({}, async (tx) => {
        const { value } = await tx
          .selectFrom('meta')
          .select('value')
          .where('key', '=', 'n')
          .executeTakeFirstOrThrow();
        await tx
          .updateTable('meta')
          .set({ value: String(Number(value) + 1) })
          .where('key', '=', 'n')
          .execute();
      });
    await Promise.all(Array.from({ length: 50 }, increment));
    const row = await database.read
      .selectFrom('meta')
      .select('value')
      .where('key', '=', 'n')
      .executeTakeFirst();
    assert.equal(row?.value, '50');
  });

  test(title('the result of an idempotency key is kept with the change, and lost with it'), async () => {
    await using database = (await open()).database;
    const store = createIdempotencyStore(database, clock, plain);
    await assert.rejects(database.change({ idempotency: ticket }, () => Promise.reject(new Error('stop'))));
    assert.equal(await store.find(ticket), undefined);
    await database.change({ idempotency: ticket }, async () => ({ id: 'prx_1' }));
    assert.deepEqual(await store.find(ticket), { inputDigest: 'digest', result: { id: 'prx_1' } });
    assert.equal(await store.find({ ...ticket, principalId: 'tok_2' }), undefined);
  });

  test(title('of two changes with one idempotency key the second writes nothing'), async () => {
    await using database = (await open()).database;
    const attempt = (key: string) =>
      database.change({ idempotency: ticket }, async (tx) => {
        await tx.insertInto('meta').values({ key, value: '' }).execute();
      });
    const outcomes = await Promise.allSettled([attempt('a'), attempt('b')]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    assert.ok(
      outcomes[1]?.status === 'rejected' &&
        outcomes[1].reason instanceof AppError &&
        outcomes[1].reason.code === 'CONFLICT',
    );
    assert.deepEqual(await keys(database), ['a']);
  });

  test(title('an idempotency key is forgotten after a day, and may then be used anew'), async () => {
    await using database = (await open()).database;
    const store = createIdempotencyStore(database, clock, plain);
    await database.change({ idempotency: ticket }, async () => 1);
    clock.advance(DAY);
    assert.equal(await store.find(ticket), undefined);
    await database.change({ idempotency: ticket }, async () => 2);
    await store.sweep();
    assert.equal((await store.find(ticket))?.result, 2);
  });

  test(title('64-bit times come back as numbers'), async () => {
    await using database = (await open()).database;
    const now = Date.UTC(2026, 10, 22);
    const row = { id: 's', principal_id: 'p', document: '{}', created_at: now, last_seen_at: now };
    await database.change({}, (tx) => tx.insertInto('sessions').values(row).execute());
    assert.deepEqual(await database.read.selectFrom('sessions').selectAll().executeTakeFirst(), row);
  });
}

const write = (database: Database, key: string) =>
  database.change({}, async (tx) => {
    await tx.insertInto('meta').values({ key, value: '' }).execute();
  });

async function keys(database: Database): Promise<string[]> {
  const rows = await database.read
    .selectFrom('meta')
    .select('key')
    .where('key', '!=', 'schema_version')
    .orderBy('key')
    .execute();
  return rows.map(({ key }) => key);
}

type Write = (name: string) => Promise<unknown>;

async function inTurn(names: readonly string[], one: Write): Promise<void> {
  for (const name of names) await one(name);
}
