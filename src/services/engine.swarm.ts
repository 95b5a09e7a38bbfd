/**
 * Docker Swarm: a container of the port is a service here, with as many tasks as there are replicas, on the nodes of the swarm.
 * A driver, like `engine.docker.ts`, whose connection, images and volumes it uses; `open-engine.ts` alone makes one, and puts
 * the policy in front of it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type Clock, pause, SECOND } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import { networksSchema, madeNetworkSchema } from './engine.docker.things.ts';
import {
  type Asker,
  createDockerDriver,
  type DockerEngineOptions,
  query,
  STOP_MARGIN_MS,
  WORK_MS,
} from './engine.docker.ts';
import type { ContainerDriver } from './engine.driver.ts';
import type { ContainerPlan } from './engine.ts';
import * as answers from './engine.swarm.answers.ts';
import { createSwarm, servicePath, type Swarm } from './engine.swarm.asking.ts';
import { swarmEvents } from './engine.swarm.events.ts';
import { serviceLogs, serviceStats } from './engine.swarm.logs.ts';
import { type Placed, SCALE_LABEL, serviceBodyOf } from './engine.swarm.request.ts';
import { LABELS_LABEL } from './policy.ts';
import { createSecrets } from './engine.swarm.secrets.ts';
import { containerOf, detailsOf, type ScaleLabel, scaleOf, situationOf } from './engine.swarm.shown.ts';

const LOOK_EVERY_MS = 200;
/** For tasks to be placed, and their programs to be started; what needs longer goes on by itself. */
const START_MS = 30 * SECOND;
/** Of a change that another one came before. */
const TRIES = 5;
const VERSION_BYTES = 8;

export interface SwarmOptions extends DockerEngineOptions {
  /** Of the policy: what carries its name is swept by this driver. */
  installation: string;
}

export function createSwarmDriver(options: SwarmOptions): ContainerDriver {
  const swarm = createSwarm(options);
  const { asker } = swarm;
  const docker = createDockerDriver(options);
  return {
    ...docker,
    async ping() {
      const state = await asker.state();
      if (!state.connected) return state;
      const { ServerVersion, Swarm: found } = await asker.ask(answers.infoSchema, {
        method: 'GET',
        path: '/info',
      });
      if (!found.ControlAvailable)
        return {
          connected: false,
          reason: `the engine is no manager of a swarm (${cleanText(found.LocalNodeState) || 'inactive'}); docker swarm init makes it one, or set services.orchestrator to engine`,
        };
      return { connected: true, version: cleanText(ServerVersion), swarm: true };
    },
    ...lookingVerbs(swarm),
    ...changingVerbs(swarm, docker, createSecrets(swarm, options.installation)),
    logs: (ref, plan) => serviceLogs(swarm, ref, plan),
    stats: (ref) => serviceStats(swarm, docker, ref),
    events: (plan = {}) => swarmEvents(swarm, plan),
    removeImage: (reference) => removeImage(swarm, docker, reference),
    removeVolume: (name) => removeVolume(swarm, docker, name),
    ...networkVerbs(asker),
  };
}

function lookingVerbs(swarm: Swarm): Pick<ContainerDriver, 'list' | 'inspect'> {
  const { asker } = swarm;
  return {
    async list({ all }) {
      const [services, place] = await Promise.all([swarm.services(), swarm.around()]);
      const found = services.map((service) => containerOf(service, place));
      return all ? found : found.filter(({ state }) => state === 'running' || state === 'restarting');
    },
    async inspect(ref) {
      const [service, place, networks] = await Promise.all([
        swarm.service(ref),
        swarm.around(),
        asker.ask(networksSchema, { method: 'GET', path: '/networks' }),
      ]);
      return detailsOf(service, place, new Map(networks.map(({ id, name }) => [id, name])));
    },
  };
}

type Changing = Required<
  Pick<ContainerDriver, 'create' | 'roll' | 'rollBack' | 'start' | 'stop' | 'restart' | 'remove'>
>;

