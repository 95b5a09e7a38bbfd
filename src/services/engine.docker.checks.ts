/**
 * Health checks where nobody else runs them. Docker runs its own; Podman leaves them to timers of systemd, and where there is
 * none a container would be starting for ever. So the check that is late is run when somebody looks: what is told is true then.
 * Called by `engine.docker.ts`.
 */
import { z } from 'zod';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import type { Inspected } from './engine.docker.answers.ts';
import type { DriverDetails } from './engine.driver.ts';
import { MANAGED_LABEL } from './policy.ts';

/** Of a timer that is there. */
const LATE_MS = SECOND;
/** The check has a time of its own, after which the engine ends it. */
const CHECK_MS = MINUTE;

interface Asker {
  inspect(ref: string): Promise<Inspected>;
  ask<Schema extends z.ZodType>(
    schema: Schema,
    request: { method: 'GET'; path: string; timeoutMs?: number },
  ): Promise<z.output<Schema>>;
}

/** As `inspect`, with what a check finds that is late. */
export async function inspectChecked(asker: Asker, ref: string, clock: Clock): Promise<DriverDetails> {
  const { details, nextCheckAt } = await asker.inspect(ref);
  const isLate = nextCheckAt !== undefined && clock.now() > nextCheckAt + LATE_MS;
  // What others made, others look after.
  if (!isLate || !(MANAGED_LABEL in details.labels) || !(await isPodman(asker))) return details;
  try {
    const path = `/v4.0.0/libpod/containers/${encodeURIComponent(details.id)}/healthcheck`;
    await asker.ask(z.unknown(), { method: 'GET', path, timeoutMs: CHECK_MS });
  } catch {
    // It may have ended meanwhile: the look that follows says so.
  }
  return (await asker.inspect(ref)).details;
}

const enginesSchema = z.object({ Components: z.array(z.object({ Name: z.string() })).nullish() });

async function isPodman(asker: Asker): Promise<boolean> {
  const { Components: parts } = await asker.ask(enginesSchema, { method: 'GET', path: '/version' });
  return parts?.some(({ Name }) => Name === 'Podman Engine') === true;
}
