/** MCP servers as several targets of one proxy: real servers and clients of the SDK, with and without sessions. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { Agent, fetch as fetchWith } from 'undici';
import { eventually } from '../../test/support/eventually.ts';
import {
  ask,
  caPem,
  echo,
  type Fixture,
  proxyOf,
  startGateway,
  startUpstream,
} from '../../test/support/gateway.ts';
import { type McpUpstream, startModernServer, startSessionServer } from '../../test/support/mcp-servers.ts';
import {
  allowing,
  HOST,
  policyOf,
  post,
  protection,
  rpc,
  ruleOf,
  tokens,
} from '../../test/support/tool-gateway.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import { gatewayLimits } from './settings.ts';

const rules = policyOf({
  default: 'deny',
  tools: [ruleOf('read_*', { allow: allowing({ everyone: true }) })],
});
const open = { kind: 'none' } as const;

const balanced = (targets: readonly McpUpstream[], auth: typeof rules | typeof open = open, drained = -1) =>
  proxyOf(HOST, targets[0]?.url ?? '', {
    serve_mcp: false,
    auth,
    load_balancing: loadBalancing.parse({
      targets: targets.map(({ url }, i) => ({ url, drain: i === drained })),
    }),
  });

const put = (gateway: Fixture, proxy: ReturnType<typeof balanced>) =>
  gateway.gateway.publisher.prepare({ putProxies: [proxy] }).publish();

function callers(t: TestContext, gateway: Fixture) {
  const agent = new Agent({
    connect: {
      ca: caPem,
      lookup: (_name, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
    },
  });
  t.after(() => agent.destroy());
  const fetch = (async (url: string | URL, init: { headers?: object } = {}) => {
    const headers = new Headers(init.headers as Headers | undefined);
    headers.set('authorization', 'Bearer alice');
    const answer = await fetchWith(url, { ...init, headers: Object.fromEntries(headers), dispatcher: agent });
    return new Response(
      [204, 205, 304].includes(answer.status) ? null : (answer.body as unknown as ReadableStream),
      {
        status: answer.status,
        headers: Object.fromEntries(answer.headers),
      },
    );
  }) as typeof globalThis.fetch;
  return async () => {
    const client = new ClientV1({ name: 'v1', version: '1.0.0' });
    const transport = new TransportV1(new URL(`https://${HOST}:${gateway.httpsPort}/mcp`), { fetch });
    // Its types are from before exactOptionalPropertyTypes.
    await client.connect(transport as never);
    t.after(() => client.close());
    return {
      client,
      transport,
      read: (id: string) => client.callTool({ name: 'read_ticket', arguments: { id } }),
    };
  };
}

const ranOf = (targets: readonly McpUpstream[]) => targets.map(({ ran }) => ran.length);

async function stop(target: McpUpstream): Promise<void> {
  await target[Symbol.asyncDispose]();
}

for (const [kind, auth] of Object.entries({ 'without rules for tools': open, 'with rules for tools': rules }))
  test(`each session stays at the target that opened it, ${kind}, calls and standing stream, until its client ends it`, async (t) => {
    await using one = await startSessionServer();
    await using two = await startSessionServer();
    const targets = [one, two];
    const proxy = balanced(targets, auth);
    await using gateway = await startGateway({ proxies: [proxy], protection: protection(), tokens });
    const connect = callers(t, gateway);
    const first = await connect();
    const second = await connect();
    for (let i = 0; i < 3; i++) await first.read('1');
    const [of1 = 0, of2 = 0] = ranOf(targets);
    assert.deepEqual([Math.max(of1, of2), Math.min(of1, of2)], [3, 0]);
    await second.read('2');
    assert.ok(ranOf(targets).includes(1), 'the other session is at the other target');
    const news: unknown[] = [];
    second.client.setNotificationHandler(ToolListChangedNotificationSchema, (one) => void news.push(one));
    await second.client.callTool({ name: 'read_all', arguments: {} }, undefined, { onprogress: () => {} });
    await eventually(async () => (news.length > 0 ? true : undefined), 'news on the standing stream');
    const { sessionId = '' } = second.transport;
    await second.transport.terminateSession();
    const headers = { 'mcp-session-id': sessionId };
    assert.notEqual((await post(gateway, { body: rpc('tools/list'), headers })).status, 200);
    await first.read('3');
  });

test('a session outlives a restart of the gateway, the step from one target to several, and the step back', async (t) => {
  await using one = await startSessionServer();
  await using two = await startSessionServer();
  const proxy = balanced([one, two]);
  const alone = { ...proxy, load_balancing: undefined };
  const held: string[] = [];
  {
    await using gateway = await startGateway({ proxies: [alone], protection: protection() });
    held.push((await callers(t, gateway)()).transport.sessionId ?? '');
    put(gateway, proxy);
    for (let i = 0; i < 2; i++) held.push((await callers(t, gateway)()).transport.sessionId ?? '');
  }
  await using gateway = await startGateway({ proxies: [proxy], protection: protection() });
  const list = async (id: string) =>
    (await post(gateway, { body: rpc('tools/list'), headers: { 'mcp-session-id': id } })).status;
  for (let i = 0; i < 2; i++) for (const id of held) assert.equal(await list(id), 200, id);
  put(gateway, alone);
  const statuses = [];
  for (const id of held) statuses.push(await list(id));
  assert.equal(statuses.filter((status) => status === 200).length, 2, 'those of the target that is left');
});

test('a drained target keeps its sessions and gets no new ones', async (t) => {
  await using one = await startSessionServer();
  await using two = await startSessionServer();
  const targets = [one, two];
  const proxy = balanced(targets);
  await using gateway = await startGateway({ proxies: [proxy], protection: protection() });
  const connect = callers(t, gateway);
  const clients = [await connect(), await connect()];
  put(gateway, { ...balanced(targets, open, 1), id: proxy.id });
  for (const { read } of clients) await read('1');
  assert.deepEqual(ranOf(targets), [1, 1]);
  for (let i = 0; i < 3; i++) await (await connect()).read('2');
  assert.deepEqual(ranOf(targets), [4, 1]);
});

test('a session whose target went away is 404 as soon as it counts as out, no other target hears of it, and a new one works', async (t) => {
  await using one = await startSessionServer();
  const two = await startSessionServer();
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({ proxies: [proxy], protection: protection() });
  const connect = callers(t, gateway);
  const clients = [await connect(), await connect()];
  for (const { read } of clients) await read('1');
  const heard = one.authorizations.length;
  await stop(two);
  const statuses: number[] = [];
  const headers = { 'mcp-session-id': clients[1]?.transport.sessionId ?? '' };
  const ask = async () => statuses.push((await post(gateway, { body: rpc('tools/list'), headers })).status);
  while (gateway.gateway.targets(proxy.id)?.[1]?.state === 'healthy') await ask();
  await ask();
  assert.equal(statuses.pop(), 404);
  assert.ok(statuses.length <= gatewayLimits.failuresUntilOut && statuses.every((status) => status === 502));
  const { body } = await post(gateway, { body: rpc('tools/list'), headers });
  assert.match(body, /-32001.*Session not found: start a new one/);
  assert.equal(one.authorizations.length, heard);
  await (await connect()).read('2');
  const unknown = { 'mcp-session-id': `x~${'A'.repeat(16)}` };
  assert.equal((await post(gateway, { body: rpc('tools/list'), headers: unknown })).status, 404);
  assert.equal(one.ran.length, 2);
});

test('without sessions calls are shared as any requests are', async (t) => {
  await using one = await startModernServer();
  await using two = await startModernServer();
  const targets = [one, two];
  await using gateway = await startGateway({ proxies: [balanced(targets)], protection: protection() });
  const { read, transport } = await callers(t, gateway)();
  for (let i = 0; i < 6; i++) await read('1');
  assert.equal(transport.sessionId, undefined);
  assert.deepEqual(ranOf(targets), [3, 3]);
});

test('an id that only looks like a marked one reaches a target that is alone as it is', async () => {
  await using upstream = await startUpstream(echo);
  const proxies = [proxyOf(HOST, upstream.url)];
  await using gateway = await startGateway({ proxies, protection: protection() });
  const id = `x~${'A'.repeat(16)}`;
  const { json } = await ask(gateway, { headers: { 'mcp-session-id': id } });
  assert.equal(json.headers['mcp-session-id'], id);
});

test('a session whose target is full is 503, which it outlives: no other target hears of it', async () => {
  const held: (() => void)[] = [];
  await using one = await startUpstream((_request, response) => void held.push(() => response.end()));
  await using two = await startUpstream(echo);
  const load_balancing = loadBalancing.parse({ targets: [{ url: two.url }] });
  await using gateway = await startGateway({
    proxies: [proxyOf(HOST, one.url, { load_balancing })],
    protection: protection(),
    upstreamLimits: { requestsPerUpstream: 1 },
  });
  const headers = { 'mcp-session-id': 'of-the-first' };
  const first = ask(gateway, { headers });
  while (held.length === 0) await new Promise(setImmediate);
  const { status, headers: told } = await ask(gateway, { headers });
  assert.deepEqual([status, told['retry-after'], two.requests.length], [503, '1', 0]);
  held[0]?.();
  assert.equal((await first).status, 200);
});
