/** One call of one operation over REST. Follows no redirect and tries nothing twice: the person at the terminal decides. */
import { type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { StringDecoder } from 'node:string_decoder';
import { AppError, isErrorCode } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { cleanText } from '../../core/untrusted.ts';
import { carriesBody, pathParamsOf } from '../arguments.ts';

const CONNECT_TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const [FIRST_ERROR, FIRST_REDIRECT, OK] = [400, 300, 200] as const;
const JSON_TYPE = 'application/json';
const EVENTS_TYPE = 'text/event-stream';
const FORM_TYPE = 'application/x-www-form-urlencoded';

export interface Server {
  url: URL;
  token: string | undefined;
  /** PEM; undefined trusts what Node trusts. */
  ca: string | undefined;
}

export interface CallOptions {
  signal: AbortSignal;
  /** Hears how a call that takes long gets on, in the server's words. */
  tell?: (message: string) => void;
}

/** @throws AppError with the code that the server answered, or UNAVAILABLE when it did not. */
export async function call(
  server: Server,
  operation: AnyOperation,
  input: Record<string, unknown>,
  { signal, tell }: CallOptions,
): Promise<Record<string, unknown>> {
  const body = carriesBody(operation);
  const inPath = new Set(pathParamsOf(operation.http.path));
  const rest = Object.entries(input).filter(([name]) => !inPath.has(name));
  const path = operation.http.path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(input[name])),
  );
  const query = body ? '' : queryOf(rest);
  const { status, headers, text } = await send(
    server,
    { method: operation.http.method, path: query === '' ? path : `${path}?${query}`, signal },
    body ? { type: JSON_TYPE, text: JSON.stringify(Object.fromEntries(rest)) } : undefined,
    operation.task === true && tell ? progressReader(tell) : undefined,
  );
  const answer = parse(text);
  if (status < FIRST_REDIRECT && answer && !('error' in answer && isEvents(headers))) return answer;
  throw errorOf(server, status, answer, headers.location);
}

/** What the server says of itself to everyone; undefined when it says nothing that is JSON. */
export async function getDocument(
  server: Server,
  path: string,
  signal: AbortSignal,
): Promise<Record<string, unknown> | undefined> {
  const { status, text } = await send(
    { ...server, token: undefined },
    { method: 'GET', path, signal },
    undefined,
  );
  return status === OK ? parse(text) : undefined;
}

/** A form to the authorization server, which has its own words for what went wrong (RFC 6749 §5.2). */
export async function postForm(
  server: Server,
  path: string,
  form: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<{ status: number; answer: Record<string, unknown> | undefined }> {
  const body = { type: FORM_TYPE, text: new URLSearchParams(form).toString() };
  const { status, text } = await send(
    { ...server, token: undefined },
    { method: 'POST', path, signal },
    body,
  );
  return { status, answer: parse(text) };
}

function queryOf(entries: [string, unknown][]): string {
  const query = new URLSearchParams();
  for (const [name, value] of entries)
    for (const one of Array.isArray(value) ? value : [value])
      query.append(name, typeof one === 'string' ? one : JSON.stringify(one));
  return query.toString();
}

interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
}

function send(
  { url, token, ca }: Server,
  options: RequestOptions,
  body: { type: string; text: string } | undefined,
  events?: EventReader,
): Promise<Answer> {
  const headers = {
    accept: events ? `${JSON_TYPE}, ${EVENTS_TYPE}` : JSON_TYPE,
    'user-agent': 'ohp',
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && {
      'content-type': body.type,
      'content-length': Buffer.byteLength(body.text),
    }),
  };
  const secure = url.protocol === 'https:';
  const start = secure ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = start(url, { ...options, headers, agent: false, ...(ca !== undefined && { ca }) });
    const timer = setTimeout(() => {
      request.destroy(new AppError('TIMEOUT', `${url.origin} does not answer; nothing was sent`));
    }, CONNECT_TIMEOUT_MS);
    request.on('socket', (socket) => {
      socket.once(secure ? 'secureConnect' : 'connect', () => clearTimeout(timer));
    });
    request.on('close', () => clearTimeout(timer));
    request.on('error', (cause) => reject(networkError(url, cause)));
    request.on('response', (response) => {
      collect(response, events).then(resolve, (cause: unknown) => reject(networkError(url, cause)));
    });
    request.end(body?.text);
  });
}

async function collect(response: IncomingMessage, events: EventReader | undefined): Promise<Answer> {
  const read = isEvents(response.headers) ? events : undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    const bytes = chunk as Buffer; // No encoding is set on the response.
    size += bytes.length;
    if (size > MAX_ANSWER_BYTES)
      throw new AppError('TOO_LARGE', `the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(bytes);
    read?.(bytes);
  }
  const text = Buffer.concat(chunks, size).toString('utf8');
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text: read ? lastOf(text) : text,
  };
}

type EventReader = (bytes: Buffer) => void;

const isEvents = (headers: IncomingMessage['headers']): boolean =>
  headers['content-type']?.startsWith(EVENTS_TYPE) === true;

/** Of the events that this server sends, each of one line of data: the last one is the answer. */
const lastOf = (text: string): string => /^data: (.*)$/m.exec(text.split('\n\n').at(-2) ?? '')?.[1] ?? '';

/** Tells each message once, as its event is whole. */
function progressReader(tell: (message: string) => void): EventReader {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let last = '';
  return (bytes) => {
    const events = (rest + decoder.write(bytes)).split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) {
      const [, data = ''] = /^event: progress\ndata: (.*)$/.exec(event) ?? [];
      const message = parse(data)?.message;
      if (typeof message === 'string' && message !== last) tell((last = message));
    }
  };
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // The caller reports an answer that is not JSON.
  }
}

function errorOf(
  { url }: Server,
  status: number,
  answer: Record<string, unknown> | undefined,
  location: string | undefined,
): AppError {
  const { code, message, details, trace_id } = (answer?.error ?? {}) as Record<string, unknown>;
  if (isErrorCode(code))
    return new AppError(code, String(message), {
      details: { ...(details as Record<string, unknown> | undefined), trace_id },
    });
  if (status >= FIRST_REDIRECT && status < FIRST_ERROR)
    return new AppError(
      'UPSTREAM_FAILED',
      `${url.origin} redirects to ${cleanText(location ?? 'nowhere')}; name it with --url`,
    );
  return new AppError(
    'UPSTREAM_FAILED',
    `${url.origin} answered ${status} with something that is not this API`,
  );
}

const UNTRUSTED = /CERT|SIGNATURE|ISSUER|SELF_SIGNED/;

function networkError({ origin }: URL, cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  const { code = '', message } = cause as NodeJS.ErrnoException;
  if (code === 'ABORT_ERR') return new AppError('CANCELLED', 'cancelled', { cause });
  if (code === 'ECONNREFUSED')
    return new AppError(
      'UNAVAILABLE',
      `nothing listens at ${origin}; is the server running (npm start)? Another one is named by --url or OHP_URL`,
      { cause },
    );
  if (UNTRUSTED.test(code))
    return new AppError(
      'UNAVAILABLE',
      `the certificate of ${origin} is not trusted (${code}); name its CA: --ca-file <data directory>/ca.pem`,
      { cause },
    );
  return new AppError('UNAVAILABLE', `${origin} cannot be reached: ${message === '' ? code : message}`, {
    cause,
  });
}
