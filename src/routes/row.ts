/** A route as a row of the store, and back. */
import { z } from 'zod';
import type { Tables } from '../store/database.ts';
import { MAX_PRIORITY, type Route, routeSchema, routeSettings } from './schema.ts';

export type RouteRow = Tables['routes'];

export function toRow({ id, hostname, version, ...document }: Route): RouteRow {
  return { id, hostname, version, document: JSON.stringify(document) };
}

/** @throws when the row is not one that `toRow` wrote. */
export function parseRow({ id, hostname, version, document }: RouteRow): Route {
  return routeSchema.parse({ ...JSON.parse(document), id, hostname, version });
}

/** Never resolves (RFC 6761 §6.4): what gets there gets nowhere. */
const NOWHERE = 'http://closed.invalid/';
const UNKNOWN_TIME = new Date(0).toISOString();

/** Each setting by itself; one that can't be read widens what is closed. */
const salvage = z
  .object({
    path: routeSettings.shape.path.catch('/'),
    match: routeSettings.shape.match.catch('prefix'),
    methods: routeSettings.shape.methods.catch([]),
    priority: routeSettings.shape.priority.catch(MAX_PRIORITY),
    enabled: routeSettings.shape.enabled.catch(true),
  })
  .catch({ path: '/', match: 'prefix', methods: [], priority: MAX_PRIORITY, enabled: true });

/**
 * In place of a row that can't be read. Leaving it out would open what it protects, because the proxy's own policy
 * would decide; so it goes on to match, and leads nowhere for nobody but an administrator.
 */
export function closedRoute({ id, hostname, version, document }: RouteRow): Route {
  return {
    ...salvage.parse(jsonOf(document)),
    target_url: NOWHERE,
    strip_prefix: false,
    auth: { kind: 'token', permission: 'system:write' },
    id,
    hostname,
    version,
    owner: 'unknown',
    created_at: UNKNOWN_TIME,
    updated_at: UNKNOWN_TIME,
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Nothing to salvage: everything is closed.
  }
}
