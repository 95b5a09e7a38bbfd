/**
 * What may be asked of the container engine. Pure: settings and a specification in, the exact plan or a list of faults out.
 * The plan is built from the parts that are known and allowed; nothing of a specification is passed on as it came. What is
 * never allowed has no word here at all: privileges, devices, namespaces of the machine, links, kernel settings.
 */
import { z } from 'zod';
import type { PortRange } from './claims.ts';
import type { ContainerPlan, ParsedSpec, PolicyFault } from './engine.ts';
import { orchestratorFaults } from './policy.swarm.ts';
import { imagePatternFault, matchesImage, parseImageReference } from './image-reference.ts';
import { labelRules } from './label-rules.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const MAX_LIST = 1000;
const MAX_MEMORY = 1024 * GIB;
const MAX_CPUS = 500;
const MAX_PIDS = 100_000;
const MAX_CONTAINERS = 5000;
const MAX_PORT = 65_535;
const FIRST_FREE_PORT = 1024;
const MAX_PATH = 1024;

/**
 * What Docker gives every container of its own accord, without the making of devices. None leads out of a container, and no
 * setting can add one that does.
 */
const grantable = [
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'NET_BIND_SERVICE',
  'NET_RAW',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
] as const;

const names = (what: string) =>
  z
    .array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{1,127}$/, 'has to be a name as the engine knows it'))
    .max(MAX_LIST)
    .default([])
    .describe(what);

