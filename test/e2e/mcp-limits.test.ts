/** What one caller of `/mcp` may take, and what it is told when it asks for more than its credential grants. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import {
  envelope,
  modernCall,
  modernHeaders,
  openEvents,
  openSession,
  post,
  request,
  rpc,
} from '../conformance/wire.ts';
import { grant } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';

const TEST_TIMEOUT_MS = 60_000;

/** Ends with the test, also when that has run out of time: what waits for a stream ends then. */
async function start(t: TestContext, mcp: object) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-limits-'));
  const config = join(folder, 'config.yaml');
  writeFileSync(config, JSON.stringify({ mcp }));
  const product = await startProduct({ env: { OHP_CONFIG: config } });
  const url = `http://localhost:${product.httpPort}/mcp`;
  t.after(async () => {
    await product[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
  return {
    url,
    admin: { url, token: product.adminToken },
    wireOf: async (bundle: string) => ({ url, token: (await grant(product, { bundle })).secret }),
  };
}

test('a tool that a token may not call is 403, with all scopes that are needed and where they are granted', {
  timeout: TEST_TIMEOUT_MS,
}, async (t) => {
  const kit = await start(t, {});
  const viewer = await kit.wireOf('viewer');
  const args = { hostname: 'app.example.com', target_url: 'http://127.0.0.1:9' };
  const replies = [
    await post(viewer, rpc('tools/call', { name: 'create_proxy', arguments: args })),
    await modernCall(viewer, 'create_proxy', args),
    await modernCall(viewer, 'call_operation', { name: 'create_proxy', arguments: args }),
  ];
  for (const { status, headers, json } of replies) {
    assert.equal(status, 403);
    assert.equal(
      headers.get('www-authenticate'),
      'Bearer error="insufficient_scope", ' +
        'scope="proxies:read proxies:write routes:read certificates:read services:read logs:read alerts:read metrics:read system:read", ' +
        `resource_metadata="${new URL('/.well-known/oauth-protected-resource/mcp', kit.url).href}"`,
    );
    assert.deepEqual([json.id, json.error.code, json.error.data.code], [1, 403, 'FORBIDDEN']);
  }
});

const BATCHES = '2025-03-26';
const pings = (count: number) => Array.from({ length: count }, (_, i) => rpc('ping', {}, i));

test('a batch counts as many requests as it has messages, per principal and per address', {
  timeout: TEST_TIMEOUT_MS,
}, async (t) => {
  const limits = { calls_per_minute: 60, calls_per_minute_per_address: 150 };
  const kit = await start(t, limits);
  const first = await kit.wireOf('viewer');
  const second = await kit.wireOf('viewer');
  const third = await kit.wireOf('viewer');
  for (const wire of [first, second]) {
    const session = await openSession(wire, { version: BATCHES });
    assert.equal((await post(wire, pings(50), session)).status, 200);
    const refused = await post(wire, pings(50), session);
    assert.deepEqual([refused.status, refused.json.error.data.code], [429, 'RATE_LIMITED']);
    assert.ok(Number(refused.headers.get('retry-after')) > 0);
  }
  const session = await openSession(third, { version: BATCHES });
  assert.equal((await post(third, pings(50), session)).status, 429, 'the address has had its share');
  assert.equal((await post(third, pings(2), session)).status, 200, 'what is left of it can be used');
});

const listen = (id: number) => ({
  method: 'POST',
  headers: modernHeaders('subscriptions/listen'),
  body: rpc('subscriptions/listen', { notifications: { toolsListChanged: true }, _meta: envelope() }, id),
});

test('streams are counted per principal: who opens all of its own takes none of the others', {
  timeout: TEST_TIMEOUT_MS,
}, async (t) => {
  const kit = await start(t, { max_event_streams: 10, max_event_streams_per_principal: 3 });
  const viewer = await kit.wireOf('viewer');
  const session = await openSession(viewer);
  const open = [
    await openEvents(viewer, { headers: session }),
    await openEvents(viewer, listen(1)),
    await openEvents(viewer, listen(2)),
  ];
  assert.deepEqual(
    open.map(({ status }) => status),
    [200, 200, 200],
  );
  const { method, headers, body } = listen(3);
  const more = await post(viewer, body, headers);
  assert.deepEqual([method, more.status, more.json.error.data.code], ['POST', 429, 'RATE_LIMITED']);
  const other = { accept: 'text/event-stream', ...(await openSession(viewer)) };
  assert.equal((await request(viewer, { method: 'GET', headers: other })).status, 429);

  const again = await openEvents(viewer, { headers: session });
  assert.equal(again.status, 200, 'a stream that takes over from one of its own needs no room');
  open.push(again);

  const neighbour = await openEvents(kit.admin, listen(1));
  assert.equal(neighbour.status, 200);
  for (const stream of [...open, neighbour]) await stream.cancel();
});

test('a reply that could be a stream is none when the principal has its share open', {
  timeout: TEST_TIMEOUT_MS,
}, async (t) => {
  const kit = await start(t, { max_event_streams_per_principal: 1 });
  const session = await openSession(kit.admin);
  const call = { name: 'run_command', arguments: { command: 'uptime' }, _meta: { progressToken: 'p' } };
  const streamed = await post(kit.admin, rpc('tools/call', call), session);
  assert.match(streamed.headers.get('content-type') ?? '', /^text\/event-stream/);
  const standing = await openEvents(kit.admin, { headers: session });
  const plain = await post(kit.admin, rpc('tools/call', call), session);
  assert.equal(plain.json.result.structuredContent.exit_code, 0);
  await standing.cancel();
});
