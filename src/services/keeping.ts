/**
 * The engine's side of a service: its container, networks and volumes are made, and what a change left behind is undone or
 * finished. An engine has no transactions, so the record always says first what is to be there; `settle` makes it so, at
 * any time and as often as it takes. Called by the service of this folder only.
 */
import { AppError } from '../core/errors.ts';
import { writeDebug, type Log } from '../core/record.ts';
import type { Clock } from '../core/clock.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import type { Container, ContainerDetails, ContainerEngine, ContainerSpec } from './engine.ts';
import { openGuards, type PortGuards } from './guarded.ts';
import type { Telling } from './pull.ts';
import { nothingLeft, type RecordStore, type ServiceRecord } from './record.ts';
import { resolveEnvironment } from './secrets.ts';
import {
  engineName,
  forServices,
  isCurrent,
  isForServices,
  isOf,
  labelsOf,
  type Naming,
  networksOf,
  specOf,
  volumesOf,
} from './spec.ts';
import { untilUp, whyDown } from './until-up.ts';

export interface KeeperParts {
  database: Database;
  records: RecordStore;
  engine: ContainerEngine;
  sealer: Sealer;
  naming: Naming;
  guards: PortGuards;
  clock: Clock;
  log: Log;
}

export async function containersOf({ engine }: KeeperParts, record: ServiceRecord): Promise<Container[]> {
  return (await engine.list({ all: true })).filter((container) => isOf(record, container));
}

export async function currentOf(parts: KeeperParts, record: ServiceRecord): Promise<Container | undefined> {
  return (await containersOf(parts, record)).find((container) => isCurrent(record, container));
}

export async function containerDetails(
  parts: KeeperParts,
  record: ServiceRecord,
): Promise<ContainerDetails | undefined> {
  const current = await currentOf(parts, record);
  return current && parts.engine.inspect(current.id);
}

/** Volumes that are wanted and not there: the caller writes them down before they are made. */
export async function missingVolumes({ engine, naming }: KeeperParts, wanted: string[]): Promise<string[]> {
  if (wanted.length === 0) return [];
  const there = new Set((await engine.listVolumes()).map(({ name }) => name));
  return [...new Set(wanted)].filter((name) => !there.has(engineName(naming, name)));
}

/**
 * The container of this generation, not started, and what it needs.
 * @param imageId of the image that it has to be of, where it may be of no other
 */
export async function makeContainer(
  parts: KeeperParts,
  record: ServiceRecord,
  imageId?: string,
): Promise<string> {
  const spec = await specFor(parts, record);
  await makeNeeds(parts, record);
  const { id } = await parts.engine.create({ ...spec, imageId });
  return id;
}

/**
 * The same, where it was this one before: the swarm has that version as it was, with values of secrets that may be others by
 * now, or gone.
 */
async function rollBackContainer(parts: KeeperParts, record: ServiceRecord): Promise<string | undefined> {
  const state = await parts.engine.ping();
  const [found] = await containersOf(parts, record);
  if (!found || !state.connected || state.swarm !== true) return undefined;
  if (await parts.engine.rollBack(found.id, labelsOf(record))) return found.id;
  return rollContainer(parts, record);
}

/** What there is of a service, whatever its generation, becomes this one; undefined where only a new one can. */
export async function rollContainer(parts: KeeperParts, record: ServiceRecord): Promise<string | undefined> {
  const state = await parts.engine.ping();
  const [found] = await containersOf(parts, record);
  if (!found || !state.connected || state.swarm !== true) return undefined;
  const spec = await specFor(parts, record);
  await makeNeeds(parts, record);
  await parts.engine.roll(found.id, spec);
  return found.id;
}

export async function bringUp(
  parts: KeeperParts,
  record: ServiceRecord,
  {
    start,
    healthy_within_ms,
    imageId,
  }: { start: boolean; healthy_within_ms: number; imageId?: string | undefined },
  { tell, signal }: Telling,
): Promise<void> {
  const { engine, clock } = parts;
  const id = await makeContainer(parts, record, imageId);
  if (!start) return;
  await engine.start(id);
  tell('started; waiting until it is up');
  await untilUp(engine, id, { clock, signal, withinMs: healthy_within_ms });
  await openGuards(parts.guards, record);
}

/** The same in its place, where the engine is a swarm. Answers whether it is. */
export async function roll(
  parts: KeeperParts,
  next: ServiceRecord,
  { start, healthy_within_ms }: { start: boolean; healthy_within_ms: number },
  { tell, signal }: Telling,
): Promise<boolean> {
  const { engine, clock } = parts;
  const id = await rollContainer(parts, next);
  if (id === undefined) return false;
  if (!start) return true;
  tell('the swarm replaces one after the other; waiting until all are up');
  await untilUp(engine, id, { clock, signal, withinMs: healthy_within_ms });
  if (await currentOf(parts, next)) return true;
  const why = await whyDown(engine, id, await engine.inspect(id));
  throw new AppError('UPSTREAM_FAILED', `the swarm went back to the version before: ${why}`);
}

