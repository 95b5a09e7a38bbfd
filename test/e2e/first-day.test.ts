/** What a person does on the first day, in order, against the product as it is started by `npm start`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { after, before } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

/** For what a day may hold beside other things; what stops or refuses a start has its own. */
let product: Product;
before(async () => {
  product = await startProduct();
});
after(() => product?.[Symbol.asyncDispose]());

const connect = async (port: number, token: string) => {
  const client = new Client({ name: 'first-day', version: '1.0.0' });
  const transport = new StreamableHTTPClientTransport(new URL(`http://localhost:${port}/mcp`), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  });
  await client.connect(transport);
  return client;
};

test('"serve app.example.com from this upstream": said over MCP, answered over HTTPS, found in get_logs', async () => {
  await using upstream = await startUpstream();
  const client = await connect(product.httpPort, product.adminToken);
  const created = await client.callTool({
    name: 'create_proxy',
    arguments: { hostname: 'app.example.com', target_url: upstream.url },
  });
  assert.equal(created.isError ?? false, false, JSON.stringify(created));

  const answer = await product.get('app.example.com', '/hello?x=1');
  assert.deepEqual([answer.status, answer.body], [200, 'upstream saw GET /hello?x=1']);

  const logs = await waitForLog(client, '/hello');
  assert.deepEqual([logs.hostname, logs.status, logs.method], ['app.example.com', 200, 'GET']);

  const deleted = await client.callTool({ name: 'delete_proxy', arguments: { hostname: 'app.example.com' } });
  assert.equal(deleted.isError ?? false, false, JSON.stringify(deleted));
  await assert.rejects(
    product.get('app.example.com', '/'),
    'a hostname that is not served has no certificate',
  );
  await client.close();
});

const waitForLog = (client: Client, path: string) =>
  eventually(async () => {
    const result = await client.callTool({
      name: 'get_logs',
      arguments: { lines: 20, kind: 'access', path_prefix: path },
    });
    const { records } = result.structuredContent as {
      records: { hostname: string; status: number; method: string }[];
    };
    return records[0];
  }, `an access record for ${path}`);

test("the seed document's curl works as printed: initialize with params that hold only protocolVersion", async () => {
  const response = await fetch(`http://localhost:${product.httpPort}/mcp`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${product.adminToken}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: '{"method":"initialize","params":{"protocolVersion":"2025-06-18"},"jsonrpc":"2.0","id":0}',
  });
  assert.equal(response.status, 200);
  assert.ok(response.headers.get('mcp-session-id'));
  const body = await response.text();
  assert.match(body, /"protocolVersion":"2025-06-18"/);
  assert.match(body, /"name":"OAuth-HTTPS-Proxy-MCP"/);
});

test('data is private: 0700 for folders, 0600 for files, except the public CA certificate', async () => {
  assert.equal((await product.api('GET', '/v1/logs?lines=1')).status, 200, 'the log has been written to');
  const mode = (name: string) => (statSync(join(product.dataDir, name)).mode & 0o777).toString(8);
  assert.deepEqual(['', 'logs', 'state.sqlite', 'master.key', 'lock.sqlite', 'ca.pem'].map(mode), [
    '700',
    '700',
    '600',
    '600',
    '600',
    '644',
  ]);
});

test('the generated administrator token is printed once and works; a second start prints none', async () => {
  await using first = await startProduct({ generatedToken: true });
  const [token = ''] = /ohp_[A-Za-z0-9_-]+/.exec(first.output()) ?? [];
  const call = (port: number) =>
    fetch(`http://localhost:${port}/v1/proxies`, { headers: { authorization: `Bearer ${token}` } }).then(
      ({ status }) => status,
    );
  assert.equal(await call(first.httpPort), 200);
  assert.equal(await first.stop(), 0);
  await using second = await first.restart();
  assert.doesNotMatch(second.output(), /ohp_/);
  assert.match(second.output(), /Token .* at the first start/);
  assert.equal(await call(second.httpPort), 200);
});

test('a second start on the same data directory is refused with the pid of the first', async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      OHP_DATA_DIR: product.dataDir,
      OHP_HTTP_PORT: '0',
      OHP_HTTPS_PORT: '0',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [printed, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.equal(code, 5);
  assert.match(printed, new RegExp(`in use by the process with pid ${product.child.pid};`));
});

test('SIGTERM lets a request in flight finish, then the process ends by itself with 0', async () => {
  const arrived = Promise.withResolvers<() => void>();
  await using upstream = await startUpstream((_request, response) =>
    arrived.resolve(() => response.end('finished')),
  );
  await using product = await startProduct();
  await product.api('POST', '/v1/proxies', { hostname: 'slow.example.com', target_url: upstream.url });
  const answer = product.get('slow.example.com', '/');
  const finish = await arrived.promise;
  const exit = product.stop();
  while (!product.output().includes('SIGTERM')) await new Promise(setImmediate);
  finish();
  assert.deepEqual([(await answer).body, await exit], ['finished', 0]);
});

test('a terminal that closes stops it as SIGTERM does, though nobody reads what it prints', async () => {
  await using product = await startProduct();
  for (const stream of [product.child.stdout, product.child.stderr]) stream?.destroy();
  const gone = once(product.child, 'exit');
  product.child.kill('SIGHUP');
  assert.deepEqual(await gone, [0, null]);
});

test('a port that is taken stops the start and says which one and what to set', async () => {
  await assert.rejects(startProduct({ env: { OHP_HTTP_PORT: String(product.httpPort) } }), (error: Error) => {
    assert.match(
      error.message,
      new RegExp(`ended with 5:[^]*\\n127\\.0\\.0\\.1:${product.httpPort}: another program`),
    );
    assert.match(error.message, /OHP_HTTP_PORT/);
    return !error.message.includes('    at ');
  });
});

test('another master key stops the start and says what to restore, without a stack', async () => {
  await using first = await startProduct();
  assert.equal(await first.stop(), 0);
  const env = { OHP_MASTER_KEY: '0'.repeat(64) };
  await assert.rejects(startProduct({ dataDir: first.dataDir, env }), ({ message }: Error) => {
    assert.match(message, /ended with 5:[^]*another master key .* restore master\.key or OHP_MASTER_KEY/);
    return !message.includes('    at ');
  });
});

test('a bad setting stops the start and says key, place, what was found and what is allowed', async () => {
  await assert.rejects(
    startProduct({ env: { OHP_LOG_LEVEL: 'loud' } }),
    /ended with 2:[\s\S]*log\.level \(environment variable OHP_LOG_LEVEL\): found "loud"; .*"debug"/,
  );
});

test('healthz and readyz answer on the control host', async () => {
  for (const path of ['/healthz', '/readyz'])
    assert.equal((await fetch(`http://localhost:${product.httpPort}${path}`)).status, 200, path);
});
