/** Waits until a container is what it was started for: healthy, or without a health check running for a moment. */
import { pause, type Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { cleanLines, cleanText } from '../core/untrusted.ts';
import type { ContainerDetails, ContainerEngine } from './engine.ts';

const LOOK_EVERY_MS = 250;
/** Long enough for a program that can't start to have ended. */
const STEADY_MS = 1000;
const MAX_OUTPUT = 500;
const LAST_LINES = 5;

interface Wait {
  clock: Clock;
  withinMs: number;
  signal: AbortSignal;
}

/** @throws AppError UPSTREAM_FAILED when it ends, TIMEOUT when it does not get there, CANCELLED. */
export async function untilUp(engine: ContainerEngine, id: string, wait: Wait): Promise<void> {
  const { clock, withinMs, signal } = wait;
  const began = clock.now();
  for (;;) {
    if (signal.aborted) throw new AppError('CANCELLED', 'the call was cancelled while the container started');
    const found = await engine.inspect(id);
    const took = clock.now() - began;
    if (!found.running || found.restarts > 0 || found.health === 'unhealthy')
      throw new AppError('UPSTREAM_FAILED', await whyDown(engine, id, found));
    if (found.health === 'healthy' || (found.health === 'none' && took >= STEADY_MS)) return;
    if (took >= withinMs)
      throw new AppError(
        'TIMEOUT',
        `it is not healthy after ${took} ms${outputOf(found) || silenceOf(found)}; it runs no more`,
      );
    await pause(clock, LOOK_EVERY_MS);
  }
}

/** In words for who asked for it, with the last that it said. */
export async function whyDown(engine: ContainerEngine, id: string, found: ContainerDetails): Promise<string> {
  const { outOfMemory, fault, running, restarts } = found;
  const what =
    running && restarts === 0
      ? `its health check failed${outputOf(found)}`
      : `${endOf(found)}${outOfMemory ? ', out of memory' : ''}`;
  const why = fault === undefined ? '' : `: ${cleanText(fault)}`;
  const lines: string[] = [];
  for await (const { text } of engine.logs(id, { tail: LAST_LINES })) lines.push(text);
  const said = lines.length === 0 ? '' : `; it said: ${cleanLines(lines.join('\n'), MAX_OUTPUT)}`;
  return `the container did not stay up: ${what}${why}${said}`;
}

/** One that runs again has the code 0, however the one before ended. */
const endOf = ({ running, exitCode }: ContainerDetails): string =>
  running && exitCode === 0 ? 'it ended, and was started again' : `it ended with exit code ${exitCode}`;

/** What a swarm tells of its tasks comes by itself. */
const silenceOf = ({ health, replicas }: ContainerDetails): string =>
  health === 'starting' && replicas === undefined
    ? ' (no health check has said anything; on a machine without systemd Podman runs none)'
    : '';

const outputOf = ({ healthOutput = '' }: ContainerDetails): string =>
  healthOutput === '' ? '' : ` (${cleanText(healthOutput, MAX_OUTPUT)})`;
