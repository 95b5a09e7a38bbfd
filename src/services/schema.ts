/**
 * What a service is: a container that this system was asked for and keeps, and in lists every other that the engine of this
 * machine knows. Texts of the engine are cleaned, because whoever made the image or the container wrote them. Values of
 * environments never come back, and commands come back to who may set them: they hold secrets.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { MINUTE } from '../core/clock.ts';
import { changesOf, nextCursorField, timestamp } from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import { permissions } from '../core/permissions.ts';
import { serviceName } from '../core/service-name.ts';
import { rangeFault } from '../gateway/client-address.ts';
import { serviceOf, targetUrl } from '../proxies/target-url.ts';

const SECOND_MS = 1000;
const MAX_IMAGE = 512;
const MAX_ITEMS = 50;
const MAX_WORDS = 100;
const MAX_VALUE = 32_768;
const MAX_PATH = 1024;
const MAX_NAME = 63;
const MAX_REPLICAS = 1000;
const MAX_PORT = 65_535;
const MAX_ADDRESS = 45;
const MAX_HEALTHY_MS = 10 * MINUTE;
const MAX_CHECK_MS = 3600 * SECOND_MS;

export { serviceName };

const withoutNul = (text: string) => !text.includes('\0');
// Refinements, not patterns: those would be repeated in every schema that a model reads.
const word = z.string().max(MAX_VALUE).refine(withoutNul, 'may have no NUL');
const words = z.array(word).max(MAX_WORDS);
const path = z
  .string()
  .max(MAX_PATH)
  .refine((text) => text.startsWith('/') && withoutNul(text), 'has to be an absolute path');
const environmentName = z
  .string()
  .max(MAX_NAME * 2)
  .refine(
    (name) => /^[A-Za-z_][A-Za-z0-9_.-]*$/.test(name),
    'has to be the name of a variable, such as DATABASE_URL',
  );
const fitsIn = (record: object) => Object.keys(record).length <= MAX_WORDS;
/** Of a value that is kept apart, in an environment. */
export const secretName = z
  .string()
  .max(MAX_NAME)
  .regex(/^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/, 'has to be lower-case letters, digits and -');
export const secretValue = z.string().min(1).max(MAX_VALUE).refine(withoutNul, 'may have no NUL');
export const secretSchema = z.object({
  name: secretName,
  updated_at: timestamp,
  used_by: z.array(z.string()).describe('Services'),
  with_old_value: z
    .array(z.string())
    .describe('Of these, those that were not changed since: update_service gives them the new value'),
});
export type Secret = z.output<typeof secretSchema>;
const environmentValue = z.union([word, z.strictObject({ secret: secretName })]);
const environment = z
  .record(environmentName, environmentValue)
  .refine(fitsIn, `at most ${MAX_WORDS} variables`);

const portShape = z.strictObject({
  container_port: z.int().min(1).max(MAX_PORT),
  protocol: z.enum(['tcp', 'udp']).default('tcp'),
  host_address: z
    .string()
    .max(MAX_ADDRESS)
    .refine((text) => isIP(text) !== 0, 'has to be an IP address')
    .default('127.0.0.1'),
  host_port: z.int().min(0).max(MAX_PORT).default(0),
  allow_sources: z
    .array(
      z
        .string()
        .max(MAX_ADDRESS)
        .superRefine((text, context) => {
          const fault = rangeFault(text);
          if (fault !== undefined) context.addIssue(fault);
        }),
    )
    .min(1)
    .max(MAX_ITEMS)
    .optional()
    .describe('Addresses or ranges that may connect'),
  require_token: z
    .enum(permissions)
    .optional()
    .describe('HTTP only: each request needs an API token with this permission, confined to no hostname'),
});
const canBeGuarded = ({ protocol, allow_sources, require_token }: z.output<typeof portShape>) =>
  protocol === 'tcp' || (allow_sources === undefined && require_token === undefined);
const port = portShape.refine(canBeGuarded, 'allow_sources and require_token are for tcp');
/** `inner_port`: where the engine publishes one that is guarded, at 127.0.0.1. */
const keptPort = portShape.extend({ inner_port: z.int().optional() });
export type KeptPort = z.output<typeof keptPort>;

