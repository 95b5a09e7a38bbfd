/**
 * What one caller is told must never be another's (TypeScript SDK CVE-2026-25536; caches keyed by
 * too little). 1,000 principals call at once, over the same few connections, with the same JSON-RPC ids and the
 * same idempotency keys; 200 of them have a hostname, a session and traffic of their own.
 */
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { callTool, configFile, generous, grant, openSession, postMcp, send } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const OWNERS = 200;
const ALL = 1000;
const AT_ONCE = 48;
const SAME_KEY = 'the-same-key-for-everyone';

const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
const upstream = await startUpstream((request, response) =>
  response.end([request.headers['x-forwarded-host'], request.url, request.headers['x-tenant']].join(' ')),
);
after(() => Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]));

interface Tenant {
  number: number;
  hostname: string;
  id: string;
  secret: string;
  session?: string;
}

/** Runs them in turn, many at once, and stops at the first that fails. */
async function together<Item>(items: Iterable<Item>, work: (item: Item) => Promise<void>): Promise<void> {
  const queue = [...items].values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of queue) await work(item);
    }),
  );
}

const tenants: Tenant[] = [];
await together(Array.from({ length: ALL }).keys(), async (number) => {
  const hostname = `t${number}.example.net`;
  const { id, secret } = await grant(product, {
    name: `tenant ${number}`,
    bundle: 'admin',
    hostnames: [hostname],
  });
  tenants[number] = { number, hostname, id, secret };
});
const owners = tenants.slice(0, OWNERS);
await together(owners, async (tenant) => {
  const proxy = {
    hostname: tenant.hostname,
    target_url: upstream.url,
    auth: { kind: 'token', permission: 'proxies:read' },
    request_headers: { set: { 'X-Tenant': `tenant-${tenant.number}` } },
  };
  const sent = { method: 'POST', path: '/v1/proxies', token: tenant.secret, body: proxy };
  assert.equal((await send(product, sent)).status, 201);
  tenant.session = await openSession(product, tenant.secret);
});

/** No name, id or tag of anyone else is anywhere in the answer. */
function isOwn({ number, hostname, id }: Tenant, text: string, what: string): void {
  for (const [, found] of text.matchAll(/\bt(\d+)\.example\.net/g))
    assert.equal(Number(found), number, `${what} of ${hostname}: ${text}`);
  for (const [, found] of text.matchAll(/tenant[ -](\d+)/g))
    assert.equal(Number(found), number, `${what} of ${hostname}: ${text}`);
  for (const [found] of text.matchAll(/\btok_[0-9a-f]{24}/g))
    assert.equal(found, id, `${what} of ${hostname}: ${text}`);
}

type Call = (tenant: Tenant, neighbour: Tenant) => Promise<void>;

const echoes: Record<string, Call> = {
  async 'MCP with a session'(tenant) {
    const message = `for ${tenant.hostname}`;
    const reply = await callTool(product, tenant.secret, {
      name: 'echo',
      args: { message },
      session: tenant.session,
    });
    assert.equal(reply.json.result.structuredContent.message, message);
  },
  async 'MCP without one, legacy'(tenant) {
    const message = `for ${tenant.hostname}`;
    const reply = await callTool(product, tenant.secret, { name: 'echo', args: { message } });
    assert.equal(reply.json.result.structuredContent.message, message);
  },
};

const lists: Record<string, Call> = {
  async 'list_proxies over MCP, modern'(tenant) {
    const reply = await callTool(product, tenant.secret, { name: 'list_proxies', era: 'modern' });
    const { proxies } = reply.json.result.structuredContent;
    assert.equal(proxies.length, tenant.number < OWNERS ? 1 : 0);
    isOwn(tenant, reply.text, 'list_proxies');
  },
  async 'list_tokens over REST'(tenant) {
    const reply = await send(product, { path: '/v1/tokens', token: tenant.secret });
    assert.deepEqual(
      reply.json.tokens.map(({ id }: { id: string }) => id),
      [tenant.id],
    );
  },
};

