/** `kill -9` in the middle of changes: what was acknowledged is there, nothing is half there, the session goes on. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { openEvents, post, rpc } from '../conformance/wire.ts';
import { configFile, generous, openSession } from '../support/callers.ts';
import { Mutator, observe } from '../support/mutator.ts';
import { type Product, startProduct } from '../support/product.ts';

const CALLS = 1000;
const WORKERS = 8;
const KILL_AFTER = [137, 419, 803];
/** The calls are chosen at random, the same in every run; what a kill hits is not. */
const SEED = 20261122;
const VERSION = '2025-11-25';

test(`kill -9 during ${CALLS} mutating calls loses no acknowledged change and leaves none half done`, async (t) => {
  let product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  t.after(() => product[Symbol.asyncDispose]());
  const session = await openSession(product, product.adminToken, {
    version: VERSION,
    capabilities: { elicitation: { form: {} } },
  });
  const workers = Array.from({ length: WORKERS }, (_, i) => new Mutator(`w${i}`, random(SEED + i)));
  let acknowledged = 0;
  for (const stopAt of [...KILL_AFTER, CALLS]) {
    const killed = Promise.withResolvers<void>();
    const work = async (worker: Mutator) => {
      while (acknowledged < stopAt) {
        if (!(await worker.change(product))) return;
        acknowledged += 1;
        if (acknowledged === stopAt && stopAt !== CALLS) killed.resolve(product.kill());
      }
    };
    await Promise.all(workers.map(work));
    if (stopAt === CALLS) break;
    await killed.promise;
    product = await product.restart();
    await check(product, workers);
    await sessionGoesOn(product, session, `asked-${stopAt}.example.com`);
  }
  const world = await observe(product);
  for (const worker of workers) worker.check(world);
  t.diagnostic(`${acknowledged} changes, ${world.proxies.size} proxies, ${world.routes.length} routes`);
});

async function check(product: Product, workers: readonly Mutator[]): Promise<void> {
  const world = await observe(product);
  for (const worker of workers) worker.check(world);
  for (const worker of workers) await worker.goOn(product, world);
  for (const worker of workers) await worker.checkTokens(product);
  const served = workers.map((worker) => worker.served).find((hostname) => hostname !== undefined);
  assert.ok(served);
  const { status } = await product.get(served, '/');
  assert.equal(status, 502, 'it is served again, and its dead upstream is said to be so');
}

/** The session of before lists the tools, asks a person, and hears the answer. */
async function sessionGoesOn(product: Product, session: string, hostname: string): Promise<void> {
  const wire = { url: `http://localhost:${product.httpPort}/mcp`, token: product.adminToken };
  const headers = { 'mcp-session-id': session, 'mcp-protocol-version': VERSION };
  const { status, text } = await post(wire, rpc('tools/list'), headers);
  assert.equal(status, 200, text);
  assert.match(text, /"create_proxy"/);
  const created = await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:9' });
  assert.equal(created.status, 201);
  const body = rpc('tools/call', { name: 'delete_proxy', arguments: { hostname } }, 'delete');
  const stream = await openEvents(wire, { method: 'POST', headers, body });
  const question = await stream.next();
  assert.equal(question?.json.method, 'elicitation/create', 'what the client can do is remembered');
  assert.equal((await product.api('GET', `/v1/proxies/${hostname}`)).status, 200, 'nothing is done unasked');
  const answer = { action: 'accept', content: { confirm: true } };
  await post(wire, { jsonrpc: '2.0', id: question?.json.id, result: answer }, headers);
  assert.deepEqual((await stream.next())?.json.result.structuredContent, { hostname, deleted_routes: 0 });
  assert.equal((await product.api('GET', `/v1/proxies/${hostname}`)).status, 404);
}

/** Mulberry32: small, and enough to choose by. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
