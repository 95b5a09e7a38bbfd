/** Entry point of the server: configuration in, app up, addresses printed, signals obeyed. Decides nothing else. */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { App } from './app.ts';
import { welcome } from './banner.ts';
import { loadConfig } from './config/load.ts';
import { ConfigError } from './config/problem.ts';
import { AppError, errorSurface, messageOf } from './core/errors.ts';

/** SIGHUP: the terminal went away. Nothing is read again at it, since a bad setting has to stop a start. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Why a listener did not open, by the code of the system. */
const listenFaults: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there; stop it, or choose another port with',
  EACCES: 'this user may not listen there; ports below 1024 need a privilege, or choose another one with',
  EADDRNOTAVAIL: 'that is no address of this machine; set OHP_BIND, or the port with',
};
const PORT_SETTINGS = 'OHP_HTTP_PORT, OHP_HTTPS_PORT or OHP_METRICS_LISTEN';

async function main(): Promise<void> {
  outliveReaders();
  const config = await loadConfig(process.env, (path) => readFileSync(path, 'utf8'));
  // Loaded now, so that a bad setting is told at once; and then a folder or a key that can't be used.
  const { openData } = await import('./app.data.ts');
  const data = openData(config);
  const { createApp } = await import('./app.ts');
  const app = await createApp(config, { data });
  stopOnSignal(app);
  process.stdout.write(welcome(app.facts));
  giveMemoryBack();
}

/**
 * Starting leaves a young generation that has grown to its largest, and much that is not needed again: a quarter of what
 * the idle process would hold. Costs a tenth of a second once, when nothing is served yet.
 */
function giveMemoryBack(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** Who started this may close the terminal or the pipe; then nobody reads the lines, and serving and draining go on. */
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}

/** The first signal drains; a second one ends at once, as people expect of Ctrl-C. */
function stopOnSignal(app: App): void {
  let stopping = false;
  for (const signal of SIGNALS)
    process.on(signal, () => {
      if (stopping) process.exit(errorSurface.CANCELLED.exit);
      stopping = true;
      process.stderr.write(`${signal}: finishing requests in flight; repeat to stop at once\n`);
      app[Symbol.asyncDispose]().then(
        () => process.exit(0),
        (error: unknown) => fail(error),
      );
    });
}

function fail(cause: unknown): never {
  const error = explained(cause);
  process.stderr.write(
    `${error instanceof ConfigError || error instanceof AppError ? error.message : describe(error)}\n`,
  );
  if (error instanceof ConfigError) process.exit(errorSurface.INVALID_INPUT.exit);
  process.exit(error instanceof AppError ? errorSurface[error.code].exit : errorSurface.INTERNAL.exit);
}

/** A port that is taken is a fault of the settings, not of this program. */
function explained(cause: unknown): unknown {
  if (!(cause instanceof Error && 'syscall' in cause && cause.syscall === 'listen')) return cause;
  const { code = '', address, port } = cause as NodeJS.ErrnoException & { address?: string; port?: number };
  const reason = listenFaults[code];
  if (reason === undefined) return cause;
  const where = address?.includes(':') ? `[${address}]` : address;
  return new AppError('CONFLICT', `${where}:${port}: ${reason} ${PORT_SETTINGS}`, { cause });
}

const describe = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : messageOf(error);

await main().catch(fail);
