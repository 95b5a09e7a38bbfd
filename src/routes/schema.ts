/** What a route is: requests of some paths of a proxy (or of every proxy) that go to another target. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { authPolicy, hostname, type Proxy, targetUrl } from '../proxies/schema.ts';

const MAX_PATH = 1024;
const MAX_METHODS = 20;
export const MAX_PRIORITY = 999;
const DEFAULT_PRIORITY = 500;

export const httpMethod = z
  .string()
  .max(32)
  .regex(/^[A-Z][A-Z-]*$/, 'has to be a method in capitals, such as GET');

/** The canonical path is compared; a path that is not canonical itself could never match and is refused on write. */
export const routePath = z.string().min(1).max(MAX_PATH).startsWith('/', 'has to begin with /');

export const routeSettings = z.strictObject({
  path: routePath,
  match: z.enum(['prefix', 'exact']).default('prefix'),
  /** Empty: every method. */
  methods: z.array(httpMethod).max(MAX_METHODS).default([]),
  /** Higher wins; among equals exact before prefix, then the longer path, then proxy before global, then the older. */
  priority: z.int().min(0).max(MAX_PRIORITY).default(DEFAULT_PRIORITY),
  target_url: targetUrl,
  strip_prefix: z.boolean().default(false),
  /** Absent: the proxy's own policy. */
  auth: authPolicy.optional(),
  enabled: z.boolean().default(true),
});
export type RouteSettings = z.output<typeof routeSettings>;

export const routeSchema = routeSettings.extend({
  id: z.string(),
  /** Hostname of the proxy it belongs to; null: global. */
  hostname: hostname.nullable(),
  owner: z.string(),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type Route = z.output<typeof routeSchema>;

export const routeListSchema = z.object({ routes: z.array(routeSchema), next_cursor: nextCursorField });

/** What a change does to what is served. The gateway compiles it into a snapshot before anything is written. */
export interface RoutingChange {
  putProxies?: readonly Proxy[];
  /** Ids. */
  removeProxies?: readonly string[];
  putRoutes?: readonly Route[];
  /** Ids. */
  removeRoutes?: readonly string[];
}

/** Port to the gateway. Call it inside `database.change`, and `publish` after the commit. */
export interface Publisher {
  /** @throws AppError PRECONDITION_FAILED with the reason when the change could not be served. */
  prepare(change: RoutingChange): { publish(): void };
}
