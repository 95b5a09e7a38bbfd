/** Entry point of the server: configuration in, app up, addresses printed, signals obeyed. Decides nothing else. */
import { readFileSync } from 'node:fs';
import { type App, createApp } from './app.ts';
import { welcome } from './banner.ts';
import { ConfigError, loadConfig } from './config/load.ts';
import { AppError, errorSurface, messageOf } from './core/errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

async function main(): Promise<void> {
  const config = loadConfig(process.env, (path) => readFileSync(path, 'utf8'));
  const app = await createApp(config);
  stopOnSignal(app);
  process.stdout.write(welcome(config, app.facts));
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

function fail(error: unknown): never {
  process.stderr.write(
    `${error instanceof ConfigError || error instanceof AppError ? error.message : describe(error)}\n`,
  );
  if (error instanceof ConfigError) process.exit(errorSurface.INVALID_INPUT.exit);
  process.exit(error instanceof AppError ? errorSurface[error.code].exit : errorSurface.INTERNAL.exit);
}

const describe = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : messageOf(error);

await main().catch(fail);
