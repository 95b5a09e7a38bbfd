/**
 * Lets a program for Node's HTTP server answer an `Exchange`: `oidc-provider` is one. Its requests and replies are
 * small, so both are held whole. What the client sent about itself (address, scheme, host) is replaced by what the
 * gateway found out.
 */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { AppError } from '../core/errors.ts';
import type { Exchange } from '../core/exchange.ts';

const KIB = 1024;
/** Forms and client metadata; the largest in use are key sets of a few kilobytes. */
const MAX_BODY_BYTES = 64 * KIB;

/** Fields about the way here, which only the gateway may tell. */
const FORWARDED = /^(?:forwarded$|x-forwarded-|x-real-ip$)/;

/** A request as the program gets it: what was asked for, and the whole body. */
export interface HeldRequest {
  readonly path: string;
  /** Without `?`. */
  readonly query: string;
  readonly body: Buffer;
}

export async function hold(exchange: Exchange, path = exchange.path): Promise<HeldRequest> {
  return { path, query: exchange.query, body: await readBody(exchange) };
}

/** `held` may say something else than what was asked, where this system reads a request in its own way. */
export async function answerWith(
  answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  exchange: Exchange,
  held: HeldRequest,
): Promise<void> {
  const request = requestOf(exchange, held);
  const response = new HeldResponse(request);
  await Promise.all([answer(request, response), response.ended]);
  send(exchange, response);
}

function requestOf(exchange: Exchange, { path, query, body }: HeldRequest): IncomingMessage {
  const request = new IncomingMessage(new Socket());
  request.method = exchange.method;
  request.url = query === '' ? path : `${path}?${query}`;
  request.httpVersionMajor = 1;
  request.httpVersionMinor = 1;
  request.httpVersion = '1.1';
  request.headers = headersOf(exchange, body);
  request.complete = true;
  if (body.length > 0) request.push(body);
  request.push(null);
  return request;
}

function headersOf(
  { headers, authority, scheme, clientAddress }: Exchange,
  body: Buffer,
): IncomingMessage['headers'] {
  const passed = Object.entries(headers).filter(([name]) => !name.startsWith(':') && !FORWARDED.test(name));
  const { 'transfer-encoding': _, 'content-length': _length, ...rest } = Object.fromEntries(passed);
  return {
    ...rest,
    host: authority,
    'x-forwarded-host': authority,
    'x-forwarded-proto': scheme,
    'x-forwarded-for': clientAddress,
    ...(body.length > 0 && { 'content-length': String(body.length) }),
  };
}

async function readBody({ body, headers }: Exchange): Promise<Buffer> {
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  if (!hasBody) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new AppError(
        'TOO_LARGE',
        `the body has more than ${MAX_BODY_BYTES} bytes, which is the limit here`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A response that nobody reads yet. */
class HeldResponse extends ServerResponse {
  readonly chunks: Buffer[] = [];
  readonly ended: Promise<void>;
  readonly #end: () => void;

  constructor(request: IncomingMessage) {
    super(request);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
  }

  override write(chunk: string | Uint8Array): boolean {
    this.chunks.push(typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk));
    return true;
  }

  override end(chunk?: unknown): this {
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) this.write(chunk);
    this.#end();
    this.emit('finish');
    return this;
  }
}

function send({ reply, method }: Exchange, response: HeldResponse): void {
  const body = Buffer.concat(response.chunks);
  for (const [name, value] of Object.entries(response.getHeaders())) {
    if (value === undefined || name === 'content-length' || name === 'transfer-encoding') continue;
    reply.setHeader(name, typeof value === 'number' ? String(value) : value);
  }
  reply.setHeader('content-length', String(body.length));
  reply.writeHead(response.statusCode);
  reply.end(method === 'HEAD' ? undefined : body);
}
