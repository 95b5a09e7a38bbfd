/**
 * What is left at the engine of services that are no more, or were changed from outside. Looked for first and told; taken
 * away only as it was told. Nothing that was not made here is ever in it.
 */
import { createHash } from 'node:crypto';
import { AppError } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import { type KeeperParts, removeContainer, unlessGone } from './keeping.ts';
import type { ServiceRecord } from './record.ts';
import type { CleanUp } from './schema.ts';
import { engineName, isCurrent, isForServices, isOf, networksOf, SERVICE_LABEL, volumesOf } from './spec.ts';

/** Told and taken away by one call. */
const MAX_FOUND = 200;
const PLAN_CHARACTERS = 16;

interface Leftover {
  kind: CleanUp['found'][number]['kind'];
  /** By which the engine knows it. */
  ref: string;
  name: string;
  why: string;
}

export interface CleaningParts extends KeeperParts {
  /** A call is changing it at this moment. */
  isBusy: (name: string) => boolean;
}

/** Without a `plan` nothing is changed. */
export async function cleanUp(
  parts: CleaningParts,
  { plan, volumes }: { plan: string | undefined; volumes: boolean },
): Promise<CleanUp> {
  const found = (await lookFor(parts, volumes)).slice(0, MAX_FOUND);
  const told = found.map(({ kind, name, why }) => ({ kind, name: cleanText(name), why: cleanText(why) }));
  const current = planOf(found);
  if (plan === undefined) return { plan: current, removed: false, found: told };
  if (plan !== current)
    throw new AppError(
      'PRECONDITION_FAILED',
      'what would go is not what it was under this plan; call clean_up_services without plan, and look again',
    );
  for (const leftover of found) await takeAway(parts, leftover);
  return { plan: current, removed: true, found: told };
}

const planOf = (found: readonly Leftover[]): string =>
  createHash('sha256')
    .update(JSON.stringify(found.map(({ kind, ref }) => [kind, ref])))
    .digest('base64url')
    .slice(0, PLAN_CHARACTERS);

async function lookFor(parts: CleaningParts, volumes: boolean): Promise<Leftover[]> {
  const { engine, database, records } = parts;
  const [containers, networks, found] = await Promise.all([
    engine.list({ all: true }),
    engine.listNetworks(),
    volumes ? engine.listVolumes() : [],
  ]);
  // Read after them: what is made now was written down before.
  const { kept, unreadable } = await records.all(database.read);
  if (unreadable.length > 0) throw unknownNeeds(unreadable);
  const needed = namesAt(parts, kept, networksOf);
  const mounted = namesAt(parts, kept, ({ settings, doomed_volumes }) => [
    ...volumesOf(settings),
    ...doomed_volumes,
  ]);
  return [
    ...containers.flatMap((container): Leftover[] => {
      const why = whyContainer(parts, kept, container);
      const name = container.names[0] ?? container.id;
      return why === undefined ? [] : [{ kind: 'container', ref: container.id, name, why }];
    }),
    ...networks
      .filter((one) => isForServices(one) && !needed.has(one.name))
      .map(({ id, name }): Leftover => ({ kind: 'network', ref: id, name, why: 'no service is in it' })),
    ...found
      .filter((one) => isForServices(one) && !mounted.has(one.name))
      .map(({ name }): Leftover => {
        const why = 'no service has it; what is in it is lost with it';
        return { kind: 'volume', ref: name, name, why };
      }),
  ].sort((a, b) => `${a.kind} ${a.ref}`.localeCompare(`${b.kind} ${b.ref}`));
}

const unknownNeeds = (unreadable: readonly ServiceRecord[]): AppError =>
  new AppError(
    'PRECONDITION_FAILED',
    `records of services can't be read (${unreadable.map(({ name }) => name).join(', ')}), so that it is not known what they need; delete_service them first`,
  );

function namesAt(
  { naming }: CleaningParts,
  kept: readonly ServiceRecord[],
  namesOf: (record: ServiceRecord) => string[],
): ReadonlySet<string> {
  return new Set(kept.flatMap(namesOf).map((name) => engineName(naming, name)));
}

function whyContainer(
  { isBusy }: CleaningParts,
  kept: readonly ServiceRecord[],
  container: Awaited<ReturnType<KeeperParts['engine']['list']>>[number],
): string | undefined {
  if (!container.managed || container.labels[SERVICE_LABEL] === undefined) return undefined;
  const record = kept.find((one) => isOf(one, container));
  if (!record) return 'its service is not kept here any more';
  // What is not finished is finished by the next call of the service itself.
  if (record.pending !== null || isBusy(record.name) || isCurrent(record, container)) return undefined;
  return `left by another version of the service ${record.name}`;
}

async function takeAway({ engine }: CleaningParts, { kind, ref }: Leftover): Promise<void> {
  switch (kind) {
    case 'container':
      return removeContainer({ engine }, ref);
    case 'network':
      return unlessGone(engine.removeNetwork(ref), 'CONFLICT');
    case 'volume':
      return unlessGone(engine.removeVolume(ref), 'CONFLICT');
  }
}
