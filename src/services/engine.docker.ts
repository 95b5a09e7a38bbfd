/**
 * Docker Engine (and Podman, which speaks its API) over its Unix socket or TLS. A driver: `open-engine.ts` alone makes one,
 * and puts the policy in front of it. Connects for each request: an engine may come and go.
 */
import type { z } from 'zod';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { type Log, writeDebug } from '../core/record.ts';
import { redactText } from '../core/redact.ts';
import { cleanText } from '../core/untrusted.ts';
import { portTaken } from './claims.ts';
import * as answers from './engine.docker.answers.ts';
import { checkAnswer, messageIn, parseAnswer } from './engine.docker.forms.ts';
import { logLines } from './engine.docker.logs.ts';
import { createBodyOf } from './engine.docker.request.ts';
import * as things from './engine.docker.things.ts';
import type { ContainerDriver } from './engine.driver.ts';
import type { EngineState } from './engine.ts';
import {
  createWire,
  jsonLines,
  socketFault,
  type Wire,
  type WireAnswer,
  type WireRequest,
  type WireTarget,
} from './wire.ts';
import type { RegistryAuth } from './registry-auth.ts';

const NAME = 'the container engine';
/** For what the engine does meanwhile: making, removing, starting. */
export const WORK_MS = MINUTE;
/** Beyond the time that a container has to end. */
export const STOP_MARGIN_MS = 30 * SECOND;
/** A large layer is unpacked without a word. */
const PULL_SILENCE_MS = 5 * MINUTE;
/** The engine returns the newest this many; who has more needs another tool. */
const MAX_CONTAINERS = 5000;
/** With a limit Docker leaves nothing out by itself, and Podman's filter knows other words: what does not run is left out here. */
const ALL = { all: 'true', limit: String(MAX_CONTAINERS) };
const RUNNING = new Set(['running', 'paused', 'restarting']);
const FOLLOWED = JSON.stringify({ type: ['container', 'network'] });
const NOT_MODIFIED = 304;

export interface DockerEngineOptions {
  /** A Unix socket, or an engine elsewhere by TLS with both certificates. */
  target: WireTarget;
  /** Absent: none is known. */
  registryAuth?: RegistryAuth | undefined;
  clock: Clock;
  log: Log;
}

export function createDockerDriver(options: DockerEngineOptions): ContainerDriver {
  const asker = createAsker(options);
  return {
    async ping() {
      const state = await asker.state();
      if (!state.connected) return state;
      const { Version } = await asker.ask(answers.versionSchema, { method: 'GET', path: '/version' });
      return { connected: true, version: cleanText(Version) };
    },
    ...containerVerbs(asker),
    ...logVerbs(asker),
    ...imageVerbs(asker, options.registryAuth),
    ...networkVerbs(asker),
    ...volumeVerbs(asker),
  };
}

export const query = (path: string, fields: Readonly<Record<string, string>>): string =>
  `${path}?${new URLSearchParams(fields).toString()}`;
const containerPath = (ref: string, rest = ''): string => `/containers/${encodeURIComponent(ref)}${rest}`;
const seconds = (ms: number): string => String(Math.ceil(ms / SECOND));

export type Asker = ReturnType<typeof createAsker>;

