/** The plain dispatcher beside the SDK alone: the same messages, good and bad, and no difference. */
import { strict as assert } from 'node:assert';
import { after, test } from 'node:test';
import {
  createMcpHandler,
  WebStandardStreamableHTTPServerTransport,
  type McpHttpHandler,
} from '@modelcontextprotocol/server';
import fc from 'fast-check';
import { admin, defaultSettings, startHarness } from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import { envelope, modernHeaders, openSession, post, request, rpc } from '../../../test/conformance/wire.ts';
import { systemClock } from '../../core/clock.ts';
import { createDispatch } from '../../core/dispatch.ts';
import { LiveStreams } from '../../core/live-streams.ts';
import { silentLog } from '../../core/record.ts';
import type { Scope } from './calls.ts';
import { createProfile } from './profile.ts';
import { createRequestStates } from './request-state.ts';
import { createSdkServers } from './sdk-server.ts';
import type { SessionStore } from './session-store.ts';
import type { TaskStore } from './task-store.ts';
import { Tasks } from './tasks.ts';
import { createViews } from './views.ts';

const TRACE = 'f'.repeat(32);
const services = createKitchen();
const harness = await startHarness({ operations: kitchenOperations, services, quiet: true });
const sdk = bareSdk();
after(() => harness[Symbol.asyncDispose]());

/** The SDK's own transports around the same server: nothing of ours between it and the request. */
function bareSdk() {
  const profile = createProfile('0.1.0');
  const secret = Buffer.alloc(32);
  const dispatch = createDispatch({
    services,
    log: silentLog,
    clock: systemClock,
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  const options = {
    operations: kitchenOperations,
    dispatch,
    clock: systemClock,
    log: silentLog,
    live: new LiveStreams(systemClock),
    sessions: {} as SessionStore,
    tasks: {} as TaskStore,
    secret,
    settings: defaultSettings,
    version: '0.1.0',
  };
  const view = createViews(kitchenOperations, defaultSettings, profile).for(admin, '');
  const scopeOf = (version: string): Scope => ({
    exchange: { traceId: TRACE, clientAddress: '127.0.0.1' } as Scope['exchange'],
    principal: admin,
    view,
    facts: { method: '', outcome: 'OK' },
    canAsk: false,
    knowsIcons: version >= '2025-11-25',
  });
  const createServer = createSdkServers({
    options,
    profile,
    states: createRequestStates(secret, systemClock),
    onError: () => {},
    toolsChanged: () => {},
    tasks: new Tasks(options, () => {}),
    stopping: new AbortController().signal,
  });
  const modern: McpHttpHandler = createMcpHandler(() => createServer('modern', () => scopeOf('2026-07-28')), {
    legacy: 'reject',
  });
  async function legacy(version: string) {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => 'session',
      enableJsonResponse: true,
    });
    await createServer('legacy', () => scopeOf(version)).connect(transport);
    const send = (body: unknown) =>
      transport.handleRequest(
        new Request('http://localhost/mcp', {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            'mcp-session-id': 'session',
          },
          body: JSON.stringify(body),
        }),
      );
    const clientInfo = { name: 'wire', version: '1' };
    const params = { protocolVersion: version, capabilities: {}, clientInfo };
    const initialized = await send(rpc('initialize', params, 0));
    return { send, initialized: await initialized.json() };
  }
  return { modern, legacy };
}

async function same(ours: { status: number; text: string }, theirs: Response, label: string): Promise<void> {
  const text = await theirs.text();
  const facts = (status: number, body: string) => ({
    status,
    body: body === '' ? '' : normal(JSON.parse(body)),
  });
  assert.deepEqual(facts(ours.status, ours.text), facts(theirs.status, text), label);
}

/** Trace ids differ by nature. */
function normal(value: any): unknown {
  return JSON.parse(JSON.stringify(value).replace(/\b[0-9a-f]{32}\b/g, 'trace'));
}

