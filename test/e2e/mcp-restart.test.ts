/**
 * SIGTERM while MCP clients are connected: standing streams end politely and at once, calls in flight finish; and what
 * a client that comes back is told.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { envelope, modernHeaders, openEvents, openSession, post, rpc } from '../conformance/wire.ts';
import { startProduct } from '../support/product.ts';

/** Longer than the test may take: nothing in it may wait for the drain to run out. */
const DRAIN_TIMEOUT_MS = 3_600_000;
const TEST_TIMEOUT_MS = 60_000;

test('at SIGTERM', { timeout: TEST_TIMEOUT_MS }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-drain-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'config.yaml');
  const settings = { gateway: { drain_timeout_ms: DRAIN_TIMEOUT_MS }, commands: { mode: 'any' } };
  writeFileSync(config, JSON.stringify(settings));
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const product = await startProduct({ env: { OHP_CONFIG: config } });
  // Also when the test has run out of time: what waits for the product ends with it.
  t.after(() => product[Symbol.asyncDispose]());
  const wire = { url: `http://localhost:${product.httpPort}/mcp`, token: product.adminToken };

  const session = await openSession(wire, { version: '2025-11-25' });
  const standing = await openEvents(wire, { headers: session });
  const subscription = await openEvents(wire, {
    method: 'POST',
    headers: modernHeaders('subscriptions/listen'),
    body: rpc(
      'subscriptions/listen',
      { notifications: { toolsListChanged: true }, _meta: envelope() },
      'mine',
    ),
  });
  assert.equal((await subscription.next())?.json.method, 'notifications/subscriptions/acknowledged');

  const capabilities = { elicitation: { form: {} } };
  const asked = await openSession(wire, { version: '2025-11-25', capabilities });
  const remove = rpc('tools/call', { name: 'delete_proxy', arguments: { hostname: 'app.example.com' } });
  const question = await openEvents(wire, { method: 'POST', headers: asked, body: remove });
  assert.equal((await question.next())?.json.method, 'elicitation/create');

  const command = rpc('tools/call', { name: 'run_command', arguments: { command: `cat ${pipe}` } });
  const running = post(wire, command, session);
  // Opens when the program has begun to read.
  const write = await openForWriting(pipe);

  const exit = product.stop();
  await t.test('a subscription gets its result and ends', async () => {
    const result = (await subscription.next())?.json;
    assert.deepEqual([result?.id, result?.result?.resultType], ['mine', 'complete']);
    assert.equal(result?.result._meta['io.modelcontextprotocol/subscriptionId'], 'mine');
    assert.equal(await subscription.next(), undefined);
  });
  await t.test('a standing stream of the legacy era ends', async () => {
    assert.equal(await standing.next(), undefined);
  });
  await t.test('a question that can not be answered any more is withdrawn, and nothing is done', async () => {
    const last = [await question.next(), await question.next()].at(-1);
    assert.match(last?.json.result.content[0].text, /^CONFIRMATION_REQUIRED: .*nothing was done/);
  });
  await t.test('a call in flight finishes', async () => {
    await write('the last words\n');
    assert.equal((await running).json.result.structuredContent.stdout, 'the last words\n');
  });
  await t.test('then the process ends by itself, with 0', async () => assert.equal(await exit, 0));
});

test('a session that comes back after a restart is told that its list of tools may be another one', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-restart-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'config.yaml');
  writeFileSync(config, '{}');
  await using first = await startProduct({ env: { OHP_CONFIG: config } });
  const wireOf = ({ httpPort, adminToken }: typeof first) => ({
    url: `http://localhost:${httpPort}/mcp`,
    token: adminToken,
  });
  const session = await openSession(wireOf(first));
  const before = (await post(wireOf(first), rpc('tools/list'), session)).json.result.tools.length;
  assert.equal(await first.stop(), 0);

  writeFileSync(config, JSON.stringify({ mcp: { read_only: true } }));
  await using second = await first.restart();
  const standing = await openEvents(wireOf(second), { headers: session });
  assert.equal((await standing.next())?.json.method, 'notifications/tools/list_changed');
  const after = (await post(wireOf(second), rpc('tools/list'), session)).json.result.tools.length;
  assert.ok(after < before);
  await standing.cancel();
});

async function openForWriting(pipe: string): Promise<(text: string) => Promise<void>> {
  const file = await open(pipe, 'w');
  return async (text) => {
    await file.writeFile(text);
    await file.close();
  };
}
