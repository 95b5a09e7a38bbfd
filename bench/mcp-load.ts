/** The load on an MCP endpoint, written as bytes: a client library would cost more than the server that is measured. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ADMINISTRATOR } from './product.ts';

/** Requests of a load are under way on this many connections at once. */
const CONNECTIONS = 8;

export interface Endpoint {
  readonly port: number;
  readonly secure: boolean;
}

export interface Load {
  readonly endpoint: Endpoint;
  readonly bytes: Buffer;
  readonly count: number;
}

export const loadNames = ['modern call', 'modern list', 'legacy call', 'legacy list'] as const;
export type LoadName = (typeof loadNames)[number];

export function loadsOf(session: string): Record<LoadName, Buffer> {
  const ofSession = { 'mcp-session-id': session, 'mcp-protocol-version': LEGACY };
  return {
    'modern call': post(modern('tools/call', call.name), rpc('tools/call', { ...call, _meta: envelope })),
    'modern list': post(modern('tools/list'), rpc('tools/list', { _meta: envelope })),
    'legacy call': post(ofSession, rpc('tools/call', call)),
    'legacy list': post(ofSession, rpc('tools/list', {})),
  };
}

const LEGACY = '2025-06-18';
const MODERN = '2026-07-28';
const clientInfo = { name: 'bench', version: '1' };
const envelope = {
  'io.modelcontextprotocol/protocolVersion': MODERN,
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': clientInfo,
};
const call = { name: 'echo', arguments: { message: 'hello' } };
const rpc = (method: string, params: object) => ({ jsonrpc: '2.0', id: 1, method, params });
const modern = (method: string, name?: string) => ({
  'mcp-protocol-version': MODERN,
  'mcp-method': method,
  ...(name !== undefined && { 'mcp-name': name }),
});

const post = (headers: Record<string, string>, body: object): Buffer => requestBytes('POST', headers, body);

function requestBytes(method: string, headers: Record<string, string>, body?: object): Buffer {
  const text = body === undefined ? '' : JSON.stringify(body);
  const all: Record<string, string> = {
    host: 'localhost',
    authorization: `Bearer ${ADMINISTRATOR}`,
    accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
    ...(body !== undefined && {
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(text)),
    }),
    ...headers,
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} /mcp HTTP/1.1\r\n${head.join('')}\r\n${text}`);
}

/** One request after the other on one connection. */
export class Connection {
  readonly #socket: Socket;
  #received = '';
  #onReply: ((head: string) => void) | undefined;
  #onError: ((error: Error) => void) | undefined;

  constructor({ port, secure }: Endpoint) {
    const options = { port, host: '127.0.0.1' };
    // Who answers is known: it was started for this.
    this.#socket = secure
      ? connectTls({ ...options, servername: 'localhost', rejectUnauthorized: false })
      : connect(options);
    this.#socket.setNoDelay().on('data', (chunk: Buffer) => this.#read(chunk.toString('latin1')));
    this.#socket.on('error', (error) => this.#onError?.(error));
    this.#socket.on('close', () => this.#onError?.(new Error('the server closed the connection')));
  }

  /** Resolves to the head of the reply when the whole of it has come, or the beginning of a standing stream. */
  send(bytes: Buffer): Promise<string> {
    this.#socket.write(bytes);
    return new Promise((resolve, reject) => {
      this.#onReply = resolve;
      this.#onError = reject;
    });
  }

  close(): void {
    this.#onError = undefined;
    this.#socket.destroy();
  }

  #read(text: string): void {
    this.#received += text;
    const end = this.#received.indexOf('\r\n\r\n');
    if (end === -1) return;
    const head = this.#received.slice(0, end);
    if (!isWhole(head, this.#received, end)) return;
    this.#received = '';
    const done = this.#onReply;
    this.#onReply = this.#onError = undefined;
    done?.(head);
  }
}

function isWhole(head: string, received: string, end: number): boolean {
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) return received.length >= end + 4 + Number(length);
  const isStream = /text\/event-stream/i.test(head);
  return received.endsWith('0\r\n\r\n') || (isStream && isStanding(received)) || / (?:202|204) /.test(head);
}

/** A standing stream begins with a comment and has no end. */
const isStanding = (received: string): boolean =>
  !received.includes('data: {') && received.includes(': open');

export async function openSession(endpoint: Endpoint, connection?: Connection): Promise<string> {
  const used = connection ?? new Connection(endpoint);
  const params = { protocolVersion: LEGACY, capabilities: {}, clientInfo };
  const head = await used.send(post({}, rpc('initialize', params)));
  if (!connection) used.close();
  const id = /mcp-session-id: (\S+)/i.exec(head)?.[1];
  if (id === undefined) throw new Error(`no session: ${head}`);
  return id;
}

export async function openStream(endpoint: Endpoint, session: string): Promise<Connection> {
  const connection = new Connection(endpoint);
  const head = await connection.send(requestBytes('GET', { 'mcp-session-id': session }));
  requireOk(head);
  return connection;
}

export async function endSession(connection: Connection, session: string): Promise<void> {
  const head = await connection.send(requestBytes('DELETE', { 'mcp-session-id': session }));
  if (!/^HTTP\/1\.1 20[04]/.test(head)) throw new Error(`the session did not end: ${head}`);
}

function requireOk(head: string): void {
  if (!head.startsWith('HTTP/1.1 200')) throw new Error(`refused: ${head}`);
}

/** As fast as it goes. */
export async function drive({ endpoint, bytes, count }: Load): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const connection = new Connection(endpoint);
      while (left > 0) {
        left -= 1;
        requireOk(await connection.send(bytes));
      }
      connection.close();
    }),
  );
}

/**
 * At a fixed rate, whatever the answers take: milliseconds from when each request was due, so that a server which
 * holds up one request is charged for those behind it.
 */
export async function drivePaced({ endpoint, bytes, count }: Load, rps: number): Promise<number[]> {
  const idle = Array.from({ length: CONNECTIONS }, () => new Connection(endpoint));
  const latencies: number[] = [];
  const pending: Promise<void>[] = [];
  const started = performance.now();
  for (let i = 0; i < count; i += 1) {
    const due = started + (i * 1000) / rps;
    while (performance.now() < due) await new Promise((resolve) => setImmediate(resolve));
    const connection = idle.pop() ?? new Connection(endpoint);
    pending.push(
      connection.send(bytes).then((head) => {
        requireOk(head);
        latencies.push(performance.now() - due);
        idle.push(connection);
      }),
    );
  }
  await Promise.all(pending);
  for (const connection of idle) connection.close();
  return latencies;
}
