/** A small real upstream on loopback that tells what reached it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';

export interface Upstream extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly requests: {
    method: string;
    url: string;
    rawHeaders: string[];
    headers: IncomingMessage['headers'];
  }[];
  readonly server: Server;
}

const answerWithPath = (request: IncomingMessage, response: ServerResponse) => {
  response.end(`upstream saw ${request.method} ${request.url}`);
};

export async function startUpstream(
  handler: (request: IncomingMessage, response: ServerResponse) => void = answerWithPath,
): Promise<Upstream> {
  const requests: Upstream['requests'] = [];
  const server = createServer((request, response) => {
    const { method = '', url = '', rawHeaders, headers } = request;
    requests.push({ method, url, rawHeaders, headers });
    handler(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    requests,
    server,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
