/**
 * Instructions to models, hidden in what strangers can write (supabase tickets, GitHub toxic flows): a corpus is planted
 * in every such input, then every operation is asked over every surface. What comes back is marked, without a character
 * that a terminal obeys or a reader does not see, and cut. The order of this file matters: planting comes first.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import type { AnyOperation } from '../../src/core/operation.ts';
import { cleanLines } from '../../src/core/untrusted.ts';
import { statsGroups } from '../../src/logs/stats.ts';
import { operations as declared } from '../../src/operations.ts';
import { callTool, configFile, generous, postMcp, raw, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { handshake } from '../support/handshake.ts';
import {
  assertClean,
  assertFenced,
  callOver,
  corpus,
  every,
  inHeader,
  inPath,
  MARK,
  payloads,
} from '../support/hostile-text.ts';
import { startProduct } from '../support/product.ts';
import { CLIENT_ID, CLIENT_SECRET, startOidcProvider } from '../support/providers.ts';
import { surfaces } from '../support/surfaces.ts';
import { ohp } from '../surface-harness.ts';
import { startUpstream } from '../support/upstream.ts';
import { signInAs, Visitor } from '../support/visitor.ts';

const operations: readonly AnyOperation[] = declared;
type Name = (typeof declared)[number]['name'];

const folder = mkdtempSync(join(tmpdir(), 'ohp-hostile-'));
const socket = join(folder, 'engine.sock');
const json =
  (value: unknown): RequestListener =>
  (_request, response) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
const container = (payload: string, i: number) => ({
  Id: String(i).repeat(64),
  Names: [`/${payload}`],
  Image: payload,
  State: i % 2 === 0 ? 'running' : payload,
  Status: payload,
  Created: 1_767_225_600,
  Labels: {
    [payload]: payload,
    'ohp.hostname': `offer-${i}.example.com`,
    'ohp.port': i % 2 === 0 ? '80' : payload,
  },
  Ports: [{ IP: '127.0.0.1', PrivatePort: 80, PublicPort: 18_000 + i, Type: 'tcp' }],
});
const image = (payload: string, i: number) => ({
  Id: `sha256:${String(i).repeat(64)}`,
  RepoTags: [payload],
  RepoDigests: [payload],
  Size: 1,
  Created: 1_767_225_600,
  Labels: { [payload]: payload },
});
/** Of an engine, which is the operator's, whose containers and images others made. */
const engineAnswers: [path: string, listener: RequestListener][] = [
  ['/version', json({ Version: every.replaceAll(MARK, 'own'), ApiVersion: '1.44', MinAPIVersion: '1.24' })],
  ['/_ping', (_request, response) => void response.writeHead(200, { 'api-version': '1.44' }).end('OK')],
  ['/containers/json', json(payloads.map(container))],
  ['/images/json', json(payloads.map(image))],
  [
    '/events',
    (_request, response) => {
      response.writeHead(200).flushHeaders();
    },
  ],
];
const engine = createServer((request, response) => {
  const path = (request.url ?? '').replace(/^\/v[\d.]+/, '').split('?')[0];
  const found = engineAnswers.find(([known]) => known === path)?.[1];
  if (found) return found(request, response);
  response.writeHead(500, { 'content-type': 'application/json' }).end(JSON.stringify({ message: every }));
}).listen(socket);
await once(engine, 'listening');

