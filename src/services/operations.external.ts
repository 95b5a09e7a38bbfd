/** Services that are URLs elsewhere: named, led to another URL. What is common to all services is in `operations.ts`. */
import { z } from 'zod';
import { idempotencyKeyField, versionField } from '../core/collection.ts';
import { defineOperation } from '../core/operation.ts';
import { externalDetails, externalUrl, serviceName } from './schema.ts';
import type { ServiceKeeper } from './service.ts';

type Services = { services: ServiceKeeper };

const createExternalService = defineOperation({
  name: 'create_external_service',
  title: 'Create an external service',
  description:
    'Gives a URL elsewhere a name that proxies and routes lead to (service://name). Nothing is run here for it.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'create',
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'POST', path: '/v1/external-services' },
  input: z.object({
    name: serviceName.describe('As targets name it'),
    url: externalUrl.describe('Such as https://api.example.com/v1; its path goes in front'),
    idempotency_key: idempotencyKeyField,
  }),
  output: externalDetails,
  confirm: ({ name, url }) =>
    `Lead the service ${name} to ${url}? Proxies and routes name it already: their requests go there.`,
  confirmIf: ({ services }: Services, { name }) => services.isLedTo(name),
  async handler({ name, url }, context, { services }: Services) {
    const made = await services.external.create({ name, url }, context);
    context.audit({ service: made.id });
    return made;
  },
});

const updateExternalService = defineOperation({
  name: 'update_external_service',
  title: 'Update an external service',
  description: 'Leads an external service to another URL; proxies and routes that name it follow at once.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'update',
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'PATCH', path: '/v1/external-services/{name}' },
  input: z.object({
    name: serviceName.describe('Its name'),
    url: externalUrl.describe('Such as https://api.example.com/v1'),
    version: versionField,
  }),
  output: externalDetails,
  confirm: ({ name, url }) =>
    `Lead the service ${name} to ${url}? The requests of all that name it go there.`,
  handler: ({ name, url, version }, context, { services }: Services) =>
    services.external.update(name, { url, version }, context),
});

export const externalOperations = [createExternalService, updateExternalService] as const;
