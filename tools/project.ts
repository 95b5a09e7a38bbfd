/** Where this project lies, and how its tools are started. For the scripts beside this file. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { delimiter, join } from 'node:path';

export const root = join(import.meta.dirname, '..');

const bin = join(root, 'node_modules/.bin');
const options = () => ({
  cwd: root,
  env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
});
const pathOf = (program: string): string => (program === 'node' ? process.execPath : program);

/** Runs a program of the project (or of the machine) in the project's folder, on this Node; gives its exit code. */
export async function run(program: string, args: readonly string[]): Promise<number> {
  try {
    const child = spawn(pathOf(program), args, { ...options(), stdio: 'inherit' });
    const [code] = (await once(child, 'exit')) as [number | null];
    return code ?? 1;
  } catch (cause) {
    console.error(`${program} does not start: ${String(cause)}`);
    return 1;
  }
}

/** Longer than anything takes that ends. */
const BESIDE_MS = 15 * 60 * 1000;

/** Beside others: what it prints comes with its exit code. What doesn't end is ended, and told with what it printed. */
export async function runBeside(
  program: string,
  args: readonly string[],
  limitMs = BESIDE_MS,
): Promise<{ code: number; printed: string }> {
  const child = spawn(pathOf(program), args, { ...options(), stdio: ['ignore', 'pipe', 'pipe'] });
  setTimeout(() => child.kill('SIGKILL'), limitMs).unref();
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (signal !== null) printed += `${program} was ended by ${signal}; it may take ${limitMs} ms\n`;
    return { code: code ?? 1, printed };
  } catch (cause) {
    return { code: 1, printed: `${program} does not start: ${String(cause)}\n` };
  }
}
