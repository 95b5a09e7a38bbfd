/** capture_requests and get_diagnostics on the running product, asked by clients of HTTP/1.1, HTTP/2, WebSocket and MCP. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import test, { after } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { CapturedRequest, CapturePage } from '../../src/captures/schema.ts';
import { configFile, grant, postMcp, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const HOST = 'app.example.com';
const OTHER = 'other.example.com';
/** Letters only: nothing but the place that it stands in says what it is. */
const SECRET = 'plantedsecret';

const upstream = await startUpstream((request, response) => {
  response.writeHead(201, {
    'content-type': 'application/json',
    'set-cookie': `sid=${SECRET}; Path=/`,
    'x-backend': 'blue',
    location: `/next?token=${SECRET}`,
  });
  request.on('end', () => response.end(JSON.stringify({ note: 'made', access_token: SECRET }))).resume();
});
const sockets = new WebSocketServer({ noServer: true });
upstream.server.on('upgrade', (asked, socket, head) =>
  sockets.handleUpgrade(asked, socket, head, (ws) => ws.on('message', (data) => ws.send(data as Buffer))),
);
const product = await startProduct({ env: { OHP_CONFIG: configFile({ mcp: { confirm: 'always' } }) } });
after(async () => {
  for (const client of sockets.clients) client.terminate();
  await Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]);
});
for (const hostname of [HOST, OTHER])
  await product.api('POST', '/v1/proxies', { hostname, target_url: upstream.url });

async function start(wanted: object = {}): Promise<string> {
  const { status, body } = await product.api('POST', '/v1/captures', { hostname: HOST, count: 3, ...wanted });
  assert.equal(status, 200, JSON.stringify(body));
  return body.id;
}

const show = async (id: string, query = ''): Promise<CapturePage> =>
  (await product.api('GET', `/v1/captures/${id}${query}`)).body;

/** Once so many have ended; a request ends after its client has the answer. */
const ended = (id: string, count: number, query = ''): Promise<CapturePage> =>
  eventually(async () => {
    const page = await show(id, query);
    const over = page.requests.filter(({ state }) => state === 'ended');
    return over.length >= count ? page : undefined;
  }, `${count} captured requests`);

const sent = {
  method: 'POST',
  headers: {
    authorization: `Bearer ${SECRET}`,
    cookie: `sid=${SECRET}`,
    'x-api-key': SECRET,
    'content-type': 'application/json',
    'x-tenant': 'acme',
  },
  body: JSON.stringify({ name: 'ada', password: SECRET }),
};
const PATH = `/items?q=${SECRET}&page=2`;

function http2Session() {
  return http2.connect(`https://${HOST}`, {
    createConnection: () =>
      connect({
        host: '127.0.0.1',
        port: product.httpsPort,
        servername: HOST,
        ca: product.ca,
        ALPNProtocols: ['h2'],
      }),
  });
}

function checkHead(told: CapturedRequest | undefined, protocol: string): void {
  assert.ok(told);
  const { method, path, query, status, upstream_status, tries, outcome } = told;
  assert.deepEqual([told.protocol, method, path, query], [protocol, 'POST', '/items', ['q', 'page']]);
  assert.deepEqual([status, upstream_status, outcome, told.taken_by], [201, 201, 'OK', 'forwardProxied']);
  assert.equal(tries?.[0]?.target, `${upstream.url}/items`);
  for (const line of ['authorization: [redacted]', 'cookie: sid', 'x-api-key: [redacted]', 'x-tenant: acme'])
    assert.ok(told.request_headers.includes(line), line);
  for (const line of [
    'set-cookie: sid=[redacted]; Path=/',
    'x-backend: blue',
    'location: /next?token=[redacted]',
  ])
    assert.ok(told.response_headers?.includes(line), `${line} in ${told.response_headers?.join('\n')}`);
  assert.deepEqual([told.bytes_in, told.bytes_out! > 0], [sent.body.length, true]);
  assert.equal(told.request_body, undefined);
}

test('requests over HTTP/1.1 and HTTP/2 are captured until there are as many as were wanted, without what is secret in them', async () => {
  const id = await start({ count: 2 });
  await product.get(OTHER, '/not-this-one');
  await product.get(HOST, PATH, sent);
  const session = http2Session();
  const stream = session.request({ ':method': 'POST', ':path': PATH, ...sent.headers });
  stream.end(sent.body);
  await text(stream);
  session.close();
  await product.get(HOST, '/too-late');
  const page = await ended(id, 2);
  assert.deepEqual([page.state, page.captured, page.requests.length], ['complete', 2, 2]);
  checkHead(page.requests[0], 'h1');
  checkHead(page.requests[1], 'h2');
  assert.ok(!JSON.stringify(page).includes(SECRET));
});

test('a WebSocket is there while it is open, and with its end', async () => {
  const id = await start();
  const socket = new WebSocket(`wss://${HOST}/socket`, `token.${SECRET}A1b2C3d4E5f6G7h8`, {
    createConnection: () =>
      connect({ host: '127.0.0.1', port: product.httpsPort, servername: HOST, ca: product.ca }),
  } as object);
  await once(socket, 'open');
  const [open] = (await show(id)).requests;
  assert.deepEqual([open?.kind, open?.state, open?.status], ['upgrade', 'open', 101]);
  socket.send('hello');
  await once(socket, 'message');
  socket.close();
  const page = await ended(id, 1);
  assert.ok((page.requests[0]?.bytes_out ?? 0) > 0);
  assert.ok(!JSON.stringify(page).includes(SECRET));
});

