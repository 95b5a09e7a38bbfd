/** What `protect_proxy` makes of rules for tools, and what it refuses. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { parseArguments } from '../core/input.ts';
import { principalOf, proxyOf, routeOf } from '../../test/support/gateway.ts';
import type { AuthPolicy, OAuthPolicy } from '../proxies/auth-policy.ts';
import { protectProxy } from './operations.ts';
import { ProtectionService } from './service.ts';

const HOST = 'mcp.example.com';
const context = {
  principal: principalOf('tok_1', ['proxies:write', 'routes:write']),
  idempotency: undefined,
};

function setUp(more: object = {}) {
  let proxy = proxyOf(HOST, 'http://localhost:1', { serve_mcp: false, ...more });
  let route = routeOf(HOST, '/tools', 'http://localhost:2');
  const asked: (number | undefined)[] = [];
  const service = new ProtectionService({
    proxies: {
      get: async () => proxy,
      setPolicy: async (_hostname, auth, version) => {
        asked.push(version);
        proxy = { ...proxy, auth, version: proxy.version + 1 };
        return proxy;
      },
    },
    routes: {
      get: async () => route,
      ofHostname: async () => [route],
      setPolicy: async (_id, auth, version) => {
        asked.push(version);
        route = { ...route, auth, version: route.version + 1 };
        return route;
      },
    },
    userIdOf: (name) => (['usr_a', 'alice'].includes(name) ? 'usr_a' : undefined),
    usernameOf: (id) => (id === 'usr_a' ? 'alice' : undefined),
  });
  const protect = async (input: object) => {
    const {
      hostname,
      route: id,
      version,
      ...wanted
    } = parseArguments('protect_proxy', z.object(protectProxy.input.shape), {
      hostname: HOST,
      allow: { everyone: true },
      ...input,
    });
    const { policy } = await service.protect({ hostname, route: id, version }, wanted, context);
    return policy as unknown as OAuthPolicy;
  };
  const stored = () => (proxy.auth as OAuthPolicy).mcp;
  const ofRoute = () => (route.auth as OAuthPolicy | undefined)?.mcp;
  return {
    protect,
    service,
    stored,
    ofRoute,
    asked,
    routeId: route.id,
    set: (auth: AuthPolicy) => void (proxy = { ...proxy, auth }),
  };
}

const refused = (input: object, message: RegExp, more: object = {}) =>
  assert.rejects(setUp(more).protect({ mcp: input }), { message });

test('the path is everything and what no rule is about is denied, unless something else is said', async () => {
  const { protect, stored } = setUp();
  await protect({ mcp: {} });
  assert.deepEqual(stored(), { path: '/', default: 'deny', tools: [] });
});

test('users of a rule are kept by their ids and told by their names', async () => {
  const { protect, stored, service } = setUp();
  const told = await protect({ mcp: { tools: [{ name: 'delete_*', allow: { users: ['alice'] } }] } });
  assert.deepEqual(stored()?.tools[0]?.allow?.users, ['usr_a']);
  assert.deepEqual(told.mcp?.tools[0]?.allow?.users, ['alice']);
  const { policy } = await service.get(HOST, context);
  assert.match(JSON.stringify(policy), /"users":\["alice"\]/);
  await refused(
    { tools: [{ name: 'x', allow: { users: ['nobody'] } }] },
    /mcp\.tools\[0\]\.allow\.users: there is no user "nobody"/,
  );
});

test('rules stay when they are not named, and go when they are null', async () => {
  const { protect, stored, asked } = setUp();
  await protect({ mcp: { tools: [{ name: 'x', deny: true }] } });
  const rules = stored();
  await protect({ allow: { groups: ['staff'] } });
  assert.deepEqual(stored(), rules);
  assert.equal(asked.at(-1), 2, 'of the version that was read: a change in between is not undone');
  await protect({ mcp: null });
  assert.equal(stored(), undefined);
});

test("a route's own policy begins with the rules of its proxy", async () => {
  const { protect, ofRoute, stored, routeId, asked } = setUp();
  await protect({ mcp: { tools: [{ name: 'x', deny: true }] } });
  await protect({ route: routeId });
  assert.deepEqual(ofRoute(), stored());
  assert.equal(asked.at(-1), 1);
  await protect({ route: routeId, mcp: null });
  assert.equal(ofRoute(), undefined);
});

test('a rule says who may or that nobody may, and of each name there is one', async () => {
  await refused({ tools: [{ name: 'x' }] }, /either allow .* or deny: true/);
  await refused(
    { tools: [{ name: 'x', allow: { everyone: true }, deny: true }] },
    /either allow .* or deny: true/,
  );
  await refused({ tools: [{ name: 'x', allow: {} }] }, /lets nobody in/);
  await refused({ tools: [{ name: 'x', deny: true, calls_per_minute: 1 }] }, /denies to everybody/);
  await refused({ tools: [{ name: 'x', deny: true, scopes: ['a'] }] }, /denies to everybody/);
  await refused(
    {
      tools: [
        { name: 'x', deny: true },
        { name: 'x', deny: true },
      ],
    },
    /two rules of one name/,
  );
  for (const name of ['', 'a b', '*a', 'é', 'a**'])
    await refused({ tools: [{ name, deny: true }] }, /has to be the name of a tool/);
  await refused(
    { tools: [{ name: 'x', allow: { everyone: true }, calls_per_minute: 0 }] },
    /calls_per_minute/,
  );
  await refused(
    { tools: [{ name: 'x', allow: { everyone: true }, scopes: ['admin'] }] },
    /means something else/,
  );
  await refused({ path: 'mcp' }, /has to begin with \//);
  await refused({ default: 'open' }, /default/);
});

test('rules that could not work are refused: for browsers alone, below a public path, where /mcp is our own', async () => {
  const { protect } = setUp();
  await assert.rejects(protect({ mcp: {}, mode: 'redirect' }), {
    code: 'INVALID_INPUT',
    message: /auto or bearer/,
  });
  await assert.rejects(protect({ mcp: { path: '/mcp/x' }, public_paths: ['/MCP'] }), {
    message: /open to anyone by public_paths \/MCP/,
  });
  await protect({ mcp: { path: '/mcp' }, public_paths: ['/mcp-health', '/health'] });
  await assert.rejects(setUp({ serve_mcp: true }).protect({ mcp: {} }), {
    code: 'PRECONDITION_FAILED',
    message: /set serve_mcp to false/,
  });
});