function containerVerbs(
  asker: Asker,
): Pick<ContainerDriver, 'list' | 'inspect' | 'create' | 'start' | 'stop' | 'restart' | 'remove' | 'stats'> {
  const what = (ref: string) => ({ what: `container ${ref}` });
  return {
    async list({ all }) {
      const path = query('/containers/json', ALL);
      const found = await asker.ask(answers.containersSchema, { method: 'GET', path });
      return all ? found : found.filter(({ state }) => RUNNING.has(state));
    },
    inspect: async (ref) => (await asker.inspect(ref)).details,
    async create(plan) {
      const path = query('/containers/create', { name: plan.name });
      const body = createBodyOf(plan);
      try {
        return await asker.ask(
          answers.createdSchema,
          { method: 'POST', path, body, timeoutMs: WORK_MS },
          { what: `image ${plan.image}, or a part of the container`, conflict: `container ${plan.name}` },
        );
      } catch (cause) {
        // Podman refuses a name that is taken as if it were a fault of its own.
        if (await asker.exists(plan.name)) throw taken(`container ${plan.name}`, cause);
        throw cause;
      }
    },
    start: (ref) =>
      asker.tell({ method: 'POST', path: containerPath(ref, '/start'), timeoutMs: WORK_MS }, what(ref)),
    stop: (ref, { timeoutMs = 0 } = {}) =>
      asker.tell(
        {
          method: 'POST',
          path: query(containerPath(ref, '/stop'), { t: seconds(timeoutMs) }),
          timeoutMs: timeoutMs + STOP_MARGIN_MS,
        },
        what(ref),
      ),
    restart: (ref, { timeoutMs = 0 } = {}) =>
      asker.tell(
        {
          method: 'POST',
          path: query(containerPath(ref, '/restart'), { t: seconds(timeoutMs) }),
          timeoutMs: timeoutMs + STOP_MARGIN_MS + WORK_MS,
        },
        what(ref),
      ),
    remove: (ref, { force, volumes }) =>
      asker.tell(
        {
          method: 'DELETE',
          path: query(containerPath(ref), { force: String(force), v: String(volumes) }),
          timeoutMs: WORK_MS,
        },
        what(ref),
      ),
    stats: (ref) =>
      asker.ask(
        answers.statsSchema,
        { method: 'GET', path: query(containerPath(ref, '/stats'), { stream: 'false' }), timeoutMs: WORK_MS },
        what(ref),
      ),
  };
}

function logVerbs(asker: Asker): Pick<ContainerDriver, 'logs' | 'events'> {
  return {
    async *logs(ref, { tail, since, follow, stdout, stderr, signal }) {
      const { tty } = await asker.inspect(ref);
      const path = query(containerPath(ref, '/logs'), {
        stdout: String(stdout),
        stderr: String(stderr),
        follow: String(follow),
        timestamps: 'true',
        tail: tail === undefined ? 'all' : String(tail),
        ...(since !== undefined && { since: (since / SECOND).toFixed(3) }),
      });
      // Without a line there is no head of an answer either.
      const chunks = asker.stream({ method: 'GET', path, signal, timeoutMs: MAX_WAIT_MS }, {});
      yield* logLines(chunks, { framed: !tty });
    },
    async *events({ since, signal } = {}) {
      const path = query('/events', {
        filters: FOLLOWED,
        ...(since !== undefined && { since: (since / SECOND).toFixed(3) }),
      });
      const chunks = asker.stream({ method: 'GET', path, signal, timeoutMs: MAX_WAIT_MS }, {});
      for await (const line of jsonLines(chunks, NAME)) {
        const event = checkAnswer(things.eventLineSchema, line);
        if (event) yield event;
      }
      if (signal?.aborted !== true)
        throw new AppError('UNAVAILABLE', `${NAME} went away while its events were followed`);
    },
  };
}

/** A stream begins with its first byte, which may be long in coming; who waits cancels it. */
export const MAX_WAIT_MS = 2_147_483_647;

function imageVerbs(
  asker: Asker,
  registryAuth: RegistryAuth | undefined,
): Pick<ContainerDriver, 'pullImage' | 'listImages' | 'inspectImage' | 'removeImage'> {
  const path = (reference: string, rest = '') => `/images/${encodeURIComponent(reference)}${rest}`;
  return {
    async *pullImage(reference, { signal }) {
      const { name, tag } = partsOf(reference);
      const auth = await registryAuth?.(reference);
      const chunks = asker.stream(
        {
          method: 'POST',
          path: query('/images/create', { fromImage: name, tag }),
          signal,
          headers: auth === undefined ? {} : { 'x-registry-auth': auth },
          timeoutMs: PULL_SILENCE_MS,
        },
        { what: `image ${reference}`, silenceMs: PULL_SILENCE_MS },
      );
      for await (const line of jsonLines(chunks, NAME)) {
        const found = checkAnswer(things.pullLineSchema, line);
        if (found.error !== undefined) throw pullFault(reference, found.error);
        if (found.status !== undefined) yield things.progressOf(found);
      }
    },
    listImages: () => asker.ask(things.imagesSchema, { method: 'GET', path: '/images/json' }),
    inspectImage: (reference) =>
      asker.ask(
        things.imageSchema,
        { method: 'GET', path: path(reference, '/json') },
        { what: `image ${reference}` },
      ),
    removeImage: (reference) =>
      asker.tell(
        { method: 'DELETE', path: path(reference), timeoutMs: WORK_MS },
        { what: `image ${reference}` },
      ),
  };
}