const volume = z
  .strictObject({
    name: serviceName.optional(),
    folder: z.string().min(1).max(MAX_PATH).refine(withoutNul, 'may have no NUL').optional(),
    path,
    read_only: z.boolean().default(false),
  })
  .refine(({ name, folder }) => (name === undefined) !== (folder === undefined), 'has either name or folder');

const restart = z.strictObject({
  policy: z.enum(['no', 'always', 'unless-stopped', 'on-failure']),
  max_retries: z.int().min(1).max(1000).optional(),
});

const checkMs = z.int().min(1).max(MAX_CHECK_MS);
const healthCheck = z.strictObject({
  command: words.min(1),
  interval_ms: checkMs.default(30 * SECOND_MS),
  timeout_ms: checkMs.default(5 * SECOND_MS),
  start_period_ms: z.int().min(0).max(MAX_CHECK_MS).default(0),
  retries: z.int().min(1).max(100).default(3),
});

const secretFiles = z
  .record(
    z
      .string()
      .max(MAX_NAME)
      .refine(
        (file) => /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(file),
        'has to be the name of a file, such as database-password',
      ),
    z.string().min(1).max(MAX_VALUE),
  )
  .refine((record) => Object.keys(record).length <= MAX_ITEMS, `at most ${MAX_ITEMS} secrets`);

const rollingUpdate = z.strictObject({
  parallelism: z.int().min(1).max(MAX_REPLICAS).default(1),
  delay_ms: z.int().min(0).max(MAX_CHECK_MS).default(0),
  order: z.enum(['stop-first', 'start-first']).default('stop-first'),
  on_failure: z.enum(['rollback', 'pause']).default('rollback'),
});

/** May carry a credential: never in an audit record. */
const secret = (description: string) => ({ description, secret: true });
/** The same, and shown to who is asked whether to run it. */
const program = (description: string) => ({ description, secret: true, argv: true });

/** All that an owner can set, with defaults. */
export const serviceSettings = z.strictObject({
  image: z
    .string()
    .min(1)
    .max(MAX_IMAGE)
    .describe('Such as docker.io/library/nginx:1; services.images says which'),
  entrypoint: words.min(1).optional().meta(program("In the place of the image's own")),
  command: words.optional().meta(program("Program and arguments; absent: the image's own")),
  environment: environment
    .default({})
    .meta(secret('Variables; their values are never shown again. {"secret": NAME}: a value of set_secret')),
  ports: z
    .array(port)
    .max(MAX_ITEMS)
    .default([])
    .describe(
      'Published at this machine; host_port 0: the one it has, or a free one of services.ports, which it keeps. With allow_sources or require_token this system listens there',
    ),
  volumes: z
    .array(volume)
    .max(MAX_ITEMS)
    .default([])
    .describe('Mounted at path: name, a volume that is made and kept; or folder, one in services.folder'),
  temporary_paths: z.array(path).max(MAX_ITEMS).default([]).describe('In memory, gone with the container'),
  memory_bytes: z.int().min(1).optional().describe('Most memory'),
  cpus: z.number().min(0.01).optional().describe('Most cores; 0.5 is half of one'),
  pids: z.int().min(1).optional().describe('Most processes'),
  restart: restart.default({ policy: 'unless-stopped' }).describe('When the engine starts it again'),
  health_check: healthCheck
    .optional()
    .meta(program("Run inside; exit code 0 is healthy. Absent: the image's own")),
  networks: z
    .array(serviceName)
    .max(MAX_ITEMS)
    .default(['default'])
    .describe(
      'Made when they are not there; services in one reach each other by name. []: no network, no ports',
    ),
  user: z.string().min(1).max(limits.shortText).optional().describe('User, or user:group, inside'),
  working_directory: path.optional().describe('Inside'),
  read_only_root: z
    .boolean()
    .default(false)
    .describe('Nothing can be written but volumes and temporary_paths'),
  capabilities: z
    .array(z.string().max(MAX_NAME))
    .max(MAX_ITEMS)
    .default([])
    .describe('Of services.capabilities, such as CHOWN; by itself it has none'),
  stop_timeout_ms: checkMs.default(10 * SECOND_MS).describe('To end by itself when it is stopped'),
  replicas: z.int().min(1).max(MAX_REPLICAS).optional().describe('Of a swarm: how many run'),
  placement: z
    .array(z.string().max(MAX_PATH))
    .max(MAX_ITEMS)
    .optional()
    .describe('Of a swarm: which nodes may run it, such as node.role==worker or node.labels.zone!=a'),
  rolling_update: rollingUpdate.optional().describe('Of a swarm: how an update replaces one after the other'),
  secret_files: secretFiles
    .optional()
    .meta(secret('Of a swarm: files in /run/secrets; their values are never shown again')),
});
export type ServiceSettings = z.output<typeof serviceSettings>;

