import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type TestContext } from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { Wire } from './wire.ts';

/** A question that has arrived and is not answered yet. */
async function asking(t: TestContext) {
  const clock = new ManualClock();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { address, port } = server.address() as AddressInfo;
  const wire = new Wire({
    clock,
    signal: new AbortController().signal,
    listeners: () => ({ http: { address, port }, https: undefined }),
    isOwn: () => true,
    authority: () => '',
  });
  t.after(() => {
    wire[Symbol.dispose]();
    server.closeAllConnections();
    server.close();
  });
  const answer = wire.ask(`http://localhost:${port}/mcp`);
  const [, response] = (await once(server, 'request')) as [unknown, ServerResponse];
  return { clock, answer, response };
}

test('a machine that has much else to do may take nine seconds for an answer', async (t) => {
  const { clock, answer, response } = await asking(t);
  clock.advance(9 * SECOND);
  response.end('late');
  assert.equal((await answer).text, 'late');
});

test('what does not answer within ten seconds is said not to', async (t) => {
  const { clock, answer } = await asking(t);
  clock.advance(10 * SECOND);
  await assert.rejects(answer, /no answer within 10 seconds/);
});
