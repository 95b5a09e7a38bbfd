/**
 * The policy in front of an engine: `ContainerEngine` out of a `ContainerDriver`. What was not made here, and is not adopted,
 * is looked at only. A name is looked up once, and what is done is done to the id that was found.
 */
import { randomBytes } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import type { z } from 'zod';
import { AppError, messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type {
  ContainerDriver,
  DriverContainer,
  DriverDetails,
  DriverNetwork,
  DriverVolume,
} from './engine.driver.ts';
import * as schema from './engine.schema.ts';
import type {
  Container,
  ContainerDetails,
  ContainerEngine,
  ContainerPlan,
  ParsedSpec,
  PolicyFault,
} from './engine.ts';
import {
  decide,
  decideImage,
  type Facts,
  givenLabels,
  labelsOf,
  MANAGED_LABEL,
  type Policy,
  proposalsIn,
} from './policy.ts';

const NONCE_LABEL = 'ohp.nonce';
const NONCE_BYTES = 12;
const MAX_TOLD = 10;
const DEFAULT_STOP_MS = 10_000;

export interface GuardOptions {
  policy: Policy;
  /** Sockets that no mount may lead to: the engine's, the broker's. */
  sockets: readonly string[];
  /** The engine is on this machine: only then can folders be looked at, and mounted. */
  local: boolean;
}

export function guard(driver: ContainerDriver, options: GuardOptions): ContainerEngine {
  const { policy } = options;
  const gate = createGate(driver, policy);
  let last: Promise<void> = Promise.resolve();
  return {
    ping: () => driver.ping(),
    async list(given) {
      const { all } = checked(schema.listOptionsSchema, given);
      const [found, disguised] = await Promise.all([driver.list({ all }), gate.disguised()]);
      return found.map((container) => shownContainer(container, gate.standing(container, disguised)));
    },
    async inspect(ref) {
      const [found, disguised] = await Promise.all([driver.inspect(checkedRef(ref)), gate.disguised()]);
      return shownDetails(found, gate.standing(found, disguised));
    },
    async check(given) {
      await allowed(driver, options, given);
    },
    create(given) {
      // One after the other: together they could be more than there may be.
      const made = last.then(() => create(driver, gate, options, given));
      last = made.then(
        () => undefined,
        // Told to who asked for it.
        () => undefined,
      );
      return made;
    },
    roll(ref, given) {
      const rolled = last.then(() => roll(driver, gate, options, { ref, given }));
      last = rolled.catch(() => undefined);
      return rolled;
    },
    rollBack(ref, given) {
      const rolled = last.then(() => rollBack(driver, gate, policy, { ref, given }));
      last = rolled.then(
        () => undefined,
        () => undefined, // Told to who asked for it.
      );
      return rolled;
    },
    async start(ref) {
      const found = await gate.changeable(ref);
      await checkMountsAgain(found, options);
      await driver.start(found.id);
    },
    async stop(ref, given = {}) {
      const { id } = await gate.changeable(ref);
      await driver.stop(id, {
        timeoutMs: checked(schema.stopOptionsSchema, given).timeoutMs ?? DEFAULT_STOP_MS,
      });
    },
    async restart(ref, given = {}) {
      const found = await gate.changeable(ref);
      await checkMountsAgain(found, options);
      const { timeoutMs = DEFAULT_STOP_MS } = checked(schema.stopOptionsSchema, given);
      await driver.restart(found.id, { timeoutMs });
    },
    async remove(ref, given = {}) {
      const plan = checked(schema.removeOptionsSchema, given);
      const { id, running } = await gate.changeable(ref);
      if (running && !plan.force)
        throw new AppError('CONFLICT', 'the container runs; stop it first, or remove it by force');
      await driver.remove(id, plan);
    },
    ...watching(driver),
    ...images(driver, policy),
    ...things(driver, policy),
  };
}

/** What is looked at, of whoever made it. */
function watching(driver: ContainerDriver): Pick<ContainerEngine, 'logs' | 'stats' | 'events'> {
  return {
    async *logs(ref, { signal, ...given } = {}) {
      const plan = checked(schema.logOptionsSchema, given);
      const { id } = await driver.inspect(checkedRef(ref));
      yield* driver.logs(id, { ...plan, signal });
    },
    async stats(ref) {
      const { id, running } = await driver.inspect(checkedRef(ref));
      if (!running) throw new AppError('CONFLICT', 'the container does not run, so it uses nothing');
      return driver.stats(id);
    },
    events: ({ signal, ...given } = {}) =>
      driver.events({ ...checked(schema.eventOptionsSchema, given), signal }),
  };
}

function images(
  driver: ContainerDriver,
  policy: Policy,
): Pick<ContainerEngine, 'pullImage' | 'listImages' | 'inspectImage' | 'removeImage'> {
  return {
    async *pullImage(reference, { signal } = {}) {
      yield* driver.pullImage(allowedImage(policy, reference), { signal });
    },
    async listImages() {
      return (await driver.listImages()).map(({ labels: _labels, ...image }) => image);
    },
    inspectImage: (reference) => driver.inspectImage(checked(schema.imageReferenceSchema, reference)),
    async removeImage(reference) {
      await driver.removeImage(allowedImage(policy, reference));
    },
  };
}

/** Networks and volumes. */
function things(
  driver: ContainerDriver,
  policy: Policy,
): Pick<
  ContainerEngine,
  'createNetwork' | 'listNetworks' | 'removeNetwork' | 'createVolume' | 'listVolumes' | 'removeVolume'
> {
  return {
    async createNetwork(given) {
      const { name, labels, internal } = checked(schema.networkSpecSchema, given);
      const made = await driver.createNetwork({ name, internal, labels: labelsOf(policy, labels) });
      return shownThing(policy, made);
    },
    async listNetworks() {
      return (await driver.listNetworks()).map((network) => shownThing(policy, network));
    },
    async removeNetwork(ref) {
      const name = checkedRef(ref);
      const found = (await driver.listNetworks()).filter((one) => one.id === name || one.name === name);
      await driver.removeNetwork(onlyOurs(policy, found, { kind: 'network', name }).id);
    },
    async createVolume(given) {
      const { name, labels } = checked(schema.thingSchema, given);
      const nonce = randomBytes(NONCE_BYTES).toString('hex');
      // An engine answers with the volume that is there already, as if it had made it.
      const made = await driver.createVolume({
        name,
        labels: { ...labelsOf(policy, labels), [NONCE_LABEL]: nonce },
      });
      if (made.labels[NONCE_LABEL] !== nonce)
        throw new AppError('CONFLICT', `there is a volume ${cleanText(name)} already`);
      return shownThing(policy, made);
    },
    async listVolumes() {
      return (await driver.listVolumes()).map((volume) => shownThing(policy, volume));
    },
    async removeVolume(ref) {
      const name = checkedRef(ref);
      const found = (await driver.listVolumes()).filter((one) => one.name === name);
      const adopted = policy.adopt_volumes.includes(name);
      await driver.removeVolume(onlyOurs(policy, found, { kind: 'volume', name, adopted }).name);
    },
  };
}

async function create(
  driver: ContainerDriver,
  gate: Gate,
  options: GuardOptions,
  given: unknown,
): ReturnType<ContainerEngine['create']> {
  const plan = await planFor(driver, gate, options, { given });
  const made = await driver.create(plan);
  await requireImage(driver, plan, made.id);
  return made;
}

/** Looked at once it is made: an engine takes a reference only, and a tag may move at any moment before. */
async function requireImage(
  driver: ContainerDriver,
  { image, imageId }: ContainerPlan,
  id: string,
): Promise<void> {
  if (imageId === undefined || (await driver.inspect(id)).imageId === imageId) return;
  await driver.remove(id, { force: true, volumes: true });
  throw new AppError('CONFLICT', `${cleanText(image)} is another image by now; call it again`);
}

async function roll(
  driver: ContainerDriver,
  gate: Gate,
  options: GuardOptions,
  { ref, given }: { ref: string; given: unknown },
): Promise<void> {
  if (!driver.roll) throw onlyInASwarm();
  const id = await madeHere(gate, options.policy, ref);
  await driver.roll(id, await planFor(driver, gate, options, { given, inPlaceOf: id }));
}

/** What there was before passed the policy when it was made. */
async function rollBack(
  driver: ContainerDriver,
  gate: Gate,
  policy: Policy,
  { ref, given }: { ref: string; given: unknown },
): Promise<boolean> {
  if (!driver.rollBack) throw onlyInASwarm();
  const id = await madeHere(gate, policy, ref);
  return driver.rollBack(id, labelsOf(policy, checked(schema.labels, given)));
}

const onlyInASwarm = () => new AppError('CONFLICT', 'only a swarm changes what runs in its place');

async function madeHere(gate: Gate, policy: Policy, ref: string): Promise<string> {
  const { id, labels } = await gate.changeable(ref);
  if (labels[MANAGED_LABEL] === policy.installation) return id;
  throw new AppError('FORBIDDEN', `${cleanText(ref)} was not made here, so it is not made anew here`);
}

/** @param wanted.inPlaceOf id of what it replaces, which then does not count */
async function planFor(
  driver: ContainerDriver,
  gate: Gate,
  options: GuardOptions,
  { given, inPlaceOf }: { given: unknown; inPlaceOf?: string },
): Promise<ContainerPlan> {
  const { policy } = options;
  const plan = await allowed(driver, options, given);
  const [image, containers, disguised] = await Promise.all([
    driver.inspectImage(plan.image),
    driver.list({ all: true }),
    gate.disguised(),
  ]);
  if (MANAGED_LABEL in image.labels)
    throw refused([
      { where: 'image', what: `an image with the label ${MANAGED_LABEL}`, allowed: 'an image without it' },
    ]);
  const others = containers.filter(({ id }) => id !== inPlaceOf);
  const own = others
    .filter((container) => gate.standing(container, disguised).managed)
    .reduce((sum, { replicas }) => sum + (replicas?.wanted ?? 1), 0);
  if (own + (plan.scale?.replicas ?? 1) > policy.max_containers)
    throw new AppError(
      'CONFLICT',
      `there are ${own} containers of this installation, and services.max_containers is ${policy.max_containers}`,
    );
  return plan;
}

/** @throws AppError INVALID_INPUT with all that the policy does not let through. */
async function allowed(
  driver: ContainerDriver,
  options: GuardOptions,
  given: unknown,
): Promise<ContainerPlan> {
  const spec = checked(schema.containerSpecSchema, given);
  const decision = decide(options.policy, spec, await factsOf(driver, options, spec));
  if ('faults' in decision) throw refused(decision.faults);
  return decision.plan;
}

async function factsOf(driver: ContainerDriver, options: GuardOptions, spec: ParsedSpec): Promise<Facts> {
  const { policy } = options;
  const [volumes, networks] = await Promise.all([
    spec.mounts.some(({ kind }) => kind === 'volume') ? driver.listVolumes() : [],
    spec.networks.length > 0 ? driver.listNetworks() : [],
  ]);
  const ours = (found: readonly { name: string; labels: Readonly<Record<string, string>> }[]) =>
    new Set(
      found.filter(({ labels }) => labels[MANAGED_LABEL] === policy.installation).map(({ name }) => name),
    );
  const folders = await Promise.all(
    spec.mounts.map(async (mount) => (mount.kind === 'folder' ? locate(mount.source, options) : undefined)),
  );
  return { folders, volumes: ours(volumes), networks: ours(networks) };
}

/**
 * Where a source really is. Only folders directly in the root can be mounted: what a container can write is then never above
 * what another mounts, so that none can put a link in the place of a folder, which the engine would follow at a later start.
 */
async function locate(source: string, options: GuardOptions): Promise<{ path: string } | { why: string }> {
  const { policy, local, sockets } = options;
  if (policy.folder === undefined) return { why: 'where no folder may be mounted' };
  if (!local) return { why: 'which is not on the machine of the engine' };
  try {
    const root = await realpath(policy.folder);
    const path = await realpath(isAbsolute(source) ? source : join(root, source));
    if (resolve(path, '..') !== root || path === root) return { why: 'which is not directly in it' };
    if (!(await stat(path)).isDirectory()) return { why: 'which is no folder' };
    for (const socket of sockets)
      if (await isInside(socket, path)) return { why: "which leads to the engine's or the broker's socket" };
    return { path };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : messageOf(cause);
    return { why: `which can't be used (${code})` };
  }
}

async function isInside(socket: string, folder: string): Promise<boolean> {
  const real = await realpath(socket).catch(() => resolve(socket));
  return real.startsWith(`${folder}/`);
}

/** A folder can be another one by now; of what was adopted the mounts are its own affair. */
async function checkMountsAgain(found: DriverDetails, options: GuardOptions): Promise<void> {
  if (found.labels[MANAGED_LABEL] !== options.policy.installation) return;
  for (const { kind, source = '' } of found.mounts) {
    if (kind !== 'folder') continue;
    const place = await locate(source, options);
    if ('why' in place || place.path !== source)
      throw refused(
        [
          {
            where: 'mounts',
            what: `${source}${'why' in place ? `, ${place.why}` : ', which leads elsewhere'}`,
            allowed: `a folder directly in ${options.policy.folder ?? 'services.folder, which is not set'}`,
          },
        ],
        // The engine says where it comes from.
        { isQuoting: true },
      );
  }
}

interface Standing {
  managed: boolean;
  changeable: boolean;
}

type Gate = ReturnType<typeof createGate>;

function createGate(driver: ContainerDriver, policy: Policy) {
  /** Images that claim to have been made here; containers get the labels of their image. */
  async function disguised(): Promise<ReadonlySet<string>> {
    const images = await driver.listImages();
    return new Set(images.filter(({ labels }) => MANAGED_LABEL in labels).map(({ id }) => id));
  }
  function standing(found: DriverContainer | DriverDetails, images: ReadonlySet<string>): Standing {
    const managed = found.labels[MANAGED_LABEL] === policy.installation && !images.has(found.imageId);
    return { managed, changeable: managed || found.names.some((name) => policy.adopt.includes(name)) };
  }
  async function changeable(ref: string): Promise<DriverDetails> {
    const found = await driver.inspect(checkedRef(ref));
    if (standing(found, await disguised()).changeable) return found;
    throw new AppError(
      'FORBIDDEN',
      `${cleanText(found.names[0] ?? found.id)} was not made here, so it can be looked at only; services.adopt lists what may be changed all the same`,
      { isQuoting: true },
    );
  }
  return { disguised, standing, changeable };
}

interface Wanted {
  kind: 'network' | 'volume';
  name: string;
  adopted?: boolean;
}

function onlyOurs<Thing extends DriverNetwork | DriverVolume>(
  { installation }: Policy,
  found: readonly Thing[],
  { kind, name, adopted = false }: Wanted,
): Thing {
  const [thing] = found;
  if (!thing) throw new AppError('NOT_FOUND', `there is no ${kind} ${cleanText(name)}`);
  if (found.length === 1 && (adopted || thing.labels[MANAGED_LABEL] === installation)) return thing;
  throw new AppError('FORBIDDEN', `the ${kind} ${cleanText(name)} was not made here, so it stays`);
}

function shownThing<Thing extends { labels: Readonly<Record<string, string>> }>(
  { installation }: Policy,
  thing: Thing,
): Thing & { managed: boolean; labels: Record<string, string> } {
  const managed = thing.labels[MANAGED_LABEL] === installation;
  return { ...thing, managed, labels: managed ? givenLabels(thing.labels) : {} };
}

function shownContainer(
  { imageId: _imageId, labels, ...container }: DriverContainer,
  standing: Standing,
): Container {
  return {
    ...container,
    ...standing,
    labels: standing.managed ? givenLabels(labels) : {},
    proposals: proposalsIn(labels),
  };
}

const shownDetails = (details: DriverDetails, standing: Standing): ContainerDetails => ({
  ...details,
  ...standing,
  labels: standing.managed ? givenLabels(details.labels) : {},
  proposals: proposalsIn(details.labels),
});

function allowedImage(policy: Policy, given: unknown): string {
  const decision = decideImage(policy, checked(schema.imageReferenceSchema, given));
  if ('faults' in decision) throw refused(decision.faults);
  return decision.canonical;
}

const checkedRef = (ref: unknown): string => checked(schema.nameSchema, ref);

function checked<Schema extends (typeof schema)[keyof typeof schema]>(
  wanted: Schema,
  given: unknown,
): z.output<Schema> {
  const result = wanted.safeParse(given);
  if (result.success) return result.data as z.output<Schema>;
  throw refused(
    result.error.issues.slice(0, MAX_TOLD).map(({ path, message }) => ({
      where: cleanText(path.join('.')),
      what: cleanText(message),
      allowed: 'what the schema of the engine port says',
    })),
  );
}

/** Says all that is wrong at once, and where. */
function refused(faults: readonly PolicyFault[], more: { isQuoting?: boolean } = {}): AppError {
  const shown = faults.slice(0, MAX_TOLD).map((fault) => ({
    where: cleanText(fault.where),
    what: cleanText(fault.what),
    allowed: cleanText(fault.allowed),
  }));
  const text = shown.map(({ where, what, allowed }) => `${where || 'input'}: ${what}; allowed: ${allowed}`);
  return new AppError('INVALID_INPUT', `the policy of services does not allow it: ${text.join(' | ')}`, {
    ...more,
    details: { faults: shown },
  });
}