/** As they are kept: with what was given out. */
export const keptSettings = serviceSettings.extend({ ports: z.array(keptPort).max(MAX_ITEMS).default([]) });
export type KeptSettings = z.output<typeof keptSettings>;

const { shape } = serviceSettings;
/** What an update may name; null takes a setting off. */
export const serviceChanges = z.strictObject({
  ...changesOf(shape),
  command: shape.command.nullable().meta(program("Program and arguments; null: the image's own")),
  entrypoint: shape.entrypoint.nullable().meta(program("In the place of the image's own; null: that")),
  environment: z
    .record(environmentName, environmentValue.nullable())
    .refine(fitsIn, `at most ${MAX_WORDS} variables`)
    .optional()
    .meta(secret('Variables to set, or with null to take off; the others stay')),
  health_check: shape.health_check.nullable().meta(program("Replaced as a whole; null: the image's own")),
  secret_files: shape.secret_files.nullable().meta(secret('Replaced as a whole; null: none')),
  replicas: shape.replicas.nullable().describe('Of a swarm: how many run; null: one'),
  placement: shape.placement.nullable().describe('Of a swarm: which nodes may run it; null: any'),
  rolling_update: shape.rolling_update
    .nullable()
    .describe('Of a swarm: how an update replaces one after the other; null: one at a time'),
  user: shape.user.nullable().describe("User, or user:group, inside; null: the image's own"),
});
export type ServiceChanges = z.output<typeof serviceChanges>;

export const portSchema = z.object({
  container_port: z.int(),
  protocol: z.string(),
  host_address: z.string().optional(),
  host_port: z.int().optional(),
});

/** How a container is made to come up. */
export const starting = {
  pull: z
    .enum(['missing', 'always', 'never'])
    .default('missing')
    .describe('Whether the image is fetched from its registry first'),
  healthy_within_ms: z
    .int()
    .min(1)
    .max(MAX_HEALTHY_MS)
    .default(MINUTE)
    .describe('To become healthy; then, and when it ends, all is undone'),
};

const publishedAs = z
  .array(
    z.object({
      hostname: z.string().nullable().describe('null: of a route of every proxy'),
      route: z.string().optional().describe('Id; absent: the proxy itself'),
      publication: z.string().optional().describe('Id, where publish_service made it'),
    }),
  )
  .optional()
  .describe('What leads to it by its name');
export type PublishedAs = NonNullable<z.output<typeof publishedAs>>;

/** A row of the list. */
export const serviceSchema = z.object({
  id: z.string().optional().describe('Of its container; absent when there is none'),
  name: z.string(),
  image: z.string(),
  state: z.string().describe('As the engine says; missing: it has no container'),
  status: z.string(),
  managed: z.boolean().describe('Made here, so that it can be changed'),
  ports: z.array(portSchema),
  url: z.string().optional().describe('Of an external one'),
  published_as: publishedAs,
  created_at: timestamp,
});
export type Service = z.output<typeof serviceSchema>;

export const serviceListSchema = z.object({
  services: z.array(serviceSchema),
  engine_problem: z.string().optional().describe('Why containers are not listed, and states not known'),
  next_cursor: nextCursorField,
});
export type ServiceList = z.output<typeof serviceListSchema>;

