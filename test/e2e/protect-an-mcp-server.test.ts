/** The guide docs/guides/protect-an-mcp-server.md, as it stands there: real servers of both eras, real clients of both, two callers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { Agent, fetch as fetchWith } from 'undici';
import { accessTo } from '../support/agent.ts';
import { configFile, generous } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import {
  type McpUpstream,
  startModernServer,
  startSessionServer,
  TICKET_TOOLS,
} from '../support/mcp-servers.ts';
import { startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import { invite } from '../support/visitor.ts';

const guide = readFileSync(join(import.meta.dirname, '../../docs/guides/protect-an-mcp-server.md'), 'utf8');
/** The rules of the guide, to the letter. */
const mcp = JSON.parse(/--mcp '([^']+)'/.exec(guide)?.[1] ?? '');
const hosts = { modern: 'tools.example.com', sessions: 'sessions.example.com' };
type Kind = keyof typeof hosts;

let product: Product;
let upstreams: Record<Kind, McpUpstream>;
let agent: Agent;
const held: Record<Kind, Record<string, string>> = { modern: {}, sessions: {} };

const urlOf = (kind: Kind) => `https://${hosts[kind]}:${product.httpsPort}/mcp`;
const tokenOf = async (kind: Kind, username: string, scope = 'access') =>
  (await accessTo(product, urlOf(kind), { username, scope })).token;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  upstreams = { modern: await startModernServer(), sessions: await startSessionServer() };
  agent = new Agent({
    connect: {
      ca: product.ca,
      lookup: (_name, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
    },
  });
  const kinds: Kind[] = ['modern', 'sessions'];
  for (const kind of kinds) {
    const target_url = upstreams[kind].url;
    const proxy = { hostname: hosts[kind], target_url, serve_mcp: false };
    assert.equal((await product.api('POST', '/v1/proxies', proxy)).status, 201);
    await product.api('PUT', `/v1/proxies/${hosts[kind]}/protection`, { allow: { everyone: true } });
  }
  // The first person to come makes the first account.
  await tokenOf('modern', 'root');
  for (const username of ['alice', 'bob']) await invite(product, username);
  for (const kind of kinds) {
    const body = { mode: 'bearer', allow: { everyone: true }, mcp };
    const protectedBy = await product.api('PUT', `/v1/proxies/${hosts[kind]}/protection`, body);
    assert.equal(protectedBy.status, 200, JSON.stringify(protectedBy.body));
    for (const username of ['alice', 'bob']) held[kind][username] = await tokenOf(kind, username);
  }
});
after(async () => {
  await agent?.destroy();
  for (const one of [product, upstreams?.modern, upstreams?.sessions]) await one?.[Symbol.asyncDispose]();
});

/** With the credential; Node's own types of fetch and those of the package say the same in other words. */
const fetchAs = (token: string, seen: Response[] = []) =>
  (async (url: string | URL, init: { headers?: object } = {}) => {
    const headers = new Headers(init.headers as Headers | undefined);
    headers.set('authorization', `Bearer ${token}`);
    const answer = await fetchWith(url, { ...init, headers: Object.fromEntries(headers), dispatcher: agent });
    const isEmpty = [204, 205, 304].includes(answer.status);
    const response = new Response(isEmpty ? null : (answer.body as unknown as ReadableStream), {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
    });
    seen.push(response);
    return response;
  }) as typeof fetch;

async function openV2(kind: Kind, token: string) {
  const client = new Client({ name: 'v2', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
  await client.connect(new StreamableHTTPClientTransport(new URL(urlOf(kind)), { fetch: fetchAs(token) }));
  return client;
}

async function openV1(kind: Kind, token: string, seen: Response[] = []) {
  const client = new ClientV1({ name: 'v1', version: '1.0.0' });
  const transport = new TransportV1(new URL(urlOf(kind)), { fetch: fetchAs(token, seen) });
  // Its types are from before exactOptionalPropertyTypes.
  await client.connect(transport as never);
  return { client, transport };
}

const namesOf = ({ tools }: { tools: { name: string }[] }) => tools.map(({ name }) => name);
const forAlice = TICKET_TOOLS.filter((name) => name !== 'delete_archive');
const forBob = TICKET_TOOLS.filter((name) => !name.startsWith('delete_'));

for (const kind of ['modern', 'sessions'] as const) {
  test(`two callers of one server (${kind}) see and use what the rules give them, by the SDK's v2 client`, async () => {
    for (const [username, names] of [
      ['alice', forAlice],
      ['bob', forBob],
    ] as const) {
      const client = await openV2(kind, held[kind][username] ?? '');
      assert.deepEqual(namesOf(await client.listTools()), names);
      const read = await client.callTool({ name: 'read_ticket', arguments: { id: '7' } });
      assert.deepEqual(read.content, [{ type: 'text', text: 'read_ticket 7' }]);
      await client.close();
    }
    const { ran } = upstreams[kind];
    const bob = await openV2(kind, held[kind].bob ?? '');
    await assert.rejects(bob.callTool({ name: 'delete_ticket', arguments: {} }), { code: -32602 });
    await assert.rejects(bob.callTool({ name: 'delete_archive', arguments: {} }), { code: -32602 });
    assert.ok(!ran.some((name) => name.startsWith('delete_')));
    const alice = await openV2(kind, held[kind].alice ?? '');
    await alice.callTool({ name: 'delete_ticket', arguments: {} });
    assert.equal(ran.at(-1), 'delete_ticket');
    await Promise.all([alice.close(), bob.close()]);
  });

  test(`and by the SDK's v1 client (${kind})`, async () => {
    for (const [username, names] of [
      ['alice', forAlice],
      ['bob', forBob],
    ] as const) {
      const { client } = await openV1(kind, held[kind][username] ?? '');
      assert.deepEqual(namesOf(await client.listTools()), names);
      const unknown = client.callTool({ name: 'delete_archive', arguments: {} });
      await assert.rejects(unknown, { code: -32602 });
      await client.close();
    }
  });
}

test('a client that lacks scopes for a tool is told all of them, and with them it may use it', async () => {
  const ask = async (token: string) =>
    fetchAs(token)(urlOf('modern'), {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'create_ticket', arguments: {} },
      }),
    });
  const refused = await ask(held.modern.bob ?? '');
  assert.equal(refused.status, 403);
  const scope = /scope="([^"]+)"/.exec(refused.headers.get('www-authenticate') ?? '')?.[1] ?? '';
  assert.equal(scope, 'access tickets:write');
  const token = await tokenOf('modern', 'bob', scope);
  const client = await openV2('modern', token);
  const { content } = await client.callTool({ name: 'create_ticket', arguments: { id: '1' } });
  assert.deepEqual(content, [{ type: 'text', text: 'create_ticket 1' }]);
  await client.close();
});

