/**
 * The broker: the port of the engine over a Unix socket, for a process that is not to have the engine's own. The policy is
 * behind it, in this process, where who asks can't change it. Knows no host, no browser and no credential: who may open the
 * socket may ask, and the mode of its file says who that is.
 */
import { once } from 'node:events';
import { chmodSync, chownSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { AppError, errorSurface, messageOf, toAppError } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import { isChange, isVerb, type VerbName, verbOf } from './broker.verbs.ts';
import type { ContainerEngine } from './engine.ts';
import { bytesOf } from './wire.ts';

const MAX_BODY_BYTES = 1_048_576;
const MAX_CONNECTIONS = 256;
const MAX_STREAMS = 64;
/** Beside the others: by them it is known where services are. */
const MAX_EVENT_STREAMS = 8;
const HEAD_TIMEOUT_MS = 5 * SECOND;
const REQUEST_TIMEOUT_MS = 15 * SECOND;
/** A stop waits for a container as long as it may take. */
const MAX_IDLE_MS = 25 * 60 * MINUTE;
const MAX_HEADER_BYTES = 8192;
const MAX_TOLD = 10;
const PREFIX = '/v1/';
const OWNER_ONLY = 0o600;
const OWNER_AND_GROUP = 0o660;
const UMASK = 0o177;

export interface BrokerOptions {
  engine: ContainerEngine;
  /** Path of the socket; what a broker that ended left there is replaced. */
  socket: string;
  /** Number of the group that may ask too; absent: the user of this process alone. */
  group?: number | undefined;
  clock: Clock;
  log: Log;
}

/** @throws AppError CONFLICT when a broker answers there already, PRECONDITION_FAILED when something else is there. */
export async function openBroker(options: BrokerOptions): Promise<AsyncDisposable> {
  const { socket, group } = options;
  await makeRoom(socket);
  const closing = new AbortController();
  const server = createBroker(options, closing.signal);
  // Between its making and a change of its mode nobody else may open it.
  const before = process.umask(UMASK);
  server.listen(socket);
  process.umask(before);
  await once(server, 'listening');
  if (group !== undefined) chownSync(socket, process.getuid?.() ?? 0, group);
  chmodSync(socket, group === undefined ? OWNER_ONLY : OWNER_AND_GROUP);
  return {
    async [Symbol.asyncDispose]() {
      closing.abort();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function makeRoom(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket())
    throw new AppError('PRECONDITION_FAILED', `${path} is there and is no socket; name another path`);
  const probe = connect(path);
  const answers = await once(probe, 'connect').then(
    () => true,
    () => false,
  );
  probe.destroy();
  if (answers) throw new AppError('CONFLICT', `another broker answers at ${path}`);
  unlinkSync(path);
}

function createBroker(options: BrokerOptions, closing: AbortSignal): Server {
  const state = { streams: 0, events: 0 };
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEAD_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: SECOND,
    },
    (request, response) => {
      answer(request, response, { ...options, closing, state }).catch((cause: unknown) => {
        refuse(response, cause);
      });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.timeout = MAX_IDLE_MS;
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

interface Scope extends BrokerOptions {
  closing: AbortSignal;
  state: { streams: number; events: number };
}

async function answer(request: IncomingMessage, response: ServerResponse, scope: Scope): Promise<void> {
  const name = verbIn(request);
  const verb = verbOf(name);
  const given = verb.takes.safeParse(await readArguments(request));
  if (!given.success) {
    const faults = given.error.issues
      .slice(0, MAX_TOLD)
      .map(({ path, message }) => `${path.join('.') || 'arguments'}: ${message}`);
    throw new AppError('INVALID_INPUT', `${name}: ${cleanText(faults.join(' | '))}`);
  }
  // The table has a verb for each of the port, whose arguments are those that were just checked.
  const call = scope.engine[name] as (...args: unknown[]) => unknown;
  if (verb.isStream)
    return stream(response, scope, {
      kind: name === 'events' ? 'events' : 'streams',
      open: (signal) => call(...withSignal(given.data, signal)),
    });
  try {
    const found = (await call(...given.data)) ?? null;
    tell(scope, name, given.data, 'OK');
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ answer: found }));
  } catch (cause) {
    tell(scope, name, given.data, toAppError(cause).code);
    throw cause;
  }
}

function verbIn({ url = '', method, headers }: IncomingMessage): VerbName {
  const name = url.startsWith(PREFIX) ? url.slice(PREFIX.length) : '';
  if (!isVerb(name)) throw new AppError('NOT_FOUND', `there is no ${cleanText(url)} here`);
  if (method !== 'POST') throw new AppError('INVALID_INPUT', 'asked by POST only');
  if (headers['content-type'] !== 'application/json')
    throw new AppError('INVALID_INPUT', 'the arguments have to be application/json');
  return name;
}

async function readArguments(request: IncomingMessage): Promise<unknown> {
  const bytes = await bytesOf(
    request,
    MAX_BODY_BYTES,
    () => new AppError('TOO_LARGE', `the arguments are more than ${MAX_BODY_BYTES} bytes`),
  );
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new AppError('INVALID_INPUT', 'the arguments are no JSON', { cause });
  }
}