const others: Record<string, Call> = {
  async 'its own site'(tenant, neighbour) {
    const headers = { authorization: `Bearer ${tenant.secret}` };
    const path = `/page-of-${tenant.number}?q=${tenant.number}`;
    const [mine, theirs] = await Promise.all([
      product.get(tenant.hostname, path, { headers }),
      product.get(neighbour.hostname, path, { headers }),
    ]);
    assert.equal(mine.body, `${tenant.hostname}:${product.httpsPort} ${path} tenant-${tenant.number}`);
    assert.equal(theirs.status, 403);
  },
  async 'the same idempotency key'(tenant) {
    const body = {
      hostname: tenant.hostname,
      path: '/r',
      target_url: upstream.url,
      idempotency_key: SAME_KEY,
    };
    const sent = { method: 'POST', path: '/v1/routes', token: tenant.secret, body };
    const [first, second] = [await send(product, sent), await send(product, sent)];
    assert.deepEqual([first.json.hostname, second.json.id], [tenant.hostname, first.json.id], first.text);
    isOwn(tenant, second.text, 'create_route');
  },
  async 'what belongs to a neighbour, by name and by id'(tenant, neighbour) {
    const { secret: token } = tenant;
    const replies = await Promise.all([
      send(product, { path: `/v1/proxies/${neighbour.hostname}`, token }),
      send(product, { path: `/v1/routes?hostname=${neighbour.hostname}`, token }),
      send(product, { path: `/v1/logs?hostname=${neighbour.hostname}&lines=5`, token }),
      send(product, { path: `/v1/logs?principal=${neighbour.id}&lines=5`, token }),
      send(product, { path: `/v1/certificates?hostname=${neighbour.hostname}`, token }),
      send(product, { path: `/v1/route-test?url=https://${neighbour.hostname}/r`, token }),
      postMcp(product, {
        token,
        session: neighbour.session,
        body: { jsonrpc: '2.0', id: 1, method: 'tools/list' },
      }),
    ]);
    // Its own name back in a refusal or an echo of the question tells nothing.
    for (const { text } of replies)
      isOwn(tenant, text.replaceAll(neighbour.hostname, '').replaceAll(neighbour.id, ''), 'a neighbour');
    assert.deepEqual([replies[0].status, replies[6].status], [404, 404]);
    for (const reply of replies.slice(1, 5))
      assert.ok(
        Object.values(reply.json ?? {}).every((one) => !Array.isArray(one) || one.length === 0),
        reply.text,
      );
  },
};

const neighbourOf = ({ number }: Tenant) => owners[(number + 1) % OWNERS] as Tenant;

test(`incident 19: ${ALL} interleaved principals each get the answer to their own question`, async () => {
  const calls = [echoes['MCP without one, legacy'] as Call, lists['list_tokens over REST'] as Call];
  const jobs = calls.flatMap((call) => tenants.map((tenant) => ({ call, tenant })));
  await together(jobs, ({ call, tenant }) => call(tenant, neighbourOf(tenant)));
});

test(`incident 19: ${OWNERS} principals with five interleaved calls each never see another's bytes`, async () => {
  const five = [
    echoes['MCP with a session'],
    ...Object.values(lists),
    others['its own site'],
    others['the same idempotency key'],
  ];
  const jobs = owners.flatMap((tenant) => five.map((call) => ({ call, tenant })));
  await together(jobs, async ({ call, tenant }) => call?.(tenant, neighbourOf(tenant)));
});

test('incident 19: what belongs to a neighbour does not exist, whether it is asked for by name, by id or by filter', async () => {
  const call = others['what belongs to a neighbour, by name and by id'] as Call;
  await together(owners.slice(0, OWNERS / 4), (tenant) => call(tenant, neighbourOf(tenant)));
});

test('incident 19: the log shows each principal the records of its own hostname and no others', async () => {
  await together(owners.slice(0, OWNERS / 10), async (tenant) => {
    const reply = await callTool(product, tenant.secret, {
      name: 'get_logs',
      args: { lines: 20, verbose: true, since: '1h' },
      era: 'modern',
    });
    const { records } = reply.json.result.structuredContent;
    assert.ok(records.length > 0, 'its own requests are there');
    for (const { hostname, principal, message } of records) {
      assert.equal(hostname, tenant.hostname);
      assert.ok(!/t\d+\.example/.test(message) || message.includes(tenant.hostname), message);
      // A neighbour that knocked is named by its id, so that the owner can tell who it was; the system by nothing.
      if (principal !== undefined && principal !== 'anonymous')
        assert.ok(
          tenants.some(({ id }) => id === principal),
          principal,
        );
    }
  });
});

test('incident 19: two principals that list at once with pages of one get their own pages', async () => {
  const sent = (path: string, token: string) => send(product, { path, token });
  const all = await sent('/v1/proxies?limit=1', product.adminToken);
  const cursor = encodeURIComponent(all.json.next_cursor);
  await together(owners.slice(0, 20), async (tenant) => {
    const reply = await sent(`/v1/proxies?limit=1&cursor=${cursor}`, tenant.secret);
    isOwn(tenant, reply.text, 'the next page of the administrator');
  });
});
