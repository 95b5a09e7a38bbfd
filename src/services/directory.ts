/** Services, and the other containers of this machine, as a list that can be searched and paged. */
import { decodeCursor, encodeCursor, pageOf } from '../core/collection.ts';
import { type AppError, toAppError } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { Container, ContainerEngine } from './engine.ts';
import type { externalStore } from './external.ts';
import type { Published } from './published.ts';
import type { RecordStore, ServiceRecord } from './record.ts';
import type { Service, ServiceList } from './schema.ts';
import { shownId, shownPorts, shownTime } from './shown.ts';
import { isCurrent, isOf } from './spec.ts';

const MAX_NAME = 128;
const MAX_IMAGE = 256;
const MAX_WORD = 64;
const LIST = 'services';

export interface ServiceDirectory {
  /** Without an engine what is kept here is told, and why no container is. @throws AppError UNAVAILABLE where nothing is. */
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
  external: Pick<typeof externalStore, 'all'>;
  published: (db: Database['read']) => Promise<Published>;
}

export function createDirectory(parts: DirectoryParts): ServiceDirectory {
  const { database, records, external, published } = parts;
  return {
    async list({ filter, managed, limit, cursor }) {
      const after = cursor === undefined ? undefined : decodeCursor(LIST, ['string', 'string'], cursor);
      const { containers, fault } = await containersOf(parts);
      const { kept, unreadable } = await records.all(database.read);
      const elsewhere = (await external.all(database.read)).map(externalOf);
      const ours = fault ? kept.map(withoutEngine) : together(kept, containers);
      const found = [...ours, ...unreadable.map(withoutRecord), ...elsewhere];
      if (fault && found.length === 0) throw fault;
      const wanted = found
        .filter((service) => managed === undefined || service.managed === managed)
        .filter((service) => matches(service, filter?.toLowerCase()))
        .sort((a, b) => order(keyOf(a), keyOf(b)))
        .filter((service) => after === undefined || order(keyOf(service), after) > 0);
      const { items, ...more } = pageOf(wanted, limit, (last) => encodeCursor(LIST, keyOf(last)));
      const names = await published(database.read);
      return {
        services: items.map((service) => withNames(service, names)),
        ...(fault && { engine_problem: cleanText(fault.message) }),
        ...more,
      };
    },
  };
}

async function containersOf({ engine }: Pick<DirectoryParts, 'engine'>): Promise<{
  containers: readonly Container[];
  fault?: AppError;
}> {
  try {
    return { containers: await engine.list({ all: true }) };
  } catch (cause) {
    const fault = toAppError(cause);
    if (fault.code === 'INTERNAL') throw cause;
    // Told beside what is known without it.
    return { containers: [], fault };
  }
}

/** Only what was made here: a container of somebody else may be called the same, and no name leads there. */
function withNames(service: Service, published: Published): Service {
  const names = service.managed ? published.get(service.name) : undefined;
  return names ? { ...service, published_as: names } : service;
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

const withoutEngine = (record: ServiceRecord): Service => ({
  ...withoutContainer(record),
  state: 'unknown',
  status: 'The container engine does not answer',
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
