/**
 * What a change of a service may have answered otherwise: by its own names, and by those of services whose files it may
 * write. Called by the service of this folder before it writes a change down.
 */
import { basename, resolve } from 'node:path';
import { containerDetails, type KeeperParts } from './keeping.ts';
import type { Answering } from './leading.ts';
import type { PullMode } from './pull.ts';
import type { ServiceRecord } from './record.ts';
import type { KeptSettings, ServiceSettings } from './schema.ts';
import { engineName, type Naming } from './spec.ts';
import { placesOf } from './targets.ts';

/** @param settings what it is to have */
export async function answeringOf(
  parts: KeeperParts,
  record: ServiceRecord,
  settings: KeptSettings,
): Promise<Answering> {
  const places = [
    ...placesOf(record.settings, await containerDetails(parts, record)),
    ...placesOf(settings, undefined),
  ];
  const sharers = await sharersOf(parts, record, settings);
  const others = await Promise.all(
    sharers.map(async (other) => ({
      name: other.name,
      places: placesOf(other.settings, await containerDetails(parts, other)),
    })),
  );
  return { name: record.name, places, others };
}

export interface NextImage {
  /** By the same reference: what is fetched may be, a tag that has moved is, and of what is gone nobody knows which it was. */
  readonly isAnother: boolean;
  /** The one that it is, where that is known: a tag may move until the container is made. */
  readonly id?: string;
}

/** Of which image the next container is, beside the one that is there. */
export async function nextImage(
  parts: KeeperParts,
  record: ServiceRecord,
  { image, pull }: { image: string; pull: PullMode },
): Promise<NextImage> {
  const current = pull === 'always' ? undefined : await containerDetails(parts, record);
  if (!current) return { isAnother: true };
  const { imageId } = current;
  // A swarm does not tell of which image its tasks are.
  if (imageId === '') return { isAnother: false };
  const isAnother = (await parts.engine.inspectImage(image)).id !== imageId;
  return isAnother ? { isAnother } : { isAnother, id: imageId };
}

/** Of one that can't be read nobody knows what it has: it may be any of it. */
async function sharersOf(
  { records, database, naming }: KeeperParts,
  { id }: ServiceRecord,
  { volumes }: ServiceSettings,
): Promise<ServiceRecord[]> {
  const written = new Set(volumes.filter(({ read_only }) => !read_only).map((one) => filesOf(one, naming)));
  if (written.size === 0) return [];
  const { kept, unreadable } = await records.all(database.read);
  const shares = ({ settings }: ServiceRecord) =>
    settings.volumes.some((one) => written.has(filesOf(one, naming)));
  return [...kept.filter(shares), ...unreadable].filter((other) => other.id !== id);
}

/** The same for the same files: a folder is one directly in `services.folder`, however it is written. */
const filesOf = ({ name, folder }: ServiceSettings['volumes'][number], naming: Naming): string =>
  folder === undefined
    ? `volume ${engineName(naming, name ?? '')}`
    : `folder ${basename(resolve('/', folder))}`;
