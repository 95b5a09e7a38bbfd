/** Where this project lies, and how its tools are started. For the scripts beside this file. */
import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';

export const root = join(import.meta.dirname, '..');

/** Runs a program of the project (or of the machine) in the project's folder, on this Node; returns its exit code. */
export function run(program: string, args: readonly string[]): number {
  const bin = join(root, 'node_modules/.bin');
  const { status, error } = spawnSync(program === 'node' ? process.execPath : program, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
  });
  if (error) console.error(`${program} does not start: ${error.message}`);
  return status ?? 1;
}
