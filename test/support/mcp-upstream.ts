/** Somebody else's MCP server, made of the SDK alone, that serves both eras and has one tool: who it is that calls. */
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { sendResponse, toRequest } from './web-http.ts';
import { startUpstream, type Upstream } from './upstream.ts';

export async function startMcpUpstream(): Promise<Upstream> {
  const handler = createMcpHandler(
    ({ requestInfo }) => {
      const server = new McpServer({ name: 'notes', version: '1.0.0' });
      const user = requestInfo?.headers.get('x-auth-user') ?? 'nobody';
      server.registerTool('who_calls', { description: 'Tells who calls.' }, () => ({
        content: [{ type: 'text', text: user }],
      }));
      return server;
    },
    { legacy: 'stateless' },
  );
  const upstream = await startUpstream((request, response) => {
    if (request.url !== '/mcp') return void response.writeHead(404).end('nothing here');
    handler.fetch(toRequest(request)).then(
      (answer) => sendResponse(answer, response),
      (error: unknown) => response.destroy(error instanceof Error ? error : undefined),
    );
  });
  return {
    ...upstream,
    async [Symbol.asyncDispose]() {
      await upstream[Symbol.asyncDispose]();
      await handler.close();
    },
  };
}
