/** Named values for environments of services: set, listed by name, deleted; never told. */
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { secretName, secretSchema, secretValue } from './schema.ts';
import type { ServiceKeeper } from './service.ts';

type Services = { services: ServiceKeeper };

const common = {
  confinement: 'refused',
  mcp: 'searchable',
  toolset: 'services',
} as const;
const name = secretName.describe('Its name');

export const listSecrets = defineOperation({
  ...common,
  name: 'list_secrets',
  title: 'List secrets of services',
  description:
    'Lists the names of the secrets for environments of services, who uses each, and who still has the value of before. Values are never told.',
  permission: 'services:read',
  effect: 'read',
  http: { method: 'GET', path: '/v1/secrets' },
  input: z.object({}),
  output: z.object({ secrets: z.array(secretSchema) }),
  handler: async (_input, _context, { services }: Services) => ({ secrets: await services.secrets.list() }),
});

export const setSecret = defineOperation({
  ...common,
  name: 'set_secret',
  title: 'Set a secret of services',
  description:
    'Sets a value that create_service and update_service put into an environment as {"secret": NAME}. It is never told again. Services get it with their next container.',
  permission: 'services:write',
  effect: 'update',
  idempotent: true,
  http: { method: 'PUT', path: '/v1/secrets/{name}' },
  input: z.object({ name, value: secretValue.meta({ secret: true, description: 'The value itself' }) }),
  output: secretSchema,
  handler: (input, _context, { services }: Services) => services.secrets.set(input.name, input.value),
});

export const deleteSecret = defineOperation({
  ...common,
  name: 'delete_secret',
  title: 'Delete a secret of services',
  description: 'Deletes a secret for good. Refused while services use it, unless force.',
  permission: 'services:write',
  effect: 'delete',
  http: { method: 'DELETE', path: '/v1/secrets/{name}' },
  input: z.object({
    name,
    force: z.boolean().default(false).describe('Also while services use it, which then get no new container'),
  }),
  output: z.object({ name: secretName }),
  confirm: (input) => `Delete the secret ${input.name} for good?`,
  handler: ({ name, force }, _context, { services }: Services) => services.secrets.delete(name, { force }),
});

export const secretOperations = [listSecrets, setSecret, deleteSecret] as const;