const modernMessages: [string, unknown, Record<string, string>][] = [];
const legacyMessages: unknown[] = [];

function add(
  method: string,
  params: any,
  options: { id?: any; headers?: Record<string, string> } = {},
): void {
  const { id = 7, headers = modernHeaders(method, params?.name) } = options;
  legacyMessages.push({ jsonrpc: '2.0', method, ...(params !== undefined && { params }), id });
  const modern = { ...params, _meta: { ...envelope(), ...params?._meta } };
  modernMessages.push([method, { jsonrpc: '2.0', method, params: modern, id }, headers]);
}

const call = (name: unknown, args?: unknown, more: object = {}) => ({
  name,
  ...(args !== undefined && { arguments: args }),
  ...more,
});

add('tools/call', call('echo', { message: 'hello \u2028 "quoted" \u0000' }));
add('tools/call', call('echo'));
add('tools/call', call('echo', {}), { id: 'a string' });
add('tools/call', call('echo', { message: 1 }));
add('tools/call', call('echo', { unknown: 1, other: 2 }));
add('tools/call', call('echo', JSON.parse('{"__proto__":{"message":"x"},"message":"y"}')));
add('tools/call', call('echo', JSON.parse('{"constructor":1}')));
add('tools/call', call('list_things', { limit: 2 }));
add('tools/call', call('list_things', { limit: 50_000 }));
add('tools/call', call('get_logs', {}));
add('tools/call', call('fail_thing', { fault: 'known' }));
add('tools/call', call('fail_thing', { fault: 'unknown' }));
add('tools/call', call('find_operations', { query: 'rotate' }));
add('tools/call', call('call_operation', { name: 'rotate_thing', arguments: { name: 'x' } }));
add('tools/call', call('call_operation', { name: 'nothing' }));
add('tools/call', call('call_operation', {}));
add('tools/call', call('rotate_thing', { name: 'x' }));
add('tools/call', call('remove_thing', { name: 'x' }));
add('tools/call', call('nothing', {}));
add('tools/call', call('__proto__', {}));
add('tools/call', call('constructor', {}));
for (const args of [null, [], 'text', 1, true, [{}]]) add('tools/call', call('echo', args));
for (const name of [null, 1, {}, [], undefined, ''])
  add('tools/call', call(name, {}), { headers: modernHeaders('tools/call', 'echo') });
add('tools/call', call('echo', {}, { task: { ttl: 1 } }));
add('tools/call', call('echo', {}, { task: 'wrong' }));
add('tools/call', call('echo', {}, { extra: 1 }));
add('tools/call', call('echo', {}, { requestState: 5 }));
add('tools/call', call('echo', {}, { requestState: 'x', inputResponses: {} }));
add('tools/call', call('echo', {}, { inputResponses: 'x' }));
add('tools/list', undefined);
add('tools/list', {});
for (const cursor of ['x', 1, null, {}]) add('tools/list', { cursor });
add('tools/list', { extra: true });
add('ping', undefined);
add('ping', {});
add('ping', { extra: 1 });
add('server/discover', {});
add('server/discover', { extra: 1 });
add('resources/list', {});
add('prompts/list', {});
add('logging/setLevel', { level: 'info' });
add('completion/complete', {});
add('no/such', {});
add('', {});

test('modern: plain and malformed requests are answered as the SDK alone answers them', async () => {
  for (const [method, body, headers] of modernMessages) await sameModern(body, headers, method);
});

async function sameModern(body: unknown, headers: Record<string, string>, label: string): Promise<void> {
  const text = JSON.stringify(body);
  const ours = await post(harness, text, headers);
  const theirs = await sdk.modern.fetch(
    new Request('http://localhost/mcp', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: text,
    }),
  );
  await same(ours, theirs, `${label}: ${text} ${JSON.stringify(headers)}`);
}

