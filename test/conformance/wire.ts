/** Plain HTTP towards an MCP endpoint, for tests that look at the wire. */
import { strict as assert } from 'node:assert';

export interface Reply {
  status: number;
  headers: Headers;
  /** Parsed, when there was JSON. */
  json: any;
  text: string;
}

export interface Wire {
  url: string;
  token?: string | undefined;
}

export const BOTH = 'application/json, text/event-stream';

export async function request(
  { url, token = 'admin' }: Wire,
  init: {
    method?: string;
    headers?: Record<string, string>;
    body?: string | Uint8Array;
    query?: string;
  } = {},
): Promise<Reply> {
  const { method = 'POST', headers, body, query = '' } = init;
  const reply = await fetch(url + query, {
    method,
    headers: { authorization: `Bearer ${token}`, ...headers },
    ...(body !== undefined && { body: body as string }),
  });
  const text = await reply.text();
  const isJson = reply.headers.get('content-type')?.includes('application/json') && text !== '';
  return { status: reply.status, headers: reply.headers, json: isJson ? JSON.parse(text) : undefined, text };
}

export function post(
  wire: Wire,
  body: unknown,
  headers: Record<string, string> = {},
  query?: string,
): Promise<Reply> {
  return request(wire, {
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', accept: BOTH, ...headers },
    ...(query !== undefined && { query }),
  });
}

export const rpc = (method: string, params?: unknown, id: string | number | undefined = 1) => ({
  jsonrpc: '2.0',
  method,
  ...(params !== undefined && { params }),
  ...(id !== undefined && { id }),
});

export const notification = (method: string, params?: unknown) => ({
  jsonrpc: '2.0',
  method,
  ...(params !== undefined && { params }),
});

/** Headers of a new session. */
export async function openSession(
  wire: Wire,
  { version = '2025-06-18', capabilities = {} }: { version?: string; capabilities?: unknown } = {},
): Promise<{ 'mcp-session-id': string }> {
  const clientInfo = { name: 'wire', version: '1' };
  const reply = await post(
    wire,
    rpc('initialize', { protocolVersion: version, capabilities, clientInfo }, 0),
  );
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.json.result.protocolVersion, version);
  const session = { 'mcp-session-id': reply.headers.get('mcp-session-id') ?? '' };
  await post(wire, notification('notifications/initialized'), session);
  return session;
}

export const envelope = (capabilities: unknown = {}, more: Record<string, unknown> = {}) => ({
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': capabilities,
  'io.modelcontextprotocol/clientInfo': { name: 'wire', version: '1' },
  ...more,
});

export const modernHeaders = (method: string, name?: string): Record<string, string> => ({
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name !== undefined && { 'mcp-name': name }),
});

export function modernCall(
  wire: Wire,
  name: string,
  args: unknown,
  { params = {}, capabilities = {}, meta = {}, query = '' }: Record<string, any> = {},
): Promise<Reply> {
  const body = rpc('tools/call', { name, arguments: args, _meta: envelope(capabilities, meta), ...params });
  return post(wire, body, modernHeaders('tools/call', name), query);
}

export interface Event {
  id?: string | undefined;
  data: string;
}

/** Reads an event stream as it comes. */
export interface EventReader {
  status: number;
  headers: Headers;
  /** The next event with data, or undefined when the stream has ended. */
  next(): Promise<(Event & { json: any }) | undefined>;
  /** Every block, comments too, as it came. */
  readonly raw: string[];
  cancel(): Promise<void>;
}

export async function openEvents(
  { url, token = 'admin' }: Wire,
  init: { method?: string; headers?: Record<string, string>; body?: unknown } = {},
): Promise<EventReader> {
  const { method = 'GET', headers, body } = init;
  const controller = new AbortController();
  const reply = await fetch(url, {
    method,
    signal: controller.signal,
    headers: {
      authorization: `Bearer ${token}`,
      accept: body === undefined ? 'text/event-stream' : BOTH,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const raw: string[] = [];
  const blocks = blocksOf(reply, raw);
  return {
    status: reply.status,
    headers: reply.headers,
    raw,
    async next() {
      for (;;) {
        const { done, value } = await blocks.next();
        if (done) return undefined;
        if (value.data !== '') return { ...value, json: JSON.parse(value.data) };
      }
    },
    async cancel() {
      controller.abort();
      await blocks.return(undefined).catch(() => undefined);
    },
  };
}

async function* blocksOf(reply: Response, raw: string[]): AsyncGenerator<Event> {
  if (!reply.body) return;
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of reply.body) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true });
    const parts = rest.split('\n\n');
    rest = parts.pop() ?? '';
    for (const block of parts) {
      raw.push(block);
      yield parseBlock(block);
    }
  }
}

function parseBlock(block: string): Event {
  const lines = block.split('\n');
  const field = (name: string) =>
    lines
      .find((line) => line.startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim();
  return { id: field('id'), data: field('data') ?? '' };
}
