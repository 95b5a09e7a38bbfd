/**
 * A server made of the SDK alone, with the same fixtures: stateless for 2026-07-28, sessions for the older versions.
 * What the suite says of it directly is what it has to say of it behind the gateway.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  createMcpHandler,
  hostHeaderValidationResponse,
  isLegacyRequest,
  localhostAllowedHostnames,
  Server,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';
import { sendResponse, toRequest } from '../support/web-http.ts';
import { extendWithFixtures } from './fixtures.ts';

const RETRY_MS = 500;

export interface SdkPeer extends AsyncDisposable {
  readonly url: string;
}

export async function startSdkPeer(): Promise<SdkPeer> {
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();
  const modern = createMcpHandler(() => createFixtureServer(), { legacy: 'reject' });
  const answer = async (request: Request): Promise<Response> => {
    const refused = hostHeaderValidationResponse(request, localhostAllowedHostnames());
    if (refused) return refused;
    if (!(await isLegacyRequest(request.clone()))) return modern.fetch(request);
    const known = transports.get(request.headers.get('mcp-session-id') ?? '');
    return (known ?? (await openSession(transports))).handleRequest(request);
  };
  const server = createServer((incoming, outgoing) => {
    answer(toRequest(incoming)).then(
      (response) => sendResponse(response, outgoing),
      (error: unknown) => outgoing.destroy(error instanceof Error ? error : undefined),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/mcp`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await modern.close();
      await Promise.all([...transports.values()].map((transport) => transport.close()));
    },
  };
}

async function openSession(transports: Map<string, WebStandardStreamableHTTPServerTransport>) {
  const transport = new WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => void transports.set(id, transport),
    retryInterval: RETRY_MS,
    eventStore: memoryEventStore(),
  });
  await createFixtureServer().connect(transport);
  return transport;
}

function createFixtureServer(): Server {
  const server = new Server(
    { name: 'sdk-peer', version: '1.0.0' },
    { capabilities: { tools: { listChanged: true } } },
  );
  extendWithFixtures(server, {
    listTools: () => ({ tools: [] }),
    callTool: async () => ({ content: [], isError: true }),
    toolsChanged: () => {},
  });
  return server;
}

function memoryEventStore() {
  const events = new Map<string, { streamId: string; message: never }>();
  let count = 0;
  return {
    async storeEvent(streamId: string, message: unknown) {
      const id = `${streamId}_${++count}`;
      events.set(id, { streamId, message: message as never });
      return id;
    },
    async replayEventsAfter(
      lastId: string,
      { send: replay }: { send: (id: string, message: never) => Promise<void> },
    ) {
      const streamId = events.get(lastId)?.streamId ?? '';
      const ids = [...events.keys()];
      for (const id of ids.slice(ids.indexOf(lastId) + 1)) {
        const event = events.get(id);
        if (event?.streamId === streamId) await replay(id, event.message);
      }
      return streamId;
    },
  };
}
