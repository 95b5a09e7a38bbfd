/**
 * HTTP/1.1 as bytes, for what every client library would sanitise: what is written here arrives as it is. Reads
 * replies strictly by their framing, so that a test waits for "two replies" or "the end" and never for time.
 */
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import { PATIENCE_MS } from './eventually.ts';
import type { Product } from './product.ts';

export interface WireReply {
  status: number;
  reason: string;
  /** Name, value, name, value: as they came. */
  rawHeaders: string[];
  headers: Record<string, string>;
  body: string;
}

export interface WireOptions {
  /** Requests whose method is HEAD have replies without a body, by their position. */
  head?: boolean;
  localAddress?: string;
}

/** One client connection. */
export class Wire implements Disposable {
  readonly socket: Socket;
  readonly #head: boolean;
  #bytes = Buffer.alloc(0);
  #isEnded = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket, { head = false }: WireOptions = {}) {
    this.socket = socket;
    this.#head = head;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    });
    const ended = () => {
      this.#isEnded = true;
      this.#wake?.();
    };
    socket.on('end', ended).on('close', ended).on('error', ended);
  }

  write(bytes: string | Uint8Array): this {
    if (this.socket.writable)
      this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    return this;
  }

  /** The next reply that is not interim; undefined when the connection ends before one is whole. */
  async reply(): Promise<WireReply | undefined> {
    for (;;) {
      const reply = await this.#next();
      if (!reply || reply.status >= 200 || reply.status === 101) return reply;
    }
  }

  /** Everything up to the end of the connection. */
  async replies(): Promise<WireReply[]> {
    const all: WireReply[] = [];
    for (;;) {
      const reply = await this.reply();
      if (!reply) return all;
      all.push(reply);
    }
  }

  /** Resolves when the other side has ended the connection. */
  async ended(): Promise<void> {
    while (!this.#isEnded) await this.#more();
  }

  /** What has come and was not read as a reply. */
  get rest(): Buffer {
    return this.#bytes;
  }

  async #next(): Promise<WireReply | undefined> {
    for (;;) {
      const read = readReply(this.#bytes, this.#head, this.#isEnded);
      if (read) {
        this.#bytes = this.#bytes.subarray(read.length);
        return read.reply;
      }
      if (this.#isEnded) return undefined;
      await this.#more();
    }
  }

  async #more(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const patience = setTimeout(
      () => reject(new Error(`nothing more came; so far: ${this.#bytes.toString('latin1').slice(0, 500)}`)),
      PATIENCE_MS,
    );
    await promise.finally(() => clearTimeout(patience));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

function readReply(
  bytes: Buffer,
  isHead: boolean,
  isEnded: boolean,
): { reply: WireReply; length: number } | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line = '', ...fields] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const rawHeaders = fields.flatMap((field) => {
    const colon = field.indexOf(':');
    return [field.slice(0, colon), field.slice(colon + 1).trim()];
  });
  const headers: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2)
    headers[(rawHeaders[i] ?? '').toLowerCase()] = rawHeaders[i + 1] ?? '';
  const status = Number(line.split(' ')[1]);
  const reply = { status, reason: line.split(' ').slice(2).join(' '), rawHeaders, headers, body: '' };
  const start = end + 4;
  if (isHead || status < 200 || status === 204 || status === 304) return { reply, length: start };
  if (headers['transfer-encoding'] !== undefined) return readChunked(bytes, start, reply);
  if (headers['content-length'] === undefined) {
    if (!isEnded) return undefined;
    return { reply: { ...reply, body: bytes.subarray(start).toString() }, length: bytes.length };
  }
  const length = start + Number(headers['content-length']);
  if (bytes.length < length) return undefined;
  return { reply: { ...reply, body: bytes.subarray(start, length).toString() }, length };
}

function readChunked(
  bytes: Buffer,
  start: number,
  reply: WireReply,
): { reply: WireReply; length: number } | undefined {
  let at = start;
  let body = '';
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString('latin1'), 16);
    at = lineEnd + 2;
    if (size === 0) {
      // Trailers, if there are any, up to an empty line.
      const stop = bytes.indexOf('\r\n', at) === at ? at : bytes.indexOf('\r\n\r\n', at) + 2;
      return stop < at ? undefined : { reply: { ...reply, body }, length: stop + 2 };
    }
    if (bytes.length < at + size + 2) return undefined;
    body += bytes.subarray(at, at + size).toString();
    at += size + 2;
  }
}

/** Plain HTTP. */
export async function wireHttp(product: Pick<Product, 'httpPort'>, options: WireOptions = {}): Promise<Wire> {
  const { localAddress } = options;
  const socket = connectTcp({
    port: product.httpPort,
    host: '127.0.0.1',
    ...(localAddress && { localAddress }),
  });
  await once(socket, 'connect');
  return new Wire(socket, options);
}

