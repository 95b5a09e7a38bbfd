import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { defaultSettings, principalOf, startHarness } from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import {
  envelope,
  modernCall,
  modernHeaders,
  notification,
  openEvents,
  openSession,
  post,
  request,
  rpc,
} from '../../../test/conformance/wire.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { anonymous } from '../../core/principal.ts';
import { createProfile } from './profile.ts';
import { UNTRUSTED_NOTICE } from './results.ts';
import { createViews } from './views.ts';

const operations = kitchenOperations;
const viewer = principalOf('viewer', { permissions: new Set(['proxies:read']) });
const services = createKitchen();
const harness = await startHarness({
  operations,
  services,
  principals: [principalOf('admin'), viewer, anonymous],
});
after(() => harness[Symbol.asyncDispose]());

const asViewer = { ...harness, token: 'viewer' };
const names = (reply: { json: any }): string[] => reply.json.result.tools.map((tool: any) => tool.name);

test("the seed document's curl command works as printed", async () => {
  const body = '{"method":"initialize","params":{"protocolVersion":"2025-06-18"},"jsonrpc":"2.0","id":0}';
  const reply = await post(harness, body);
  assert.equal(reply.status, 200);
  assert.equal(reply.json.result.protocolVersion, '2025-06-18');
  assert.equal(reply.json.result.serverInfo.name, 'OAuth-HTTPS-Proxy-MCP');
  assert.match(reply.headers.get('mcp-session-id') ?? '', /^[\x21-\x7e]+$/);
});

test("the seed document's flow works with and without params", async () => {
  for (const params of [undefined, {}]) {
    const session = await openSession(harness);
    assert.equal(
      (await post(harness, notification('notifications/initialized', params), session)).status,
      202,
    );
    assert.ok(names(await post(harness, rpc('tools/list', params), session)).includes('echo'));
    const call = { name: 'echo', arguments: { message: 'Hello from a client!' } };
    const { result } = (await post(harness, rpc('tools/call', call, 2), session)).json;
    assert.deepEqual(result.structuredContent, { message: 'Hello from a client!' });
    assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
  }
});

test('an initialize without anything in it gets a session', async () => {
  const reply = await post(harness, rpc('initialize'));
  assert.equal(reply.json.result.protocolVersion, '2025-06-18');
});

test('an initialize with the wrong shape is refused and says so', async () => {
  const reply = await post(harness, rpc('initialize', { capabilities: 'x' }, 5));
  assert.equal(reply.status, 400);
  assert.deepEqual([reply.json.error.code, reply.json.id], [-32_602, 5]);
});

test('an unknown version is offered the newest legacy one', async () => {
  for (const protocolVersion of ['1999-01-01', '2026-07-28', '2024-10-07']) {
    const reply = await post(harness, rpc('initialize', { protocolVersion }));
    assert.equal(reply.json.result.protocolVersion, '2025-11-25');
  }
});

test('a batch is answered in 2025-03-26 and refused everywhere else', async () => {
  const batch = [rpc('ping', {}, 1), notification('notifications/initialized'), rpc('tools/list', {}, 'b')];
  const old = await openSession(harness, { version: '2025-03-26' });
  const reply = await post(harness, batch, old);
  assert.deepEqual(reply.json.map(({ id }: any) => id).sort(), [1, 'b']);
  assert.equal((await post(harness, [rpc('ping', {}, 1)], old)).json[0].id, 1);
  assert.equal((await post(harness, [notification('notifications/initialized')], old)).status, 202);
  for (const version of ['2025-06-18', '2025-11-25']) {
    const refused = await post(harness, batch, await openSession(harness, { version }));
    assert.deepEqual([refused.status, refused.json.error.code], [400, -32_600]);
  }
});

test('without a session a notification is taken, a request is answered statelessly', async () => {
  assert.equal((await post(harness, notification('notifications/initialized'))).status, 202);
  const call = { name: 'echo', arguments: { message: 'x' } };
  assert.equal((await post(harness, rpc('tools/call', call))).json.result.structuredContent.message, 'x');
  assert.equal((await post(harness, rpc('prompts/list'))).json.error.code, -32_601);
  const removed = await post(harness, rpc('tools/call', { name: 'remove_thing', arguments: { name: 'y' } }));
  assert.deepEqual(removed.json.result.structuredContent, { removed: 'y' });
});

