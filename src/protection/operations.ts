/** What can be done to let only some people and programs through to a target. */
import { z } from 'zod';
import { versionField } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { protectionInput, protectionSchema, protectionsSchema } from './schema.ts';
import type { ProtectionService } from './service.ts';

type Services = { protection: ProtectionService };

const hostnameField = hostname.describe('Hostname of the proxy');
const routeField = z
  .string()
  .min(1)
  .max(limits.shortText)
  .optional()
  .describe('Id of one of its routes (rte_…), for that route alone; absent: the proxy');

export const protectProxy = defineOperation({
  name: 'protect_proxy',
  title: 'Protect a proxy',
  description:
    'Lets only those who sign in, or have an access token, through to a target, and tells it who they are. For an MCP server, mcp says which tools. Replaces the policy; whoever is not let in any more is cut off at once.',
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'update',
  idempotent: true,
  mcp: 'searchable',
  toolset: 'proxies',
  http: { method: 'PUT', path: '/v1/proxies/{hostname}/protection' },
  input: z.object({
    hostname: hostnameField,
    route: routeField,
    ...protectionInput,
    version: versionField,
  }),
  output: protectionSchema,
  handler: ({ hostname: name, route, version, ...wanted }, context, { protection }: Services) =>
    protection.protect({ hostname: name, route, version }, wanted, context),
});

export const unprotectProxy = defineOperation({
  name: 'unprotect_proxy',
  title: 'Unprotect a proxy',
  description:
    "Opens a target to anyone; for a route, gives it its proxy's policy back. Nobody is signed out elsewhere.",
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'delete',
  mcp: 'searchable',
  toolset: 'proxies',
  http: { method: 'DELETE', path: '/v1/proxies/{hostname}/protection' },
  input: z.object({ hostname: hostnameField, route: routeField, version: versionField }),
  output: protectionSchema,
  confirm: ({ hostname: name, route }) =>
    route === undefined
      ? `Take the protection off ${name}? Its target is then open to anyone.`
      : `Take the policy off the route ${route} of ${name}? Its paths are then under the policy of the proxy.`,
  handler: ({ hostname: name, route, version }, context, { protection }: Services) =>
    protection.unprotect({ hostname: name, route, version }, context),
});

export const getProtection = defineOperation({
  name: 'get_protection',
  title: 'Show the protection of a proxy',
  description: 'Shows who gets through to a target, how, and which routes have a policy of their own.',
  permission: 'proxies:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'searchable',
  toolset: 'proxies',
  http: { method: 'GET', path: '/v1/proxies/{hostname}/protection' },
  input: z.object({ hostname: hostnameField }),
  output: protectionsSchema,
  handler: ({ hostname: name }, context, { protection }: Services) => protection.get(name, context),
});

export const protectionOperations = [protectProxy, unprotectProxy, getProtection] as const;
