/** Somebody else's MCP servers: of 2026-07-28 by the SDK's v2, and with sessions and standing streams by its v1. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createMcpHandler, McpServer as ServerV2 } from '@modelcontextprotocol/server';
import { McpServer as ServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';
import { sendResponse, toRequest } from './web-http.ts';

export interface McpUpstream extends AsyncDisposable {
  readonly url: string;
  /** Tools that were run, and for whom. */
  readonly ran: string[];
  readonly authorizations: (string | undefined)[];
}

export const TICKET_TOOLS = ['read_ticket', 'read_all', 'create_ticket', 'delete_ticket', 'delete_archive'];

async function listen(listener: RequestListener, close: () => Promise<unknown>) {
  const authorizations: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    listener(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    authorizations,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await close();
    },
  };
}

/** Stateless; older clients are answered too, without sessions. */
export async function startModernServer(): Promise<McpUpstream> {
  const ran: string[] = [];
  const handler = createMcpHandler(() => {
    const server = new ServerV2({ name: 'tickets', version: '1.0.0' });
    for (const name of TICKET_TOOLS)
      server.registerTool(name, { inputSchema: z.object({ id: z.string().optional() }) }, async ({ id }) => {
        ran.push(name);
        return { content: [{ type: 'text', text: `${name} ${id ?? ''}` }] };
      });
    return server;
  });
  const listener: RequestListener = (request, response) => {
    handler.fetch(toRequest(request)).then(
      (answer) => sendResponse(answer, response),
      (error: unknown) => response.destroy(error instanceof Error ? error : undefined),
    );
  };
  return { ...(await listen(listener, () => handler.close())), ran };
}

/** Of 2025-11-25 and before, with a session for each client and its GET stream; `read_all` reports progress and tells of other tools. */
export async function startSessionServer(): Promise<McpUpstream> {
  const ran: string[] = [];
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const open = async () => {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id: string) => void transports.set(id, transport),
    });
    // Its types are from before exactOptionalPropertyTypes.
    await sessionServer(ran).connect(transport as never);
    return transport;
  };
  const listener: RequestListener = (request, response) => {
    const known = transports.get(String(request.headers['mcp-session-id'] ?? ''));
    (known ? Promise.resolve(known) : open())
      .then((transport) => transport.handleRequest(request, response))
      .catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  };
  const close = () => Promise.all([...transports.values()].map((transport) => transport.close()));
  return { ...(await listen(listener, close)), ran };
}

function sessionServer(ran: string[]): ServerV1 {
  const server = new ServerV1({ name: 'tickets', version: '1.0.0' });
  for (const name of TICKET_TOOLS)
    server.registerTool(name, { inputSchema: { id: z.string().optional() } }, async ({ id }, extra) => {
      ran.push(name);
      const progressToken = extra._meta?.progressToken;
      if (name === 'read_all' && progressToken !== undefined) {
        await extra.sendNotification({
          method: 'notifications/progress',
          params: { progressToken, progress: 1, total: 2 },
        });
        server.sendToolListChanged();
      }
      return { content: [{ type: 'text', text: `${name} ${id ?? ''}` }] };
    });
  return server;
}
