import { closeSync, constants, fchmodSync, openSync, writeSync } from 'node:fs';

const OWNER_ONLY = 0o600;
const { O_APPEND, O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;
/** Never what a link leads to: that is somebody else's file. */
const WRITE = O_WRONLY | O_CREAT | O_NOFOLLOW;

/** SQLite gives its -wal, -shm and -journal files the mode of the database file, so this one mode is enough. */
export function createPrivateFile(path: string): void {
  const file = openSync(path, WRITE | O_APPEND, OWNER_ONLY);
  fchmodSync(file, OWNER_ONLY);
  closeSync(file);
}

/** In place of what was in it. */
export function writePrivateFile(path: string, text: string): void {
  const file = openSync(path, WRITE | O_TRUNC, OWNER_ONLY);
  try {
    fchmodSync(file, OWNER_ONLY);
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}