const containerState = z.object({
  id: z.string(),
  state: z.string(),
  health: z.string(),
  health_output: z.string().optional(),
  fault: z.string().optional(),
  exit_code: z.int(),
  out_of_memory: z.boolean(),
  restarts: z.int(),
  started_at: timestamp.optional(),
  ports: z.array(portSchema),
  networks: z.array(z.object({ name: z.string(), address: z.string().optional() })),
  replicas: z
    .object({ wanted: z.int(), running: z.int() })
    .optional()
    .describe('Of a swarm; ports are those of each that runs'),
});

const { environment: _environment, secret_files: _secrets, ...shown } = shape;
export const serviceDetailsSchema = z.object({
  name: serviceName,
  id: z.string(),
  desired: z.enum(['running', 'stopped']),
  unfinished: z
    .enum(['create', 'delete', 'apply'])
    .optional()
    .describe('A change that was cut off; the next call finishes or undoes it'),
  container: containerState.optional().describe('Absent when there is none'),
  ...shown,
  environment_names: z.array(z.string()),
  environment_secrets: z.record(z.string(), z.string()).describe('Variables with a secret, and its name'),
  file_names: z.array(z.string()).describe('In /run/secrets'),
  owner: z.string(),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type ServiceDetails = z.output<typeof serviceDetailsSchema>;

const { name, id, owner, version, created_at, updated_at, ...ofContainer } = serviceDetailsSchema.shape;
const url = z.string().describe('Where an external service is; it has no container and no settings of one');
export const externalDetails = z.object({ name, id, url, owner, version, created_at, updated_at });
export type ExternalDetails = z.output<typeof externalDetails>;

type Left<Shape extends z.ZodRawShape> = {
  [Key in keyof Shape]: z.ZodOptional<Shape[Key] extends z.ZodDefault<infer Inner> ? Inner : Shape[Key]>;
};

/** As an output, where a default would be told of what is not there. */
function leftOut<Shape extends z.ZodRawShape>(shape: Shape): Left<Shape> {
  const fields = Object.entries(shape).map(([key, field]) => [
    key,
    z.optional(field instanceof z.ZodDefault ? field.unwrap() : field),
  ]);
  // The same keys: `fromEntries` does not know them.
  return Object.fromEntries(fields) as Left<Shape>;
}

/** Of either kind. */
export const anyServiceSchema = externalDetails.extend({
  url: url.optional(),
  ...leftOut(ofContainer),
  published_as: publishedAs,
});

/** Judged as targets are, by who knows the addresses of this process. */
export const externalUrl = targetUrl.refine(
  (text) => serviceOf(text) === undefined,
  'has to be an http:// or https:// URL, not another service',
);

export const logLinesSchema = z.object({
  lines: z.array(
    z.object({ time: timestamp.optional(), stream: z.enum(['stdout', 'stderr']), text: z.string() }),
  ),
  left_out: z.int().describe('Earlier lines that were asked for and did not fit'),
});
export type LogLines = z.output<typeof logLinesSchema>;

export const statsResult = z.object({
  time: timestamp,
  cpu_percent: z.number().describe('Of one core, over the last moment'),
  cpu_ms: z.number().describe('Since it started'),
  memory_bytes: z.number(),
  memory_limit_bytes: z.number().optional(),
  pids: z.number(),
  network_in_bytes: z.number(),
  network_out_bytes: z.number(),
  disk_read_bytes: z.number(),
  disk_write_bytes: z.number(),
});

export const imagesSchema = z.object({
  images: z.array(
    z.object({
      id: z.string(),
      references: z.array(z.string()),
      size_bytes: z.number(),
      created_at: timestamp,
    }),
  ),
  left_out: z.int().describe('Those that there is no room for: filter'),
});

export const pulledSchema = z.object({
  image: z.string(),
  id: z.string(),
  size_bytes: z.number(),
});

export const cleanUpSchema = z.object({
  plan: z.string().describe('Names exactly what is found'),
  removed: z.boolean().describe('false: nothing was changed'),
  found: z.array(
    z.object({ kind: z.enum(['container', 'network', 'volume']), name: z.string(), why: z.string() }),
  ),
});
export type CleanUp = z.output<typeof cleanUpSchema>;
