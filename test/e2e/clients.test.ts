/**
 * Current clients against the product as it is started: the SDK's v2 in each way it negotiates, and v1, go through the
 * seed's flow: connect, list, call the ten tools by name, ask a person where something is destroyed.
 */
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const upstream = await startUpstream();
const product = await startProduct({ env: { OHP_DOCKER_SOCKET: '/nonexistent/docker.sock' } });
after(() => Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]));

/** What both versions of the client have in common here. */
interface Connected {
  listTools(): Promise<{ tools: { name: string }[] }>;
  callTool(call: { name: string; arguments: Record<string, unknown> }): Promise<any>;
  close(): Promise<void>;
}
type Connect = (
  url: URL,
  ask: (message: string) => void,
) => Promise<{ client: Connected; version: string | undefined }>;

const requestInit = { headers: { authorization: `Bearer ${product.adminToken}` } };
const capabilities = { elicitation: { form: {} } };
const yes = { action: 'accept' as const, content: { confirm: true } };

const v2 =
  (mode: 'legacy' | 'auto' | { pin: string }): Connect =>
  async (url, ask) => {
    const options = { capabilities, versionNegotiation: { mode } };
    const client = new Client({ name: 'client-v2', version: '1.0.0' }, options);
    client.setRequestHandler('elicitation/create', ({ params }) => {
      ask(params.message);
      return yes;
    });
    await client.connect(new StreamableHTTPClientTransport(url, { requestInit }));
    return { client, version: client.getNegotiatedProtocolVersion() };
  };

const v1: Connect = async (url, ask) => {
  const client = new ClientV1({ name: 'client-v1', version: '1.0.0' }, { capabilities });
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
    ask(params.message);
    return yes;
  });
  const transport = new TransportV1(url, { requestInit });
  // Its types are from before exactOptionalPropertyTypes.
  await client.connect(transport as any);
  return { client, version: transport.protocolVersion };
};

const LEGACY = '2025-11-25';
const MODERN = '2026-07-28';
const clients: Record<string, { connect: Connect; expected: string }> = {
  'v2, legacy': { connect: v2('legacy'), expected: LEGACY },
  'v2, auto': { connect: v2('auto'), expected: MODERN },
  'v2, pinned': { connect: v2({ pin: MODERN }), expected: MODERN },
  'v1 1.32': { connect: v1, expected: LEGACY },
};

/** The ten tools of the seed as its document calls them, in an order that makes sense; `holds`: of the result as JSON. */
const flow: { name: string; args?: Record<string, unknown>; holds: RegExp }[] = [
  { name: 'echo', args: { message: 'Hello MCP!' }, holds: /^\{"message":"Hello MCP!"\}$/ },
  { name: 'health_check', holds: /"status":"(?:ok|degraded)"/ },
  {
    name: 'create_proxy',
    args: { hostname: 'app.example.com', target_url: upstream.url },
    holds: /"hostname":"app\.example\.com"/,
  },
  { name: 'list_proxies', args: { limit: 10 }, holds: /"hostname":"app\.example\.com"/ },
  { name: 'list_certificates', holds: /"app\.example\.com"/ },
  { name: 'list_tokens', holds: /"name":"administrator"/ },
  { name: 'get_logs', args: { lines: 100, level: 'ERROR' }, holds: /"records":\[/ },
  { name: 'run_command', args: { command: 'uptime' }, holds: /"exit_code":0/ },
  { name: 'delete_proxy', args: { hostname: 'app.example.com' }, holds: /"hostname":"app\.example\.com"/ },
];

for (const [name, { connect, expected }] of Object.entries(clients))
  test(`the SDK's client ${name} goes through the seed's flow with all ten tools`, async () => {
    const asked: string[] = [];
    const url = new URL(`http://localhost:${product.httpPort}/mcp`);
    const { client, version } = await connect(url, (message) => void asked.push(message));
    assert.equal(version, expected);
    const { tools } = await client.listTools();
    const listed = tools.map((tool) => tool.name);
    for (const tool of [...flow.map((step) => step.name), 'list_services'])
      assert.ok(listed.includes(tool), tool);
    for (const { name: tool, args = {}, holds } of flow) {
      const result = await client.callTool({ name: tool, arguments: args });
      assert.ok(!result.isError, `${tool}: ${JSON.stringify(result)}`);
      assert.match(JSON.stringify(result.structuredContent), holds, tool);
      if (tool === 'create_proxy') {
        const { status, body } = await product.get('app.example.com', '/seed');
        assert.deepEqual([status, body], [200, 'upstream saw GET /seed']);
      }
    }
    const services = await client.callTool({ name: 'list_services', arguments: {} });
    assert.match(services.content.at(-1).text, /^UNAVAILABLE: /, 'without a container engine it says so');
    assert.equal(asked.length, 1, 'deleting is confirmed by a person, and nothing else is');
    assert.match(asked[0] ?? '', /app\.example\.com/);
    await client.close();
  });
