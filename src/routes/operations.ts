/** What can be done with routes. */
import { z } from 'zod';
import { cursorField, idempotencyKeyField, limitField, versionField } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { questionAbout } from '../core/question.ts';
import {
  httpMethod,
  routeChanges,
  routeListSchema,
  routeResult,
  routeSettings,
  routeTestSchema,
} from './schema.ts';
import type { RouteService } from './service.ts';

type Services = { routes: RouteService };

const MAX_URL = 4096;

const idField = z.string().min(1).max(limits.shortText).describe('Id of the route, rte_…');

export const listRoutes = defineOperation({
  name: 'list_routes',
  title: 'List routes',
  description: 'Lists routes: requests of some paths that go elsewhere than their proxy.',
  permission: 'routes:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'listed',
  toolset: 'routes',
  http: { method: 'GET', path: '/v1/routes' },
  input: z.object({
    hostname: hostname.optional().describe('Only those of this proxy'),
    limit: limitField,
    cursor: cursorField,
  }),
  output: routeListSchema,
  handler: (input, context, { routes }: Services) => routes.list(input, context),
});

export const createRoute = defineOperation({
  name: 'create_route',
  title: 'Create a route',
  description: 'Sends requests of some paths of a proxy, or of every proxy, to another target.',
  permission: 'routes:write',
  confinement: 'filters',
  effect: 'create',
  mcp: 'listed',
  toolset: 'routes',
  http: { method: 'POST', path: '/v1/routes' },
  input: z.object({
    hostname: hostname.nullable().describe('Hostname of the proxy; null: every proxy'),
    ...routeSettings.shape,
    idempotency_key: idempotencyKeyField,
  }),
  output: routeResult,
  async handler(input, context, { routes }: Services) {
    const { idempotency_key: _, ...wanted } = input;
    const route = await routes.create(wanted, context);
    context.audit({ route: route.id });
    return route;
  },
});

export const updateRoute = defineOperation({
  name: 'update_route',
  title: 'Update a route',
  description: 'Changes settings of a route; what is left out stays.',
  permission: 'routes:write',
  confinement: 'filters',
  effect: 'update',
  mcp: 'searchable',
  toolset: 'routes',
  http: { method: 'PATCH', path: '/v1/routes/{id}' },
  input: z.object({ id: idField, ...routeChanges.shape, version: versionField }),
  output: routeResult,
  confirm: (changes) =>
    questionAbout(`Change the route ${changes.id}`, [
      changes.auth?.kind === 'none' && 'Its paths are then open to anyone',
      changes.auth === null && 'Its paths are then under the policy of its proxy',
      changes.enabled === false && 'Its requests go to what matches next, under the policy that holds there',
      changes.target_url !== undefined && `Its requests go to ${changes.target_url}`,
    ]),
  handler: ({ id, version, ...changes }, context, { routes }: Services) =>
    routes.update(id, changes, version, context),
});

export const deleteRoute = defineOperation({
  name: 'delete_route',
  title: 'Delete a route',
  description: 'Deletes a route; its requests go to what matches next, at last to the target of the proxy.',
  permission: 'routes:write',
  confinement: 'filters',
  effect: 'delete',
  mcp: 'searchable',
  toolset: 'routes',
  http: { method: 'DELETE', path: '/v1/routes/{id}' },
  input: z.object({ id: idField, version: versionField }),
  output: z.object({ id: z.string() }),
  confirm: ({ id }) =>
    `Delete the route ${id}? Its requests then go to what matches next, under the policy that holds there.`,
  handler: ({ id, version }, context, { routes }: Services) => routes.delete(id, version, context),
});

export const testRoute = defineOperation({
  name: 'test_route',
  title: 'Test a route',
  description: 'Says which proxy, route, policy and target a request would get. Sends nothing.',
  permission: 'routes:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'listed',
  toolset: 'routes',
  http: { method: 'GET', path: '/v1/route-test' },
  input: z.object({
    url: z.string().min(1).max(MAX_URL).describe('Such as https://app.example.com/api'),
    method: httpMethod.default('GET').describe('HTTP method, in capitals'),
  }),
  output: routeTestSchema,
  handler: async ({ url, method }, context, { routes }: Services) => routes.test(url, method, context),
});

export const routeOperations = [listRoutes, createRoute, updateRoute, deleteRoute, testRoute] as const;
