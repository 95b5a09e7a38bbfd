/** Services, and the other containers of this machine, as a list that can be searched and paged. */
import { decodeCursor, encodeCursor, pageOf } from '../core/collection.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { Container, ContainerEngine } from './engine.ts';
import { externalStore } from './external.ts';
import type { RecordStore, ServiceRecord } from './record.ts';
import type { Service, ServiceList } from './schema.ts';
import { shownId, shownPorts, shownTime } from './shown.ts';
import { isCurrent, isOf } from './spec.ts';

const MAX_NAME = 128;
const MAX_IMAGE = 256;
const MAX_WORD = 64;
const LIST = 'services';

export interface ServiceDirectory {
  /** @throws AppError UNAVAILABLE without an engine. */
  list(query: {
    filter?: string | undefined;
    managed?: boolean | undefined;
    limit?: number | undefined;
    cursor?: string | undefined;
  }): Promise<ServiceList>;
}

interface DirectoryParts {
  engine: Pick<ContainerEngine, 'list'>;
  database: Pick<Database, 'read'>;
  records: Pick<RecordStore, 'all'>;
}

export function createDirectory({ engine, database, records }: DirectoryParts): ServiceDirectory {
  return {
    async list({ filter, managed, limit, cursor }) {
      const after = cursor === undefined ? undefined : decodeCursor(LIST, ['string', 'string'], cursor);
      const containers = await engine.list({ all: true });
      const { kept, unreadable } = await records.all(database.read);
      const external = (await externalStore.all(database.read)).map(externalOf);
      const found = [...together(kept, containers), ...unreadable.map(withoutRecord), ...external];
      const wanted = found
        .filter((service) => managed === undefined || service.managed === managed)
        .filter((service) => matches(service, filter?.toLowerCase()))
        .sort((a, b) => order(keyOf(a), keyOf(b)))
        .filter((service) => after === undefined || order(keyOf(service), after) > 0);
      const { items, ...more } = pageOf(wanted, limit, (last) => encodeCursor(LIST, keyOf(last)));
      return { services: items, ...more };
    },
  };
}

/** A service has the name of its record; what it left behind at the engine stands for itself. */
function together(kept: readonly ServiceRecord[], containers: readonly Container[]): Service[] {
  const named = new Map<Container, ServiceRecord>();
  const missing = kept.filter((record) => {
    const current = containers.find((one) => isOf(record, one) && isCurrent(record, one));
    if (current) named.set(current, record);
    return current === undefined;
  });
  return [
    ...containers.map((container) => ({
      ...serviceOf(container),
      ...(named.has(container) && { name: named.get(container)?.name ?? '' }),
    })),
    ...missing.map(withoutContainer),
  ];
}

const keyOf = ({ name, id = '' }: Service) => [name, id] as const;

function order(a: readonly [string, string], b: readonly [string, string]): number {
  if (a[0] !== b[0]) return a[0] < b[0] ? -1 : 1;
  if (a[1] === b[1]) return 0;
  return a[1] < b[1] ? -1 : 1;
}

function matches({ name, image, state, url = '' }: Service, filter: string | undefined): boolean {
  return (
    filter === undefined ||
    state.toLowerCase() === filter ||
    name.toLowerCase().includes(filter) ||
    image.toLowerCase().includes(filter) ||
    url.toLowerCase().includes(filter)
  );
}

const withoutContainer = ({ name, settings, pending, created_at }: ServiceRecord): Service => ({
  name,
  image: cleanText(settings.image, MAX_IMAGE),
  state: 'missing',
  status: pending === null ? 'It has no container' : `Unfinished: ${pending}`,
  managed: true,
  ports: [],
  created_at,
});

const externalOf = ({
  name,
  url,
  created_at,
}: {
  name: string;
  url: string;
  created_at: string;
}): Service => ({
  name,
  image: '',
  state: 'external',
  status: 'A URL elsewhere',
  managed: true,
  ports: [],
  url,
  created_at,
});

const withoutRecord = (record: ServiceRecord): Service => ({
  ...withoutContainer(record),
  state: 'unreadable',
  status: "Its record can't be read; delete_service takes it away",
});

function serviceOf({ id, names, image, state, status, ports, createdAt, managed }: Container): Service {
  return {
    id: shownId(id),
    name: cleanText(names[0] ?? '', MAX_NAME),
    image: cleanText(image, MAX_IMAGE),
    state: cleanText(state, MAX_WORD),
    status: cleanText(status, MAX_NAME),
    managed,
    ports: shownPorts(ports),
    created_at: shownTime(createdAt),
  };
}