export const policySchema = z
  .strictObject({
    installation: z
      .string()
      .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'has to be letters, digits and -')
      .default('ohp')
      .describe(
        'What this installation makes carries the label ohp.managed with this name; give each its own where several share an engine',
      ),
    orchestrator: z
      .enum(['engine', 'swarm'])
      .default('engine')
      .describe(
        'engine: containers of one machine; swarm: services of a Docker Swarm, whose manager the engine has to be',
      ),
    nodes_hardened: z
      .boolean()
      .default(false)
      .describe(
        'The word of who runs the swarm that every node of it has no-new-privileges and default-cgroupns-mode private in its daemon.json: a service can not ask for them. swarm needs it',
      ),
    images: z
      .array(
        z.string().superRefine((text, context) => {
          const fault = imagePatternFault(text);
          if (fault !== undefined) context.addIssue(fault);
        }),
      )
      .max(MAX_LIST)
      .default([])
      .describe(
        'Images that may be used, such as docker.io/library/* or ghcr.io/owner/** (* within one component, ** any number); empty: none',
      ),
    require_digest: z
      .boolean()
      .default(false)
      .describe('Take images by digest only (name@sha256:…), not by tag'),
    folder: z
      .string()
      .max(MAX_PATH)
      .regex(/^\/[^\0]+$/, 'has to be an absolute path other than /')
      .optional()
      .describe('Folder whose subfolders, each by itself, may be mounted into containers; absent: none'),
    memory_bytes: z
      .int()
      .min(6 * MIB)
      .max(MAX_MEMORY)
      .default(512 * MIB)
      .describe('Memory of a container that says nothing of it'),
    max_memory_bytes: z
      .int()
      .min(6 * MIB)
      .max(MAX_MEMORY)
      .default(2 * GIB)
      .describe('Most memory of one container'),
    cpus: z
      .number()
      .min(0.01)
      .max(MAX_CPUS)
      .default(1)
      .describe('Cores of a container that says nothing of it'),
    max_cpus: z.number().min(0.01).max(MAX_CPUS).default(2).describe('Most cores of one container'),
    pids: z
      .int()
      .min(1)
      .max(MAX_PIDS)
      .default(256)
      .describe('Processes of a container that says nothing of it'),
    max_pids: z.int().min(1).max(MAX_PIDS).default(1024).describe('Most processes of one container'),
    max_containers: z
      .int()
      .min(0)
      .max(MAX_CONTAINERS)
      .default(100)
      .describe('Containers that this installation may have'),
    capabilities: z
      .array(z.enum(grantable))
      .max(grantable.length)
      .default(['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'NET_BIND_SERVICE', 'SETGID', 'SETUID'])
      .describe('Capabilities that a container may ask for; by itself it has none'),
    read_only_root: z
      .enum(['asked', 'always'])
      .default('asked')
      .describe('Whether the root of every container is read-only, or of those that ask for it'),
    bind_addresses: z
      .array(z.union([z.ipv4(), z.ipv6()]))
      .max(MAX_LIST)
      .default(['127.0.0.1', '::1'])
      .describe('Addresses of this machine that ports of containers may be published at'),
    min_port: z
      .int()
      .min(1)
      .max(MAX_PORT)
      .default(FIRST_FREE_PORT)
      .describe('Lowest port of this machine that may be published'),
    ports: z
      .string()
      .refine(
        (text) => rangeIn(text) !== undefined,
        'has to be two ports from low to high such as 20000-29999',
      )
      .default('20000-29999')
      .describe('Ports of this machine that services get which name none, each for as long as it is there'),
    registries: z
      .record(
        z
          .string()
          .refine(
            (host) => parseImageReference(`${host}/any/any`)?.registry === host,
            'has to be a registry such as ghcr.io',
          ),
        z.strictObject({
          username: z.string().min(1).max(MAX_PATH).describe('Name there'),
          password_file: z
            .string()
            .min(1)
            .max(MAX_PATH)
            .describe('File that holds the password or token and nothing else; read at each pull'),
        }),
      )
      .default({})
      .describe(
        'Credentials for pulls, by registry: sent to the engine for images of this very registry only',
      ),
    labels: z
      .enum(['off', 'propose'])
      .default('off')
      .describe(
        'propose: containers made elsewhere may ask for a hostname by the labels ohp.hostname and ohp.port; list_proposals shows them, and nothing is served before accept_proposal, but for apply_labels. A setting of the server, not of its broker',
      ),
    apply_labels: labelRules.describe(
      'Labels that are applied without being asked about: a container that asks for one of these hostnames gets its proxy, open to anyone as that of accept_proposal, for as long as it runs; empty: none. Needs labels: propose',
    ),
    adopt: names('Containers made elsewhere that may be changed here'),
    adopt_volumes: names('Volumes made elsewhere that may be mounted and removed here'),
    adopt_networks: names('Networks made elsewhere that containers may join'),
  })
  .check(({ value, issues }) => {
    if (value.orchestrator === 'swarm' && !value.nodes_hardened)
      issues.push({
        code: 'custom',
        input: value,
        path: ['nodes_hardened'],
        message:
          'has to be true with orchestrator swarm: set no-new-privileges to true and default-cgroupns-mode to private in the daemon.json of every node first',
      });
    if (value.apply_labels.length > 0 && value.labels === 'off')
      issues.push({
        code: 'custom',
        input: value,
        path: ['apply_labels'],
        message: 'needs labels: propose, so that what is asked for can be seen',
      });
    for (const key of ['memory_bytes', 'cpus', 'pids'] as const)
      if (value[key] > value[`max_${key}`])
        issues.push({
          code: 'custom',
          input: value,
          path: [key],
          message: `has to be at most max_${key}, which is ${value[`max_${key}`]}`,
        });
    if ((rangeIn(value.ports)?.first ?? MAX_PORT) < value.min_port)
      issues.push({
        code: 'custom',
        input: value,
        path: ['ports'],
        message: `has to begin at min_port, which is ${value.min_port}, or above`,
      });
  })
  .prefault({});
export type Policy = z.output<typeof policySchema>;

const PORT_RANGE = /^(\d{1,5})-(\d{1,5})$/;

function rangeIn(text: string): PortRange | undefined {
  const [, first = 0, last = 0] = (PORT_RANGE.exec(text) ?? []).map(Number);
  return first > 0 && first <= last && last <= MAX_PORT ? { first, last } : undefined;
}

export function portRangeOf({ ports }: Pick<Policy, 'ports'>): PortRange {
  const range = rangeIn(ports);
  if (!range) throw new Error(`services.ports was not checked: ${ports}`);
  return range;
}

/** On everything that this installation makes, whatever its image says. */
export const MANAGED_LABEL = 'ohp.managed';
/** All labels of who asked, as JSON in one: a label of the image could else stand among them. */
export const LABELS_LABEL = 'ohp.labels';

/** What the machine says of a specification: the policy itself looks at nothing. */
export interface Facts {
  /** Where the source of a mount really is, by its index; undefined: it can't be mounted, and `why` not. */
  folders: readonly ({ path: string } | { why: string } | undefined)[];
  /** Volumes and networks that were made here. */
  volumes: ReadonlySet<string>;
  networks: ReadonlySet<string>;
}

export type Decision = { plan: ContainerPlan } | { faults: readonly PolicyFault[] };

export function decide(policy: Policy, spec: ParsedSpec, facts: Facts): Decision {
  const image = decideImage(policy, spec.image);
  const faults = [
    ...('faults' in image ? image.faults : []),
    ...ceilingFaults(policy, spec),
    ...capabilityFaults(policy, spec),
    ...portFaults(policy, spec),
    ...mountFaults(policy, spec, facts),
    ...networkFaults(policy, spec, facts),
    ...rootFaults(policy, spec),
    ...orchestratorFaults(policy, spec),
  ];
  if (faults.length > 0 || 'faults' in image) return { faults };
  return { plan: planOf(policy, spec, { image: image.canonical, folders: facts.folders }) };
}

/** Of a name that somebody gave, the one form that is allowed; asked for pulls too. */
export function decideImage(
  policy: Policy,
  text: string,
): { canonical: string } | { faults: readonly PolicyFault[] } {
  const where = 'image';
  const reference = parseImageReference(text);
  if (!reference)
    return {
      faults: [{ where, what: 'no name of an image', allowed: 'registry/repository:tag or @sha256:digest' }],
    };
  const { canonical, digest } = reference;
  if (!policy.images.some((pattern) => matchesImage(pattern, reference)))
    return { faults: [{ where, what: canonical, allowed: allowedImages(policy) }] };
  if (policy.require_digest && digest === undefined)
    return {
      faults: [{ where, what: `${canonical}, which is by tag`, allowed: 'by digest: name@sha256:…' }],
    };
  return { canonical };
}

const allowedImages = ({ images }: Policy): string =>
  images.length === 0 ? 'none; list what may be used in services.images' : images.join(', ');

function ceilingFaults(policy: Policy, spec: ParsedSpec): PolicyFault[] {
  const ceilings = [
    ['memoryBytes', policy.max_memory_bytes],
    ['cpus', policy.max_cpus],
    ['pids', policy.max_pids],
  ] as const;
  return ceilings.flatMap(([where, most]) => {
    const found = spec[where];
    return found === undefined || found <= most
      ? []
      : [{ where, what: String(found), allowed: `at most ${most}` }];
  });
}

function capabilityFaults({ capabilities }: Policy, spec: ParsedSpec): PolicyFault[] {
  const allowed = capabilities.length === 0 ? 'none' : capabilities.join(', ');
  return spec.addCapabilities.flatMap((what, index) =>
    capabilities.some((known) => known === what)
      ? []
      : [{ where: `addCapabilities[${index}]`, what, allowed }],
  );
}

function portFaults(policy: Policy, spec: ParsedSpec): PolicyFault[] {
  const allowed = policy.bind_addresses.length === 0 ? 'none' : policy.bind_addresses.join(', ');
  return spec.ports.flatMap(({ hostAddress, hostPort }, index) => {
    const where = `ports[${index}]`;
    const faults: PolicyFault[] = [];
    if (!policy.bind_addresses.includes(hostAddress))
      faults.push({ where: `${where}.hostAddress`, what: hostAddress, allowed });
    if (hostPort !== 0 && hostPort < policy.min_port)
      faults.push({
        where: `${where}.hostPort`,
        what: String(hostPort),
        allowed: `${policy.min_port} to ${MAX_PORT}, or 0 for any`,
      });
    return faults;
  });
}

/** Paths that a program inside takes for the kernel's. */
const KERNEL_PATHS = /^\/(?:proc|sys|dev)(?:\/|$)/;

function mountFaults(policy: Policy, spec: ParsedSpec, facts: Facts): PolicyFault[] {
  const targets = [...spec.mounts.map(({ target }) => target), ...spec.temporary];
  const where = (index: number) =>
    index < spec.mounts.length ? `mounts[${index}].target` : `temporary[${index - spec.mounts.length}]`;
  const ofTargets = targets.flatMap((target, index) => {
    if (KERNEL_PATHS.test(target))
      return [{ where: where(index), what: target, allowed: 'a path outside /proc, /sys and /dev' }];
    return targets.indexOf(target) < index
      ? [{ where: where(index), what: `${target}, twice`, allowed: 'each path once' }]
      : [];
  });
  return [...ofTargets, ...spec.mounts.flatMap((mount, index) => sourceFaults(policy, mount, index, facts))];
}

function sourceFaults(
  policy: Policy,
  mount: ParsedSpec['mounts'][number],
  index: number,
  facts: Facts,
): PolicyFault[] {
  if (mount.kind === 'volume')
    return facts.volumes.has(mount.name) || policy.adopt_volumes.includes(mount.name)
      ? []
      : [
          {
            where: `mounts[${index}].name`,
            what: mount.name,
            allowed: 'a volume that was made here (make it first), or of services.adopt_volumes',
          },
        ];
  if (policy.orchestrator === 'swarm')
    return [
      {
        where: `mounts[${index}].source`,
        what: `${mount.source}, which only one machine of a swarm has`,
        allowed: 'a volume',
      },
    ];
  const found = facts.folders[index];
  if (policy.folder !== undefined && found && 'path' in found) return [];
  const allowed =
    policy.folder === undefined
      ? 'none; name the folder whose subfolders may be mounted in services.folder'
      : `a folder directly in ${policy.folder}`;
  const what = found && 'why' in found ? `${mount.source}, ${found.why}` : mount.source;
  return [{ where: `mounts[${index}].source`, what, allowed }];
}

function networkFaults(policy: Policy, spec: ParsedSpec, facts: Facts): PolicyFault[] {
  return spec.networks.flatMap((what, index) =>
    (facts.networks.has(what) || policy.adopt_networks.includes(what)) && !OF_THE_MACHINE.has(what)
      ? []
      : [
          {
            where: `networks[${index}]`,
            what,
            allowed: 'a network that was made here (make it first), or of services.adopt_networks',
          },
        ],
  );
}

/** Words of the engine that are no networks of their own. */
const OF_THE_MACHINE = new Set([
  'host',
  'none',
  'default',
  'container',
  'ns',
  'slirp4netns',
  'pasta',
  'private',
]);

function rootFaults({ read_only_root: setting }: Policy, { readOnlyRoot }: ParsedSpec): PolicyFault[] {
  return setting === 'always' && readOnlyRoot === false
    ? [{ where: 'readOnlyRoot', what: 'false', allowed: 'true, by services.read_only_root' }]
    : [];
}

interface Decided {
  image: string;
  folders: Facts['folders'];
}

function planOf(policy: Policy, spec: ParsedSpec, { image, folders }: Decided): ContainerPlan {
  return {
    name: spec.name,
    image,
    imageId: spec.imageId,
    entrypoint: spec.entrypoint,
    command: spec.command,
    environment: spec.environment,
    labels: labelsOf(policy, spec.labels),
    ports: spec.ports.map(({ containerPort, protocol, hostAddress, hostPort }) => ({
      containerPort,
      protocol,
      hostAddress,
      hostPort,
    })),
    mounts: spec.mounts.map((mount, index) => mountOf(mount, folders[index])),
    temporary: spec.temporary,
    memoryBytes: spec.memoryBytes ?? policy.memory_bytes,
    cpus: spec.cpus ?? policy.cpus,
    pids: spec.pids ?? policy.pids,
    restart: spec.restart,
    healthCheck: spec.healthCheck,
    networks: [...new Set(spec.networks)],
    aliases: spec.aliases,
    user: spec.user,
    workingFolder: spec.workingFolder,
    readOnlyRoot: policy.read_only_root === 'always' || spec.readOnlyRoot === true,
    addCapabilities: [...new Set(spec.addCapabilities)],
    stopTimeoutMs: spec.stopTimeoutMs,
    scale: spec.scale,
    secrets: spec.secrets,
  };
}

function mountOf(
  mount: ParsedSpec['mounts'][number],
  folder: Facts['folders'][number],
): ContainerPlan['mounts'][number] {
  const { target, readOnly } = mount;
  if (mount.kind === 'volume') return { kind: 'volume', name: mount.name, target, readOnly };
  // Checked by `sourceFaults`; an empty source is refused by every engine.
  return { kind: 'folder', source: folder && 'path' in folder ? folder.path : '', target, readOnly };
}

/** As they stand at the engine, of containers, networks and volumes. */
export const labelsOf = (
  { installation }: Policy,
  labels: Readonly<Record<string, string>>,
): Record<string, string> => ({
  [MANAGED_LABEL]: installation,
  [LABELS_LABEL]: JSON.stringify(labels),
});

const keptSchema = z.record(z.string(), z.string());

/** What was given when it was made here. */
export function givenLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const text = labels[LABELS_LABEL];
  if (text === undefined) return {};
  try {
    return keptSchema.safeParse(JSON.parse(text)).data ?? {};
  } catch {
    // Somebody else wrote it: then none were given here.
    return {};
  }
}

const PROPOSAL = /^ohp\.(?!managed$|labels$|nonce$)[a-z0-9._-]{1,100}$/;
const MAX_PROPOSALS = 20;

/** Labels by which who made a container would like it to be served: offered, never applied. */
export const proposalsIn = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(labels)
      .filter(([key]) => PROPOSAL.test(key))
      .slice(0, MAX_PROPOSALS),
  );
