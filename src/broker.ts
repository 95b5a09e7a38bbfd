/**
 * What `ohp broker` runs: the engine's socket and the policy, behind a socket of its own. It serves no network, keeps nothing
 * and holds no key.
 */
import { readConfig } from './config/command-line.ts';
import { systemClock } from './core/clock.ts';
import { AppError } from './core/errors.ts';
import type { Log, LogLevel } from './core/record.ts';
import { logLevels } from './core/record.ts';
import type { RunBroker } from './interfaces/cli/broker.ts';
import { openBroker } from './services/broker.server.ts';
import { openEngine } from './services/open-engine.ts';

const SIGNALS = ['SIGTERM', 'SIGHUP'] as const;

export const runBroker: RunBroker = async ({ env, cwd, stderr, signal }) => {
  const config = await readConfig(env, cwd);
  const { socket, group } = config.broker;
  if (socket === undefined)
    throw new AppError(
      'INVALID_INPUT',
      'set OHP_BROKER_SOCKET, or broker.socket, to where the broker has to listen',
    );
  const clock = systemClock;
  const log = logTo((line) => void stderr.write(line), config.log.level);
  const engine = openEngine(
    { docker: config.docker, policy: config.services, further: [socket] },
    { clock, log },
  );
  await using _broker = await openBroker({ engine, socket, group, clock, log });
  const state = await engine.ping().catch((cause: unknown) => ({ connected: false, reason: String(cause) }));
  stderr.write(
    `the broker listens at ${socket}; ${'reason' in state ? state.reason : 'the engine answers'}\n`,
  );
  await untilEnd(signal);
};

/** One line of JSON for each record: whoever starts the broker keeps what it prints. */
function logTo(write: (line: string) => void, least: LogLevel): Log {
  const enabled = (level: LogLevel) => logLevels.indexOf(level) >= logLevels.indexOf(least);
  return {
    enabled: (_component, level) => enabled(level),
    write(record) {
      if (enabled(record.level)) write(`${JSON.stringify(record)}\n`);
    },
  };
}

async function untilEnd(signal: AbortSignal): Promise<void> {
  const { promise, resolve: end } = Promise.withResolvers<void>();
  const stop = () => end();
  for (const name of SIGNALS) process.on(name, stop);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  await promise;
  for (const name of SIGNALS) process.off(name, stop);
}
