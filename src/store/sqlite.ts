/** The embedded database: SQLite in WAL mode, fully synchronous, one file of mode 0600. */
import BetterSqlite3 from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import type { Clock } from '../core/clock.ts';
import { createChange } from './change.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import { createPrivateFile } from './private-file.ts';
import type { Tables } from './schema.ts';

const BUSY_TIMEOUT_MS = 5000;

export async function openSqlite(path: string, clock: Clock): Promise<Database> {
  if (path !== ':memory:') createPrivateFile(path);
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
