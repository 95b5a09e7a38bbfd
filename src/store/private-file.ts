import { chmodSync, closeSync, openSync } from 'node:fs';

const OWNER_ONLY = 0o600;

/** SQLite gives its -wal, -shm and -journal files the mode of the database file, so this one mode is enough. */
export function createPrivateFile(path: string): void {
  closeSync(openSync(path, 'a', OWNER_ONLY));
  chmodSync(path, OWNER_ONLY);
}
