/** What services left behind. */
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { questionAbout } from '../core/question.ts';
import { cleanUpSchema } from './schema.ts';
import type { ServiceKeeper } from './service.ts';

const MAX_PLAN = 64;

export const cleanUpServices = defineOperation({
  name: 'clean_up_services',
  title: 'Clean up after services',
  description:
    'Tells what is left of services that are no more: containers, networks and, if asked, volumes, and why each would go. Called again with the plan of that answer, it takes exactly this away. Only what was made here.',
  permission: 'services:write',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'POST', path: '/v1/services-clean-up' },
  input: z.object({
    plan: z
      .string()
      .min(1)
      .max(MAX_PLAN)
      .optional()
      .describe('plan of the answer before: takes away what it told; absent: only tells'),
    volumes: z
      .boolean()
      .default(false)
      .describe('Also volumes that no service has, with all that is in them'),
  }),
  output: cleanUpSchema,
  confirm: ({ plan, volumes }) =>
    plan === undefined
      ? undefined
      : questionAbout(`Take away what clean_up_services told under the plan ${plan}`, [
          'Its containers end at once',
          volumes && 'What is in its volumes is lost',
        ]),
  handler: ({ plan, volumes }, _context, { services }: { services: ServiceKeeper }) =>
    services.cleanUp({ plan, volumes }),
});
