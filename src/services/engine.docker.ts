/** Docker Engine (and Podman, which speaks its API) over its Unix socket. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { z } from 'zod';
import { type Clock, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { type Log, writeDebug } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Container, ContainerEngine } from './engine.ts';

const TIMEOUT_MS = 5 * SECOND;
/** The engine returns the newest this many; who has more needs another tool. */
const MAX_CONTAINERS = 5000;
/** With a limit the engine leaves nothing out by itself, so what does not run is left out by a filter. */
const ALL = { all: true, limit: MAX_CONTAINERS };
const RUNNING = { ...ALL, filters: { status: ['running', 'paused', 'restarting'] } };

const versionSchema = z.object({ Version: z.string() });

const containersSchema = z.array(
  z.object({
    Id: z.string(),
    Names: z.array(z.string()).nullish(),
    Image: z.string(),
    State: z.string(),
    Status: z.string(),
    Created: z.number(),
    Ports: z
      .array(
        z.object({
          IP: z.string().optional(),
          PrivatePort: z.number(),
          PublicPort: z.number().optional(),
          Type: z.string(),
        }),
      )
      .nullish(),
  }),
);

export interface DockerEngineOptions {
  /** Path of the Unix socket. */
  socket: string;
  clock: Clock;
  log: Log;
}

/** Connects when it is first asked, and again each time: an engine may come and go. */
export function createDockerEngine(options: DockerEngineOptions): ContainerEngine {
  const ask = createAsk(options);
  return {
    async ping() {
      const state = await socketState(options);
      if (!state.connected) return state;
      const { Version } = await ask(versionSchema, (client, abortSignal) => client.version({ abortSignal }));
      return { connected: true, version: cleanText(Version) };
    },
    async listContainers({ all }) {
      const state = await socketState(options);
      if (!state.connected) throw new AppError('UNAVAILABLE', state.reason);
      const found = await ask(containersSchema, (client, abortSignal) =>
        client.listContainers({ ...(all ? ALL : RUNNING), abortSignal }),
      );
      return found.map(containerOf);
    },
  };
}

/** The part of dockerode that is used. Its own types know no options for `version`. */
interface Client {
  version(options: { abortSignal: AbortSignal }): Promise<unknown>;
  listContainers(options: typeof ALL & { filters?: object; abortSignal: AbortSignal }): Promise<unknown>;
}
type Request = (client: Client, abortSignal: AbortSignal) => Promise<unknown>;

/** One request: bounded in time, its answer checked, its failure told in words of ours. */
function createAsk(options: DockerEngineOptions) {
  const { socket, clock } = options;
  let client: Promise<Client> | undefined;
  return async function ask<Answer>(schema: z.ZodType<Answer>, request: Request): Promise<Answer> {
    const began = clock.now();
    const tell = (message: string) =>
      writeDebug(options, 'services', () => ({ message, duration_ms: clock.now() - began }));
    try {
      const answer = await inTime(await (client ??= connect(socket)), request, clock);
      tell(`${socket} answered`);
      return parse(schema, answer);
    } catch (cause) {
      tell(`${socket} failed: ${cleanText(messageOf(cause))}`);
      throw failure(cause);
    }
  };
}

/** Settles whatever the client does: it never settles when an answer breaks off in the middle. */
async function inTime(client: Client, request: Request, clock: Clock): Promise<unknown> {
  const late = Promise.withResolvers<never>();
  const abort = new AbortController();
  const timer = clock.after(TIMEOUT_MS, () => {
    abort.abort();
    late.reject(new AppError('UNAVAILABLE', `the container engine did not answer within ${TIMEOUT_MS} ms`));
  });
  try {
    return await Promise.race([request(client, abort.signal), late.promise]);
  } finally {
    timer.cancel();
  }
}

/** Loaded when it is needed: its many dependencies take longer to load than the rest of the start. */
async function connect(socketPath: string): Promise<Client> {
  const { default: Docker } = await import('dockerode');
  // The client takes from DOCKER_HOST what is not said here; only the configured socket is ever asked.
  const docker: unknown = new Docker({ socketPath, protocol: 'http', host: undefined, port: undefined });
  return docker as Client;
}

async function socketState(
  options: DockerEngineOptions,
): Promise<{ connected: true } | { connected: false; reason: string }> {
  const { socket } = options;
  try {
    await access(socket, constants.R_OK | constants.W_OK);
    return { connected: true };
  } catch (cause) {
    writeDebug(options, 'services', () => ({ message: `${socket} can't be used: ${messageOf(cause)}` }));
    return { connected: false, reason: `${reasonOf(cause, socket)}; ${HOW_TO_CONNECT}` };
  }
}

const HOW_TO_CONNECT =
  'set OHP_DOCKER_SOCKET to the socket of a Docker Engine, and let the user of this process read and write it (group docker)';

function reasonOf(cause: unknown, socket: string): string {
  const denied =
    cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM');
  return denied
    ? `no container engine is connected: this process may not use ${socket}`
    : `no container engine is connected: there is no ${socket}`;
}

function parse<Answer>(schema: z.ZodType<Answer>, answer: unknown): Answer {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  throw new AppError('UPSTREAM_FAILED', 'the container engine answered something this system does not know', {
    cause: result.error,
  });
}

function failure(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  if (cause instanceof Error && 'statusCode' in cause)
    return new AppError('UPSTREAM_FAILED', `the container engine refused: ${cleanText(cause.message)}`, {
      cause,
    });
  return new AppError('UNAVAILABLE', `the container engine does not answer; ${HOW_TO_CONNECT}`, { cause });
}

function containerOf(found: z.output<typeof containersSchema>[number]): Container {
  return {
    id: found.Id,
    names: (found.Names ?? []).map((name) => name.replace(/^\//, '')),
    image: found.Image,
    state: found.State,
    status: found.Status,
    createdAt: found.Created * SECOND,
    ports: (found.Ports ?? []).map((port) => ({
      containerPort: port.PrivatePort,
      protocol: port.Type,
      hostAddress: port.IP,
      hostPort: port.PublicPort,
    })),
  };
}