test('Accept: JSON alone is refused with 406, ranges and nothing at all are accepted', async () => {
  const body = rpc('initialize', { protocolVersion: '2025-06-18' });
  const statusOf = async (accept: string) => (await post(harness, body, { accept })).status;
  assert.equal(await statusOf('application/json'), 406);
  assert.equal(await statusOf('application/json; q=1'), 406);
  assert.equal(await statusOf('text/html'), 406);
  for (const accept of [
    '*/*',
    'application/*',
    'Application/JSON, TEXT/event-stream',
    '',
    'application/json, */*',
  ])
    assert.equal(await statusOf(accept), 200, accept);
  const refused = await post(harness, body, { accept: 'application/json' });
  assert.match(refused.json.error.message, /application\/json, text\/event-stream/);
  const stream = await post(harness, body, { accept: 'text/event-stream' });
  assert.match(stream.text, /event: message\ndata: \{"result"/);
});

test('strict_accept asks for both media types by name', async () => {
  await using strict = await startHarness({ operations, settings: { strictAccept: true } });
  const body = rpc('initialize', { protocolVersion: '2025-06-18' });
  assert.equal((await post(strict, body, { accept: '*/*' })).status, 406);
  assert.equal((await post(strict, body)).status, 200);
});

test('methods that are none of the protocol get 405 with Allow and a JSON-RPC body', async () => {
  for (const method of ['PUT', 'PATCH']) {
    const reply = await request(harness, { method, body: '{}' });
    assert.equal(reply.status, 405);
    assert.match(reply.headers.get('allow') ?? '', /POST/);
    assert.equal(reply.json.error.code, -32_000);
  }
  const options = await request(harness, { method: 'OPTIONS' });
  assert.deepEqual([options.status, options.headers.get('allow')], [204, 'GET, HEAD, POST, DELETE, OPTIONS']);
});

test('a body of another type is refused with 415', async () => {
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'text/plain; a=application/json'])
    assert.equal((await post(harness, rpc('ping'), { 'content-type': type })).status, 415);
  assert.equal(
    (await post(harness, rpc('ping'), { 'content-type': 'application/json; charset=utf-8' })).status,
    200,
  );
});

test('[incident 2] what is no JSON, no UTF-8, marked or too deep is a parse error', async () => {
  const bodies = [
    '{',
    '',
    '\ufeff{"jsonrpc":"2.0","id":1,"method":"ping"}',
    new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]),
    `{"jsonrpc":"2.0","id":1,"method":"ping","params":${'['.repeat(100)}${']'.repeat(100)}}`,
  ];
  for (const body of bodies) {
    const reply = await post(harness, body);
    assert.deepEqual([reply.status, reply.json.error.code, reply.json.id], [400, -32_700, null]);
  }
});