/** HTTPS for this server name; undefined: none is sent. */
export async function wireHttps(
  { httpsPort, ca }: Pick<Product, 'httpsPort' | 'ca'>,
  servername: string | undefined,
  options: WireOptions & { alpn?: string } = {},
): Promise<Wire> {
  const { localAddress, alpn = 'http/1.1' } = options;
  const socket = connectTls({
    port: httpsPort,
    host: '127.0.0.1',
    ALPNProtocols: [alpn],
    ...(localAddress && { localAddress }),
    // Without a name there is nothing to compare the certificate with; the chain is checked all the same.
    ...(servername === undefined ? { ca, checkServerIdentity: () => undefined } : { ca, servername }),
  });
  await once(socket, 'secureConnect');
  return new Wire(socket, options);
}

export interface SeenRequest {
  /** Request line. */
  line: string;
  target: string;
  /** `name: value` as it came, name by name. */
  fields: [name: string, value: string][];
  body: string;
  /** Number of the connection it came on. */
  connection: number;
}

export interface StrictUpstream extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly seen: SeenRequest[];
  /** Of each chunked request that had any, as bytes. */
  readonly seenTrailers: string[];
  /** What came that no strict reader would take for a request. */
  readonly faults: string[];
  connections: number;
}

/** What to send for a request, as bytes; `end` closes the connection after it. */
export type WireAnswer = string | { bytes: string; end: true };

/**
 * An upstream that reads as strictly as RFC 9112 allows, and keeps its connections: whatever reaches it that is not
 * exactly one well-framed request after another is a fault.
 */
export async function startStrictUpstream(
  answer: (request: SeenRequest) => WireAnswer = ownAnswer,
): Promise<StrictUpstream> {
  const seen: SeenRequest[] = [];
  const seenTrailers: string[] = [];
  const faults: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const connection = ++upstream.connections;
    let bytes = '';
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.toString('latin1');
      for (;;) {
        const read = readStrictly(bytes);
        if (read === undefined) return;
        if (typeof read === 'string') {
          faults.push(`${read}: ${JSON.stringify(bytes.slice(0, 400))}`);
          socket.destroy();
          return;
        }
        bytes = bytes.slice(read.length);
        const request = { ...read.request, connection };
        seen.push(request);
        if (read.trailers) seenTrailers.push(read.trailers);
        const reply = answer(request);
        if (typeof reply === 'string') socket.write(Buffer.from(reply, 'latin1'));
        else socket.end(Buffer.from(reply.bytes, 'latin1'));
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const upstream: StrictUpstream = {
    port,
    url: `http://127.0.0.1:${port}`,
    seen,
    seenTrailers,
    faults,
    connections: 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return upstream;
}

export const reply200 = (body: string, more = ''): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;

const ownAnswer = ({ target }: SeenRequest): WireAnswer => reply200(`answer to ${target}`);

const REQUEST_LINE = /^[A-Z-]+ \/[\x21-\x7e]* HTTP\/1\.1$/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

interface StrictRead {
  request: Omit<SeenRequest, 'connection'>;
  length: number;
  trailers?: string;
}

/** A request and its length; what is wrong with it; undefined: more is needed. */
function readStrictly(bytes: string): StrictRead | string | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line = '', ...rest] = bytes.slice(0, end).split('\r\n');
  if (!REQUEST_LINE.test(line)) return `not a request line ${JSON.stringify(line)}`;
  const fields: [string, string][] = [];
  for (const text of rest) {
    const [, name, value] = FIELD.exec(text) ?? [];
    if (name === undefined || value === undefined) return `not a field ${JSON.stringify(text)}`;
    fields.push([name, value.trim()]);
  }
  const of = (name: string) =>
    fields.filter(([found]) => found.toLowerCase() === name).map(([, value]) => value);
  const [lengths, codings] = [of('content-length'), of('transfer-encoding')];
  if (of('host').length !== 1) return 'not one Host field';
  if (lengths.length + codings.length > 1) return 'more than one framing field';
  const request = { line, target: line.split(' ')[1] ?? '', fields, body: '' };
  const start = end + 4;
  if (codings.length === 1) {
    if (codings[0] !== 'chunked') return `transfer coding ${codings[0]}`;
    const read = readStrictChunks(bytes, start);
    return typeof read === 'object' ? { ...read, request: { ...request, body: read.body } } : read;
  }
  if (lengths.length === 0) return { request, length: start };
  if (!/^\d+$/.test(lengths[0] ?? '')) return `content-length ${lengths[0]}`;
  const length = start + Number(lengths[0]);
  return bytes.length < length
    ? undefined
    : { request: { ...request, body: bytes.slice(start, length) }, length };
}

function readStrictChunks(
  bytes: string,
  start: number,
): { body: string; length: number; trailers: string } | string | undefined {
  let at = start;
  let body = '';
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const line = bytes.slice(at, lineEnd);
    if (!/^[0-9a-fA-F]{1,8}$/.test(line)) return `chunk size ${JSON.stringify(line)}`;
    const size = Number.parseInt(line, 16);
    at = lineEnd + 2;
    if (size === 0) {
      const stop = bytes.startsWith('\r\n', at) ? at : bytes.indexOf('\r\n\r\n', at) + 2;
      return stop < at ? undefined : { body, length: stop + 2, trailers: bytes.slice(at, stop) };
    }
    if (bytes.length < at + size + 2) return undefined;
    body += bytes.slice(at, at + size);
    if (!bytes.startsWith('\r\n', at + size)) return 'chunk without an end';
    at += size + 2;
  }
}
