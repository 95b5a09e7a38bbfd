/** Folders, made with what is missing above them, and what is put on the disk for good. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Leaves what is there already as it is, file or folder. Node's own recursive `mkdirSync` tries for ever below a folder
 * that exists but in which nothing can be made, such as /proc; this one gives the error of the system.
 */
export function makeFolder(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException; // The file system throws nothing else.
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw cause;
    makeFolder(dirname(path), mode);
    mkdirSync(path, { mode });
  }
}

/** Names in it, of files that were made or renamed, are as durable then as what is in those. */
export function syncFolder(path: string): void {
  if (process.platform !== 'win32') syncPath(path);
}

/** What others have written of a file, too. @throws what the system says */
export function syncPath(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
