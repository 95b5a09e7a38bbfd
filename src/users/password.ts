/**
 * Passwords: argon2id in its own encoding, which carries its parameters. Hashing takes some 80 ms and 19 MiB, so only
 * a few run at once; who comes when too many wait is told to come back.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9106#section-4 | RFC 9106 §4}
 */
import type { Options } from '@node-rs/argon2';
import { AppError } from '../core/errors.ts';
import { MAX_PASSWORD, MIN_PASSWORD } from './schema.ts';

const MEMORY_KIB = 19 * 1024;
const PASSES = 2;
const MAX_AT_ONCE = 2;
const MAX_WAITING = 32;

/** The variant is argon2id, which is the library's own default. */
const options: Options = {
  memoryCost: MEMORY_KIB,
  timeCost: PASSES,
  parallelism: 1,
};

/** Loaded when somebody first signs in: a start needs none of it. */
const argon2 = () => import('@node-rs/argon2');

let running = 0;
const waiting: (() => void)[] = [];

export const hashPassword = (password: string): Promise<string> =>
  inTurn(async () => (await argon2()).hash(password.normalize('NFKC'), options));

export const verifyPassword = (password: string, encoded: string): Promise<boolean> =>
  inTurn(async () => (await argon2()).verify(encoded, password.normalize('NFKC')));

/** Undefined when it will do. */
export function passwordFault(password: string, username: string): string | undefined {
  if (password.length < MIN_PASSWORD) return `a password has at least ${MIN_PASSWORD} characters`;
  if (password.length > MAX_PASSWORD) return `a password has at most ${MAX_PASSWORD} characters`;
  return password.toLowerCase().includes(username) && username.length > 2
    ? 'a password does not contain the username'
    : undefined;
}

async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= MAX_AT_ONCE) {
    if (waiting.length >= MAX_WAITING)
      throw new AppError(
        'RATE_LIMITED',
        'too many people sign in at this moment; try again in a few seconds',
      );
    await new Promise<void>((resolve) => waiting.push(resolve));
  }
  running++;
  try {
    return await work();
  } finally {
    running--;
    waiting.shift()?.();
  }
}
