/** Callers of the control plane as attackers write them: any Host, any header, any bytes, any credential. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request as httpRequest } from 'node:http';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { connect as tlsConnect } from 'node:tls';
import { PATIENCE_MS } from './eventually.ts';
import type { Product } from './product.ts';

/** Of every call: a reply that does not end, such as a stream that should have been refused, is a failure. */
const TIMEOUT_MS = PATIENCE_MS;
const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/** Limits that a test which walks everything would meet; the limits themselves are another row. */
export const generous = {
  mcp: {
    calls_per_minute: 1_000_000,
    calls_per_minute_per_address: 1_000_000,
    failures_per_minute_per_address: 1_000_000,
  },
};

/** Path of a file of settings for OHP_CONFIG, as text or as what it holds (JSON is YAML). Gone when the test process ends. */
export function configFile(settings: object | string): string {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-config-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'config.yaml');
  writeFileSync(path, typeof settings === 'string' ? settings : JSON.stringify(settings));
  return path;
}

export interface Sent {
  method?: string;
  path?: string;
  /** Undefined: no credential. */
  token?: string | undefined;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer | object | undefined;
}

export interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
  bytes: Buffer;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every operation
  json: any;
}

/** One request over plain HTTP to the control listener. An object as body is sent as JSON. */
export function send(product: Pick<Product, 'httpPort'>, sent: Sent): Promise<Reply> {
  const { method = 'GET', path = '/', token, headers = {}, body } = sent;
  const isJson = typeof body === 'object' && !Buffer.isBuffer(body);
  const payload = isJson ? JSON.stringify(body) : body;
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      host: '127.0.0.1',
      port: product.httpPort,
      method,
      path,
      agent,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: {
        host: `localhost:${product.httpPort}`,
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(isJson && { 'content-type': 'application/json' }),
        ...(payload !== undefined && { 'content-length': Buffer.byteLength(payload) }),
        ...headers,
      },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      buffer(response).then((bytes) => resolve(replyOf(response, bytes)), reject);
    });
    request.end(payload);
  });
}

const replyOf = ({ statusCode = 0, headers }: IncomingMessage, bytes: Buffer): Reply => {
  const text = bytes.toString();
  return { status: statusCode, headers, text, bytes, json: jsonOf(text) };
};

/** JSON as it is, or the last event of an event stream. */
function jsonOf(text: string): unknown {
  const event = text.match(/^data: ?(\{.*\})$/gm)?.at(-1);
  try {
    return JSON.parse(event === undefined ? text : event.replace(/^data: ?/, ''));
  } catch {
    return undefined; // Pages and refusals may be text; the test looks at `text` then.
  }
}

export interface RawReply {
  status: number;
  /** Lower case names; the last one of each. */
  headers: Record<string, string>;
  body: string;
  /** All that came, to the end of the connection. */
  all: string;
}

/** Bytes as they are, on a connection of their own; resolves when the other side closes it. */
export function raw(
  { httpPort, httpsPort, ca }: Pick<Product, 'httpPort' | 'httpsPort' | 'ca'>,
  bytes: string | Buffer,
  servername?: string,
): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    const host = '127.0.0.1';
    const socket =
      servername === undefined
        ? createConnection({ host, port: httpPort })
        : tlsConnect({ host, port: httpsPort, servername, ca });
    const chunks: Buffer[] = [];
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('no end of the reply')));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(parseReply(Buffer.concat(chunks).toString('latin1'))));
    // Not ended: a half-closed connection is a client that has gone away.
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  });
}

function parseReply(all: string): RawReply {
  const end = all.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = all.slice(0, end < 0 ? all.length : end).split('\r\n');
  const fields = lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(statusLine)?.[1] ?? 0);
  return { status, headers: Object.fromEntries(fields), body: end < 0 ? '' : all.slice(end + 4), all };
}

export interface Grant {
  id: string;
  secret: string;
}

export interface Wanted {
  bundle?: string;
  permissions?: string[];
  hostnames?: string[];
  name?: string;
}

/** A token made by the administrator. */
export async function grant(product: Product, wanted: Wanted): Promise<Grant> {
  const reply = await send(product, {
    method: 'POST',
    path: '/v1/tokens',
    token: product.adminToken,
    body: { name: 'test', ...wanted },
  });
  if (reply.status !== 201) throw new Error(`create_token: ${reply.status} ${reply.text}`);
  return { id: reply.json.id, secret: reply.json.secret };
}

const LEGACY = '2025-11-25';
export const MODERN = '2026-07-28';
const ACCEPT = 'application/json, text/event-stream';

export interface McpSent extends Omit<Sent, 'method' | 'path'> {
  /** `?toolsets=…` */
  query?: string;
  session?: string | undefined;
}

/** A POST to /mcp, whatever the body is. */
export function postMcp(product: Pick<Product, 'httpPort'>, sent: McpSent): Promise<Reply> {
  const { query = '', session, headers, ...rest } = sent;
  return send(product, {
    ...rest,
    method: 'POST',
    path: `/mcp${query}`,
    headers: {
      accept: ACCEPT,
      'content-type': 'application/json',
      ...(session !== undefined && { 'mcp-session-id': session }),
      ...headers,
    },
  });
}

/** Opens a legacy session and returns its id. */
export async function openSession(
  product: Pick<Product, 'httpPort'>,
  token: string,
  { version = LEGACY, capabilities = {} }: { version?: string; capabilities?: object } = {},
): Promise<string> {
  const params = { protocolVersion: version, capabilities, clientInfo: { name: 'incident', version: '1' } };
  const reply = await postMcp(product, {
    token,
    body: { jsonrpc: '2.0', id: 0, method: 'initialize', params },
  });
  const id = reply.headers['mcp-session-id'];
  if (reply.status !== 200 || typeof id !== 'string')
    throw new Error(`initialize: ${reply.status} ${reply.text}`);
  await postMcp(product, {
    token,
    session: id,
    body: { jsonrpc: '2.0', method: 'notifications/initialized' },
  });
  return id;
}

/** The envelope that every request of the modern era carries. */
export const modernMeta = {
  'io.modelcontextprotocol/protocolVersion': MODERN,
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'incident', version: '1' },
};

export const modernHeaders = (method: string, name?: string): Record<string, string> => ({
  'mcp-protocol-version': MODERN,
  'mcp-method': method,
  ...(name !== undefined && { 'mcp-name': name }),
});

export type Era = 'legacy' | 'modern';

/** tools/call in one request of its own, without a session. */
export function callTool(
  product: Pick<Product, 'httpPort'>,
  token: string | undefined,
  call: { name: string; args?: object; era?: Era; session?: string | undefined; id?: number },
): Promise<Reply> {
  const { name, args = {}, era = 'legacy', session, id = 1 } = call;
  const isModern = era === 'modern';
  const params = { name, arguments: args, ...(isModern && { _meta: modernMeta }) };
  return postMcp(product, {
    token,
    session,
    headers: isModern ? modernHeaders('tools/call', name) : {},
    body: { jsonrpc: '2.0', id, method: 'tools/call', params },
  });
}

/** `OK`, or the code of the error, of whichever kind the reply is. */
export function outcomeOf({ status, json, text }: Reply): string {
  const result = json?.result;
  if (result?.isError) return /^[A-Z_]+/.exec(result.content?.[0]?.text ?? '')?.[0] ?? 'ERROR';
  if (json?.error) return String(json.error.data?.code ?? json.error.code);
  return status < 300 && json !== undefined ? 'OK' : `${status} ${text.slice(0, 100)}`;
}