/** Of a canonical reference. */
function partsOf(reference: string): { name: string; tag: string } {
  const [name = '', digest] = reference.split('@');
  if (digest !== undefined) return { name, tag: digest };
  const colon = name.lastIndexOf(':');
  return { name: name.slice(0, colon), tag: name.slice(colon + 1) };
}

function pullFault(reference: string, said: string): AppError {
  const text = redactText(said);
  const isMissing = /not found|manifest unknown|does not exist|denied|unauthorized/i.test(text);
  const quoting = { isQuoting: true };
  return isMissing
    ? new AppError('NOT_FOUND', `${reference} can't be had from its registry: ${cleanText(text)}`, quoting)
    : new AppError('UPSTREAM_FAILED', `${reference} was not pulled: ${cleanText(text)}`, quoting);
}

function networkVerbs(
  asker: Asker,
): Pick<ContainerDriver, 'createNetwork' | 'listNetworks' | 'removeNetwork'> {
  const list = () => asker.ask(things.networksSchema, { method: 'GET', path: '/networks' });
  return {
    async createNetwork({ name, labels, internal }) {
      const body = { Name: name, CheckDuplicate: true, Driver: 'bridge', Internal: internal, Labels: labels };
      const request = { method: 'POST', path: '/networks/create', body, timeoutMs: WORK_MS } as const;
      try {
        const { Id: id } = await asker.ask(things.madeNetworkSchema, request, {
          conflict: `network ${name}`,
        });
        return { id, name, driver: 'bridge', internal, labels: { ...labels } };
      } catch (cause) {
        // Podman refuses a name that is taken as if it were a fault of its own.
        if ((await list()).some((network) => network.name === name)) throw taken(`network ${name}`, cause);
        throw cause;
      }
    },
    listNetworks: list,
    removeNetwork: (id) =>
      asker.tell(
        { method: 'DELETE', path: `/networks/${encodeURIComponent(id)}`, timeoutMs: WORK_MS },
        // Docker says FORBIDDEN of one that is used.
        { what: `network ${id}`, inUse: 403 },
      ),
  };
}

function volumeVerbs(asker: Asker): Pick<ContainerDriver, 'createVolume' | 'listVolumes' | 'removeVolume'> {
  return {
    async createVolume({ name, labels }) {
      const body = { Name: name, Driver: 'local', DriverOpts: {}, Labels: labels };
      const request = { method: 'POST', path: '/volumes/create', body, timeoutMs: WORK_MS } as const;
      return asker.ask(things.volumeSchema, request, { conflict: `volume ${name}` });
    },
    listVolumes: () => asker.ask(things.volumesSchema, { method: 'GET', path: '/volumes' }),
    removeVolume: (name) =>
      asker.tell(
        { method: 'DELETE', path: `/volumes/${encodeURIComponent(name)}`, timeoutMs: WORK_MS },
        { what: `volume ${name}` },
      ),
  };
}

interface Words {
  /** What is not there when the engine says 404; absent: that is no answer to expect. */
  what?: string;
  /** What is there already when it says 409; absent: `what` is in use. */
  conflict?: string;
  /** A further status that says so. */
  inUse?: number;
}

