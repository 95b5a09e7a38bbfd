/**
 * The folder of everything that is kept: made where it is missing, private, and this process's alone. The composition
 * root opens it before all else. What lies in it belongs to the parts.
 */
import { chmodSync, existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AppError } from '../core/errors.ts';
import { makeFolder } from '../core/folder.ts';
import { LOCK_FILE, lockDirectory } from './lock.ts';
import { storageFault } from './storage-fault.ts';

const OWNER_ONLY = 0o700;
const OTHERS = 0o077;
/** What a file system has in its topmost folder by itself. */
const OF_THE_SYSTEM = 'lost+found';

export const STATE_FILE = 'state.sqlite';

export interface DataDirectory extends Disposable {
  /** Without symbolic links, so that one that is changed later does not part the data. */
  readonly path: string;
  readonly stateFile: string;
  /** Whether a start before this one has kept something. */
  readonly hasState: boolean;
}

/** @throws AppError PRECONDITION_FAILED when it can't be used, CONFLICT when another process has it. */
export function openDataDirectory(configured: string): DataDirectory {
  const path = resolve(configured);
  try {
    makeFolder(path, OWNER_ONLY);
    const real = follow(path);
    requireOwn(real);
    makePrivate(real);
    // Now that nobody else can put something into it.
    for (const name of entriesOf(real)) requireOwn(join(real, name));
    const lock = lockDirectory(real);
    const stateFile = join(real, STATE_FILE);
    return {
      path: real,
      stateFile,
      hasState: existsSync(stateFile),
      [Symbol.dispose]: () => lock[Symbol.dispose](),
    };
  } catch (cause) {
    throw storageFault(path, cause) ?? cause;
  }
}

function follow(path: string): string {
  const target = statSync(path, { throwIfNoEntry: false });
  if (!target && lstatSync(path).isSymbolicLink())
    throw unusable(path, 'is a symbolic link to nothing; make the folder it names');
  if (target?.isDirectory() === false)
    throw unusable(path, 'is a file and no folder; set OHP_DATA_DIR to a folder');
  return realpathSync(path);
}

const entriesOf = (path: string): string[] => readdirSync(path).filter((name) => name !== OF_THE_SYSTEM);

/**
 * Whoever owns the folder, or could write in it before, may have laid a key of theirs there, or a link by which a file
 * elsewhere would be overwritten.
 */
function requireOwn(path: string): void {
  const user = process.getuid?.();
  if (user === undefined) return;
  const stats = lstatSync(path);
  if (stats.isSymbolicLink())
    throw unusable(
      path,
      'is a symbolic link, and nothing in the data folder may be one; put what it names in its place',
    );
  if (stats.uid !== user)
    throw unusable(
      path,
      `belongs to another user (id ${stats.uid}, this runs as ${user}); set OHP_DATA_DIR to a folder of this user's own, or run: chown -R ${user} ${path}`,
    );
}

/** A folder of somebody else is not closed to them because a path was mistyped. */
function makePrivate(path: string): void {
  if ((statSync(path).mode & OTHERS) === 0 || process.platform === 'win32') return;
  const found = entriesOf(path);
  if (found.length > 0 && !found.includes(LOCK_FILE))
    throw unusable(
      path,
      `holds other files and is open to other users; name a folder of its own, or run: chmod 700 ${path}`,
    );
  chmodSync(path, OWNER_ONLY);
}

const unusable = (path: string, what: string): AppError =>
  new AppError('PRECONDITION_FAILED', `${path}: ${what}`);
