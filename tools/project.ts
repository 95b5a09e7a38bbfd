/** Where this project lies, and how its tools are started. For the scripts beside this file. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { delimiter, join } from 'node:path';

export const root = join(import.meta.dirname, '..');

const bin = join(root, 'node_modules/.bin');
const options = () => ({
  cwd: root,
  env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
});
const pathOf = (program: string): string => (program === 'node' ? process.execPath : program);

/** Runs a program of the project (or of the machine) in the project's folder, on this Node; returns its exit code. */
export function run(program: string, args: readonly string[]): number {
  const { status, error } = spawnSync(pathOf(program), args, { ...options(), stdio: 'inherit' });
  if (error) console.error(`${program} does not start: ${error.message}`);
  return status ?? 1;
}

/** Beside others: what it prints comes with its exit code. */
export async function runBeside(
  program: string,
  args: readonly string[],
): Promise<{ code: number; printed: string }> {
  const child = spawn(pathOf(program), args, { ...options(), stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code: code ?? 1, printed };
  } catch (cause) {
    return { code: 1, printed: `${program} does not start: ${String(cause)}\n` };
  }
}
