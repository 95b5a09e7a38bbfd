/**
 * Containers of this machine: those that were made here can be changed, all others are listed and left alone. Called
 * through `dispatch` by every surface. Not for credentials that are confined to hostnames: a container has none.
 */
import { z } from 'zod';
import { cursorField, idempotencyKeyField, limitField, versionField } from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { mayBeToldNames, type Principal } from '../core/principal.ts';
import { cleanUpServices } from './operations.clean-up.ts';
import { externalOperations } from './operations.external.ts';
import { secretOperations } from './operations.secrets.ts';
import { watchOperations } from './operations.watch.ts';
import {
  anyServiceSchema,
  serviceChanges,
  serviceDetailsSchema,
  serviceListSchema,
  serviceName,
  serviceSettings,
  type Service,
  starting,
} from './schema.ts';
import type { ServiceKeeper } from './service.ts';

type Services = { services: ServiceKeeper };

const name = serviceName.describe('Its name');

const toldTo = <Told extends Pick<Service, 'published_as'>>(
  principal: Principal,
  { published_as, ...service }: Told,
) => ({
  ...service,
  ...(published_as && mayBeToldNames(principal) && { published_as }),
});

export const listServices = defineOperation({
  name: 'list_services',
  title: 'List services',
  description: 'Lists the containers of this machine, running or not: name, image, state and ports.',
  permission: 'services:read',
  confinement: 'refused',
  effect: 'read',
  untrusted: true,
  mcp: 'listed',
  toolset: 'services',
  http: { method: 'GET', path: '/v1/services' },
  input: z.object({
    filter: z
      .string()
      .min(1)
      .max(limits.shortText)
      .optional()
      .describe('Part of a name or image, or a state such as running'),
    managed: z.boolean().optional().describe('true: only those made here; false: only others'),
    limit: limitField,
    cursor: cursorField,
  }),
  output: serviceListSchema,
  async handler(input, { principal }, { services }: Services) {
    const { services: found, ...more } = await services.list(input);
    return { services: found.map((service) => toldTo(principal, service)), ...more };
  },
});

export const getService = defineOperation({
  name: 'get_service',
  title: 'Get a service',
  description:
    'Shows the settings of a service and the state, health, ports and addresses of its container. Values of its environment are never shown.',
  permission: 'services:read',
  confinement: 'refused',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'GET', path: '/v1/services/{name}' },
  input: z.object({ name }),
  output: anyServiceSchema,
  async handler(input, context, { services }: Services) {
    const found = (await services.external.find(input.name)) ?? (await services.get(input.name, context));
    const published_as = await services.publishedAs(input.name);
    return toldTo(context.principal, { ...found, published_as });
  },
});

export const createService = defineOperation({
  name: 'create_service',
  title: 'Create a service',
  description:
    'Runs an image as a container, within the policy of the settings (services), and waits until it is up; else nothing of it is left. No hostname is served by it: create_proxy does that.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'create',
  untrusted: true,
  mcp: 'searchable',
  task: true,
  toolset: 'services',
  http: { method: 'POST', path: '/v1/services' },
  input: z.object({
    name: serviceName.describe('Also the name by which others in its networks reach it'),
    ...serviceSettings.shape,
    start: z.boolean().default(true).describe('false: created, not started'),
    ...starting,
    idempotency_key: idempotencyKeyField,
  }),
  output: serviceDetailsSchema,
  async handler(input, context, { services }: Services) {
    const { name, start, pull, healthy_within_ms, idempotency_key: _, ...settings } = input;
    const made = await services.create({ name, start, pull, healthy_within_ms, settings }, context);
    context.audit({ service: made.id });
    return made;
  },
});

export const updateService = defineOperation({
  name: 'update_service',
  title: 'Update a service',
  description:
    'Changes settings of a service by a new container in the place of the old one, which is stopped meanwhile and started again when the new one does not come up. What is left out stays; lists are replaced.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  task: true,
  toolset: 'services',
  http: { method: 'PATCH', path: '/v1/services/{name}' },
  input: z.object({ name, ...serviceChanges.shape, ...starting, version: versionField }),
  output: serviceDetailsSchema,
  handler({ name, pull, healthy_within_ms, version, ...changes }, context, { services }: Services) {
    return services.update(name, { pull, healthy_within_ms, version, changes }, context);
  },
});

const onOff = {
  permission: 'services:write',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  input: z.object({ name }),
  output: serviceDetailsSchema,
} as const;

export const startService = defineOperation({
  ...onOff,
  name: 'start_service',
  title: 'Start a service',
  description: 'Starts a service; nothing happens to one that runs. A container that is gone is made again.',
  idempotent: true,
  http: { method: 'POST', path: '/v1/services/{name}/start' },
  handler: (input, context, { services }: Services) => services.start(input.name, context),
});

export const stopService = defineOperation({
  ...onOff,
  name: 'stop_service',
  title: 'Stop a service',
  description: 'Stops a service, until it is started again. Proxies that lead to it then answer 502 or 503.',
  idempotent: true,
  http: { method: 'POST', path: '/v1/services/{name}/stop' },
  confirm: (input) => `Stop the service ${input.name}? What leads to it then fails.`,
  handler: (input, context, { services }: Services) => services.stop(input.name, context),
});

export const restartService = defineOperation({
  ...onOff,
  name: 'restart_service',
  title: 'Restart a service',
  description: 'Stops a service and starts it again, with the settings that it has.',
  http: { method: 'POST', path: '/v1/services/{name}/restart' },
  handler: (input, context, { services }: Services) => services.restart(input.name, context),
});

export const deleteService = defineOperation({
  name: 'delete_service',
  title: 'Delete a service',
  description:
    'Ends a service and deletes its container. Its volumes stay unless delete_volumes; refused while proxies or routes lead to it unless force.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'delete',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'DELETE', path: '/v1/services/{name}' },
  input: z.object({
    name,
    version: versionField,
    force: z.boolean().default(false).describe('Also while proxies or routes lead to it'),
    delete_volumes: z
      .boolean()
      .default(false)
      .describe('Also its named volumes, with all that is in them, where no other service has them'),
  }),
  output: z.object({ name: serviceName }),
  confirm: ({ name, force, delete_volumes }) =>
    [
      `Delete the service ${name}? Its container ends at once.`,
      force && 'Proxies and routes that lead to it then fail.',
      delete_volumes && 'Its volumes, with all that is in them, are deleted for good.',
    ]
      .filter((sentence) => sentence !== false)
      .join(' '),
  handler: async ({ name, version, force, delete_volumes }, context, { services }: Services) =>
    (await services.external.find(name))
      ? services.external.delete(name, { version, force }, context)
      : services.delete(name, { version, force, deleteVolumes: delete_volumes }, context),
});

export const serviceOperations = [
  listServices,
  getService,
  createService,
  updateService,
  startService,
  stopService,
  restartService,
  deleteService,
  cleanUpServices,
  ...externalOperations,
  ...secretOperations,
  ...watchOperations,
] as const;
