/** `kill -9` in the middle of changes: what was acknowledged is there, nothing is half there, the session goes on. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { type Product, startProduct } from '../support/product.ts';

const CALLS = 1000;
const WORKERS = 8;
const KILL_AFTER = [137, 419, 803];

test(`kill -9 during ${CALLS} mutating calls loses no acknowledged change and leaves none half done`, async (t) => {
  let product = await startProduct();
  t.after(() => product[Symbol.asyncDispose]());
  const session = await openSession(product);
  const acknowledged = new Map<string, string>();
  const attempted = new Set<string>();
  let next = 0;
  for (const stopAt of [...KILL_AFTER, CALLS]) {
    const killed = Promise.withResolvers<void>();
    const worker = async () => {
      while (next < CALLS && acknowledged.size < stopAt) {
        const hostname = `h${next++}.example.com`;
        attempted.add(hostname);
        const status = await mutate(product, hostname).catch(() => 0);
        if (status === 0) return;
        assert.equal(status, 201);
        acknowledged.set(hostname, 'created');
        if (acknowledged.size === stopAt && stopAt !== CALLS) killed.resolve(product.kill());
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, worker));
    if (stopAt === CALLS || next >= CALLS) break;
    await killed.promise;
    product = await product.restart();
    await check(product, acknowledged, attempted);
    await sessionContinues(product, session);
  }
  await check(product, acknowledged, attempted);
});

const mutate = async (product: Product, hostname: string): Promise<number> => {
  const { status } = await product.api('POST', '/v1/proxies', {
    hostname,
    target_url: `http://127.0.0.1:9/${hostname}`,
    request_headers: { set: { 'x-a': hostname } },
  });
  return status;
};

async function check(
  product: Product,
  acknowledged: Map<string, string>,
  attempted: Set<string>,
): Promise<void> {
  const found = new Set<string>();
  let cursor = '';
  do {
    const { body } = await product.api('GET', `/v1/proxies?limit=200${cursor && `&cursor=${cursor}`}`);
    for (const proxy of body.proxies) {
      assert.ok(attempted.has(proxy.hostname));
      assert.equal(proxy.target_url, `http://127.0.0.1:9/${proxy.hostname}`);
      found.add(proxy.hostname);
    }
    cursor = body.next_cursor ?? '';
  } while (cursor);
  for (const hostname of acknowledged.keys())
    assert.ok(found.has(hostname), `${hostname} was acknowledged and is gone`);
  for (const hostname of [...found].slice(-WORKERS)) {
    const { body } = await product.api('GET', `/v1/proxies/${hostname}`);
    assert.equal(body.request_headers.set['x-a'], hostname, 'whole or not at all');
  }
  const [some = ''] = acknowledged.keys();
  assert.equal(
    (await product.get(some, '/')).status,
    502,
    'it is served again, and its dead upstream is said to be so',
  );
}

const mcp = (product: Product, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`http://localhost:${product.httpPort}/mcp`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${product.adminToken}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify(body),
  });

async function openSession(product: Product): Promise<string> {
  const params = {
    protocolVersion: '2025-06-18',
    capabilities: { elicitation: {} },
    clientInfo: { name: 'killer', version: '1' },
  };
  const response = await mcp(product, { jsonrpc: '2.0', id: 0, method: 'initialize', params });
  await response.text();
  const session = response.headers.get('mcp-session-id') ?? assert.fail('no session');
  await mcp(product, { jsonrpc: '2.0', method: 'notifications/initialized' }, { 'mcp-session-id': session });
  return session;
}

async function sessionContinues(product: Product, session: string): Promise<void> {
  const response = await mcp(
    product,
    { jsonrpc: '2.0', id: 1, method: 'tools/list' },
    { 'mcp-session-id': session, 'mcp-protocol-version': '2025-06-18' },
  );
  assert.equal(response.status, 200);
  assert.match(await response.text(), /"create_proxy"/);
}
