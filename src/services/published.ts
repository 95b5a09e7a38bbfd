/** Under which hostnames services are served: proxies and routes whose targets name them. */
import type { Reader } from '../store/database.ts';
import type { PublishedAs } from './schema.ts';
import { servicesNamed } from './targets.ts';

/** Of one service. */
const MAX_TOLD = 50;

export type Published = ReadonlyMap<string, PublishedAs>;

/** By the name of the service. Those that lead to its address by a URL are not among them. */
export async function publishedServices(db: Reader): Promise<Published> {
  // Cheap first: most have another target, and are not read.
  const [proxies, routes, publications] = await Promise.all([
    db
      .selectFrom('proxies')
      .select(['hostname', 'document'])
      .where('document', 'like', NAMED)
      .orderBy('hostname')
      .execute(),
    db
      .selectFrom('routes')
      .select(['id', 'hostname', 'document'])
      .where('document', 'like', NAMED)
      .orderBy('id')
      .execute(),
    db
      .selectFrom('publications')
      .select(['id', 'hostname', 'service'])
      .where('state', '=', 'published')
      .execute(),
  ]);
  const found = new Map<string, PublishedAs>();
  const add = (document: string, entry: PublishedAs[number]) => {
    for (const name of readable(document)) {
      const entries = found.get(name) ?? [];
      const publication = publications.find(
        (one) => one.hostname === entry.hostname && one.service === name,
      )?.id;
      if (entries.length < MAX_TOLD)
        entries.push({
          ...entry,
          ...(publication !== undefined && entry.route === undefined && { publication }),
        });
      found.set(name, entries);
    }
  };
  for (const { hostname, document } of proxies) add(document, { hostname });
  for (const { id, hostname, document } of routes) add(document, { hostname, route: id });
  return found;
}

function readable(document: string): string[] {
  try {
    return servicesNamed(document);
  } catch {
    // Another version wrote it: nothing is served by it, and `list_proxies` says so.
    return [];
  }
}

const NAMED = '%service://%';
