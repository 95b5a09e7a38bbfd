/** The embedded database: SQLite in WAL mode, fully synchronous, one file of mode 0600. */
import BetterSqlite3 from 'better-sqlite3';
import { Kysely, type SqliteDatabase, SqliteDialect } from 'kysely';
import type { Clock } from '../core/clock.ts';
import { noMeter, type StoreMeter } from '../core/meter.ts';
import { type Log, silentLog } from '../core/record.ts';
import { type ChangeParts, createChange } from './change.ts';
import type { Database } from './database.ts';
import { migrate } from './migrations.ts';
import { createPrivateFile } from './private-file.ts';
import type { Tables } from './schema.ts';
import { storageFault } from './storage-fault.ts';

const BUSY_TIMEOUT_MS = 5000;

/** @throws AppError PRECONDITION_FAILED when the file is damaged, newer than this program, or can't be written. */
export async function openSqlite(
  path: string,
  clock: Clock,
  log: Log = silentLog,
  meter: StoreMeter = noMeter,
): Promise<Database> {
  try {
    return await open(path, { clock, log, meter });
  } catch (cause) {
    throw storageFault(path, cause) ?? cause;
  }
}

async function open(path: string, parts: Omit<ChangeParts, 'db'>): Promise<Database> {
  if (path !== ':memory:') createPrivateFile(path);
  const connection = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT_MS });
  const statements = new Map<string, BetterSqlite3.Statement>();
  const read = new Kysely<Tables>({
    dialect: new SqliteDialect({ database: forKysely(connection, statements) }),
  });
  try {
    connection.pragma('journal_mode = WAL');
    connection.pragma('synchronous = FULL');
    connection.pragma('foreign_keys = ON');
    await migrate(read);
    // Prepared before the last change of a table, a statement may have other columns.
    statements.clear();
  } catch (cause) {
    await read.destroy();
    // Kysely closes only what it has used.
    connection.close();
    throw cause;
  }
  return {
    read,
    change: createChange({ ...parts, db: read }),
    [Symbol.asyncDispose]: () => read.destroy(),
  };
}

const NOTHING = 'select 1 where false';

/** Distinct statements of this system are some hundreds; lists of values of any length make more. */
const MAX_STATEMENTS = 500;

/**
 * Statements are prepared once. Of some faults, such as a full disk, SQLite rolls back by itself; the rollback that Kysely
 * then asks for would fail and hide the fault.
 * @see {@link https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction}
 */
const forKysely = (
  connection: BetterSqlite3.Database,
  statements: Map<string, BetterSqlite3.Statement>,
): SqliteDatabase => ({
  prepare(text) {
    const wanted = text === 'rollback' && !connection.inTransaction ? NOTHING : text;
    const known = statements.get(wanted);
    if (known) return known;
    if (statements.size >= MAX_STATEMENTS) statements.clear();
    const statement = connection.prepare(wanted);
    statements.set(wanted, statement);
    return statement;
  },
  close: () => connection.close(),
});
