/**
 * The peer of `bench/mcp.ts`, as a process of its own: the SDK's bare example with the product's ten tools of the first
 * day, the SDK's own handler for the modern era and its own transport with sessions for the legacy one. No gate, no
 * record, no limit. Arguments: port, port for TLS, certificate, key.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  createMcpHandler,
  isLegacyRequest,
  McpServer,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';
import type { AnyOperation } from '../src/core/operation.ts';
import { operations } from '../src/operations.ts';

const TOOLS = [
  'echo',
  'health_check',
  'list_proxies',
  'create_proxy',
  'delete_proxy',
  'list_certificates',
  'list_tokens',
  'list_services',
  'get_logs',
  'run_command',
];

const tools = (operations as readonly AnyOperation[]).filter(({ name }) => TOOLS.includes(name));

function buildServer(): McpServer {
  const server = new McpServer({ name: 'bare', version: '1.0.0' });
  for (const { name, title, description, input, output } of tools)
    server.registerTool(
      name,
      { title, description, inputSchema: input, outputSchema: output },
      async (args: Record<string, unknown>) => ({
        content: [{ type: 'text' as const, text: JSON.stringify(args) }],
        structuredContent: args,
      }),
    );
  return server;
}

const modern = createMcpHandler(buildServer, { legacy: 'reject' });
const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();

async function legacy(request: Request): Promise<Response> {
  const known = transports.get(request.headers.get('mcp-session-id') ?? '');
  if (known) return known.handleRequest(request);
  const transport = new WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void transports.set(id, transport),
  });
  await buildServer().connect(transport);
  return transport.handleRequest(request);
}

async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const request = await toRequest(incoming, outgoing);
  const response = (await isLegacyRequest(request)) ? await legacy(request) : await modern.fetch(request);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  if (response.body) for await (const chunk of response.body) outgoing.write(chunk);
  outgoing.end();
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

const [port, tlsPort, cert = '', key = ''] = process.argv.slice(2);
const listener = (incoming: IncomingMessage, outgoing: ServerResponse) => void serve(incoming, outgoing);
const plain = createServer(listener).listen(Number(port), '127.0.0.1');
const secure = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, listener);
secure.listen(Number(tlsPort), '127.0.0.1');
await Promise.all([once(plain, 'listening'), once(secure, 'listening')]);
process.send?.('ready');
process.on('disconnect', () => process.exit(0));