test('what this system answers itself is captured: a call of /mcp, and a refusal', async () => {
  const id = await start();
  const body = { jsonrpc: '2.0', id: 1, method: 'ping' };
  await postMcp(product, { headers: { host: HOST, authorization: `Bearer ${SECRET}` }, body });
  await product.api('PATCH', `/v1/proxies/${HOST}`, { auth: { kind: 'token', permission: 'proxies:read' } });
  await product.get(HOST, '/closed');
  await product.api('PATCH', `/v1/proxies/${HOST}`, { auth: { kind: 'none' } });
  const { requests } = await ended(id, 2);
  assert.deepEqual(
    requests.map(({ kind, status }) => [kind, status]),
    [
      ['mcp', 401],
      ['proxied', 401],
    ],
  );
  assert.equal(requests[1]?.taken_by, 'authenticateProxied');
  assert.ok(requests[1]?.response_headers?.some((line) => line.startsWith('x-trace-id: ')));
  assert.ok(!JSON.stringify(requests).includes(SECRET));
});

test('bodies are shown by the switch of both calls, with system:write, and the question and the audit record say so', async () => {
  const operator = await grant(product, { name: 'operator', permissions: ['proxies:write'] });
  const as = (path: string, payload?: object) =>
    send(product, { method: payload ? 'POST' : 'GET', path, token: operator.secret, body: payload });
  assert.equal((await as('/v1/captures', { hostname: HOST, bodies: true })).status, 403);
  const id = await start({ bodies: true });
  await product.get(HOST, PATH, sent);
  const { requests } = await ended(id, 1, '?bodies=true');
  assert.equal(requests[0]?.request_body?.text, '{"name":"ada","password":[redacted]}');
  assert.equal(requests[0]?.response_body?.text, '{"note":"made","access_token":[redacted]}');
  assert.equal((await show(id)).requests[0]?.request_body, undefined);
  assert.equal((await as(`/v1/captures/${id}`)).status, 200);
  assert.equal((await as(`/v1/captures/${id}?bodies=true`)).status, 403);
  const { body } = await product.api(
    'GET',
    '/v1/logs?operation=capture_requests&kind=audit&verbose=true&lines=20',
  );
  const kept = JSON.stringify(body.records);
  assert.match(kept, new RegExp(id));
  assert.match(kept, /bodies\\*":true/);
  const asked = await postMcp(product, {
    token: product.adminToken,
    body: {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'call_operation',
        arguments: { name: 'capture_requests', arguments: { hostname: HOST, bodies: true } },
      },
    },
  });
  assert.match(asked.text, /has to be confirmed by a person/);
});

test('who is confined to other hostnames captures, sees and stops nothing of this one', async () => {
  const { secret: token } = await grant(product, {
    name: 'elsewhere',
    permissions: ['proxies:write'],
    hostnames: [OTHER],
  });
  const id = await start();
  const captured = await send(product, {
    method: 'POST',
    path: '/v1/captures',
    token,
    body: { hostname: HOST },
  });
  assert.equal(captured.status, 404);
  assert.equal((await send(product, { path: `/v1/captures/${id}`, token })).status, 404);
  const own = await send(product, { method: 'POST', path: '/v1/captures', token, body: { hostname: OTHER } });
  assert.equal(own.status, 200);
  const stop = (of: string) =>
    send(product, { method: 'POST', path: `/v1/captures/${of}/stop`, token, body: {} });
  const listed = await send(product, { path: '/v1/captures', token });
  assert.deepEqual(
    listed.json.captures.map((one: { id: string }) => one.id),
    [own.json.id],
  );
  assert.equal((await stop(id)).status, 404);
  assert.equal((await show(id)).state, 'running');
  assert.equal((await stop(own.json.id)).json.state, 'stopped');
});

test('the process tells what it spends its time and memory on', async () => {
  const { status, body } = await product.api('GET', '/v1/diagnostics');
  assert.equal(status, 200);
  const { event_loop, heap, heap_spaces, memory, active, connections, collections } = body;
  assert.ok(event_loop.p50_ms <= event_loop.p99_ms && event_loop.p99_ms <= event_loop.max_ms);
  assert.ok(event_loop.utilisation > 0 && event_loop.utilisation <= 1);
  assert.ok(heap.used_bytes > 0 && heap.used_bytes < heap.limit_bytes && memory.resident_bytes > 0);
  assert.ok(heap_spaces.some(({ name }: { name: string }) => name === 'old_space'));
  assert.ok(active.some(({ kind, count }: { kind: string; count: number }) => /TCP/.test(kind) && count > 0));
  assert.ok(connections.open > 0);
  assert.ok(collections.length > 0);
  const { secret: token } = await grant(product, { name: 'viewer', bundle: 'viewer' });
  assert.equal((await send(product, { path: '/v1/diagnostics', token })).status, 403);
});
