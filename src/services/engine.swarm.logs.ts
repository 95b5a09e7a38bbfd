/** What the tasks of a service say and use. */
import { SECOND, pause } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { MAX_WAIT_MS, query } from './engine.docker.ts';
import { logLines } from './engine.docker.logs.ts';
import type { ContainerDriver, LogPlan } from './engine.driver.ts';
import type { ContainerStats, LogLine } from './engine.ts';
import { isServing, situationOf } from './engine.swarm.shown.ts';
import type { Swarm } from './engine.swarm.asking.ts';

const LOOK_EVERY_MS = 250;

export async function* serviceLogs(
  swarm: Swarm,
  ref: string,
  { tail, since, follow, stdout, stderr, signal }: LogPlan,
): AsyncGenerator<LogLine> {
  const { ID: id } = await swarm.service(ref);
  const ended = new AbortController();
  const watching = follow ? untilStopped(swarm, id, ended) : Promise.resolve();
  const path = query(`/services/${encodeURIComponent(id)}/logs`, {
    stdout: String(stdout),
    stderr: String(stderr),
    follow: String(follow),
    timestamps: 'true',
    tail: tail === undefined ? 'all' : String(tail),
    ...(since !== undefined && { since: (since / SECOND).toFixed(3) }),
  });
  const both = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal;
  try {
    const chunks = swarm.asker.stream({ method: 'GET', path, signal: both, timeoutMs: MAX_WAIT_MS }, {});
    yield* logLines(chunks, { framed: true });
  } finally {
    ended.abort();
    await watching;
  }
}

/** A swarm follows for ever; here it ends with the last task. */
async function untilStopped(swarm: Swarm, id: string, ended: AbortController): Promise<void> {
  while (!ended.signal.aborted) {
    const isUp = await swarm.service(id).then(
      ({ Spec }) => (Spec.Mode.Replicated?.Replicas ?? 0) > 0,
      (cause: unknown) => !(cause instanceof AppError && cause.code === 'NOT_FOUND'),
    );
    if (!isUp) break;
    await pause(swarm.clock, LOOK_EVERY_MS);
  }
  ended.abort();
}

/** Of the tasks on this machine: engines of the others are not asked. */
export async function serviceStats(
  swarm: Swarm,
  docker: ContainerDriver,
  ref: string,
): Promise<ContainerStats> {
  const service = await swarm.service(ref);
  const { serving } = situationOf(service, { tasks: await swarm.tasks(service.ID) });
  const found = await Promise.all(
    serving.filter(isServing).map(async ({ Status }) => statsOf(docker, Status.ContainerStatus?.ContainerID)),
  );
  const here = found.filter((one) => one !== undefined);
  if (here.length === 0)
    throw new AppError('CONFLICT', 'none of it runs on this machine, and engines of others are not asked');
  return here.reduce(together);
}

async function statsOf(docker: ContainerDriver, id: string | undefined): Promise<ContainerStats | undefined> {
  if (id === undefined) return undefined;
  try {
    return await docker.stats(id);
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'NOT_FOUND') return undefined;
    throw cause;
  }
}

const together = (one: ContainerStats, other: ContainerStats): ContainerStats => ({
  time: Math.max(one.time, other.time),
  cpuNs: one.cpuNs + other.cpuNs,
  cpuPercent: one.cpuPercent + other.cpuPercent,
  memoryBytes: one.memoryBytes + other.memoryBytes,
  memoryLimitBytes: (one.memoryLimitBytes ?? 0) + (other.memoryLimitBytes ?? 0) || undefined,
  pids: one.pids + other.pids,
  networkInBytes: one.networkInBytes + other.networkInBytes,
  networkOutBytes: one.networkOutBytes + other.networkOutBytes,
  diskReadBytes: one.diskReadBytes + other.diskReadBytes,
  diskWriteBytes: one.diskWriteBytes + other.diskWriteBytes,
});
