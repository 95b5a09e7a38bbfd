/**
 * What a container that was not made here asks for by its labels: a hostname, and which of its ports answers there. Words
 * of who ran it or made its image: they are shown and can be accepted, and set nothing.
 */
import { z } from 'zod';
import { proxySettings } from '../proxies/schema.ts';
import { idempotencyKeyField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';

const MAX_ID = 64;

export const proposalSchema = z.object({
  container: z.string().describe('Its id, as accept_proposal takes it'),
  name: z.string(),
  image: z.string(),
  hostname: z.string().optional(),
  target_url: z.string().optional().describe('Where its requests would go'),
  problem: z.string().optional().describe('Why it would be refused now'),
  served_by: z.string().optional().describe('The wildcard that serves the hostname so far'),
  label: z.string().optional().describe('The label that names it, where that is not ohp.hostname'),
  applied: z.string().optional().describe('Id of the proxy that was made for it without asking'),
  rivals: z.array(z.string()).optional().describe('Containers that ask for the same hostname'),
});
export type Proposal = z.output<typeof proposalSchema>;

const appliedSchema = z.object({
  hostname: z.string(),
  proxy: z.string(),
  label: z.string(),
  container: z.string(),
  state: z
    .enum(['running', 'down', 'changed', 'dismissed'])
    .describe(
      'down: it goes when its container does not run again in time; changed: by somebody, so that it stays; dismissed: somebody deleted it',
    ),
  down_since: timestamp.optional(),
});
export type AppliedProxy = z.output<typeof appliedSchema>;

export const proposalsSchema = z.object({
  proposals: z.array(proposalSchema),
  left_out: z.int(),
  applied: z
    .array(appliedSchema)
    .optional()
    .describe(
      'Proxies that labels made by themselves (services.apply_labels); they have the owner system. For proxies:read with routes:read',
    ),
  engine_problem: z.string().optional().describe('Why no proposals are listed'),
});

/** Of ids of containers and of a swarm; the first digits are how they are told. */
const containerId = z
  .string()
  .max(MAX_ID)
  .regex(/^[a-z0-9]{12,64}$/, 'has to be an id that list_proposals tells');

export const acceptInput = z.object({
  container: containerId.describe('Its id'),
  hostname: hostname.describe('Which it asks for'),
  auth: proxySettings.shape.auth,
  enabled: proxySettings.shape.enabled,
  idempotency_key: idempotencyKeyField,
});
export type AcceptInput = z.output<typeof acceptInput>;
