/**
 * What is said to a container engine and what it answers, in words of ours. The broker checks by this what comes over its
 * socket, and who asks it checks what it answers; adapters of an engine make it of that engine's own words.
 */
import { z } from 'zod';

const MAX_LIST = 500;
const MAX_ITEMS = 100_000;
const MAX_TEXT = 4096;
const MAX_VALUE = 32_768;
const MAX_PORT = 65_535;
const MAX_COMMAND = 200;
const MAX_PATH = 1024;
const MAX_NAME = 128;
const MIN_DURATION_MS = 1;
const DAY_MS = 86_400_000;
/** As Docker: less is no container that could start. */
const MIN_MEMORY_BYTES = 6_291_456;
const MAX_TAIL = 10_000;
const MAX_REPLICAS = 1000;
const MAX_SECRET_NAME = 64;

const text = z.string().max(MAX_TEXT);
const anyText = z.string();
// No NUL: the engine and the kernel would read two different texts.
const argument = z
  .string()
  .max(MAX_VALUE)
  .regex(/^[^\0]*$/, 'may have no NUL');
const duration = z.int().min(MIN_DURATION_MS).max(DAY_MS);
const isPort = z.int().min(1).max(MAX_PORT);

/** Of containers, volumes and networks, and ids of theirs: nothing that could be a path. */
export const nameSchema = z
  .string()
  .max(MAX_NAME)
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]+$/, 'has to be letters, digits and _ . - after a letter or digit');
const imageReference = z.string().min(1).max(MAX_TEXT);

const containerPath = z
  .string()
  .max(MAX_PATH)
  .regex(
    /^\/(?:(?!\.{1,2}(?:\/|$))[^\0/:]+(?:\/(?!\/|$)|$))+$/,
    'has to be an absolute path below / without . and .. and :',
  );

/** A folder of the machine, below the root that the policy names: relative to it, or absolute. */
const folderMount = z.strictObject({
  kind: z.literal('folder'),
  source: z
    .string()
    .min(1)
    .max(MAX_PATH)
    .regex(/^[^\0]*$/),
  target: containerPath,
  readOnly: z.boolean().default(false),
});
const volumeMount = z.strictObject({
  kind: z.literal('volume'),
  name: nameSchema,
  target: containerPath,
  readOnly: z.boolean().default(false),
});

const publishedPort = z.strictObject({
  containerPort: isPort,
  protocol: z.enum(['tcp', 'udp']).default('tcp'),
  hostAddress: z.union([z.ipv4(), z.ipv6()]).default('127.0.0.1'),
  /** 0: the engine chooses one. */
  hostPort: z.int().min(0).max(MAX_PORT).default(0),
});

const environment = z.record(
  z
    .string()
    .max(MAX_NAME)
    .regex(/^[A-Za-z_][A-Za-z0-9_.-]*$/),
  argument,
);
export const labels = z.record(
  z
    .string()
    .max(MAX_NAME)
    .regex(/^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$/),
  text.regex(/^[^\0]*$/),
);

/** In the place of what the image says; `disabled` takes the image's away. */
const healthCheck = z.union([
  z.strictObject({ disabled: z.literal(true) }),
  z.strictObject({
    /** Program and arguments, without a shell. */
    command: z.array(argument).min(1).max(MAX_COMMAND),
    intervalMs: duration.default(30_000),
    timeoutMs: duration.default(5_000),
    startPeriodMs: z.int().min(0).max(DAY_MS).default(0),
    retries: z.int().min(1).max(100).default(3),
  }),
]);

export const restartSchema = z.discriminatedUnion('policy', [
  z.strictObject({ policy: z.enum(['no', 'always', 'unless-stopped']) }),
  z.strictObject({ policy: z.literal('on-failure'), maxRetries: z.int().min(1).max(1000).default(5) }),
]);

