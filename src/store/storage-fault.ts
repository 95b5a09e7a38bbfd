/** Faults of the data folder, by the codes of the system and of SQLite, in words for the person who starts this. */
import { AppError, messageOf } from '../core/errors.ts';

const ELSEWHERE = 'set OHP_DATA_DIR to a folder that this user may write';
const FULL = ['the disk is full', 'make room and start again'] as const;
const READ_ONLY = ['the file system is read-only', ELSEWHERE] as const;
const FORBIDDEN = ['this user may not read and write there', ELSEWHERE] as const;
const DAMAGED = ['is damaged', 'restore it from a backup; nothing was changed'] as const;
const FAILING = ['the disk does not work', 'look into the log of the system'] as const;

const faults: Readonly<Record<string, readonly [what: string, remedy: string]>> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  SQLITE_FULL: FULL,
  EROFS: READ_ONLY,
  SQLITE_READONLY: READ_ONLY,
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  SQLITE_PERM: FORBIDDEN,
  SQLITE_CANTOPEN: FORBIDDEN,
  ENOTDIR: ['something above it is a file', ELSEWHERE],
  ENOENT: ['nothing can be made there', ELSEWHERE],
  ELOOP: ['its symbolic links lead in a circle', ELSEWHERE],
  ENAMETOOLONG: ['its name is too long', ELSEWHERE],
  EIO: FAILING,
  SQLITE_IOERR: FAILING,
  SQLITE_NOTADB: DAMAGED,
  SQLITE_CORRUPT: DAMAGED,
};

/** What was thrown while something in the data folder was read or written, as an error to act on, if it is one. */
export function storageFault(path: string, cause: unknown): AppError | undefined {
  if (!(cause instanceof Error) || !('code' in cause) || cause instanceof AppError) return undefined;
  // Ports are refused with the same codes.
  if ('syscall' in cause && cause.syscall === 'listen') return undefined;
  const code = String(cause.code);
  // SQLite's extended codes begin with the plain one: SQLITE_IOERR_WRITE.
  const [plain = ''] = /^SQLITE_[A-Z]+/.exec(code) ?? [code];
  const fault = faults[plain];
  if (!fault) return undefined;
  const [what, remedy] = fault;
  // The system's own words begin with the code, SQLite's do not.
  const words = messageOf(cause).startsWith(code) ? messageOf(cause) : `${code}: ${messageOf(cause)}`;
  return new AppError('PRECONDITION_FAILED', `${path}: ${what} (${words}); ${remedy}`, { cause });
}