const specFor = async (parts: KeeperParts, record: ServiceRecord): Promise<ContainerSpec> =>
  specOf(record, parts.naming, await resolveEnvironment(parts, record));

async function makeNeeds(parts: KeeperParts, record: ServiceRecord): Promise<void> {
  const { engine, naming } = parts;
  const { networks } = record.settings;
  for (const name of await missingVolumes(parts, volumesOf(record.settings)))
    await engine.createVolume({ name: engineName(naming, name), labels: forServices });
  const there = new Set(networks.length === 0 ? [] : (await engine.listNetworks()).map(({ name }) => name));
  for (const name of networks)
    if (!there.has(engineName(naming, name))) await makeNetwork(parts, engineName(naming, name));
}

async function makeNetwork({ engine }: KeeperParts, name: string): Promise<void> {
  try {
    await engine.createNetwork({ name, labels: forServices });
  } catch (cause) {
    // Another service made it in this moment; whether it may be joined is the policy's to say.
    if (!(cause instanceof AppError && cause.code === 'CONFLICT')) throw cause;
  }
}

/** Makes true what the record says is not done yet. Answers the record as it is then; undefined: there is none any more. */
export async function settle(parts: KeeperParts, record: ServiceRecord): Promise<ServiceRecord | undefined> {
  const { pending } = record;
  if (pending === null) return record;
  if (pending !== 'apply') parts.guards.close(record.id);
  const isKept = (container: Container) => pending === 'apply' && isCurrent(record, container);
  let found = await containersOf(parts, record);
  const isRolled = pending === 'apply' && !found.some(isKept) && (await rollBackContainer(parts, record));
  if (isRolled) found = await containersOf(parts, record);
  for (const container of found) if (!isKept(container)) await removeContainer(parts, container.id);
  const settled = pending === 'apply' ? await apply(parts, record, found.find(isKept)) : undefined;
  await removeVolumes(parts, record);
  await removeNetworks(parts, record, settled);
  await parts.database.change({}, (tx) =>
    settled ? parts.records.put(tx, settled) : parts.records.remove(tx, record),
  );
  writeDebug(parts, 'services', () => ({ message: `service ${record.name}: ${pending} is finished` }));
  return settled;
}

async function apply(
  parts: KeeperParts,
  record: ServiceRecord,
  current: Container | undefined,
): Promise<ServiceRecord> {
  const { engine, guards } = parts;
  if (record.desired === 'running') {
    await engine.start(current?.id ?? (await makeContainer(parts, record)));
    await openGuards(guards, record);
    return { ...record, ...nothingLeft };
  }
  guards.close(record.id);
  if (current) await engine.stop(current.id, { timeoutMs: record.settings.stop_timeout_ms });
  return { ...record, ...nothingLeft };
}

export async function removeContainer({ engine }: Pick<KeeperParts, 'engine'>, id: string): Promise<void> {
  await unlessGone(engine.remove(id, { force: true, volumes: true }));
}

async function removeVolumes(parts: KeeperParts, record: ServiceRecord): Promise<void> {
  const { engine, naming } = parts;
  if (record.doomed_volumes.length === 0) return;
  const others = await othersThan(record, parts);
  if (!others) return;
  const used = new Set(others.flatMap(({ settings }) => volumesOf(settings)));
  for (const name of record.doomed_volumes)
    if (!used.has(name)) await unlessGone(engine.removeVolume(engineName(naming, name)), 'CONFLICT');
}

/** Undefined: one of them can't be read, so that nobody knows what it needs, and all of that stays. */
async function othersThan(
  { id }: ServiceRecord,
  { records, database }: KeeperParts,
): Promise<ServiceRecord[] | undefined> {
  const { kept, unreadable } = await records.all(database.read);
  if (unreadable.some((other) => other.id !== id)) return undefined;
  return kept.filter((other) => other.id !== id);
}

/** Those that no service needs; nothing is in them. */
async function removeNetworks(
  parts: KeeperParts,
  before: ServiceRecord,
  after: ServiceRecord | undefined,
): Promise<void> {
  const { engine, naming } = parts;
  const found = await engine.listNetworks();
  const mine = found.filter(isForServices);
  // Read after them: who is making one has written it down before.
  const others = await othersThan(before, parts);
  if (!others) return;
  const needed = new Set(
    [...others, ...(after ? [after] : [])].flatMap(networksOf).map((name) => engineName(naming, name)),
  );
  for (const { id, name } of mine)
    if (!needed.has(name)) await unlessGone(engine.removeNetwork(id), 'CONFLICT');
}

/** @param still what else is no failure: somebody uses it again. */
export async function unlessGone(removal: Promise<void>, still?: 'CONFLICT'): Promise<void> {
  try {
    await removal;
  } catch (cause) {
    const isFine = cause instanceof AppError && (cause.code === 'NOT_FOUND' || cause.code === still);
    if (!isFine) throw cause;
  }
}