/** `node.role==worker`, `node.labels.zone!=a`: where the parts of a service may run. */
const PLACEMENT =
  /^node\.(?:id|hostname|role|platform\.(?:os|arch)|labels\.[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?)\s*[=!]=\s*[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;

export const placementSchema = z
  .string()
  .regex(PLACEMENT, 'has to be such as node.role==worker or node.labels.zone!=a');

/** How many of it there are, and where: for an engine that is a swarm. */
export const scaleSchema = z.strictObject({
  replicas: z.int().min(1).max(MAX_REPLICAS).default(1),
  placement: z.array(placementSchema).max(20).default([]),
  update: z
    .strictObject({
      /** Replaced at the same time. */
      parallelism: z.int().min(1).max(MAX_REPLICAS).default(1),
      delayMs: z.int().min(0).max(DAY_MS).default(0),
      order: z.enum(['stop-first', 'start-first']).default('stop-first'),
      onFailure: z.enum(['rollback', 'pause']).default('rollback'),
    })
    .prefault({}),
});

/** Files in /run/secrets, by name. */
const secrets = z.record(
  z
    .string()
    .max(MAX_SECRET_NAME)
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/),
  z.string().min(1).max(MAX_VALUE),
);

/** What somebody wishes; the policy makes a `ContainerPlan` of it, or says why not. */
export const containerSpecSchema = z.strictObject({
  name: nameSchema,
  image: imageReference,
  /** The image that the reference has to be when it is made: `sha256:…`. */
  imageId: text.optional(),
  /** In the place of the image's ENTRYPOINT and CMD. */
  entrypoint: z.array(argument).min(1).max(MAX_COMMAND).optional(),
  command: z.array(argument).max(MAX_COMMAND).optional(),
  environment: environment.default({}),
  /** Kept below a prefix of ours, as data. */
  labels: labels.default({}),
  ports: z.array(publishedPort).max(MAX_LIST).default([]),
  mounts: z
    .array(z.discriminatedUnion('kind', [folderMount, volumeMount]))
    .max(MAX_LIST)
    .default([]),
  /** Paths that are in memory and gone with the container. */
  temporary: z.array(containerPath).max(MAX_LIST).default([]),
  memoryBytes: z.int().min(MIN_MEMORY_BYTES).optional(),
  /** Of one core: 0.5 is half of it. */
  cpus: z.number().min(0.01).max(MAX_LIST).optional(),
  pids: z.int().min(1).max(MAX_ITEMS).optional(),
  restart: restartSchema.default({ policy: 'no' }),
  healthCheck: healthCheck.optional(),
  /** Names of networks; none: without network when empty, but for what the policy says of the engine's own bridge. */
  networks: z.array(nameSchema).max(20).default([]),
  /** Names by which others in its networks find it. */
  aliases: z
    .array(z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/))
    .max(20)
    .default([]),
  /** User and group, by name or number, as the image knows them. */
  user: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$/)
    .optional(),
  workingFolder: containerPath.optional(),
  readOnlyRoot: z.boolean().optional(),
  addCapabilities: z
    .array(z.string().regex(/^[A-Z_]{1,40}$/))
    .max(50)
    .default([]),
  stopTimeoutMs: duration.default(10_000),
  scale: scaleSchema.optional(),
  secrets: secrets.default({}),
});

/** What exactly is created: every decision is made, nothing is left to the engine or the image. */
export const containerPlanSchema = z.strictObject({
  name: nameSchema,
  image: anyText,
  imageId: anyText.optional(),
  entrypoint: z.array(anyText).optional(),
  command: z.array(anyText).optional(),
  environment,
  /** With prefixes: as they stand at the engine. */
  labels: z.record(anyText, anyText),
  ports: z.array(publishedPort),
  mounts: z.array(z.discriminatedUnion('kind', [folderMount, volumeMount])),
  temporary: z.array(anyText),
  memoryBytes: z.int(),
  cpus: z.number(),
  pids: z.int(),
  restart: restartSchema,
  healthCheck: healthCheck.optional(),
  networks: z.array(anyText),
  aliases: z.array(anyText),
  user: anyText.optional(),
  workingFolder: anyText.optional(),
  readOnlyRoot: z.boolean(),
  addCapabilities: z.array(anyText),
  stopTimeoutMs: z.int(),
  scale: scaleSchema.optional(),
  secrets,
});

const listed = <Item extends z.ZodType>(item: Item) => z.array(item).max(MAX_ITEMS);
const foundPort = z.object({
  containerPort: z.int(),
  protocol: anyText,
  /** Absent when the port is not published on the host. */
  hostAddress: anyText.optional(),
  hostPort: z.int().optional(),
});

/** As the engine tells it: every text in it may come from who made the image or the container. */
export const containerSchema = z.object({
  id: anyText,
  /** Without the leading slash; the first is the one it is known by. */
  names: listed(anyText),
  image: anyText,
  /** `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`. */
  state: anyText,
  /** For people: `Up 2 hours`. */
  status: anyText,
  ports: listed(foundPort),
  /** Milliseconds since 1970. */
  createdAt: z.number(),
  /** Made by this installation. */
  managed: z.boolean(),
  /** May be changed: made by this installation, or adopted by name in the policy. */
  changeable: z.boolean(),
  /** What was given as `labels` when it was made here; of all others none. */
  labels: z.record(anyText, anyText),
  /** Labels `ohp.…` that who made it gave it, in hope of being found: data, never configuration. */
  proposals: z.record(anyText, anyText),
  /** Of a swarm: how many of it there are to be, and how many run. `ports` then names those of each that runs. */
  replicas: z.object({ wanted: z.int(), running: z.int() }).optional(),
});

