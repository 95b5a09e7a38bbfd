/** Secrets of providers: in a file or an environment variable, read when they are needed, told to nobody. */
import { readFile, stat } from 'node:fs/promises';
import { AppError } from '../../core/errors.ts';
import type { SecretSource } from './schema.ts';

export type ReadSecret = (source: SecretSource, setting: string) => Promise<string>;

const MAX_SECRET_BYTES = 16 * 1024;
/** What can go into a header field. Anything else is a mistake, and libraries quote what they can't send. */
const PRINTABLE = /^[!-~]+$/;

/** Read anew each time, so that a secret can be changed while this runs. @throws AppError PRECONDITION_FAILED. */
export function createSecretReader(environment: Readonly<Record<string, string | undefined>>): ReadSecret {
  return async (source, setting) => {
    const where = 'file' in source ? `the file ${source.file}` : `the environment variable ${source.env}`;
    const text = 'file' in source ? await readSmall(source.file, setting) : environment[source.env];
    const secret = text?.trim();
    if (secret === undefined || secret === '')
      throw refused(setting, `${where} is ${text === undefined ? 'not set' : 'empty'}`);
    if (!PRINTABLE.test(secret))
      throw refused(setting, `${where} has to hold one line of printable ASCII without spaces`);
    return secret;
  };
}

async function readSmall(file: string, setting: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > MAX_SECRET_BYTES)
      throw refused(setting, `the file ${file} is ${size} bytes long; at most ${MAX_SECRET_BYTES} are read`);
    return await readFile(file, 'utf8');
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
    throw refused(setting, `the file ${file} can't be read (${code})`, cause);
  }
}

const refused = (setting: string, what: string, cause?: unknown): AppError =>
  new AppError('PRECONDITION_FAILED', `the secret ${setting} of the DNS provider: ${what}`, { cause });
