/** The port of the engine by the socket of a broker, which has the engine and the policy. See `broker.server.ts`. */
import type { z } from 'zod';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { AppError, isErrorCode } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import { faultSchema, isChange, lineSchema, type VerbName, type verbs, verbOf } from './broker.verbs.ts';
import type { ContainerEngine } from './engine.ts';
import { createWire, jsonLines, socketFault, type WireAnswer, type WireRequest } from './wire.ts';

const NAME = 'the broker of the container engine';
/** More than the broker itself waits for its engine: `TIMEOUT_MS` of `wire.ts`, twice where a swarm is asked one after the other. */
const READ_MS = 40 * SECOND;
const WORK_MS = 3 * MINUTE;
const MAX_MESSAGE = 4000;

export interface BrokerClientOptions {
  /** Path of the broker's socket. */
  socket: string;
  clock: Clock;
  log: Log;
}

type Answer<Name extends VerbName> = z.output<(typeof verbs)[Name]['answers']>;

export function createBrokerEngine(options: BrokerClientOptions): ContainerEngine {
  const { ask, stream } = createAsker(options);
  const tell = async (name: VerbName, ...args: unknown[]) => void (await ask(name, args));
  const longest = ({ timeoutMs = 0 }: { timeoutMs?: number | undefined }) => WORK_MS + timeoutMs;
  return {
    async ping() {
      const reason = await whyNot(options);
      return reason === undefined ? ask('ping', []) : { connected: false, reason };
    },
    list: (given) => ask('list', [given]),
    inspect: (ref) => ask('inspect', [ref]),
    check: (spec) => tell('check', spec),
    create: (spec) => ask('create', [spec]),
    roll: (ref, spec) => tell('roll', ref, spec),
    rollBack: (ref, labels) => ask('rollBack', [ref, labels]),
    start: (ref) => tell('start', ref),
    stop: async (ref, given = {}) => void (await ask('stop', [ref, given], longest(given))),
    restart: async (ref, given = {}) => void (await ask('restart', [ref, given], longest(given))),
    remove: (ref, given = {}) => tell('remove', ref, given),
    logs: (ref, { signal, ...given } = {}) => stream('logs', [ref, given], signal),
    stats: (ref) => ask('stats', [ref]),
    pullImage: (reference, { signal } = {}) => stream('pullImage', [reference], signal),
    listImages: () => ask('listImages', []),
    inspectImage: (reference) => ask('inspectImage', [reference]),
    removeImage: (reference) => tell('removeImage', reference),
    createNetwork: (spec) => ask('createNetwork', [spec]),
    listNetworks: () => ask('listNetworks', []),
    removeNetwork: (ref) => tell('removeNetwork', ref),
    createVolume: (spec) => ask('createVolume', [spec]),
    listVolumes: () => ask('listVolumes', []),
    removeVolume: (name) => tell('removeVolume', name),
    events: ({ signal, ...given } = {}) => stream('events', [given], signal),
  };
}

function createAsker(options: BrokerClientOptions) {
  const { socket, clock } = options;
  const wire = createWire({ target: { socket }, name: NAME, clock });
  const requestOf = (name: VerbName, args: unknown[]): WireRequest => ({
    method: 'POST',
    path: `/v1/${name}`,
    body: args,
    timeoutMs: isChange(name) || name === 'stats' ? WORK_MS : READ_MS,
  });

  async function ready(): Promise<void> {
    const reason = await whyNot(options);
    if (reason !== undefined) throw new AppError('UNAVAILABLE', reason);
  }

  async function ask<Name extends VerbName>(
    name: Name,
    args: unknown[],
    timeoutMs?: number,
  ): Promise<Answer<Name>> {
    await ready();
    const request = { ...requestOf(name, args), ...(timeoutMs !== undefined && { timeoutMs }) };
    const answer = await wire.ask(request).catch((cause: unknown) => {
      throw failure(cause);
    });
    if (answer.status !== 200) throw refusal(answer);
    return parsed(name, valueIn(answer.text, 'answer'));
  }

  async function* stream<Name extends VerbName>(
    name: Name,
    args: unknown[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Answer<Name>> {
    await ready();
    try {
      const request = { ...requestOf(name, args), timeoutMs: READ_MS, signal };
      for await (const value of jsonLines(wire.stream(request, { refused: refusal }), NAME)) {
        const line = lineSchema.safeParse(value).data;
        if (!line) throw notKnown();
        if ('end' in line) return;
        if ('fault' in line) throw faultOf(line.fault);
        yield parsed(name, line.answer);
      }
    } catch (cause) {
      throw failure(cause);
    }
    if (signal?.aborted !== true)
      throw new AppError('UNAVAILABLE', `${NAME} went away in the middle of its answer`);
  }

  return { ask, stream };
}

function parsed<Name extends VerbName>(name: Name, value: unknown): Answer<Name> {
  const result = verbOf(name).answers.safeParse(value);
  if (!result.success) throw notKnown(result.error);
  // Checked by the schema of that very verb, whose type the table lost on the way.
  return result.data as Answer<Name>;
}

const notKnown = (cause?: unknown): AppError =>
  new AppError(
    'UPSTREAM_FAILED',
    `${NAME} answered something this system does not know; are both of one version?`,
    {
      cause,
    },
  );

function valueIn(text: string, key: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && key in value) return Reflect.get(value, key);
  } catch (cause) {
    throw notKnown(cause);
  }
  throw notKnown();
}

function refusal({ text }: WireAnswer): AppError {
  try {
    const fault = faultSchema.safeParse(JSON.parse(text)).data;
    return fault ? faultOf(fault) : notKnown();
  } catch (cause) {
    return notKnown(cause);
  }
}

function faultOf({ code, message, details, isQuoting }: z.output<typeof faultSchema>): AppError {
  if (!isErrorCode(code)) return notKnown();
  return new AppError(code, cleanText(message, MAX_MESSAGE), { isQuoting, ...(details && { details }) });
}

/** Why nothing can be asked; undefined when the socket is there. */
async function whyNot(options: BrokerClientOptions): Promise<string | undefined> {
  const { socket } = options;
  if (await socketFault(socket, options))
    return `no container engine is connected: ${socket}, the socket of its broker, can't be used by this process; start the broker with ohp broker, and let the user of this process read and write its socket (broker.group)`;
  return undefined;
}

function failure(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  return new AppError('UNAVAILABLE', `${NAME} does not answer; is ohp broker running?`, { cause });
}
