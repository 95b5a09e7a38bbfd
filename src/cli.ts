/** Entry point of `ohp`: the process's streams and signals, handed to the command line. Decides nothing else. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { errorSurface } from './core/errors.ts';
import { runCli } from './interfaces/cli/cli.ts';
import { operations } from './operations.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const cancel = new AbortController();
process.on('SIGINT', () => {
  // The first Ctrl-C ends the call on the server too; a second one does not wait for that.
  if (cancel.signal.aborted) process.exit(errorSurface.CANCELLED.exit);
  cancel.abort();
});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `ohp list proxies | head -1`: who reads has enough.
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli(
  process.argv.slice(2),
  {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    cwd: process.cwd(),
    home: homedir(),
    signal: cancel.signal,
  },
  {
    operations,
    version,
    // With the store, the log and the settings behind it, which no other command needs.
    runBroker: async (io) => (await import('./broker.ts')).runBroker(io),
    resetAdminToken: async (request) => (await import('./reset-admin-token.ts')).resetAdminToken(request),
    verifyAuditFiles: async (...asked) =>
      (await import('./verify-audit-files.ts')).verifyAuditFiles(...asked),
  },
);