function changingVerbs(
  swarm: Swarm,
  docker: ContainerDriver,
  secrets: ReturnType<typeof createSecrets>,
): Changing {
  const { asker, clock } = swarm;
  return {
    create: (plan) =>
      secrets.with(plan, async (made) => {
        const body = await bodyOf(swarm, docker, plan, { secrets: made, replicas: 0 });
        const labels = { ...body.Labels, ...scaleLabel({ replicas: replicasOf(plan) }) };
        return asker.ask(
          answers.idSchema,
          {
            method: 'POST',
            path: '/services/create',
            body: { ...body, Labels: labels },
            headers: await authHeaders(swarm, plan),
            timeoutMs: WORK_MS,
          },
          { what: `part of the container ${plan.name}`, conflict: `container ${plan.name}` },
        );
      }),
    roll: (id, plan) => secrets.with(plan, (made) => roll(swarm, docker, plan, { id, secrets: made })),
    rollBack: (id, labels) => rollBack(swarm, id, labels),
    async start(id) {
      await change(swarm, id, ({ Spec }) => {
        const now = Spec.Mode.Replicated.Replicas;
        const { replicas } = scaleOf(Spec.Labels, now);
        return now > 0 ? undefined : scaled(Spec, replicas, begun(replicas, clock));
      });
      await untilSettled(swarm, id);
      await secrets.sweep();
    },
    async stop(id, { timeoutMs = 0 } = {}) {
      await change(swarm, id, ({ Spec }) => {
        const now = Spec.Mode.Replicated.Replicas;
        const label = { ...scaleOf(Spec.Labels, now), finishedAt: clock.now() };
        return now === 0 ? undefined : scaled(Spec, 0, label);
      });
      await until(swarm, timeoutMs + STOP_MARGIN_MS, async () => {
        const found = await swarm.tasks(id);
        return found.every((task) => !isAlive(task));
      });
    },
    async restart(id) {
      await change(swarm, id, ({ Spec }) => {
        const now = Spec.Mode.Replicated.Replicas;
        const { replicas } = scaleOf(Spec.Labels, now);
        return versioned(scaled(Spec, now || replicas, begun(replicas, clock)));
      });
      await untilSettled(swarm, id);
    },
    async remove(id) {
      await asker.tell(
        { method: 'DELETE', path: servicePath(id), timeoutMs: WORK_MS },
        { what: `container ${id}` },
      );
      // What its tasks still hold can't be taken away yet: volumes, networks, secrets.
      await until(swarm, STOP_MARGIN_MS, async () => (await containersOf(asker, id)).length === 0);
      await secrets.sweep();
    },
  };
}

async function roll(
  swarm: Swarm,
  docker: ContainerDriver,
  plan: ContainerPlan,
  { id, secrets }: { id: string } & Pick<Placed, 'secrets'>,
): Promise<void> {
  const next = async (found: answers.RawService) => {
    const { Spec } = found;
    // The swarm was faster in going back.
    if (Spec.Labels[LABELS_LABEL] === plan.labels[LABELS_LABEL]) return undefined;
    const isStopped = Spec.Mode.Replicated.Replicas === 0;
    const replicas = isStopped ? 0 : replicasOf(plan);
    const body = await bodyOf(swarm, docker, plan, { secrets, replicas, ...backTo(found, plan) });
    const label = {
      ...scaleOf(Spec.Labels, 0),
      replicas: replicasOf(plan),
      changedAt: swarm.clock.now(),
    };
    return { ...body, Name: Spec.Name, Labels: { ...body.Labels, ...scaleLabel(label) } };
  };
  await change(swarm, id, next, { headers: await authHeaders(swarm, plan) });
}

/** The swarm's own way: it keeps the version before as it was. What it goes back from becomes the one before. */
async function rollBack(
  swarm: Swarm,
  id: string,
  labels: Readonly<Record<string, string>>,
): Promise<boolean> {
  const isIt = (spec: { Labels: Readonly<Record<string, string>> } | null | undefined) =>
    spec?.Labels[LABELS_LABEL] === labels[LABELS_LABEL];
  let isBack = false;
  await change(
    swarm,
    id,
    ({ Spec, PreviousSpec }) => {
      isBack = isIt(Spec) || isIt(PreviousSpec);
      // Sent back only because the request has to have one.
      return isBack && !isIt(Spec) ? Spec : undefined;
    },
    { query: { rollback: 'previous' } },
  );
  return isBack;
}

/** "{}" in Base64. Without a word the swarm would keep those of the version before, and send them to the registry of this one. */
const NO_CREDENTIALS = 'e30=';

