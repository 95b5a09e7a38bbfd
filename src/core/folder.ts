/** Folders, made with what is missing above them. */
import { existsSync, mkdirSync } from 'node:fs';
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
