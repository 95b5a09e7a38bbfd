/** Which proxies and routes send their requests to a service, by its name or its addresses. */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import { loadBalancing, targetsOf } from '../proxies/load-balancing.ts';
import { serviceOf } from '../proxies/target-url.ts';
import type { Reader } from '../store/database.ts';
import { EVERY_ADDRESS } from './claims.ts';
import type { ContainerDetails } from './engine.ts';
import { INNER_ADDRESS } from './guarded.ts';
import type { KeptSettings } from './schema.ts';

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];
const DEFAULT_PORT: Record<string, string> = { 'http:': '80', 'https:': '443' };
/** Of the names that a refusal tells. */
export const MAX_TOLD = 10;

export interface Place {
  host: string;
  /** Undefined: any. */
  port: string | undefined;
}

/** Where it is reached now, and where it will be once it runs again. */
export function placesOf(
  { ports }: Pick<KeptSettings, 'ports'>,
  container: Pick<ContainerDetails, 'ports' | 'networks'> | undefined,
): Place[] {
  const planned = ports
    .filter(({ host_port }) => host_port > 0)
    .flatMap(({ host_address, host_port, inner_port }) => [
      ...published(host_address, host_port),
      ...(inner_port === undefined ? [] : published(INNER_ADDRESS, inner_port)),
    ]);
  const found = (container?.ports ?? []).flatMap(({ hostAddress, hostPort }) =>
    hostAddress === undefined || hostPort === undefined ? [] : published(hostAddress, hostPort),
  );
  const inside = (container?.networks ?? []).flatMap(({ address, address6 }) =>
    [address, address6 && `[${address6}]`].flatMap((host) => (host ? [{ host, port: undefined }] : [])),
  );
  return [...planned, ...found, ...inside];
}

function published(address: string, port: number): Place[] {
  const bracketed = address.includes(':') ? `[${address}]` : address;
  const isLocal = LOOPBACK.includes(bracketed) || EVERY_ADDRESS.has(address);
  return [...new Set([bracketed, ...(isLocal ? LOOPBACK : [])])].map((host) => ({
    host,
    port: String(port),
  }));
}

/** Of a proxy, which may have several targets, or of a route. */
const documentSchema = z.looseObject({ target_url: z.string(), load_balancing: loadBalancing.optional() });

interface User {
  /** Hostname of a proxy, id of a route. */
  name: string;
  /** Null: a route of every hostname. */
  hostname: string | null;
}

/** @param service its name, as targets say it */
export async function usersOf(
  db: Reader,
  service: string,
  places: readonly Place[],
): Promise<{ proxies: User[]; routes: User[] }> {
  const [proxies, routes] = await Promise.all([
    db.selectFrom('proxies').select(['hostname', 'document']).execute(),
    db.selectFrom('routes').select(['id', 'hostname', 'document']).execute(),
  ]);
  const isLed = ({ document }: { document: string }) => leadsTo(document, service, places);
  return {
    proxies: proxies.filter(isLed).map(({ hostname }) => ({ name: hostname, hostname })),
    routes: routes.filter(isLed).map(({ id, hostname }) => ({ name: id, hostname })),
  };
}

/** Hostnames of proxies and ids of routes. */
export async function targeting(db: Reader, service: string, places: readonly Place[]): Promise<string[]> {
  const { proxies, routes } = await usersOf(db, service, places);
  return [...proxies, ...routes].map(({ name }) => name);
}

/** Names of the services that a proxy or route has among its targets. */
export const servicesNamed = (document: string): string[] => [
  ...new Set(
    targetsOf(documentSchema.parse(JSON.parse(document))).flatMap(({ url }) => serviceOf(url)?.name ?? []),
  ),
];

/** @throws AppError PRECONDITION_FAILED with who leads to it. */
export async function requireNoneLed(db: Reader, service: string, places: readonly Place[]): Promise<void> {
  const users = (await targeting(db, service, places)).slice(0, MAX_TOLD);
  if (users.length === 0) return;
  throw new AppError(
    'PRECONDITION_FAILED',
    `requests of ${users.map((user) => cleanText(user)).join(', ')} go to the service ${service}; change these first, or pass force: true`,
    { details: { users } },
  );
}

function leadsTo(document: string, service: string, places: readonly Place[]): boolean {
  // Cheap first: most have another host.
  if (!document.includes(service) && !places.some(({ host }) => document.includes(host))) return false;
  return targetsOf(documentSchema.parse(JSON.parse(document))).some((target) => {
    const named = serviceOf(target.url);
    if (named) return named.name === service;
    const url = URL.parse(target.url);
    if (!url) return false;
    const port = url.port === '' ? DEFAULT_PORT[url.protocol] : url.port;
    return places.some((place) => place.host === url.hostname && (place.port ?? port) === port);
  });
}