/** The signal is among the options of the verb, which are the last it takes. */
function withSignal([first, second]: unknown[], signal: AbortSignal): unknown[] {
  const isOptions = typeof first === 'object' && first !== null;
  return isOptions ? [{ ...first, signal }] : [first, { ...(typeof second === 'object' && second), signal }];
}

async function stream(
  response: ServerResponse,
  { state, closing }: Scope,
  { kind, open }: { kind: 'streams' | 'events'; open: (signal: AbortSignal) => unknown },
): Promise<void> {
  const most = kind === 'events' ? MAX_EVENT_STREAMS : MAX_STREAMS;
  if (state[kind] >= most) throw new AppError('RATE_LIMITED', `there are ${most} streams already`);
  state[kind]++;
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.once('close', leave);
  closing.addEventListener('abort', leave, { once: true });
  const write = async (line: object) => {
    if (!response.write(`${JSON.stringify(line)}\n`))
      await once(response, 'drain', { signal: gone.signal }).catch(() => undefined);
  };
  try {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' }).flushHeaders();
    for await (const item of open(gone.signal) as AsyncIterable<unknown>) await write({ answer: item });
    // What was cut off has no end.
    if (!gone.signal.aborted) await write({ end: true });
  } catch (cause) {
    await write({ fault: faultOf(cause) });
  } finally {
    state[kind]--;
    closing.removeEventListener('abort', leave);
    response.end();
  }
}

function faultOf(cause: unknown) {
  const { code, message, details, isQuoting } = toAppError(cause);
  return { code, message, ...(details && { details }), ...(isQuoting && { isQuoting }) };
}

function refuse(response: ServerResponse, cause: unknown): void {
  if (response.headersSent) return void response.destroy();
  const fault = faultOf(cause);
  const tooLarge = fault.code === 'TOO_LARGE';
  response
    .writeHead(errorSurface[fault.code].status, {
      'content-type': 'application/json',
      ...(tooLarge && { connection: 'close' }),
    })
    .end(JSON.stringify(fault));
}

/** Who changed what, without what was in it: there may be secrets. */
function tell({ log, clock }: Scope, name: VerbName, [first]: unknown[], outcome: string): void {
  if (!isChange(name)) return;
  const target =
    typeof first === 'object' && first !== null && 'name' in first ? String(first.name) : messageOf(first);
  log.write({
    time: clock.now(),
    kind: 'audit',
    level: outcome === 'OK' ? 'info' : 'warn',
    component: 'services',
    message: `${name} ${cleanText(target)}: ${outcome}`,
    operation: name,
    outcome,
  });
}
