/**
 * What `ohp login` keeps, in a file that only its owner can read: tokens, and the CAs they were sent under. Both belong
 * to the origin they were given for; the token is sent to no other, whatever URL a later command names.
 */
import { closeSync, fstatSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { makeFolder } from '../../core/folder.ts';
import type { CliIo } from './io.ts';
import { type Session, sessionSchema, type Tokens } from './session.ts';

const OWNER_ONLY = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const OTHERS = 0o077;

const credentialsSchema = z.strictObject({
  /** Origin of the last login: where commands go that name no URL. */
  current: z.string().optional(),
  tokens: z.record(z.string(), z.string()),
  /** Path of the CA that the login trusted, by origin. */
  ca_files: z.record(z.string(), z.string()).default({}),
  /** How the token of an origin is renewed, where a person signed in. */
  sessions: z.record(z.string(), sessionSchema).default({}),
});
export type Credentials = z.output<typeof credentialsSchema>;

export function credentialsPath({ env, home }: CliIo): string {
  // The specification says to ignore a relative path there.
  const configured = env.XDG_CONFIG_HOME?.startsWith('/') ? env.XDG_CONFIG_HOME : undefined;
  return join(configured ?? join(home, '.config'), 'ohp', 'credentials.json');
}

/** @throws AppError when others can read the file: its tokens have to count as known. */
export function readCredentials(io: CliIo): Credentials {
  const path = credentialsPath(io);
  const text = readPrivate(path);
  if (text === undefined) return { tokens: {}, ca_files: {}, sessions: {} };
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

export interface Login {
  origin: string;
  token: string;
  /** Absolute path; undefined: what Node trusts was enough. */
  caFile: string | undefined;
  /** Undefined: the token is an API token. */
  session?: Session | undefined;
}

/** Returns the file's path. */
export function storeLogin(io: CliIo, { origin, token, caFile, session }: Login): string {
  const { tokens, ca_files, sessions } = readCredentials(io);
  return write(io, {
    current: origin,
    sessions: { ...without(sessions, origin), ...(session && { [origin]: session }) },
    tokens: { ...tokens, [origin]: token },
    ca_files: { ...without(ca_files, origin), ...(caFile !== undefined && { [origin]: caFile }) },
  });
}

/** A new token for the same sign-in. Which login was the last one stays. */
export function storeTokens(io: CliIo, origin: string, { token, session }: Tokens): void {
  const kept = readCredentials(io);
  write(io, {
    ...kept,
    tokens: { ...kept.tokens, [origin]: token },
    sessions: { ...kept.sessions, [origin]: session },
  });
}

/** Returns whether there was one. */
export function forgetLogin(io: CliIo, origin: string): boolean {
  const { current, tokens, ca_files, sessions } = readCredentials(io);
  if (!Object.hasOwn(tokens, origin)) return false;
  write(io, {
    ...(current !== undefined && current !== origin && { current }),
    tokens: without(tokens, origin),
    ca_files: without(ca_files, origin),
    sessions: without(sessions, origin),
  });
  return true;
}

const without = <Value>(record: Readonly<Record<string, Value>>, key: string): Record<string, Value> =>
  Object.fromEntries(Object.entries(record).filter(([other]) => other !== key));

/** Written beside and moved over, so that no moment shows half a file or a wider mode. */
function write(io: CliIo, credentials: Credentials): string {
  const path = credentialsPath(io);
  const draft = `${path}.${process.pid}`;
  makeFolder(dirname(path), OWNER_ONLY_FOLDER);
  writeFileSync(draft, `${JSON.stringify(credentials, undefined, 2)}\n`, { mode: OWNER_ONLY, flag: 'wx' });
  renameSync(draft, path);
  return path;
}
