/**
 * One server process for `bench/mcp.ts`: ours with its gate, audit and rate limit, or the SDK's bare example. Ten
 * tools each. Tells its port to the parent, and its CPU time and memory when asked.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  createMcpHandler,
  isLegacyRequest,
  McpServer,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import { systemClock } from '../src/core/clock.ts';
import { type AnyOperation, defineOperation } from '../src/core/operation.ts';
import { startHarness } from '../test/conformance/harness.ts';

const TOOLS = 10;

const input = z.object({
  message: z.string().describe('Any text'),
  limit: z.int().min(1).max(200).default(50).describe('How many to return'),
  cursor: z.string().optional().describe('next_cursor of the page before'),
});
const output = z.object({ message: z.string(), rows: z.array(z.object({ id: z.string(), count: z.int() })) });
const answer = (message: string) => ({ message, rows: [{ id: 'row', count: 1 }] });
const description = 'Returns the message and one row, as a small operation of the product would.';

function operationOf(i: number): AnyOperation {
  return defineOperation({
    name: `call_tool${i}`,
    title: `Tool ${i}`,
    description,
    permission: 'system:read',
    confinement: 'harmless',
    effect: 'read',
    mcp: 'listed',
    toolset: 'system',
    http: { method: 'POST', path: `/v1/tool${i}` },
    input,
    output,
    handler: async ({ message }) => answer(message),
  });
}

async function startOurs(): Promise<number> {
  const operations = Array.from({ length: TOOLS }, (_, i) => operationOf(i));
  const harness = await startHarness({
    operations,
    settings: { maxSessions: 100_000, maxSessionsPerPrincipal: 100_000, maxEventStreams: 100_000 },
    gateCost: createRateLimit(),
    discard: true,
  });
  return (harness.server.address() as AddressInfo).port;
}

const WINDOW_MS = 60_000;
const MAX_CALLS = 1e9;

/** As the gateway's: one counter per principal and window. */
function createRateLimit(): (key: string) => boolean {
  const counters = new Map<string, { count: number; resets: number }>();
  return (key) => {
    const now = systemClock.now();
    const counter = counters.get(key);
    if (!counter || counter.resets <= now) counters.set(key, { count: 1, resets: now + WINDOW_MS });
    else counter.count += 1;
    return (counter?.count ?? 0) <= MAX_CALLS;
  };
}

function buildSdkServer(): McpServer {
  const server = new McpServer({ name: 'bare', version: '1.0.0' });
  for (let i = 0; i < TOOLS; i += 1)
    server.registerTool(
      `call_tool${i}`,
      { title: `Tool ${i}`, description, inputSchema: input, outputSchema: output },
      async ({ message }) => {
        const structuredContent = answer(message);
        return { content: [{ type: 'text', text: JSON.stringify(structuredContent) }], structuredContent };
      },
    );
  return server;
}

/** The SDK's handler for the modern era, its own transport with sessions for the legacy one; no gate at all. */
async function startSdk(): Promise<number> {
  const modern = createMcpHandler(buildSdkServer, { legacy: 'reject' });
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();
  async function legacy(request: Request): Promise<Response> {
    const known = transports.get(request.headers.get('mcp-session-id') ?? '');
    if (known) return known.handleRequest(request);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void transports.set(id, transport),
    });
    await buildSdkServer().connect(transport);
    return transport.handleRequest(request);
  }
  async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const request = await toRequest(incoming, outgoing);
    await send(
      (await isLegacyRequest(request)) ? await legacy(request) : await modern.fetch(request),
      outgoing,
    );
  }
  const server = createServer((incoming, outgoing) => void serve(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function toRequest(incoming: IncomingMessage, outgoing: ServerResponse): Promise<Request> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const controller = new AbortController();
  outgoing.once('close', () => controller.abort());
  const { method = 'GET', headers } = incoming;
  return new Request(`http://${headers.host}${incoming.url}`, {
    method,
    headers: headers as Record<string, string>,
    signal: controller.signal,
    ...(method === 'POST' && { body: Buffer.concat(chunks) }),
  });
}

async function send(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  if (response.body) for await (const chunk of response.body) outgoing.write(chunk);
  outgoing.end();
}

const [kind] = process.argv.slice(2);
const port = await (kind === 'ours' ? startOurs() : startSdk());

process.on('message', (question) => {
  if (question === 'cpu') process.send?.(process.cpuUsage());
  else {
    globalThis.gc?.();
    globalThis.gc?.();
    const { heapUsed, external, rss } = process.memoryUsage();
    process.send?.({ used: heapUsed + external, rss });
  }
});
process.send?.({ port });