test("progress and news pass, on the reply and on the standing stream, and the list that follows is the caller's", async () => {
  const { client } = await openV1('sessions', held.sessions.bob ?? '');
  const lists: string[][] = [];
  client.setNotificationHandler(ToolListChangedNotificationSchema, async () => {
    lists.push(namesOf(await client.listTools()));
  });
  const progress: number[] = [];
  await client.callTool({ name: 'read_all', arguments: {} }, undefined, {
    onprogress: ({ progress: at }) => void progress.push(at),
  });
  assert.deepEqual(progress, [1]);
  await eventually(async () => (lists.length > 0 ? true : undefined), 'news of the tools');
  assert.deepEqual(lists[0], forBob);
  await client.close();
});

test('every call is in the audit log with its caller, and the target never saw a credential', async () => {
  const page = await eventually(async () => {
    const { body } = await product.api(
      'GET',
      `/v1/logs?operation=tools/call&hostname=${hosts.modern}&lines=100&verbose=true`,
    );
    return body.records?.some((one: any) => one.detail?.tool === 'create_ticket' && one.outcome === 'OK')
      ? body
      : undefined;
  }, 'the records');
  const calls = page.records.filter((one: any) => one.operation === 'tools/call');
  const outcomesOf = (tool: string) =>
    new Set(calls.filter((one: any) => one.detail.tool === tool).map((one: any) => one.outcome));
  assert.deepEqual(outcomesOf('delete_archive'), new Set(['FORBIDDEN']));
  assert.deepEqual(outcomesOf('delete_ticket'), new Set(['OK', 'FORBIDDEN']));
  assert.deepEqual(outcomesOf('create_ticket'), new Set(['OK', 'FORBIDDEN']));
  const read = calls.find((one: any) => one.detail.tool === 'read_ticket');
  assert.equal(read.detail.arguments, '{"id":"7"}');
  const { body: story } = await product.api('GET', `/v1/request-explanation?trace_id=${read.trace_id}`);
  assert.deepEqual(
    story.steps.map(({ text }: { text: string }) => text.split(' ')[0]),
    ['arrived', 'matched', 'known', 'operation', 'went', 'answered'],
    'gateway, caller, call, target',
  );
  for (const { authorizations } of Object.values(upstreams))
    assert.ok(authorizations.every((one) => one === undefined));
});

test('get_protection shows the rules, test_route says that they apply, and the older way of asking refuses', async () => {
  const shown = await product.api('GET', `/v1/proxies/${hosts.modern}/protection`);
  assert.equal(shown.body.policy.mcp.default, 'deny');
  assert.deepEqual(shown.body.policy.mcp.tools[2].allow.users, ['alice']);
  const at = async (path: string) =>
    (await product.api('GET', `/v1/route-test?url=https://${hosts.modern}${path}`)).body.reason;
  assert.match(await at('/MCP/x'), /rules for tools of MCP apply/);
  assert.doesNotMatch(await at('/other'), /rules for tools/);
  const { status, body } = await product.api('PUT', `/v1/proxies/${hosts.modern}/protection`, {
    mode: 'redirect',
    allow: { everyone: true },
  });
  assert.equal(status, 400);
  assert.match(body.error.message, /mcp: programs come with access tokens/);
});

test('ten calls a minute are ten, whatever the client', async () => {
  const client = await openV2('modern', held.modern.alice ?? '');
  const other = await openV2('modern', await tokenOf('modern', 'alice'));
  let count = 0;
  const calling = async () => {
    for (; ; count++) await (count % 2 ? client : other).callTool({ name: 'delete_ticket', arguments: {} });
  };
  await assert.rejects(calling(), /429|Too many calls/);
  // One was used by an earlier test.
  assert.ok(count <= 10 && count >= 8, String(count));
  await Promise.all([client.close(), other.close()]);
});

test("a session is its caller's: another one gets 404, and the caller keeps it over a restart", async () => {
  const { client, transport } = await openV1('sessions', held.sessions.alice ?? '');
  const use = (username: string) =>
    fetchAs(held.sessions[username] ?? '')(urlOf('sessions'), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': transport.sessionId ?? '',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
    });
  assert.equal((await use('bob')).status, 404);
  assert.equal((await use('alice')).status, 200);
  await product.stop();
  product = await product.restart();
  assert.equal((await use('bob')).status, 404);
  assert.equal((await use('alice')).status, 200);
  await client.close();
});
