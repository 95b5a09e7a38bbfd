/**
 * What a publication is: an image that runs behind a hostname because one call asked for it, and what that call made.
 * Settings of the container and of the protection are those of `create_service` and `protect_proxy`.
 */
import { z } from 'zod';
import { idempotencyKeyField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { protectionInput } from '../protection/schema.ts';
import { certificateChoice } from '../proxies/certificate-choice.ts';
import { serviceName, serviceSettings, starting } from '../services/schema.ts';

const MAX_PORT = 65_535;
const MAX_PATH = 1024;

const { shape: ofService } = serviceSettings;

/** Of the container, as `create_service` takes them. */
export const containerInput = z.object({
  image: ofService.image,
  command: ofService.command,
  environment: ofService.environment,
  volumes: ofService.volumes,
  temporary_paths: ofService.temporary_paths,
  memory_bytes: ofService.memory_bytes,
  cpus: ofService.cpus,
  pids: ofService.pids,
  health_check: ofService.health_check,
  networks: ofService.networks,
  user: ofService.user,
  read_only_root: ofService.read_only_root,
  capabilities: ofService.capabilities,
});

export const protectionWish = z.strictObject({
  mode: protectionInput.mode,
  allow: protectionInput.allow,
  public_paths: protectionInput.public_paths,
});
export type ProtectionWish = z.output<typeof protectionWish>;

/** What is not said is as `protect_proxy` has it. */
export const protectionOf = (wish: ProtectionWish) => z.strictObject(protectionInput).parse(wish);

const dryRun = z.boolean().default(false).describe('true: tells every step and changes nothing');

const { image, ...container } = containerInput.shape;

export const publishInput = z.object({
  image,
  hostname: hostname.describe('Under which it is served'),
  port: z
    .int()
    .min(1)
    .max(MAX_PORT)
    .optional()
    .describe("Where it listens inside; absent: the image's only one"),
  name: serviceName.optional().describe("Of the service; absent: the hostname's first label"),
  ...container,
  protection: protectionWish.optional().describe('Who gets through; absent: anyone'),
  certificate: certificateChoice.default({}).describe('What its certificate has to be'),
  check_path: z
    .string()
    .max(MAX_PATH)
    .refine((path) => /^\/[\x21-\x7e]*$/.test(path), 'has to be a path such as /')
    .default('/')
    .describe('Asked for at the end; any answer below 500 is one'),
  pull: starting.pull,
  healthy_within_ms: starting.healthy_within_ms.describe('To become healthy, and to answer'),
  dry_run: dryRun,
  idempotency_key: idempotencyKeyField,
});
export type PublishInput = z.output<typeof publishInput>;

export const unpublishInput = z.object({
  name: z.string().min(1).max(limits.shortText).describe('Its hostname, or the name of its service'),
  delete_volumes: z
    .boolean()
    .default(false)
    .describe('Also the volumes that were made for it, with all that is in them'),
  keep_service: z.boolean().default(false).describe('The container goes on, served by nothing'),
  dry_run: dryRun,
});
export type UnpublishInput = z.output<typeof unpublishInput>;

export const stepNames = [
  'image',
  'service',
  'proxy',
  'protection',
  'answer',
  'enable',
  'certificate',
  'verify',
] as const;
export type StepName = (typeof stepNames)[number];

const steps = z.array(
  z.object({
    step: z.string(),
    effect: z.string(),
    problem: z.string().optional().describe('Why it would be refused'),
  }),
);

export const publicationSchema = z.object({
  published: z.boolean().describe('false: a dry run, nothing was changed'),
  possible: z.boolean().describe('false: a step has a problem'),
  url: z.string(),
  hostname: z.string(),
  service: z.string(),
  steps,
  id: z.string().optional(),
  created_at: timestamp.optional(),
});
export type Publication = z.output<typeof publicationSchema>;
export type PlannedStep = Publication['steps'][number];

export const unpublishedSchema = z.object({
  unpublished: z.boolean().describe('false: a dry run, nothing was changed'),
  hostname: z.string(),
  service: z.string(),
  steps: z.array(z.object({ step: z.string(), effect: z.string() })),
});
export type Unpublished = z.output<typeof unpublishedSchema>;