export function createAsker(options: DockerEngineOptions) {
  const { target, clock } = options;
  const wire: Wire = createWire({ target, name: NAME, clock });
  const place = 'socket' in target ? target.socket : `${target.host}:${target.port}`;
  const state = () => ('socket' in target ? socketState(target.socket, options) : connected());

  async function connect(request: WireRequest): Promise<WireAnswer> {
    const began = clock.now();
    const tell = (message: string) =>
      writeDebug(options, 'services', () => ({ message, duration_ms: clock.now() - began }));
    try {
      const answer = await wire.ask(request);
      tell(`${place} answered`);
      return answer;
    } catch (cause) {
      tell(`${place} failed: ${cleanText(messageOf(cause))}`);
      throw failure(cause);
    }
  }

  async function answer(request: WireRequest, words: Words = {}): Promise<string> {
    const found = await state();
    if (!found.connected) throw new AppError('UNAVAILABLE', found.reason);
    const { status, text } = await connect(request);
    if ((status >= 200 && status <= 299) || status === NOT_MODIFIED) return text;
    throw refusal({ status, text }, words);
  }

  const ask = async <Schema extends z.ZodType>(schema: Schema, request: WireRequest, words?: Words) =>
    parseAnswer(schema, await answer(request, words));
  const inspect = (ref: string) =>
    ask(
      answers.detailsSchema,
      { method: 'GET', path: containerPath(ref, '/json') },
      { what: `container ${ref}` },
    );

  return {
    state,
    ask,
    inspect,
    tell: async (request: WireRequest, words: Words) => void (await answer(request, words)),
    async exists(ref: string): Promise<boolean> {
      const found = await answer({ method: 'GET', path: containerPath(ref, '/json') }).catch(() => undefined);
      return found !== undefined;
    },
    async *stream(request: WireRequest, { silenceMs, ...words }: Words & { silenceMs?: number }) {
      const found = await state();
      if (!found.connected) throw new AppError('UNAVAILABLE', found.reason);
      const refused = (given: WireAnswer) => refusal(given, words);
      try {
        yield* wire.stream(request, { refused, ...(silenceMs !== undefined && { silenceMs }) });
      } catch (cause) {
        throw failure(cause);
      }
    },
  };
}

const taken = (what: string, cause?: unknown): AppError =>
  new AppError('CONFLICT', `there is a ${what} already`, { cause });

function refusal({ status, text }: WireAnswer, { what, conflict, inUse }: Words): AppError {
  // It may quote the request, in which credentials of a registry are.
  const words = cleanText(redactText(messageIn(text)));
  // And names of images and of programs, which others gave them.
  const quoting = { isQuoting: true };
  if (status === 404 && what !== undefined)
    return new AppError('NOT_FOUND', `there is no ${what}: ${words}`, quoting);
  if (status === 409 && conflict !== undefined) return taken(conflict);
  if ((status === 409 || status === inUse) && what !== undefined)
    return new AppError('CONFLICT', `${what} can't be changed now: ${words}`, quoting);
  if (PORT_IN_USE.test(words)) {
    const port = Number(HOST_PORT.exec(words)?.[1]);
    return portTaken(
      `the container engine refused: ${words}`,
      Number.isNaN(port) ? undefined : port,
      quoting,
    );
  }
  return new AppError('UPSTREAM_FAILED', `the container engine refused: ${words}`, quoting);
}

/** No status tells it from other failures, neither Docker's nor Podman's. */
const PORT_IN_USE = /port is already allocated|address already in use/i;
/** The first address with a port is that of the machine. */
const HOST_PORT = /[\d\]]:(\d{1,5})(?!\d)/;

const HOW_TO_CONNECT =
  'set OHP_DOCKER_SOCKET to the socket of a Docker Engine, and let the user of this process read and write it (group docker)';

const connected = async (): Promise<{ connected: true }> => ({ connected: true });

async function socketState(
  socket: string,
  options: DockerEngineOptions,
): Promise<{ connected: true } | Extract<EngineState, { connected: false }>> {
  const fault = await socketFault(socket, options);
  return fault
    ? { connected: false, reason: `${reasonOf(fault.cause, socket)}; ${HOW_TO_CONNECT}` }
    : { connected: true };
}

function reasonOf(cause: unknown, socket: string): string {
  const denied =
    cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM');
  return denied
    ? `no container engine is connected: this process may not use ${socket}`
    : `no container engine is connected: there is no ${socket}`;
}

function failure(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  return new AppError('UNAVAILABLE', `the container engine does not answer; ${HOW_TO_CONNECT}`, { cause });
}