const upstream = await startUpstream((request, response) => {
  const { url = '' } = request;
  if (url.includes('reset')) return void request.socket.destroy();
  if (url.includes('garbage'))
    return void request.socket.end(`HTTP/1.1 200 ${inHeader(every)}\r\nx y: ${inHeader(every)}\r\n\r\n`);
  response.writeHead(500, inHeader(corpus.markdown), { 'x-note': inHeader(corpus.order) }).end(every);
});
const provider = await startOidcProvider();
const product = await startProduct({
  env: {
    OHP_DOCKER_SOCKET: socket,
    OHP_LOG_LEVEL: 'debug',
    OHP_CONFIG: configFile({
      ...generous,
      services: { labels: 'propose' },
      commands: { mode: 'any' },
      oauth: {
        client_registration: true,
        upstreams: [
          {
            name: 'elsewhere',
            title: 'Elsewhere',
            kind: 'oidc',
            issuer: provider.issuer,
            client_id: CLIENT_ID,
            client_secret: CLIENT_SECRET,
            allow: { everyone: true },
            create_users: true,
          },
        ],
      },
    }),
  },
});
after(async () => {
  await product[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
  engine.closeAllConnections();
  engine.close();
  rmSync(folder, { recursive: true, force: true });
});
const token = product.adminToken;
const hostname = 'app.example.com';
const rest = (method: string, path: string, body?: object) => send(product, { method, path, token, body });

let captureId = '';
test('incident 23: (planting) in requests to a site', async () => {
  const made = await rest('POST', '/v1/proxies', { hostname, target_url: upstream.url });
  assert.equal(made.status, 201, made.text);
  const closed = {
    hostname: 'closed.example.com',
    target_url: upstream.url,
    auth: { kind: 'token', permission: 'proxies:read' },
  };
  assert.equal((await rest('POST', '/v1/proxies', closed)).status, 201);
  const capture = { hostname, count: 50, seconds: 600, bodies: true };
  captureId = (await rest('POST', '/v1/captures', capture)).json.id;
  for (const payload of payloads) {
    const header = inHeader(payload);
    const headers = {
      'user-agent': header,
      referer: header,
      'x-forwarded-for': header,
      'accept-language': header,
      origin: header,
    };
    for (const host of [hostname, 'closed.example.com'])
      await product.get(host, `/${inPath(payload).slice(0, 3000)}?q=${inPath(payload).slice(0, 3000)}`, {
        headers,
      });
    await product.get('closed.example.com', '/', {
      headers: { ...headers, authorization: `Bearer ${header}` },
    });
    await raw(
      product,
      `${header.replaceAll(' ', '')} / HTTP/1.1\r\nHost: ${header}\r\nConnection: close\r\n\r\n`,
    );
    await raw(
      product,
      `GET / HTTP/1.1\r\nHost: localhost\r\nTraceparent: ${header}\r\nConnection: close\r\n\r\n`,
    );
  }
  for (const path of ['/reset', '/garbage']) await product.get(hostname, path);
});

test('incident 23: (planting) in what clients of MCP and OAuth say of themselves', async () => {
  for (const payload of payloads) {
    const clientInfo = { name: payload, version: payload };
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo };
    await postMcp(product, { token, body: { jsonrpc: '2.0', id: 1, method: 'initialize', params } });
    await postMcp(product, { token, body: { jsonrpc: '2.0', id: 1, method: payload, params: {} } });
    await callTool(product, token, { name: payload, args: { [payload]: payload } });
    await callTool(product, token, { name: 'get_proxy', args: { hostname: payload } });
    await rest('POST', '/v1/tokens', { name: payload.replaceAll(MARK, 'own'), bundle: 'viewer' });
    const registration = {
      client_name: payload,
      redirect_uris: ['https://client.example.net/callback'],
      client_uri: payload,
    };
    for (const body of [
      registration,
      { client_name: payload, redirect_uris: ['https://client.example.net/callback'] },
    ])
      await product.get('localhost', '/oauth/register', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
  }
});

test('incident 23: (planting) in what a provider elsewhere says of who signs in', async () => {
  const first = new Visitor(product);
  await signInAs(first, await first.open(first.at('localhost', '/oauth/account')), product);
  for (const [i, payload] of payloads.entries()) {
    const said = payload.toWellFormed();
    provider.someone = {
      subject: `${i} ${said}`,
      label: said,
      name: said,
      email: `${said}@example.net`,
      isEmailVerified: true,
      groups: [said],
    };
    const visitor = new Visitor(product, undefined, `127.0.0.${i + 2}`);
    const page = await visitor.open(visitor.at('localhost', '/oauth/account'));
    const { status, body } = await visitor.submit(page, { provider: 'elsewhere' });
    // What is no text, or too long, is the provider's fault.
    assert.ok([200, 403, 502].includes(status), `${status} for ${said.slice(0, 100)}: ${body.slice(0, 500)}`);
  }
});

test('incident 23: (planting) in the name that a handshake asks for', async () => {
  for (const payload of payloads)
    for (const name of [payload.replace(/[^\x21-\x7e]/g, '').slice(0, 250), `${MARK}.example.org`])
      await handshake(product, name).catch(() => undefined);
});

let certificateId = '';
test('incident 23: (planting) in the subject of a certificate', async () => {
  // openssl takes neither a slash, which begins a field, nor what is no text.
  const subject = `/CN=${corpus.order.slice(0, 60).replaceAll('/', '')}`;
  const { certificatePem, keyPem } = makeLeaf([hostname], undefined, { subject });
  const reply = await rest('POST', '/v1/certificates', {
    certificate_pem: certificatePem,
    private_key_pem: keyPem,
  });
  assert.equal(reply.status, 201, reply.text);
  certificateId = reply.json.id;
});

let traceId = '';
test('incident 23: (planting) what was planted is in the log', async () => {
  traceId = await eventually(async () => {
    const { json: page } = await rest('GET', `/v1/logs?lines=200&kind=access&hostname=${hostname}`);
    return page.records.find(({ path }: { path?: string }) => path?.includes('IGNORE'))?.trace_id;
  }, 'the record of a planted path');
});

type Arguments = Record<string, unknown>;
/** How each operation is asked that shows something without changing anything. */
const asked: Partial<Record<Name, () => Arguments[]>> = {
  list_proxies: () => [{}],
  get_proxy: () => [{ hostname }],
  get_protection: () => [{ hostname }],
  list_routes: () => [{}],
  test_route: () => payloads.slice(0, 1).map(() => ({ url: `https://${hostname}/x` })),
  list_certificates: () => [{}],
  get_certificate: () => [{ id: certificateId }],
  explain_certificate: () => [{ hostname }],
  list_tokens: () => [{}],
  list_users: () => [{}],
  whoami: () => [{}],
  list_clients: () => [{}],
  list_grants: () => [{}],
  diagnose_connector: () => [{ url: `https://${hostname}/mcp`, client: 'claude' }],
  list_services: () => [{}],
  get_service: () => [{ name: 'blog' }],
  list_secrets: () => [{}],
  list_images: () => [{}],
  get_service_logs: () => [{ name: 'blog' }],
  get_service_stats: () => [{ name: 'blog' }],
  list_proposals: () => [{}],
  get_logs: () => [
    { kind: 'all', level: 'debug', lines: 30, verbose: true },
    { kind: 'access', hostname, lines: 30 },
    { kind: 'system', level: 'debug', lines: 60 },
  ],
  get_log_stats: () => [
    ...statsGroups.map((group_by) => ({ group_by, since: '1h' })),
    { group_by: 'operation', filter: 'kind:mcp', since: '1h' },
  ],
  tail_logs: () => [{ follow_ms: 0 }],
  search_logs: () => [{ text: MARK }, { text: MARK, filter: 'kind:all' }],
  list_alerts: () => [{ state: 'all' }],
  verify_audit: () => [{}],
  export_audit: () => [{ limit: 100 }],
  explain_request: () => [{ trace_id: traceId }],
  why_denied: () => [{}, { hostname: 'closed.example.com' }],
  what_changed: () => [{ since: '1h' }],
  get_capture: () => [{ id: captureId }, { id: captureId, bodies: true, limit: 50 }],
  list_captures: () => [{}],
  get_diagnostics: () => [{}],
  list_log_levels: () => [{}],
  list_endpoints: () => [{}],
  list_commands: () => [{}],
  health_check: () => [{}],
  run_command: () => [{ command: 'env' }],
};

/** The caller's own words, and what none but the operator wrote: why an operation that is not marked needs no mark. */
const UNMARKED = {
  'settings that operators wrote, and figures': [
    'list_proxies',
    'get_proxy',
    'create_proxy',
    'update_proxy',
    'delete_proxy',
    'protect_proxy',
    'unprotect_proxy',
    'get_protection',
    'list_routes',
    'create_route',
    'update_route',
    'delete_route',
    'test_route',
    'list_secrets',
    'set_secret',
    'delete_secret',
    'create_external_service',
    'update_external_service',
    'set_log_level',
    'list_log_levels',
    'list_endpoints',
    'rotate_keys',
  ],
  'names that who may grant has given': [
    'list_tokens',
    'create_token',
    'revoke_token',
    'rotate_token',
    'create_client',
    'create_user',
    'delete_user',
  ],
  'ids, and what is gone': ['delete_client', 'revoke_grant'],
  'the caller': ['whoami', 'echo'],
  'what was asked for, and a count': ['capture_requests', 'list_captures', 'stop_capture'],
  figures: ['get_diagnostics', 'get_service_stats', 'health_check', 'verify_audit'],
  'what a receiver answers is told by its status': ['test_alert'],
} satisfies Record<string, Name[]>;

test('incident 23: an operation is marked, or there is a reason why it has nothing of strangers', () => {
  const unmarked: string[] = Object.values(UNMARKED).flat();
  for (const { name, untrusted } of operations)
    assert.notEqual(
      untrusted === true,
      unmarked.includes(name),
      `${name}: mark it \`untrusted\`, or say why it needs none`,
    );
  const names = new Set(operations.map(({ name }) => name as string));
  for (const name of unmarked) assert.ok(names.has(name), name);
});

test('incident 23: every operation that reads is asked here', () => {
  for (const { name, effect } of operations)
    if (effect === 'read' && name !== 'echo') assert.ok(asked[name as Name], `${name}: say how it is asked`);
});

/** Operations in whose answers something was found. */
const found = new Set<string>();
const cases = operations.flatMap((operation) =>
  asked[operation.name as Name]?.length === undefined ? [] : [operation],
);

for (const operation of cases)
  test(`incident 23: ${operation.name} shows what strangers wrote as marked, clean, bounded text, on every surface`, async () => {
    for (const input of asked[operation.name as Name]?.() ?? []) {
      const where = `${operation.name} ${JSON.stringify(input)}`;
      for (const era of ['legacy', 'modern'] as const) {
        const reply = await callOver(product, token, { operation, input, era });
        if (assertFenced(`${where}, ${era}`, reply)) {
          found.add(operation.name);
          assert.equal(operation.untrusted, true, `${where} is not marked: ${reply.text.slice(0, 2000)}`);
        }
      }
      const overRest = await surfaces.REST({ httpPort: product.httpPort, token }, { operation, input });
      assertClean(`${where}, REST`, overRest);
      await assertCleanCli(where, operation, input);
    }
  });

/** As a person reads it, and as a program does. */
async function assertCleanCli(where: string, operation: AnyOperation, input: Arguments): Promise<void> {
  const place = { httpPort: product.httpPort, token };
  assertClean(`${where}, CLI`, await surfaces.CLI(place, { operation, input }));
  const words = operation.name.split('_');
  const options = Object.entries(input).flatMap(([name, value]) =>
    typeof value === 'boolean'
      ? [`--${name.replaceAll('_', '-')}`]
      : [`--${name.replaceAll('_', '-')}`, String(value)],
  );
  const { stdout, stderr } = await ohp([...words, ...options], {
    env: { OHP_URL: `http://localhost:${product.httpPort}`, OHP_TOKEN: token },
    operations: [operation],
  });
  for (const text of [stdout, stderr]) assertClean(`${where}, as a table`, text);
}

test('incident 23: what was planted came to be seen, so that the rest of this file is about something', () => {
  for (const name of [
    'get_logs',
    'list_users',
    'get_capture',
    'explain_request',
    'why_denied',
    'list_clients',
    'list_services',
    'list_images',
    'list_proposals',
    'get_certificate',
  ])
    assert.ok(
      found.has(name),
      `${name}: nothing of what was planted was in its answer; found in ${[...found].join(', ')}`,
    );
});

test('incident 23: nothing of it was printed to the operator with a character that a terminal obeys', () => {
  const printed = product.output();
  assert.equal(cleanLines(printed, printed.length), printed);
});