/** The swarm keeps them with the service: its nodes fetch the image by themselves, at any time. */
const authHeaders = async ({ registryAuth }: Swarm, { image }: ContainerPlan) => ({
  'x-registry-auth': (await registryAuth?.(image)) ?? NO_CREDENTIALS,
});

/** Where the policy looked at something of this machine alone, the tasks stay on it. */
async function bodyOf(
  { asker }: Swarm,
  docker: ContainerDriver,
  plan: ContainerPlan,
  given: Pick<Placed, 'secrets' | 'replicas'> & Partial<Pick<Placed, 'version'>>,
) {
  const { digests } = await docker.inspectImage(plan.image);
  const repository = repositoryOf(plan.image);
  const pinned = digests.find((digest) => digest.includes('@') && repositoryOf(digest) === repository);
  const isOnlyHere = pinned === undefined || plan.mounts.length > 0;
  const { Swarm: found } = await asker.ask(answers.infoSchema, { method: 'GET', path: '/info' });
  const placed = {
    image: pinned ?? plan.image,
    node: isOnlyHere ? found.NodeID : undefined,
    ...given,
  };
  return serviceBodyOf(plan, { ...placed, version: given.version ?? versionOf(plan, placed) });
}

/** Of the version before, when it is that one again: its tasks that still run are not ended. */
function backTo({ PreviousSpec: before }: answers.RawService, { labels }: ContainerPlan) {
  const container = before?.TaskTemplate.ContainerSpec;
  const version = container?.Labels[answers.VERSION_LABEL];
  if (!container || version === undefined || before?.Labels[LABELS_LABEL] !== labels[LABELS_LABEL]) return {};
  const secrets = container.Secrets.map(({ SecretID, SecretName, File }) => ({
    id: SecretID,
    name: SecretName,
    file: File.Name,
  }));
  return { version, secrets };
}

/**
 * The same for what is the same, so that only more of it, or fewer, ends none. Of secrets nothing can be told from it: what
 * has some is always another.
 */
function versionOf(plan: ContainerPlan, placed: object): string {
  if (Object.keys(plan.secrets).length > 0) return newVersion();
  const parts = [
    { ...plan, name: '', labels: {}, scale: { ...plan.scale, replicas: 0 } },
    { ...placed, replicas: 0 },
  ];
  return createHash('sha256')
    .update(JSON.stringify(parts))
    .digest('hex')
    .slice(0, VERSION_BYTES * 2);
}

const replicasOf = ({ scale }: ContainerPlan): number => scale?.replicas ?? 1;
const newVersion = (): string => randomBytes(VERSION_BYTES).toString('hex');

/** Of `registry/repository:tag` or `@digest`, as short as the engine tells it. */
function repositoryOf(reference: string): string {
  const [name = ''] = reference.split('@');
  const short = name.replace(/^docker\.io\/(?:library\/)?/, '');
  const colon = short.lastIndexOf(':');
  return colon > short.lastIndexOf('/') ? short.slice(0, colon) : short;
}

const begun = (replicas: number, clock: Clock): ScaleLabel => ({
  replicas,
  startedAt: clock.now(),
  changedAt: clock.now(),
});
const scaleLabel = (label: ScaleLabel): Record<string, string> => ({ [SCALE_LABEL]: JSON.stringify(label) });

type RawSpec = answers.RawService['Spec'];

const scaled = (spec: RawSpec, replicas: number, label: ScaleLabel): RawSpec => ({
  ...spec,
  Labels: { ...spec.Labels, ...scaleLabel(label) },
  Mode: { ...spec.Mode, Replicated: { ...spec.Mode.Replicated, Replicas: replicas } },
});

/** New tasks, although nothing else is new. */
function versioned(spec: RawSpec): RawSpec {
  const { TaskTemplate: template } = spec;
  const { ContainerSpec: container } = template;
  const labels = { ...container.Labels, [answers.VERSION_LABEL]: newVersion() };
  return { ...spec, TaskTemplate: { ...template, ContainerSpec: { ...container, Labels: labels } } };
}

