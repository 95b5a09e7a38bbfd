import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createServer1, get, type IncomingMessage } from 'node:http';
import { connect, createServer as createServer2, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import test from 'node:test';
import { type ClientResponse, forgetHead } from './client.ts';

const now = new Date(Date.UTC(2026, 0, 1));

/** As a reply of an upstream that could not be written leaves a response. */
function answer(response: ClientResponse): void {
  response.setHeader('set-cookie', ['a=1', 'b=2']);
  response.setHeader('date', ['then', 'and then']);
  response.setHeader('vary', 'origin');
  forgetHead(response, (name) => name === 'vary', now);
  response.writeHead(502, { 'x-page': 'ours' });
  response.end();
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

const kept = { 'x-page': 'ours', 'set-cookie': undefined, vary: 'origin', date: now.toUTCString() };
const among = (headers: IncomingHttpHeaders) =>
  Object.fromEntries(Object.keys(kept).map((name) => [name, headers[name]]));

test('what was set for a reply that is not sent is not in the reply that is: HTTP/1.1', async () => {
  const server = createServer1((_request, response) => {
    response.statusMessage = 'not \u2713 ASCII';
    answer(response as unknown as ClientResponse);
  });
  const port = await listen(server);
  const [reply] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [
    IncomingMessage,
  ];
  assert.deepEqual([reply.statusCode, reply.statusMessage], [502, 'Bad Gateway']);
  assert.deepEqual(among(reply.headers), kept);
  reply.resume();
  server.close();
});

test('what was set for a reply that is not sent is not in the reply that is: HTTP/2', async () => {
  const server = createServer2((_request, response) => answer(response as unknown as ClientResponse));
  const session = connect(`http://127.0.0.1:${await listen(server)}`);
  const stream = session.request({});
  const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
  assert.equal(headers[':status'], 502);
  assert.deepEqual(among(headers), kept);
  session.destroy();
  server.close();
});