export const containerDetailsSchema = containerSchema.extend({
  /** Of the image that it runs: `sha256:…`. */
  imageId: anyText,
  running: z.boolean(),
  /** `none`: no check. */
  health: z.enum(['none', 'starting', 'healthy', 'unhealthy']),
  /** What the last check said. */
  healthOutput: anyText.optional(),
  startedAt: z.number().optional(),
  finishedAt: z.number().optional(),
  exitCode: z.int(),
  /** Why it did not start. */
  fault: anyText.optional(),
  outOfMemory: z.boolean(),
  restarts: z.int(),
  /** Names only: what they are set to never comes back. */
  environmentNames: listed(anyText),
  networks: listed(
    z.object({
      name: anyText,
      address: anyText.optional(),
      address6: anyText.optional(),
      aliases: listed(anyText),
    }),
  ),
  mounts: listed(
    z.object({
      kind: z.enum(['folder', 'volume', 'temporary', 'other']),
      source: anyText.optional(),
      target: anyText,
      readOnly: z.boolean(),
    }),
  ),
  memoryBytes: z.number().optional(),
  cpus: z.number().optional(),
  pids: z.number().optional(),
  restart: anyText,
  user: anyText.optional(),
  readOnlyRoot: z.boolean(),
  /** Of a swarm: how its last change of version goes. */
  roll: z.enum(['running', 'done', 'paused', 'rolled-back']).optional(),
});

export const createdSchema = z.object({ id: anyText, warnings: listed(anyText) });

export const logLineSchema = z.object({
  stream: z.enum(['stdout', 'stderr']),
  /** Milliseconds since 1970; absent where the engine told none. */
  time: z.number().optional(),
  /** Without its end; what is longer than a line may be comes in several. */
  text: anyText,
});

/** Sums since the start, but for `memoryBytes` and `pids`, which are now. */
export const statsSchema = z.object({
  time: z.number(),
  cpuNs: z.number(),
  cpuPercent: z.number(),
  memoryBytes: z.number(),
  memoryLimitBytes: z.number().optional(),
  pids: z.number(),
  networkInBytes: z.number(),
  networkOutBytes: z.number(),
  diskReadBytes: z.number(),
  diskWriteBytes: z.number(),
});

export const pullProgressSchema = z.object({
  /** Absent: of the pull as a whole. */
  layer: anyText.optional(),
  /** `Downloading`, `Extracting`, `Pull complete` … as the engine says it. */
  status: anyText,
  doneBytes: z.number().optional(),
  totalBytes: z.number().optional(),
});

export const imageSchema = z.object({
  id: anyText,
  references: listed(anyText),
  digests: listed(anyText),
  sizeBytes: z.number(),
  createdAt: z.number(),
});

/** What the image says of itself, to be shown: none of it becomes configuration. */
export const imageDetailsSchema = imageSchema.extend({
  exposedPorts: listed(anyText),
  volumes: listed(anyText),
  user: anyText.optional(),
  workingFolder: anyText.optional(),
  entrypoint: listed(anyText),
  command: listed(anyText),
  environmentNames: listed(anyText),
  hasHealthCheck: z.boolean(),
  labels: z.record(anyText, anyText),
  architecture: anyText,
  os: anyText,
});

export const networkSchema = z.object({
  id: anyText,
  name: anyText,
  driver: anyText,
  internal: z.boolean(),
  managed: z.boolean(),
  labels: z.record(anyText, anyText),
});
export const volumeSchema = z.object({
  name: anyText,
  driver: anyText,
  createdAt: z.number().optional(),
  managed: z.boolean(),
  labels: z.record(anyText, anyText),
});

export const eventSchema = z.object({
  /** Milliseconds since 1970. */
  time: z.number(),
  kind: z.enum(['container', 'network']),
  /** `create`, `start`, `die`, `stop`, `destroy`, `health_status: healthy`, `connect` … */
  action: anyText,
  /** Of the container, also when it joins or leaves a network. */
  containerId: anyText,
  containerName: anyText.optional(),
  networkName: anyText.optional(),
});

export const stateSchema = z.discriminatedUnion('connected', [
  z.object({
    connected: z.literal(true),
    version: anyText,
    /** Several machines: it keeps replicas, and takes `roll`. */
    swarm: z.boolean().optional(),
  }),
  z.object({ connected: z.literal(false), reason: anyText }),
]);

export const thingSchema = z.strictObject({ name: nameSchema, labels: labels.default({}) });
export const networkSpecSchema = thingSchema.extend({
  /** Without a way out of it. */
  internal: z.boolean().default(false),
});
export const listOptionsSchema = z.strictObject({ all: z.boolean() });
export const stopOptionsSchema = z.strictObject({ timeoutMs: z.int().min(0).max(DAY_MS).optional() });
export const removeOptionsSchema = z.strictObject({
  /** Also when it runs. */
  force: z.boolean().default(false),
  /** With the volumes that have no name, which its image asked for. */
  volumes: z.boolean().default(true),
});
export const logOptionsSchema = z.strictObject({
  /** Lines from the end; absent: all there are. */
  tail: z.int().min(0).max(MAX_TAIL).optional(),
  /** Milliseconds since 1970. */
  since: z.number().min(0).max(8.64e15).optional(),
  follow: z.boolean().default(false),
  stdout: z.boolean().default(true),
  stderr: z.boolean().default(true),
});
export const eventOptionsSchema = z.strictObject({ since: z.number().min(0).max(8.64e15).optional() });
export const imageReferenceSchema = imageReference;