/** @param next the whole specification; undefined: it is as it should be */
async function change(
  { asker }: Swarm,
  id: string,
  next: (found: answers.RawService) => object | undefined | Promise<object | undefined>,
  more: { headers?: Readonly<Record<string, string>>; query?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const { headers } = more;
  for (let attempt = 1; ; attempt++) {
    const words = { what: `container ${id}` };
    const found = await asker.ask(answers.rawServiceSchema, { method: 'GET', path: servicePath(id) }, words);
    const body = await next(found);
    if (!body) return;
    const path = query(servicePath(found.ID, '/update'), {
      version: String(found.Version.Index),
      ...more.query,
    });
    try {
      return await asker.tell({ method: 'POST', path, body, headers, timeoutMs: WORK_MS }, words);
    } catch (cause) {
      if (attempt === TRIES || !isOutOfSequence(cause)) throw cause;
    }
  }
}

const isOutOfSequence = (cause: unknown): boolean =>
  cause instanceof AppError && /update out of sequence/.test(cause.message);

const isAlive = ({ Status }: answers.FoundTask): boolean =>
  !['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned'].includes(Status.State);

const untilSettled = (swarm: Swarm, id: string): Promise<void> =>
  until(swarm, START_MS, async () => {
    const [service, tasks] = await Promise.all([swarm.service(id), swarm.tasks(id)]);
    return situationOf(service, { tasks }).settled;
  });

/** Not for ever: what is not so then, the caller sees. */
async function until({ clock }: Swarm, withinMs: number, isSo: () => Promise<boolean>): Promise<void> {
  const began = clock.now();
  while (!(await isSo()) && clock.now() - began < withinMs) await pause(clock, LOOK_EVERY_MS);
}

/** Of tasks on this machine, also of those that ended. */
function containersOf(asker: Asker, id: string): Promise<{ Id: string }[]> {
  const filters = JSON.stringify({ label: [`com.docker.swarm.service.id=${id}`] });
  const path = query('/containers/json', { all: 'true', filters });
  return asker.ask(answers.taskContainersSchema, { method: 'GET', path });
}

/** A swarm keeps the containers of tasks that ended for a while; they hold their volumes. */
async function removeVolume(swarm: Swarm, docker: ContainerDriver, name: string): Promise<void> {
  const services = await swarm.services();
  const user = services.find(({ Spec }) =>
    Spec.TaskTemplate.ContainerSpec?.Mounts.some(({ Type, Source }) => Type === 'volume' && Source === name),
  );
  if (user) throw inUse(`volume ${name}`, user);
  const filters = JSON.stringify({
    volume: [name],
    status: ['exited', 'dead', 'created'],
    label: ['com.docker.swarm.task.id'],
  });
  const path = query('/containers/json', { all: 'true', filters });
  for (const { Id } of await swarm.asker.ask(answers.taskContainersSchema, { method: 'GET', path }))
    await docker.remove(Id, { force: false, volumes: false });
  await docker.removeVolume(name);
}

const inUse = (what: string, { Spec }: answers.FoundService): AppError =>
  new AppError('CONFLICT', `${what} can't be removed: ${cleanText(Spec.Name)} uses it`, { isQuoting: true });

async function removeImage(swarm: Swarm, docker: ContainerDriver, reference: string): Promise<void> {
  const { references, digests } = await docker.inspectImage(reference);
  const known = new Set([reference, ...references, ...digests]);
  const services = await swarm.services();
  const user = services.find(({ Spec }) => known.has(Spec.TaskTemplate.ContainerSpec?.Image ?? ''));
  if (user) throw inUse(`image ${reference}`, user);
  await docker.removeImage(reference);
}

function networkVerbs(asker: Asker): Pick<ContainerDriver, 'createNetwork' | 'removeNetwork'> {
  return {
    async createNetwork({ name, labels, internal }) {
      const body = {
        Name: name,
        CheckDuplicate: true,
        Driver: 'overlay',
        Attachable: false,
        Internal: internal,
        Labels: labels,
      };
      const { Id: id } = await asker.ask(
        madeNetworkSchema,
        { method: 'POST', path: '/networks/create', body, timeoutMs: WORK_MS },
        { conflict: `network ${name}` },
      );
      return { id, name, driver: 'overlay', internal, labels: { ...labels } };
    },
    removeNetwork: (id) =>
      asker.tell(
        { method: 'DELETE', path: `/networks/${encodeURIComponent(id)}`, timeoutMs: WORK_MS },
        // A swarm says 400 of one that is used.
        { what: `network ${id}`, inUse: 400 },
      ),
  };
}
