/** The embedded database: SQLite in WAL mode, fully synchronous, one file of mode 0600. */
import { chmodSync, closeSync, openSync } from 'node:fs';
import BetterSqlite3 from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import type { Clock } from '../core/clock.ts';
import { createChange } from './change.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import type { Tables } from './schema.ts';

const OWNER_ONLY = 0o600;
const BUSY_TIMEOUT_MS = 5000;

export async function openSqlite(path: string, clock: Clock): Promise<Database> {
  createPrivateFile(path);
  const connection = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT_MS });
  connection.pragma('journal_mode = WAL');
  connection.pragma('synchronous = FULL');
  connection.pragma('foreign_keys = ON');
  const read = new Kysely<Tables>({ dialect: new SqliteDialect({ database: connection }) });
  try {
    await migrate(read);
  } catch (cause) {
    await read.destroy();
    throw cause;
  }
  return {
    read,
    change: createChange(read, clock),
    [Symbol.asyncDispose]: () => read.destroy(),
  };
}

/** SQLite gives its -wal and -shm files the mode of the database file, so this one mode is enough. */
function createPrivateFile(path: string): void {
  if (path === ':memory:') return;
  closeSync(openSync(path, 'a', OWNER_ONLY));
  chmodSync(path, OWNER_ONLY);
}
