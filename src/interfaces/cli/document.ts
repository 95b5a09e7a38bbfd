/** An answer that is a document: printed as it is, or written into a new file that only its owner can read. */
import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError, messageOf } from '../../core/errors.ts';
import type { CliIo } from './io.ts';

const OWNER_ONLY = 0o600;

/**
 * The file is there before the server is asked: what it gives out once is not lost to a folder that can't be written.
 * @throws AppError INVALID_INPUT when it is there already, or can't be made
 */
export async function writeDocument(
  path: string,
  { cwd }: CliIo,
  ask: () => Promise<string>,
): Promise<string> {
  const full = resolve(cwd, path);
  const file = openNew(full);
  try {
    // Whole or not at all: one write may take less than all of it.
    writeFileSync(file, await ask());
    return full;
  } catch (cause) {
    unlinkSync(full);
    throw cause;
  } finally {
    closeSync(file);
  }
}

/** Never over what is there, nor through a link: `wx` is O_CREAT with O_EXCL. */
function openNew(path: string): number {
  try {
    return openSync(path, 'wx', OWNER_ONLY);
  } catch (cause) {
    const isThere = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new AppError('INVALID_INPUT', `out: ${isThere ? `${path} is there already` : messageOf(cause)}`, {
      cause,
    });
  }
}
