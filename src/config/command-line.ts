/** The settings for commands of `ohp` that work on this machine, as the server reads them. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError } from '../core/errors.ts';
import type { Config } from './config.ts';
import { loadConfig } from './load.ts';
import { ConfigError } from './problem.ts';

/** @throws AppError INVALID_INPUT that says which setting is wrong, and what is allowed. */
export async function readConfig(env: Parameters<typeof loadConfig>[0], cwd: string): Promise<Config> {
  try {
    return await loadConfig(env, (path) => readFileSync(resolve(cwd, path), 'utf8'));
  } catch (cause) {
    if (cause instanceof ConfigError) throw new AppError('INVALID_INPUT', cause.message, { cause });
    throw cause;
  }
}
