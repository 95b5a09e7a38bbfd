/** What a route is: requests of some paths of a proxy (or of every proxy) that go to another target. */
import { z } from 'zod';
import { changesOf, nextCursorField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { authChoice, authPolicy, toldPolicy } from '../proxies/auth-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import { targetState } from '../proxies/load-balancing.ts';
import { leadsTo } from '../proxies/service-targets.ts';
import { targetUrl } from '../proxies/target-url.ts';
import { comparablePath, normaliseTarget } from './normalise.ts';

export const MAX_PATH = 1024;
const MAX_METHODS = 20;
export const MAX_PRIORITY = 999;
const DEFAULT_PRIORITY = 500;
/** RFC 9110 §9.1: a token; every method in use is of capitals and hyphens. */
const METHOD = /^[A-Z][A-Z-]*$/;

export const httpMethod = z
  .string()
  .max(32)
  .refine((text) => METHOD.test(text), 'has to be a method in capitals, such as GET');

/** The canonical path is compared; a path that is not canonical itself could never match and is refused on write. */
export const routePath = z
  .string()
  .min(1)
  .max(MAX_PATH)
  .refine((text) => pathFault(text) === undefined, { error: ({ input }) => pathFault(String(input)) ?? '' });

function pathFault(text: string): string | undefined {
  if (!text.startsWith('/')) return 'has to begin with /';
  const canonical = normaliseTarget(text)?.path;
  if (canonical === undefined || text.includes('?')) return 'has to be a path without query, such as /api';
  const compared = comparablePath(canonical);
  return compared === text ? undefined : `has to be written as requests are compared: ${compared}`;
}

export const routeSettings = z.strictObject({
  path: routePath.describe('Such as /api'),
  match: z
    .enum(['prefix', 'exact'])
    .default('prefix')
    .describe('prefix: the path and all below it, by whole segments'),
  methods: z.array(httpMethod).max(MAX_METHODS).default([]).describe('Empty: all; GET includes HEAD'),
  /** Higher wins; among equals exact before prefix, then the longer path, then proxy before global, then the older. */
  priority: z.int().min(0).max(MAX_PRIORITY).default(DEFAULT_PRIORITY).describe('Higher wins'),
  target_url: targetUrl.describe(
    'Where these requests go; of another origin, it gets no headers that the proxy sets',
  ),
  strip_prefix: z.boolean().default(false).describe('Forward without path: of /api/x only /x'),
  auth: authChoice
    .optional()
    .describe(
      "Who gets through, as in a proxy; absent: the proxy's policy. Another than a proxy's needs proxies:write",
    ),
  enabled: z.boolean().default(true).describe('false: as if it did not exist'),
});
export type RouteSettings = z.output<typeof routeSettings>;

/** What an update may name; `null` gives the proxy's policy back. */
export const routeChanges = z.strictObject({
  ...changesOf(routeSettings.shape),
  auth: authChoice.nullable().optional().describe("null: the proxy's policy"),
});
export type RouteChanges = z.output<typeof routeChanges>;

export const routeSchema = routeSettings.extend({
  auth: authPolicy.optional(),
  id: z.string(),
  /** Hostname of the proxy it belongs to; null: global. */
  hostname: hostname.nullable(),
  owner: z.string(),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type Route = z.output<typeof routeSchema>;

/** As it is told. */
export const routeResult = routeSchema.extend({ auth: toldPolicy.optional() });

export const routeListSchema = z.object({
  routes: z.array(routeResult.extend({ leads_to: leadsTo })),
  next_cursor: nextCursorField,
});

/** What a request would get, found by the code that serves. Null: does not apply, or is not the caller's to see. */
export const routeTestSchema = z.object({
  outcome: z
    .enum(['forward', 'redirect', 'mcp', 'system', 'not_served', 'bad_request'])
    .describe('What the gateway does with the request'),
  reason: z.string(),
  hostname: z.string().nullable(),
  path: z.string().nullable().describe('Canonical: what is matched and forwarded'),
  mcp_answers: z.boolean().describe("Whether this system's MCP endpoint answers at this URL"),
  redirect_to: z.string().nullable(),
  proxy: z.object({ id: z.string(), hostname }).nullable(),
  route: z
    .object({ id: z.string(), hostname: hostname.nullable(), path: z.string(), priority: z.int() })
    .nullable(),
  auth: toldPolicy.nullable(),
  target_url: z.string().nullable().describe('The URL that is requested of the upstream'),
  targets: z
    .array(targetState.pick({ url: true, state: true }))
    .optional()
    .describe('Where there are several: those that could get it'),
  leads_to: leadsTo,
});
export type RouteTest = z.output<typeof routeTestSchema>;

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
