import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { sql } from 'kysely';
import { ManualClock } from '../core/clock.ts';
import { databaseContract } from './database.contract.ts';
import { migrate, migrations } from './migrations.ts';
import { openSqlite } from './sqlite.ts';

const root = mkdtempSync(join(tmpdir(), 'ohp-store-'));
after(() => rm(root, { recursive: true }));
let count = 0;
const newPath = () => join(root, `state-${++count}.sqlite`);
const clock = new ManualClock();

databaseContract('sqlite', clock, async (log) => {
  const path = newPath();
  return { database: await openSqlite(path, clock, log), reopen: () => openSqlite(path, clock) };
});

test('the database and its companions are readable by their owner only', async () => {
  const path = newPath();
  await using database = await openSqlite(path, clock);
  await database.change({}, (tx) => tx.insertInto('meta').values({ key: 'k', value: 'v' }).execute());
  const files = readdirSync(root).filter((name) => join(root, name).startsWith(path));
  assert.ok(files.length >= 2, files.join());
  for (const name of files) assert.equal(statSync(join(root, name)).mode & 0o777, 0o600, name);
});

test('a change that finds the disk full says so, leaves nothing, and the next one works', async () => {
  await using database = await openSqlite(newPath(), clock);
  const write = (key: string, value: string) =>
    database.change({}, (tx) => tx.insertInto('meta').values({ key, value }).execute());
  await sql`pragma max_page_count = 1`.execute(database.read);
  await assert.rejects(write('big', 'x'.repeat(1_000_000)), { code: 'SQLITE_FULL' });
  await write('small', 'fits');
  const { rows } = await sql`select key from meta where key in ('big', 'small')`.execute(database.read);
  assert.deepEqual(rows, [{ key: 'small' }]);
});

test('data of a newer program is refused, not touched', async () => {
  const path = newPath();
  await using database = await openSqlite(path, clock);
  await database.change({}, (tx) =>
    tx.updateTable('meta').set({ value: '99' }).where('key', '=', 'schema_version').execute(),
  );
  await assert.rejects(
    openSqlite(path, clock),
    /schema version 99; this program knows \d+: run the newer program/,
  );
});

test('every migration can be undone', async () => {
  await using database = await openSqlite(newPath(), clock);
  for (const step of [...migrations].reverse()) await step.down(database.read);
  const tables = await database.read.introspection.getTables();
  assert.deepEqual(
    tables.map(({ name }) => name),
    ['meta'],
  );
  await database.read.deleteFrom('meta').execute();
  await migrate(database.read);
  assert.ok((await database.read.introspection.getTables()).length > 1);
});
