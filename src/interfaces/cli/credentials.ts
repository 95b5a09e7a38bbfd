/**
 * Tokens that `ohp login` keeps, in a file that only its owner can read. A token belongs to the origin it was given
 * for and is sent to no other, whatever URL a later command names.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import type { CliIo } from './io.ts';

const OWNER_ONLY = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const OTHERS = 0o077;

const credentialsSchema = z.strictObject({
  /** Origin of the last login: where commands go that name no URL. */
  current: z.string().optional(),
  tokens: z.record(z.string(), z.string()),
});
type Credentials = z.output<typeof credentialsSchema>;

export function credentialsPath({ env, home }: CliIo): string {
  // The specification says to ignore a relative path there.
  const configured = env.XDG_CONFIG_HOME?.startsWith('/') ? env.XDG_CONFIG_HOME : undefined;
  return join(configured ?? join(home, '.config'), 'ohp', 'credentials.json');
}

/** @throws AppError when others can read the file: its tokens have to count as known. */
export function readCredentials(io: CliIo): Credentials {
  const path = credentialsPath(io);
  const text = readPrivate(path);
  if (text === undefined) return { tokens: {} };
  try {
    return credentialsSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AppError(
      'PRECONDITION_FAILED',
      `${path}: is not what ohp login writes; delete it and sign in again`,
      {
        cause,
      },
    );
  }
}

function readPrivate(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AppError('PRECONDITION_FAILED', `${path}: cannot be read`, { cause });
  }
  try {
    if ((fstatSync(file).mode & OTHERS) !== 0 && process.platform !== 'win32')
      throw new AppError(
        'PRECONDITION_FAILED',
        `${path}: others can read it; revoke the tokens in it, then: chmod 600 ${path}`,
      );
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}

/** Returns the file's path. */
export function storeToken(io: CliIo, origin: string, token: string): string {
  const { tokens } = readCredentials(io);
  return write(io, { current: origin, tokens: { ...tokens, [origin]: token } });
}

/** Returns whether there was one. */
export function forgetToken(io: CliIo, origin: string): boolean {
  const { current, tokens } = readCredentials(io);
  if (!Object.hasOwn(tokens, origin)) return false;
  const rest = Object.fromEntries(Object.entries(tokens).filter(([other]) => other !== origin));
  write(io, { ...(current !== undefined && current !== origin && { current }), tokens: rest });
  return true;
}

/** Written beside and moved over, so that no moment shows half a file or a wider mode. */
function write(io: CliIo, credentials: Credentials): string {
  const path = credentialsPath(io);
  const draft = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true, mode: OWNER_ONLY_FOLDER });
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: OWNER_ONLY, flag: 'wx' });
  renameSync(draft, path);
  return path;
}
