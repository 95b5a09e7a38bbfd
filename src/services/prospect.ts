/** What a creation would find and do, without changing anything. Called by the service of this folder only. */
import { z } from 'zod';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { ContainerSpec } from './engine.ts';
import { externalStore } from './external.ts';
import { type KeeperParts, missingVolumes } from './keeping.ts';
import { nothingLeft, type ServiceRecord } from './record.ts';
import type { ServiceSettings } from './schema.ts';
import { resolveEnvironment } from './secrets.ts';
import { engineName, specOf, volumesOf } from './spec.ts';

export interface Prospect {
  /** Id of the service that has the name. */
  takenBy: string | undefined;
  /** What the policy says against it. */
  fault: string | undefined;
  newVolumes: string[];
  /** TCP ports that the image says it listens at; undefined: it is not here. */
  imagePorts: number[] | undefined;
}

export async function prospectOf(
  parts: KeeperParts,
  name: string,
  settings: ServiceSettings,
): Promise<Prospect> {
  const earlier = await parts.records.findAny(parts.database.read, name);
  const external = await externalStore.find(parts.database.read, name);
  const isUndone = earlier?.pending === 'create' || earlier?.pending === 'delete';
  const newVolumes = await missingVolumes(parts, volumesOf(settings));
  return {
    takenBy: external?.id ?? (isUndone ? undefined : earlier?.id),
    fault: await faultOf(parts, name, settings, newVolumes),
    newVolumes,
    imagePorts: await portsOf(parts, settings.image),
  };
}

async function faultOf(
  parts: KeeperParts,
  name: string,
  settings: ServiceSettings,
  newVolumes: readonly string[],
): Promise<string | undefined> {
  try {
    await parts.engine.check(await specToBe(parts, name, { settings, newVolumes }));
    return undefined;
  } catch (cause) {
    if (!(cause instanceof AppError && FAULTS.has(cause.code))) throw cause;
    return isOfNetworksToBe(cause, settings) ? undefined : cause.message;
  }
}

/** Without what is made before its container, which nothing can be said against yet. */
async function specToBe(
  parts: KeeperParts,
  name: string,
  { settings, newVolumes }: { settings: ServiceSettings; newVolumes: readonly string[] },
): Promise<ContainerSpec> {
  const { engine, naming, clock } = parts;
  const now = toTimestamp(clock.now());
  const record: ServiceRecord = {
    ...nothingLeft,
    id: 'svc_planned',
    name,
    owner: '',
    version: 1,
    desired: 'running',
    generation: 1,
    last_generation: 1,
    created_at: now,
    updated_at: now,
    settings,
  };
  const spec = specOf(record, naming, await resolveEnvironment(parts, record));
  const there = new Set(spec.networks?.length ? (await engine.listNetworks()).map((one) => one.name) : []);
  const made = new Set(newVolumes.map((volume) => engineName(naming, volume)));
  return {
    ...spec,
    networks: spec.networks?.filter((network) => there.has(network)),
    mounts: spec.mounts?.filter((mount) => mount.kind !== 'volume' || !made.has(mount.name)),
  };
}

const refusalSchema = z.object({ faults: z.array(z.object({ where: z.string() })) });

/** A swarm asks for a network; those of the service are made before it. */
function isOfNetworksToBe({ details }: AppError, { networks }: ServiceSettings): boolean {
  const { faults = [] } = refusalSchema.safeParse(details).data ?? {};
  return networks.length > 0 && faults.length > 0 && faults.every(({ where }) => where === 'networks');
}

/** Against the settings, or a secret that is not there. */
const FAULTS: ReadonlySet<string> = new Set(['INVALID_INPUT', 'PRECONDITION_FAILED']);
const TCP_PORT = /^(\d{1,5})(?:\/tcp)?$/;

async function portsOf({ engine }: KeeperParts, image: string): Promise<number[] | undefined> {
  try {
    const { exposedPorts } = await engine.inspectImage(image);
    return exposedPorts.flatMap((port) => {
      const number = TCP_PORT.exec(port)?.[1];
      return number === undefined ? [] : [Number(number)];
    });
  } catch (cause) {
    if (cause instanceof AppError && (cause.code === 'NOT_FOUND' || cause.code === 'INVALID_INPUT'))
      return undefined;
    throw cause;
  }
}
