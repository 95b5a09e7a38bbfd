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
import { AppError } from './core/errors.ts';
import type { VerifyAuditFiles } from './interfaces/cli/verify.ts';

/** @throws AppError INVALID_INPUT, NOT_FOUND, PRECONDITION_FAILED of the master key, UNAVAILABLE where a file can't be read. */
export const verifyAuditFiles: VerifyAuditFiles = async (
  { paths, knownHead: known },
  { env, cwd, signal },
) => {
  const config = await readConfig(env, cwd);
  const [first = resolve(cwd, config.data_dir), ...others] = paths.map((path) => resolve(cwd, path));
  try {
    const isFolder = statSync(first).isDirectory();
    if (isFolder && others.length > 0)
      throw new AppError('INVALID_INPUT', 'paths: name one folder, or files in the order of their records');
    const dataDir = isFolder && existsSync(folderIn(first)) ? first : undefined;
    // A folder without a data folder around it, and an export, are what an auditor has.
    const masterKey = findMasterKey({ dataDir, masterKey: config.master_key });
    const wish = { key: masterKey && trailKeyOf(masterKey), known, signal };
    const verdict = isFolder
      ? await verifyFolder(dataDir === undefined ? first : folderIn(dataDir), wish)
      : await verifyExports([first, ...others], wish);
    return { ...verdict, macs_checked: masterKey !== undefined };
  } catch (cause) {
    throw readable(cause);
  }
};

function readable(cause: unknown): unknown {
  if (!(cause instanceof Error && 'syscall' in cause && 'code' in cause)) return cause;
  const code = cause.code === 'ENOENT' ? 'NOT_FOUND' : 'UNAVAILABLE';
  return new AppError(code, cause.message, { cause });
}
