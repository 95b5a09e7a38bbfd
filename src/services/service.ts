/** The containers of this machine, as a list that can be searched and paged. Keeps nothing: the engine knows. */
import { decodeCursor, encodeCursor, pageOf, toTimestamp } from '../core/collection.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Container, ContainerEngine } from './engine.ts';
import type { Service, ServiceList } from './schema.ts';

/** Ports of one container; a published range can have thousands. */
const MAX_PORTS = 50;
/** Of 64 hexadecimal digits, as people know it. */
const ID_LENGTH = 12;
const MAX_NAME = 128;
const MAX_IMAGE = 256;
const MAX_WORD = 64;
/** The last moment that a date can express. */
const LAST_MOMENT_MS = 8.64e15;
const LIST = 'services';

export interface ServiceDirectory {
  /** @throws AppError UNAVAILABLE without an engine. */
  list(query: {
    filter?: string | undefined;
    limit?: number | undefined;
    cursor?: string | undefined;
  }): Promise<ServiceList>;
}

export function createServiceDirectory(engine: Pick<ContainerEngine, 'list'>): ServiceDirectory {
  return {
    async list({ filter, limit, cursor }) {
      const after = cursor === undefined ? undefined : decodeCursor(LIST, ['string', 'string'], cursor);
      const found = (await engine.list({ all: true })).map(serviceOf);
      const wanted = found
        .filter((service) => matches(service, filter?.toLowerCase()))
        .sort((a, b) => order(keyOf(a), keyOf(b)))
        .filter((service) => after === undefined || order(keyOf(service), after) > 0);
      const { items, ...more } = pageOf(wanted, limit, (last) => encodeCursor(LIST, keyOf(last)));
      return { services: items, ...more };
    },
  };
}

const keyOf = ({ name, id }: Service) => [name, id] as const;

function order(a: readonly [string, string], b: readonly [string, string]): number {
  if (a[0] !== b[0]) return a[0] < b[0] ? -1 : 1;
  if (a[1] === b[1]) return 0;
  return a[1] < b[1] ? -1 : 1;
}

function matches({ name, image, state }: Service, filter: string | undefined): boolean {
  return (
    filter === undefined ||
    state.toLowerCase() === filter ||
    name.toLowerCase().includes(filter) ||
    image.toLowerCase().includes(filter)
  );
}

function serviceOf({ id, names, image, state, status, ports, createdAt }: Container): Service {
  return {
    id: cleanText(id).slice(0, ID_LENGTH),
    name: cleanText(names[0] ?? '', MAX_NAME),
    image: cleanText(image, MAX_IMAGE),
    state: cleanText(state, MAX_WORD),
    status: cleanText(status, MAX_NAME),
    ports: ports.slice(0, MAX_PORTS).map(({ containerPort, protocol, hostAddress, hostPort }) => ({
      container_port: containerPort,
      protocol: cleanText(protocol, MAX_WORD),
      ...(hostAddress !== undefined && { host_address: cleanText(hostAddress, MAX_WORD) }),
      ...(hostPort !== undefined && { host_port: hostPort }),
    })),
    created_at: toTimestamp(Math.min(Math.max(0, createdAt), LAST_MOMENT_MS)),
  };
}