test('[incident 2] duplicate keys, prototype keys and case variants cannot change what is authorised', async () => {
  const audited = harness.records.length;
  const tricks = [
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"rotate_thing","arguments":{"name":"x"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rotate_thing","arguments":{"name":"x"},"__proto__":{"name":"echo"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","__proto__":{"x":1},"params":{"name":"rotate_thing","arguments":{"name":"x"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rotate_thing","Name":"echo","arguments":{"name":"x"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"Rotate_Thing","arguments":{"name":"x"}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"call_operation","arguments":{"name":"rotate_thing","arguments":{"name":"x"}}}}',
  ];
  for (const body of tricks) {
    const { json } = await post(asViewer, body);
    const refused = json.error !== undefined || json.result.isError === true;
    assert.ok(refused, body);
  }
  const done = harness.records
    .slice(audited)
    .filter(({ kind, outcome }) => kind === 'audit' && outcome === 'OK');
  assert.deepEqual(done, []);
});

test('a body over the limit is refused while it is read, whatever length was declared', async () => {
  const { port } = new URL(harness.url);
  const socket = connect(Number(port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write(
    'POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
  );
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  for (let i = 0; i < 5; i += 1)
    socket.write(Buffer.concat([Buffer.from('100000\r\n'), chunk, Buffer.from('\r\n')]));
  const [head] = (await once(socket, 'data')) as [Buffer];
  assert.match(head.toString(), /^HTTP\/1\.1 413 /);
  socket.destroy();
});

test('the list is filtered by what the principal may run, in an order that stays', async () => {
  const session = await openSession(asViewer);
  const first = names(await post(asViewer, rpc('tools/list'), session));
  assert.deepEqual(first, ['echo', 'list_things', 'fail_thing', 'find_operations', 'call_operation']);
  const modern = await post(asViewer, rpc('tools/list', { _meta: envelope() }), modernHeaders('tools/list'));
  assert.deepEqual(names(modern), first);
});

test('a tool tells its hints, its title, its icon and schemas without a dialect', async () => {
  const session = await openSession(harness, { version: '2025-11-25' });
  const { tools } = (await post(harness, rpc('tools/list'), session)).json.result;
  const byName = new Map<string, any>(tools.map((tool: any) => [tool.name, tool]));
  const hints = (name: string) => Object.values(byName.get(name).annotations).slice(1);
  assert.deepEqual(hints('list_things'), [true, false, true, false]);
  assert.deepEqual(hints('remove_thing'), [false, true, true, false]);
  assert.deepEqual(hints('get_logs'), [true, false, true, true]);
  for (const tool of tools) {
    assert.ok(tool.title && tool.description, tool.name);
    assert.match(tool.icons[0].src, /^data:image\/svg\+xml;base64,/);
    assert.equal(tool.inputSchema.type, 'object');
    assert.ok(!JSON.stringify(tool).includes('$schema'), tool.name);
  }
});

test('icons are sent to who knows them: from 2025-11-25 on, and nothing else differs', async () => {
  const list = async (headers: Record<string, string>, meta?: object) =>
    (await post(harness, rpc('tools/list', meta && { _meta: meta }), headers)).json.result.tools as any[];
  const [newest, ...tools] = await Promise.all([
    list(modernHeaders('tools/list'), envelope()),
    list(await openSession(harness, { version: '2025-11-25' })),
    list({ 'mcp-protocol-version': '2025-11-25' }),
  ]);
  assert.ok(newest?.every(({ icons }) => icons.length === 1));
  for (const same of tools) assert.deepEqual(same, newest);
  const bare = newest?.map(({ icons: _icons, ...tool }) => tool);
  for (const version of ['2025-06-18', '2025-03-26', '2024-11-05']) {
    assert.deepEqual(await list(await openSession(harness, { version })), bare, version);
    assert.deepEqual(await list({ 'mcp-protocol-version': version }), bare, version);
  }
  assert.deepEqual(await list({}), bare);
});

test('an operation that asks others is told what the connection reaches', async () => {
  const reached: unknown[] = [];
  const watched = operations.map((operation) =>
    operation.name === 'echo'
      ? {
          ...operation,
          handler: (...call: Parameters<typeof operation.handler>) => {
            reached.push(['echo', 'list_things'].map((name) => call[1].reaches?.(name)));
            return operation.handler(...call);
          },
        }
      : operation,
  );
  await using narrow = await startHarness({ operations: watched });
  for (const query of ['?toolsets=system', ''])
    await post(narrow, rpc('tools/call', { name: 'echo', arguments: { message: 'x' } }), {}, query);
  assert.deepEqual(reached, [
    [true, false],
    [true, true],
  ]);
});

test('a URL narrows what is listed and what can be called, and never widens it', async () => {
  const list = async (query: string) => names(await post(harness, rpc('tools/list'), {}, query));
  assert.deepEqual(await list('?toolsets=system'), [
    'echo',
    'run_slowly',
    'find_operations',
    'call_operation',
  ]);
  assert.deepEqual(await list('?toolsets=logs,system&read_only=true'), [
    'echo',
    'get_logs',
    'find_operations',
    'call_operation',
  ]);
  const call = async (query: string, name: string, args: object) =>
    (await post(harness, rpc('tools/call', { name, arguments: args }), {}, query)).json;
  assert.equal((await call('?toolsets=system', 'list_things', {})).error.code, -32_602);
  assert.equal((await call('?read_only=true', 'rotate_thing', { name: 'x' })).error.code, -32_602);
  const inner = { name: 'rotate_thing', arguments: { name: 'x' } };
  const detour = await call('?read_only=true', 'call_operation', inner);
  assert.match(detour.result.content[0].text, /^NOT_FOUND: /);
  const modern = await modernCall(harness, 'list_things', {}, { query: '?toolsets=system' });
  assert.equal(modern.json.error.code, -32_602);
  await using narrow = await startHarness({ operations, settings: { toolsets: ['system'], readOnly: true } });
  const wide = await post(narrow, rpc('tools/list'), {}, '?toolsets=proxies,system&read_only=false');
  assert.deepEqual(names(wide), ['echo', 'find_operations', 'call_operation']);
});

test('an unknown toolset in the URL is refused and names the valid ones', async () => {
  for (const body of [rpc('tools/list'), rpc('tools/list', { _meta: envelope() })]) {
    const reply = await post(harness, body, {}, '?toolsets=nothing');
    assert.deepEqual([reply.status, reply.json.error.code, reply.json.id], [400, -32_602, 1]);
    assert.match(reply.json.error.message, /proxies, routes/);
  }
  assert.equal((await post(harness, rpc('tools/list'), {}, '?read_only=perhaps')).status, 400);
});

test('find_operations finds what is not listed, by the words of its name and description', async () => {
  const find = async (wire: typeof asViewer, query: string) => {
    const reply = await post(wire, rpc('tools/call', { name: 'find_operations', arguments: { query } }));
    return reply.json.result.structuredContent.operations;
  };
  const [found] = await find(asAdmin, 'axis things');
  assert.deepEqual([found.name, found.required, found.input_schema], ['rotate_thing', ['name'], undefined]);
  const [named] = await find(asAdmin, 'rotate_thing');
  assert.deepEqual(named.input_schema.required, ['name']);
  assert.deepEqual(
    (await find(asViewer, 'rotate')).map(({ name }: any) => name),
    [],
  );
});

const asAdmin = { ...harness, token: 'admin' };

test('what a setting turned off is not listed or found, and calling it names the setting', async () => {
  const all = operations.map((one) =>
    one.name === 'rotate_thing' || one.name === 'list_things'
      ? { ...one, offBy: () => 'things.mode: off' }
      : one,
  );
  await using narrowed = await startHarness({ operations: all });
  const call = async (name: string, args: object) =>
    (await post(narrowed, rpc('tools/call', { name, arguments: args }))).json.result;
  assert.ok(!names(await post(narrowed, rpc('tools/list'))).includes('list_things'));
  const { operations: found } = (await call('find_operations', { query: 'rotate_thing' })).structuredContent;
  assert.ok(!found.some(({ name }: any) => name === 'rotate_thing'));
  for (const [name, args] of [
    ['list_things', {}],
    ['call_operation', { name: 'rotate_thing', arguments: { name: 'x' } }],
  ] as const)
    assert.match(
      (await call(name, args)).content[0].text,
      /^FORBIDDEN: \w+_things? is turned off by the setting things\.mode: off$/,
    );
});

test('call_operation runs an operation with one audit record, of that operation', async () => {
  const before = harness.records.length;
  const args = { name: 'rotate_thing', arguments: { name: 'x' } };
  const { result } = (await post(harness, rpc('tools/call', { name: 'call_operation', arguments: args })))
    .json;
  assert.deepEqual(result.structuredContent, { rotated: 'x' });
  const audits = harness.records.slice(before).filter(({ kind }) => kind === 'audit');
  assert.deepEqual(
    audits.map(({ operation, outcome }) => [operation, outcome]),
    [['rotate_thing', 'OK']],
  );
});

test('a call without the permission is refused by dispatch and audited', async () => {
  const before = harness.records.length;
  const reply = await post(asViewer, rpc('tools/call', { name: 'rotate_thing', arguments: { name: 'x' } }));
  assert.match(reply.json.error.message, /^rotate_thing needs the permission proxies:write/);
  const [audit] = harness.records.slice(before).filter(({ kind }) => kind === 'audit');
  assert.equal(audit?.outcome, 'FORBIDDEN');
});

test('an error names its code, message and details, and nothing of what went wrong inside', async () => {
  const fail = async (fault: string) =>
    (await post(harness, rpc('tools/call', { name: 'fail_thing', arguments: { fault } }))).json.result;
  const known = await fail('known');
  assert.equal(known.content[0].text, 'CONFLICT: it exists already\n{"name":"thing"}');
  assert.equal(known.structuredContent, undefined);
  assert.equal(known._meta['oauth-https-proxy/error'].status, 409);
  const unknown = await fail('unknown');
  assert.match(unknown.content[0].text, /^INTERNAL: .*\n\{"trace_id":"[0-9a-f]{32}"\}$/);
  assert.ok(!JSON.stringify(unknown).includes('secret cause'));
});

test('[incident 23] what strangers wrote comes after a sentence that says so', async () => {
  const { result } = (await modernCall(harness, 'get_logs', {})).json;
  assert.equal(result.content[0].text, UNTRUSTED_NOTICE);
  assert.deepEqual(JSON.parse(result.content[1].text), result.structuredContent);
});

test('a result over the cap is not sent; the error says how to ask for less', async () => {
  const { result } = (await modernCall(harness, 'list_things', { limit: 50_000 })).json;
  assert.equal(result.isError, true);
  assert.match(result.content[0].text, /^TOO_LARGE: .*ask for less with limit$/);
});

test('progress is streamed to who asked for it, in both eras', async () => {
  const body = { name: 'run_slowly', arguments: {}, _meta: { progressToken: 'p' } };
  const session = await openSession(harness);
  const legacy = await openEvents(harness, {
    method: 'POST',
    headers: session,
    body: rpc('tools/call', body),
  });
  const modern = await openEvents(harness, {
    method: 'POST',
    headers: modernHeaders('tools/call', 'run_slowly'),
    body: rpc('tools/call', { ...body, _meta: envelope({}, { progressToken: 'p' }) }),
  });
  for (const stream of [legacy, modern]) {
    const first = await stream.next();
    assert.deepEqual(first?.json.params, { progressToken: 'p', progress: 1, total: 2, message: 'first' });
    assert.equal((await stream.next())?.json.params.progress, 2);
    assert.deepEqual((await stream.next())?.json.result.structuredContent, { aborted: false });
    assert.equal(await stream.next(), undefined);
  }
});

test('a legacy call is cancelled by its notification, a modern one by closing the connection', async () => {
  const kitchen = createKitchen();
  await using slow = await startHarness({ operations, services: kitchen });
  const stop = Promise.withResolvers<void>();
  const begun = () => new Promise<AbortSignal>((resolve) => (kitchen.kitchen.begun = resolve));
  kitchen.kitchen.release = stop.promise;

  const session = await openSession(slow);
  let running = begun();
  const answer = post(slow, rpc('tools/call', { name: 'run_slowly', arguments: {} }, 'c'), session);
  const legacySignal = await running;
  await post(slow, notification('notifications/cancelled', { requestId: 'other' }), session);
  assert.equal(legacySignal.aborted, false);
  await post(slow, notification('notifications/cancelled', { requestId: 'c' }), session);
  assert.equal(legacySignal.aborted, true);
  assert.match((await answer).json.error.message, /cancelled/);

  running = begun();
  const controller = new AbortController();
  const gone = fetch(slow.url, {
    method: 'POST',
    signal: controller.signal,
    headers: {
      authorization: 'Bearer admin',
      'content-type': 'application/json',
      ...modernHeaders('tools/call', 'run_slowly'),
    },
    body: JSON.stringify(rpc('tools/call', { name: 'run_slowly', arguments: {}, _meta: envelope() })),
  }).catch(() => undefined);
  const modernSignal = await running;
  controller.abort();
  await gone;
  if (!modernSignal.aborted) await once(modernSignal, 'abort');
  stop.resolve();
});

test('with public access anyone may shake hands, echo and search nothing', async () => {
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const send = async (body: unknown) =>
    (await (await fetch(harness.url, { method: 'POST', headers, body: JSON.stringify(body) })).json()) as any;
  assert.equal((await send(rpc('initialize'))).result.serverInfo.name, 'OAuth-HTTPS-Proxy-MCP');
  assert.deepEqual(names({ json: await send(rpc('tools/list')) }), ['echo']);
  assert.equal((await send(rpc('tools/call', { name: 'echo', arguments: {} }))).result.isError, undefined);
  const refused = await send(rpc('tools/call', { name: 'list_things', arguments: {} }));
  assert.equal(refused.error.data.code, 'UNAUTHENTICATED');
  assert.equal(
    (await send(rpc('tools/call', { name: 'call_operation', arguments: {} }))).error.code,
    -32_602,
  );
});

test('every request is told to the log as an mcp record without arguments or session ids', async () => {
  const before = harness.told.length;
  const session = await openSession(harness);
  const call = { name: 'echo', arguments: { message: 'canary-argument' } };
  await post(harness, rpc('tools/call', call), session);
  await post(harness, rpc('no/\u0007such'), session);
  const records = harness.told.slice(before);
  assert.deepEqual([...new Set(records.map(({ kind }) => kind))], ['mcp']);
  assert.deepEqual(
    records.map(({ operation, outcome }) => [operation, outcome]),
    [
      ['initialize', 'OK'],
      ['notifications/initialized', 'OK'],
      ['echo', 'OK'],
      ['no/\ufffdsuch', 'INVALID_INPUT'],
    ],
  );
  const text = JSON.stringify(records);
  assert.ok(!text.includes('canary-argument') && !text.includes(session['mcp-session-id']));
  assert.equal(records[2]?.detail?.client, 'wire/1');
});

test('the endpoints it serves are told for the registry, with and without the slash', () => {
  assert.deepEqual(
    harness.mcp.endpoints.map(({ path, gate, hosts }) => [path, gate, hosts]),
    [
      ['/mcp', 'mcp', 'served'],
      ['/mcp/', 'mcp', 'served'],
    ],
  );
});

const flows: Record<string, (url: URL) => Promise<{ tools: string[]; text: string; isError: unknown }>> = {
  'v2 client, legacy': (url) => flowV2(url, 'legacy'),
  'v2 client, auto': (url) => flowV2(url, 'auto'),
  'v2 client, pinned to 2026-07-28': (url) => flowV2(url, { pin: '2026-07-28' }),
  'v1 client 1.32': async (url) => {
    const client = new ClientV1({ name: 'v1', version: '1' });
    await client.connect(
      new TransportV1(url, { requestInit: { headers: { authorization: 'Bearer admin' } } }) as any,
    );
    return flowOf(client);
  },
};

async function flowV2(url: URL, mode: any) {
  const client = new Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } } as any);
  await client.connect(
    new StreamableHTTPClientTransport(url, { requestInit: { headers: { authorization: 'Bearer admin' } } }),
  );
  return flowOf(client);
}

async function flowOf(client: any) {
  const { tools } = await client.listTools();
  const result = await client.callTool({ name: 'echo', arguments: { message: 'from a client' } });
  const failed = await client.callTool({ name: 'fail_thing', arguments: { fault: 'known' } });
  await client.close();
  return { tools: tools.map(({ name }: any) => name), text: result.content[0].text, isError: failed.isError };
}

for (const [name, flow] of Object.entries(flows)) {
  test(`the ${name} goes through the seed's flow`, async () => {
    const { tools, text, isError } = await flow(new URL(harness.url));
    assert.ok(tools.includes('create_proxy') || tools.includes('list_things'));
    assert.deepEqual(JSON.parse(text), { message: 'from a client' });
    assert.equal(isError, true);
  });
}

const CHARACTERS_PER_TOKEN = 4;
const MAX_TOKENS = 6000;
const MAX_TOOLS = 30;
const catalogue = join(import.meta.dirname, '../../operations.ts');

test('what a model reads of the real tools is at most 6,000 tokens, in at most 30 tools', {
  skip: !existsSync(catalogue),
}, async () => {
  const module = (await import(catalogue)) as { operations: readonly AnyOperation[] };
  const views = createViews(module.operations, defaultSettings, createProfile('0.1.0'));
  const { tools } = views.for(principalOf('admin'), '');
  const read = tools.map(({ name, title, description, inputSchema }) => ({
    name,
    title,
    description,
    inputSchema,
  }));
  const tokens = JSON.stringify(read).length / CHARACTERS_PER_TOKEN;
  assert.ok(tools.length <= MAX_TOOLS, `${tools.length} tools`);
  assert.ok(tokens <= MAX_TOKENS, `${tokens} tokens`);
});
