/**
 * `ohp verify audit-files`: the audit trail without its server, of a data folder, in use or not, or as an auditor has
 * it. Takes no lock and writes nothing. `src/cli.ts` loads it when it is asked for.
 */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { trailKeyOf } from './app.audit.ts';
import { verifyExports, verifyFolder } from './audit/offline.ts';
import { folderIn } from './audit/trail.ts';
import { readConfig } from './config/command-line.ts';
import { findMasterKey } from './config/secrets.ts';
import { AppError, messageOf } from './core/errors.ts';
import type { VerifyAuditFiles } from './interfaces/cli/verify.ts';

/** @throws AppError INVALID_INPUT, NOT_FOUND, UNAVAILABLE where a file, or the master key, can't be read. */
export const verifyAuditFiles: VerifyAuditFiles = async (
  { paths, knownHead: known },
  { env, cwd, signal },
) => {
  const config = await readConfig(env, cwd);
  const [first = resolve(cwd, config.data_dir), ...others] = paths.map((path) => resolve(cwd, path));
  try {
    const place = statSync(first);
    const isFolder = place.isDirectory();
    if (isFolder && others.length > 0)
      throw new AppError('INVALID_INPUT', 'paths: name one folder, or files in the order of their records');
    const dataDir = isFolder && existsSync(folderIn(first)) ? first : undefined;
    // A folder without a data folder around it, and an export, are what an auditor has.
    const masterKey = keyIn({ dataDir, masterKey: config.master_key, owner: place.uid });
    const wish = { key: masterKey && trailKeyOf(masterKey), known, signal };
    const verdict = isFolder
      ? await verifyFolder(dataDir === undefined ? first : folderIn(dataDir), wish)
      : await verifyExports([first, ...others], wish);
    return { ...verdict, macs_checked: masterKey !== undefined };
  } catch (cause) {
    throw readable(cause);
  }
};

/** Of whom the folder is, also where an administrator looks. */
function keyIn(source: Parameters<typeof findMasterKey>[0]): Buffer | undefined {
  try {
    return findMasterKey(source);
  } catch (cause) {
    // Its own code is that of a trail which was changed.
    throw new AppError('UNAVAILABLE', `the trail was not looked at: ${messageOf(cause)}`, { cause });
  }
}

function readable(cause: unknown): unknown {
  if (!(cause instanceof Error && 'syscall' in cause && 'code' in cause)) return cause;
  const code = cause.code === 'ENOENT' ? 'NOT_FOUND' : 'UNAVAILABLE';
  return new AppError(code, cause.message, { cause });
}
