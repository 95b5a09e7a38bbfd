/** What a swarm says of tasks, and what is made of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { SECOND } from '../core/clock.ts';
import { serviceSchema, tasksSchema, VERSION_LABEL } from './engine.swarm.answers.ts';
import { SCALE_LABEL } from './engine.swarm.request.ts';
import { situationOf } from './engine.swarm.shown.ts';

const CHANGED_AT = Date.UTC(2026, 0, 1);

const labels = { [VERSION_LABEL]: 'same' };
const service = serviceSchema.parse({
  ID: 'blog',
  Version: { Index: 1 },
  CreatedAt: new Date(0).toISOString(),
  Spec: {
    Name: 'blog-1',
    Labels: { [SCALE_LABEL]: JSON.stringify({ replicas: 2, changedAt: CHANGED_AT }) },
    TaskTemplate: { ContainerSpec: { Image: 'blog', Labels: labels } },
    Mode: { Replicated: { Replicas: 2 } },
  },
});
const taskOf = (State: string, madeAt: number) => ({
  ID: `${State}-${madeAt}`,
  ServiceID: 'blog',
  CreatedAt: new Date(madeAt).toISOString(),
  DesiredState: State === 'running' ? 'running' : 'shutdown',
  Spec: { ContainerSpec: { Labels: labels } },
  Status: { Timestamp: new Date(madeAt).toISOString(), State },
});
const situation = (...tasks: object[]) => situationOf(service, { tasks: tasksSchema.parse(tasks) });

test('a task that failed before the last change says nothing of it, also where its version is the same', () => {
  const before = CHANGED_AT - SECOND;
  const old = situation(taskOf('failed', before), taskOf('running', before));
  assert.deepEqual([old.failures, old.settled], [0, false]);
  const now = situation(taskOf('failed', CHANGED_AT + SECOND), taskOf('running', before));
  assert.deepEqual([now.failures, now.settled], [1, true]);
});