test('modern: every disagreement of header and body is refused as the SDK refuses it', async () => {
  const good = rpc('tools/call', { name: 'echo', arguments: {}, _meta: envelope() });
  const base = modernHeaders('tools/call', 'echo');
  const changes: Record<string, string | undefined>[] = [
    { 'mcp-name': undefined },
    { 'mcp-name': 'Echo' },
    { 'mcp-name': ' echo ' },
    { 'mcp-name': '=?base64?ZWNobw==?=' },
    { 'mcp-name': '=?base64?!!!?=' },
    { 'mcp-name': '' },
    { 'mcp-method': undefined },
    { 'mcp-method': 'tools/list' },
    { 'mcp-method': 'TOOLS/CALL' },
    { 'mcp-protocol-version': undefined },
    { 'mcp-protocol-version': '2025-11-25' },
    { 'mcp-protocol-version': '2027-01-01' },
    { 'mcp-protocol-version': 'nonsense' },
  ];
  for (const change of changes) {
    const headers = Object.fromEntries(
      Object.entries({ ...base, ...change }).filter(
        (pair): pair is [string, string] => pair[1] !== undefined,
      ),
    );
    await sameModern(good, headers, JSON.stringify(change));
  }
});

test('modern: every fault of the envelope is refused as the SDK refuses it', async () => {
  const key = (name: string) => `io.modelcontextprotocol/${name}`;
  const metas: unknown[] = [
    {},
    { [key('protocolVersion')]: '2026-07-28' },
    { [key('clientCapabilities')]: {} },
    envelope(null),
    envelope('x'),
    envelope([]),
    envelope({ elicitation: true }),
    envelope({ elicitation: {} }),
    envelope({ elicitation: { form: {}, url: {} } }),
    envelope({ elicitation: { form: { applyDefaults: 'x' } } }),
    envelope({ roots: { listChanged: 1 } }),
    envelope({ sampling: { tools: {}, context: 1 } }),
    envelope({ extensions: { 'a/b': 1 } }),
    envelope({ extensions: { 'a/b': { deep: [1] } }, experimental: { x: {} } }),
    envelope({ unknown: 1 }),
    envelope({}, { [key('clientInfo')]: { name: 1 } }),
    envelope({}, { [key('clientInfo')]: { name: 'x', version: '1', icons: [{ src: 1 }] } }),
    envelope({}, { [key('clientInfo')]: { name: 'x', version: '1', icons: [{ src: 'x', theme: 'dark' }] } }),
    envelope({}, { [key('clientInfo')]: null }),
    envelope({}, { [key('logLevel')]: 'loud' }),
    envelope({}, { [key('logLevel')]: 'info' }),
    envelope({}, { [key('protocolVersion')]: 20_260_728 }),
    envelope({}, { [key('protocolVersion')]: '2025-06-18' }),
    envelope({}, { [key('protocolVersion')]: '2030-01-01' }),
    envelope({}, { progressToken: {} }),
    envelope({}, { progressToken: 1.5 }),
    envelope({}, { progressToken: 'x' }),
    envelope({}, { traceparent: 'x', 'vendor/key': { a: 1 } }),
    envelope({}, { [key('related-task')]: { taskId: 1 } }),
    null,
    'x',
    [],
  ];
  for (const meta of metas)
    for (const params of [{ name: 'echo', arguments: {}, _meta: meta }])
      await sameModern(rpc('tools/call', params), modernHeaders('tools/call', 'echo'), 'envelope');
});

const shapes: unknown[] = [
  { jsonrpc: '2.0', id: 1 },
  { jsonrpc: '1.0', id: 1, method: 'tools/list', params: { _meta: envelope() } },
  { id: 1, method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: null, method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: 1.5, method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: {}, method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: 1e21, method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: 1, method: 5, params: { _meta: envelope() } },
  { jsonrpc: '2.0', id: 1, method: 'tools/list', params: null },
  { jsonrpc: '2.0', id: 1, method: 'tools/list', params: [] },
  { jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: envelope() }, extra: 1 },
  { jsonrpc: '2.0', method: 'tools/list', params: { _meta: envelope() } },
  { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1, _meta: envelope() } },
  { jsonrpc: '2.0', method: 'initialize', id: 1, params: { _meta: envelope() } },
  [rpc('tools/list', { _meta: envelope() })],
  [],
  null,
  1,
  'x',
];

