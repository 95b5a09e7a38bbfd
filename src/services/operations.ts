/**
 * Containers of this machine, read from the container engine. Not here: starting, stopping or changing them.
 * Called through `dispatch` by every surface.
 */
import { z } from 'zod';
import { cursorField, limitField } from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { serviceListSchema } from './schema.ts';
import type { ServiceDirectory } from './service.ts';

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
    limit: limitField,
    cursor: cursorField,
  }),
  output: serviceListSchema,
  handler: (input, _context, { services }: { services: ServiceDirectory }) => services.list(input),
});

export const serviceOperations = [listServices] as const;
