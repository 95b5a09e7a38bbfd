/**
 * HTTP to a program of this machine by its Unix socket, or to an engine by TLS: what the engine and the broker are asked by.
 * Everything is limited: time, size of an answer, silence of a stream. Connections are not kept.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { type Clock, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { type Log, writeDebug } from '../core/record.ts';

/** An engine that is at work on something else answers late; one that is gone refuses at once. */
const TIMEOUT_MS = 15 * SECOND;
const MAX_ANSWER_BYTES = 33_554_432;
const MAX_HEADER_BYTES = 65_536;

export type WireTarget =
  | { readonly socket: string }
  | {
      readonly host: string;
      readonly port: number;
      /** Asked for each connection: keys are replaced while this runs. */
      readonly credentials: () => Promise<Credentials>;
    };

/** PEM */
export interface Credentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface WireOptions {
  target: WireTarget;
  /** In messages: `the container engine`. */
  name: string;
  clock: Clock;
}

export interface WireRequest {
  method: 'GET' | 'POST' | 'DELETE';
  /** With its query; each part that is not ours is encoded. */
  path: string;
  body?: unknown;
  headers?: Readonly<Record<string, string>> | undefined;
  /** Until the whole answer is here, or its head when it is a stream. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

export interface WireAnswer {
  status: number;
  text: string;
}

export interface Wire {
  /** @throws AppError UNAVAILABLE when the time is up; else what the system says of the connection */
  ask(request: WireRequest): Promise<WireAnswer>;
  /**
   * Chunks of a body that goes on. Who stops reading closes the connection; after `signal` it ends without an error.
   * @param options.refused what a status other than 2xx throws, from the whole text of the answer
   * @param options.silenceMs longest time without a byte; absent: none
   */
  stream(request: WireRequest, options: StreamOptions): AsyncGenerator<Buffer>;
}

export interface StreamOptions {
  refused: (answer: WireAnswer) => Error;
  silenceMs?: number;
}

/** What the system says against using a socket; undefined: this process may, and it is there. */
export async function socketFault(
  socket: string,
  parts: { clock: Clock; log: Log },
): Promise<{ cause: unknown } | undefined> {
  try {
    await access(socket, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (cause) {
    writeDebug(parts, 'services', () => ({ message: `${socket} can't be used: ${messageOf(cause)}` }));
    return { cause };
  }
}

export function createWire(options: WireOptions): Wire {
  const { name, clock } = options;
  const late = (ms: number) => new AppError('UNAVAILABLE', `${name} did not answer within ${ms} ms`);
  return {
    async ask(request) {
      const { timeoutMs = TIMEOUT_MS, signal } = request;
      const cancel = new AbortController();
      const onAbort = () => cancel.abort(new AppError('CANCELLED', 'cancelled'));
      if (signal?.aborted === true) onAbort();
      signal?.addEventListener('abort', onAbort, { once: true });
      const timer = clock.after(timeoutMs, () => cancel.abort(late(timeoutMs)));
      try {
        const response = await send(options, request, cancel.signal);
        return { status: response.statusCode ?? 0, text: await textOf(response, name) };
      } catch (cause) {
        throw cancel.signal.aborted ? cancel.signal.reason : cause;
      } finally {
        timer.cancel();
        signal?.removeEventListener('abort', onAbort);
      }
    },
    async *stream(request, { refused, silenceMs }) {
      const { timeoutMs = TIMEOUT_MS, signal } = request;
      const cancel = new AbortController();
      const onAbort = () => cancel.abort();
      if (isAborted(signal)) return;
      signal?.addEventListener('abort', onAbort, { once: true });
      let timer = clock.after(timeoutMs, () => cancel.abort(late(timeoutMs)));
      try {
        const response = await send(options, request, cancel.signal);
        const status = response.statusCode ?? 0;
        if (status < 200 || status > 299) throw refused({ status, text: await textOf(response, name) });
        const watch = () => {
          timer.cancel();
          if (silenceMs !== undefined) timer = clock.after(silenceMs, () => cancel.abort(late(silenceMs)));
        };
        watch();
        for await (const chunk of response) {
          watch();
          yield chunk as Buffer;
        }
      } catch (cause) {
        if (isAborted(signal)) return;
        throw cancel.signal.aborted ? cancel.signal.reason : cause;
      } finally {
        timer.cancel();
        cancel.abort();
        signal?.removeEventListener('abort', onAbort);
      }
    },
  };
}

const isAborted = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;

async function send(
  { target }: WireOptions,
  request: WireRequest,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const way = await wayTo(target);
  const { method, path, body, headers } = request;
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const common: RequestOptions = {
    method,
    path,
    signal,
    agent: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    headers: {
      host: 'localhost',
      ...headers,
      ...(bytes && { 'content-type': 'application/json', 'content-length': bytes.length }),
    },
  };
  return new Promise((resolve, reject) => {
    const sent =
      'socketPath' in way
        ? httpRequest({ ...common, ...way })
        : httpsRequest({ ...common, ...way, rejectUnauthorized: true, minVersion: 'TLSv1.2' });
    sent.once('response', resolve);
    sent.once('error', reject);
    // After the answer has begun, its own error is what is told.
    sent.once('response', () => sent.on('error', () => undefined));
    sent.end(bytes);
  });
}

async function wayTo(target: WireTarget) {
  if ('socket' in target) return { socketPath: target.socket };
  const { host, port, credentials } = target;
  // Node would take the name to check from the field Host; an address has none (RFC 6066 §3) and is checked itself.
  return { host, port, servername: isIP(host) === 0 ? host : '', ...(await credentials()) };
}

async function textOf(response: IncomingMessage, name: string): Promise<string> {
  const bytes = await bytesOf(
    response,
    MAX_ANSWER_BYTES,
    () => new AppError('UPSTREAM_FAILED', `${name} answered more than ${MAX_ANSWER_BYTES} bytes`),
  );
  return bytes.toString('utf8');
}

/** A whole body, of `most` bytes. @throws what `tooMany` makes */
export async function bytesOf(
  message: IncomingMessage,
  most: number,
  tooMany: () => AppError,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message) {
    size += (chunk as Buffer).length;
    if (size > most) throw tooMany();
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

const MAX_LINE_BYTES = 1_048_576;

/** The values of newline-delimited JSON; a line that is longer, or is no JSON, is UPSTREAM_FAILED. */
export async function* jsonLines(chunks: AsyncIterable<Buffer>, name: string): AsyncGenerator<unknown> {
  const fault = (why: string, cause?: unknown) =>
    new AppError('UPSTREAM_FAILED', `${name} answered ${why}`, { cause });
  let rest = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE)) {
      const line = rest.subarray(0, end).toString('utf8').trim();
      rest = rest.subarray(end + 1);
      if (line !== '') yield parsed(line, fault);
    }
    if (rest.length > MAX_LINE_BYTES) throw fault(`a line of more than ${MAX_LINE_BYTES} bytes`);
  }
  const line = rest.toString('utf8').trim();
  if (line !== '') yield parsed(line, fault);
}

const NEWLINE = 0x0a;

function parsed(line: string, fault: (why: string, cause?: unknown) => AppError): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw fault('something this system does not know', cause);
  }
}
