/**
 * What happens to the tasks of a swarm. A swarm has no events of tasks, and an engine tells those of its own machine only: all of
 * them are looked at, and what changed between two looks is told.
 */
import { SECOND, pause } from '../core/clock.ts';
import type { Cancellable, EngineEvent, EventOptions } from './engine.ts';
import type { FoundService, FoundTask } from './engine.swarm.answers.ts';
import { hasEnded, isServing } from './engine.swarm.shown.ts';
import type { Swarm } from './engine.swarm.asking.ts';

/** What leads to a task has to follow within a second. */
const LOOK_EVERY_MS = SECOND / 2;

type State = 'new' | 'up' | 'ended';

interface Seen {
  services: ReadonlyMap<string, FoundService>;
  tasks: ReadonlyMap<string, { task: FoundTask; state: State }>;
}

const NOTHING: Seen = { services: new Map(), tasks: new Map() };

export async function* swarmEvents(
  swarm: Swarm,
  { since, signal }: EventOptions & Cancellable,
): AsyncGenerator<EngineEvent> {
  let before = await look(swarm);
  if (since !== undefined) yield* news(NOTHING, before, since).filter(({ time }) => time >= since);
  while (signal?.aborted !== true) {
    await pause(swarm.clock, LOOK_EVERY_MS);
    const now = await look(swarm);
    yield* news(before, now, swarm.clock.now());
    before = now;
  }
}

async function look(swarm: Swarm): Promise<Seen> {
  // Services second: of a task that is seen, its service is too.
  const tasks = await swarm.tasks();
  const services = await swarm.services();
  return {
    services: new Map(services.map((service) => [service.ID, service])),
    tasks: new Map(tasks.map((task) => [task.ID, { task, state: stateOf(task) }])),
  };
}

function stateOf(task: FoundTask): State {
  if (isServing(task)) return 'up';
  return hasEnded(task) || task.Status.State === 'running' ? 'ended' : 'new';
}

/** In the order in which they can have happened. */
function news(before: Seen, now: Seen, at: number): EngineEvent[] {
  const { services } = now;
  const event = (action: string, containerId: string, time: number | undefined): EngineEvent => ({
    time: time ?? at,
    kind: 'container',
    action,
    containerId,
    containerName: (services.get(containerId) ?? before.services.get(containerId))?.Spec.Name,
  });
  const made = [...services.values()].filter(({ ID }) => !before.services.has(ID));
  const changed = [...now.tasks.values()].flatMap(({ task, state }) =>
    actionsOf(before.tasks.get(task.ID)?.state ?? 'new', state, task).map((action) =>
      event(action, task.ServiceID, task.Status.Timestamp),
    ),
  );
  const lost = [...before.tasks.values()].filter(
    ({ task, state }) => state === 'up' && !now.tasks.has(task.ID),
  );
  const gone = [...before.services.keys()].filter((id) => !services.has(id));
  return [
    ...made.map(({ ID, CreatedAt }) => event('create', ID, CreatedAt)),
    ...changed,
    ...lost.map(({ task }) => event('die', task.ServiceID, undefined)),
    ...gone.map((id) => event('destroy', id, undefined)),
  ];
}

function actionsOf(before: State, now: State, { Status }: FoundTask): string[] {
  // One that never had a container is no news: there was nothing to be reached.
  if (before === now || Status.ContainerStatus?.ContainerID === undefined) return [];
  return [...(before === 'new' ? ['start'] : []), ...(now === 'ended' ? ['die'] : [])];
}
