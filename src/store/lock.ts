/**
 * One process per data directory. The lock is an exclusive lock that the operating system holds on a file and drops
 * when the process ends, however it ends, so there is no stale lock to clean up. The pid beside it is for people.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { AppError } from '../core/errors.ts';
import { createPrivateFile, writePrivateFile } from './private-file.ts';

export const LOCK_FILE = 'lock.sqlite';
const PID_FILE = 'ohp.pid';

/** @throws AppError CONFLICT with the pid of the process that holds the directory. */
export function lockDirectory(directory: string): Disposable {
  const pidFile = join(directory, PID_FILE);
  const lockFile = join(directory, LOCK_FILE);
  createPrivateFile(lockFile);
  const connection = new BetterSqlite3(lockFile, { timeout: 0 });
  try {
    connection.exec('BEGIN EXCLUSIVE');
  } catch (cause) {
    connection.close();
    if (!isBusy(cause)) throw cause;
    throw new AppError(
      'CONFLICT',
      `${directory} is in use by the process with pid ${readPid(pidFile)}; stop it first, or set OHP_DATA_DIR to another folder`,
      { cause },
    );
  }
  try {
    writePrivateFile(pidFile, `${process.pid}\n`);
  } catch (cause) {
    connection.close();
    throw cause;
  }
  return {
    [Symbol.dispose]() {
      rmSync(pidFile, { force: true });
      connection.close();
    },
  };
}

const isBusy = (cause: unknown): boolean =>
  cause instanceof BetterSqlite3.SqliteError && cause.code === 'SQLITE_BUSY';

function readPid(pidFile: string): string {
  try {
    return readFileSync(pidFile, 'utf8').trim();
  } catch {
    return 'unknown'; // The holder is between taking the lock and writing its pid.
  }
}
