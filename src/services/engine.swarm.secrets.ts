/**
 * Secrets of a swarm: files in /run/secrets of the tasks that name them. Nobody can read one from the swarm, and none can be
 * changed: each version of a service has its own. What no service names any more goes with the next change.
 */
import { randomBytes } from 'node:crypto';
import { AppError } from '../core/errors.ts';
import { query, WORK_MS } from './engine.docker.ts';
import type { ContainerPlan } from './engine.ts';
import { type FoundService, idSchema, secretsSchema } from './engine.swarm.answers.ts';
import type { Swarm } from './engine.swarm.asking.ts';
import type { SecretRef } from './engine.swarm.request.ts';
import { MANAGED_LABEL } from './policy.ts';

const NAME_BYTES = 12;

export function createSecrets(swarm: Swarm, installation: string) {
  const { asker } = swarm;
  /** One after the other: what was made and is not named yet must not be swept away. */
  let last: Promise<unknown> = Promise.resolve();
  function alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const mine = last.then(work, work);
    last = mine.catch(() => undefined);
    return mine;
  }

  async function sweep(): Promise<void> {
    const filters = JSON.stringify({ label: [`${MANAGED_LABEL}=${installation}`] });
    const found = await asker.ask(secretsSchema, { method: 'GET', path: query('/secrets', { filters }) });
    if (found.length === 0) return;
    const needed = new Set((await swarm.services()).flatMap(secretsOf));
    for (const { ID: id } of found) if (!needed.has(id)) await remove(id);
  }

  async function remove(id: string): Promise<void> {
    const words = { what: `secret ${id}`, inUse: 400 };
    try {
      await asker.tell(
        { method: 'DELETE', path: `/secrets/${encodeURIComponent(id)}`, timeoutMs: WORK_MS },
        words,
      );
    } catch (cause) {
      // Gone already, or needed again: then it is no leftover.
      const isFine = cause instanceof AppError && (cause.code === 'NOT_FOUND' || cause.code === 'CONFLICT');
      if (!isFine) throw cause;
    }
  }

  async function make({ secrets }: ContainerPlan): Promise<SecretRef[]> {
    const made: SecretRef[] = [];
    for (const [file, value] of Object.entries(secrets)) {
      const name = `ohp-${randomBytes(NAME_BYTES).toString('hex')}`;
      const body = {
        Name: name,
        Labels: { [MANAGED_LABEL]: installation },
        Data: Buffer.from(value, 'utf8').toString('base64'),
      };
      const request = { method: 'POST', path: '/secrets/create', body, timeoutMs: WORK_MS } as const;
      made.push({ id: (await asker.ask(idSchema, request)).id, name, file });
    }
    return made;
  }

  return {
    sweep: () => alone(sweep),
    /** What they are used for, with them; nothing of them is left when that fails. */
    with: <Result>(plan: ContainerPlan, use: (made: SecretRef[]) => Promise<Result>): Promise<Result> =>
      alone(async () => {
        try {
          return await use(await make(plan));
        } catch (cause) {
          await sweep();
          throw cause;
        }
      }),
  };
}

/** Also those of the version before, as long as the swarm may go back to it. */
function secretsOf({ Spec, PreviousSpec, UpdateStatus }: FoundService): string[] {
  const isDone = UpdateStatus?.State === undefined || UpdateStatus.State === 'completed';
  return [Spec, ...(PreviousSpec && !isDone ? [PreviousSpec] : [])].flatMap(({ TaskTemplate }) =>
    (TaskTemplate.ContainerSpec?.Secrets ?? []).map(({ SecretID }) => SecretID),
  );
}