test('modern: messages that are no JSON-RPC requests are answered as the SDK answers them', async () => {
  for (const body of shapes) await sameModern(body, modernHeaders('tools/list'), JSON.stringify(body));
});

for (const version of ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']) {
  test(`legacy ${version}: requests in a session are answered as the SDK alone answers them`, async () => {
    const bare = await sdk.legacy(version);
    const session = await openSession(harness, { version });
    for (const body of legacyMessages)
      await same(await post(harness, body, session), await bare.send(body), JSON.stringify(body));
  });

  test(`legacy ${version}: initialize is answered as the SDK alone answers it`, async () => {
    const bare = await sdk.legacy(version);
    const clientInfo = { name: 'wire', version: '1' };
    const params = { protocolVersion: version, capabilities: {}, clientInfo };
    const ours = await post(harness, rpc('initialize', params, 0));
    assert.deepEqual(ours.json, bare.initialized);
  });
}

/** A request that is right, and one member somewhere in it replaced by anything or taken out. */
const mutated = (messages: readonly unknown[]) =>
  fc
    .record({
      message: fc.constantFrom(...messages),
      pick: fc.nat(),
      value: fc.oneof(fc.constant(undefined), fc.jsonValue({ maxDepth: 1 })),
    })
    .map(({ message, pick, value }) => {
      const copy = structuredClone(message) as object;
      const places = placesOf(copy);
      const place = places[pick % places.length];
      if (place) (place.owner as Record<string, unknown>)[place.key] = value;
      return copy;
    });

function placesOf(value: unknown): { owner: object; key: string }[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [{ owner: value, key }, ...placesOf(inner)]);
}

const good = [
  call('echo', { message: 'x' }),
  call('list_things', { limit: 2 }),
  call('fail_thing', { fault: 'known' }),
];

test('property: a modern request with one wrong member is answered as the SDK answers it', async () => {
  const messages = good.map((params) => rpc('tools/call', { ...params, _meta: envelope() }));
  await fc.assert(
    fc.asyncProperty(mutated(messages), async (body) => {
      const name = (body as any).params?.name;
      const header = typeof name === 'string' && /^[\x21-\x7e]+$/.test(name) ? name : 'echo';
      await sameModern(body, modernHeaders('tools/call', header), 'mutated');
    }),
    { numRuns: 150 },
  );
});

test('property: a legacy request with one wrong member is answered as the SDK answers it', async () => {
  const bare = await sdk.legacy('2025-06-18');
  const session = await openSession(harness);
  const messages = good.map((params) => rpc('tools/call', { ...params, _meta: { progressToken: 1 } }));
  await fc.assert(
    fc.asyncProperty(mutated(messages), async (body) => {
      const { jsonrpc, id, method } = body as any;
      // What has no id or method is no request; the two transports word that differently on purpose.
      fc.pre(jsonrpc === '2.0' && Number.isSafeInteger(id) && typeof method === 'string');
      // Without one valid shape it is refused before the session is looked at.
      const theirs = await bare.send(body);
      const ours = await post(harness, body, session);
      if (theirs.status === 200) await same(ours, theirs, JSON.stringify(body));
      else assert.equal(ours.status, theirs.status, JSON.stringify(body));
    }),
    { numRuns: 150 },
  );
});

test('the path with the slash is the same endpoint', async () => {
  const slash = { ...harness, url: `${harness.url}/` };
  const session = await openSession(slash);
  const without = await post(harness, rpc('tools/list'), session);
  assert.deepEqual((await post(slash, rpc('tools/list'), session)).json, without.json);
  assert.equal((await request(slash, { method: 'PUT' })).status, 405);
});
