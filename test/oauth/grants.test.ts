/** Every grant over the product as it runs: its own process, HTTPS, pages, store. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import * as oauth from 'oauth4webapi';
import { assertAtOnce } from '../support/at-once.ts';
import { configFile, generous } from '../support/callers.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import { invite } from '../support/visitor.ts';

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const CALL = { method: 'POST', accept: 'application/json, text/event-stream' };

let product: Product;
let person: Person;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
});
after(() => product[Symbol.asyncDispose]());

interface Sent {
  path?: string;
  method?: string;
  authorization: string;
  dpop?: string;
  body?: object;
}

/** Status and body of a request at the control host. */
async function ask({ path = '/mcp', method = CALL.method, authorization, dpop, body }: Sent) {
  return person.visitor.request(new URL(path, person.issuer), {
    method,
    headers: {
      authorization,
      accept: CALL.accept,
      'content-type': 'application/json',
      ...(dpop !== undefined && { dpop }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
}

const listTools = { jsonrpc: '2.0', id: 1, method: 'tools/list' };
const callMcp = (token: string, body: object = listTools) => ask({ authorization: `Bearer ${token}`, body });

const callTool = (token: string, name: string, args: object) =>
  callMcp(token, { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } });

test('of 200 redemptions of one code at the same time exactly one gets a token', async () => {
  const client = await person.client();
  const { redeem } = await client.authorize();
  const statuses = await Promise.all(Array.from({ length: 200 }, async () => (await redeem()).status));
  assert.equal(statuses.filter((status) => status === 200).length, 1);
  assert.equal(statuses.filter((status) => status === 400).length, 199);
});

test('50 refreshes at the same time all work; after kill -9 so do their successors; a replay ends them all', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  assert.equal((await callMcp(tokens.access_token)).status, 200);
  const fresh = await Promise.all(Array.from({ length: 50 }, () => client.refreshed(tokens.refresh_token)));
  assert.equal(new Set(fresh.map(({ refresh_token }) => refresh_token)).size, 50);
  await restart();
  for (const { access_token, refresh_token } of fresh.slice(0, 3)) {
    assert.equal((await callMcp(access_token)).status, 200);
    assert.equal((await client.refresh(refresh_token)).status, 200);
  }
  // The grace of a minute passes while it is down.
  await restart('update oauth_records set consumed_at = consumed_at - 61000 where consumed_at is not null');
  const [, , , last] = fresh;
  assert.equal((await client.refresh(last?.refresh_token)).status, 200);
  assert.equal((await client.refresh(tokens.refresh_token)).status, 400);
  assert.equal((await callMcp(last?.access_token ?? '')).status, 401);
  assert.equal((await client.refresh(fresh[4]?.refresh_token)).status, 400);
  await restart();
  assert.equal((await callMcp(fresh[5]?.access_token ?? '')).status, 401);
});

test('a refresh at the very end of its life is refused, never a fault', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  for (const left of [1, 0]) {
    await restart(`update oauth_records set expires_at = ${Date.now() + left} where model = 'RefreshToken'`);
    const response = await client.refresh(tokens.refresh_token);
    assert.equal(response.status, 400);
    assert.equal(((await response.json()) as { error: string }).error, 'invalid_grant');
  }
});

/** Kills it, changes what it stored, starts it again on the same ports. */
async function restart(sql?: string): Promise<void> {
  await product.kill();
  if (sql !== undefined) {
    const database = new DatabaseSync(join(product.dataDir, 'state.sqlite'));
    database.exec(sql);
    database.close();
  }
  product = await product.restart();
}

test('an access token that is revoked opens nothing, its stream ends within a second, and kill -9 does not bring it back', async () => {
  const client = await person.client();
  const { access_token } = await client.signIn();
  const other = await client.signIn();
  const { hasEnded } = await openStream(access_token);
  await client.revoke(access_token);
  await assertAtOnce(product, hasEnded, 'its stream has ended');
  assert.equal((await callMcp(access_token)).status, 401);
  assert.equal((await callMcp(other.access_token)).status, 200);
  await restart();
  assert.equal((await callMcp(access_token)).status, 401);
  assert.equal((await callMcp(other.access_token)).status, 200);
});

/** Of a session. */
async function openStream(token: string): Promise<{ hasEnded: () => boolean }> {
  const opened = await callMcp(token, {
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
  });
  const session = String(opened.headers['mcp-session-id']);
  const request = https.request({
    host: '127.0.0.1',
    port: product.httpsPort,
    servername: 'localhost',
    path: '/mcp',
    ca: product.ca,
    agent: false,
    headers: {
      host: `localhost:${product.httpsPort}`,
      authorization: `Bearer ${token}`,
      accept: 'text/event-stream',
      'mcp-session-id': session,
    },
  });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  response.resume();
  return { hasEnded: () => response.closed };
}

test('step-up: a token for viewer is told what it lacks, and a new one with both works', async () => {
  const client = await person.client();
  const viewer = await client.signIn({ scope: 'viewer' });
  const args = { hostname: 'stepup.example.com', target_url: 'http://127.0.0.1:9' };
  const refused = await callTool(viewer.access_token, 'create_proxy', args);
  assert.equal(refused.status, 403);
  const challenge = String(refused.headers['www-authenticate']);
  assert.match(challenge, /error="insufficient_scope"/);
  assert.match(challenge, /resource_metadata="https:\/\/localhost/);
  const [, scope = ''] = /scope="([^"]+)"/.exec(challenge) ?? [];
  const both = await client.signIn({ scope: [...new Set(['viewer', ...scope.split(' ')])].join(' ') });
  const done = await callTool(both.access_token, 'create_proxy', args);
  assert.equal(done.status, 200, done.body);
  assert.doesNotMatch(done.body, /"isError":true/);
  assert.equal((await callTool(both.access_token, 'list_proxies', {})).status, 200);
});

test('nobody gives a client more than they may do themselves: admin only by those who are', async () => {
  await invite(product, 'olga', { role: 'operator' });
  const client = await new Person(product, 'olga').client();
  const { access_token, scope } = await client.signIn({ scope: 'admin operator' });
  assert.equal(scope, 'operator');
  const me = await ask({ path: '/v1/me', method: 'GET', authorization: `Bearer ${access_token}` });
  assert.equal(JSON.parse(me.body).permissions.includes('users:write'), false);
  assert.equal(JSON.parse(me.body).permissions.includes('proxies:write'), true);
  const first = await (await person.client()).signIn({ scope: 'admin' });
  assert.equal(first.scope, 'admin');
});

test('a device is connected by a person who types its code, and waits for that', async () => {
  const { as, client } = await person.client({
    grant_types: [DEVICE_GRANT, 'refresh_token'],
    redirect_uris: [],
    response_types: [],
  });
  const begun = await oauth.deviceAuthorizationRequest(
    as,
    client,
    oauth.None(),
    { resource: person.mcp },
    person.options,
  );
  const device = await oauth.processDeviceAuthorizationResponse(as, client, begun);
  const poll = () =>
    oauth.deviceCodeGrantRequest(as, client, oauth.None(), device.device_code, person.options);
  const errorOf = async (response: Response) => ((await response.json()) as { error: string }).error;
  assert.equal(await errorOf(await poll()), 'authorization_pending');
  assert.equal(await errorOf(await poll()), 'slow_down');
  const typed = await person.visitor.submit(await person.visitor.open(device.verification_uri), {
    user_code: device.user_code,
  });
  const done = await person.agree(await person.visitor.submit(typed, {}));
  assert.match(done.body, /Connected/);
  await restart(); // The next poll would come too soon, and a device waits; what it waits for is stored.
  const tokens = await oauth.processDeviceCodeResponse(as, client, await poll());
  assert.equal(tokens.scope, 'viewer');
  assert.equal((await callMcp(tokens.access_token)).status, 200);
  assert.equal(await errorOf(await poll()), 'slow_down');
});

test('a client of the administrator acts for itself until it is deleted', async () => {
  const made = await product.api('POST', '/v1/clients', { name: 'job', permissions: ['proxies:read'] });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const as = await person.discover();
  const client = { client_id: String(made.body.id) };
  const auth = oauth.ClientSecretBasic(made.body.secret);
  const get = async () =>
    oauth.clientCredentialsGrantRequest(as, client, auth, { resource: person.mcp }, person.options);
  const { access_token } = await oauth.processClientCredentialsResponse(as, client, await get());
  assert.equal((await callTool(access_token, 'list_proxies', {})).status, 200);
  assert.equal((await callTool(access_token, 'list_tokens', {})).status, 403);
  await restart();
  assert.equal((await callTool(access_token, 'list_proxies', {})).status, 200);
  const { body } = await product.api('GET', '/v1/clients?limit=200');
  const listed = body.clients.find(({ id }: { id: string }) => id === made.body.id);
  assert.equal(listed.source, 'created');
  assert.equal(JSON.stringify(body).includes(made.body.secret), false);
  await product.api('DELETE', `/v1/clients/${made.body.id}`);
  assert.equal((await callMcp(access_token)).status, 401);
  assert.equal((await get()).status, 401);
});

test('nobody makes a client that may do more than they', async () => {
  const limited = await product.api('POST', '/v1/tokens', {
    name: 'clients only',
    permissions: ['clients:write', 'proxies:read'],
  });
  const create = (permissions: string[]) =>
    ask({
      path: '/v1/clients',
      authorization: `Bearer ${limited.body.secret}`,
      body: { name: 'mine', permissions },
    });
  assert.equal((await create(['proxies:write'])).status, 403);
  assert.equal((await create(['proxies:read'])).status, 201);
});

test('a client that was deleted is told to register again: 401 invalid_client', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  const { status } = await product.api('DELETE', `/v1/clients/${client.client.client_id}`);
  assert.equal(status, 200);
  assert.equal((await callMcp(tokens.access_token)).status, 401);
  const response = await client.refresh(tokens.refresh_token);
  assert.equal(response.status, 401);
  assert.equal(((await response.json()) as { error: string }).error, 'invalid_client');
});

test('a token that belongs to a key opens /mcp and REST with a proof for that very request, and not without', async () => {
  const keys = await oauth.generateKeyPair('ES256', { extractable: true });
  const client = await person.client();
  const { redeem } = await client.authorize();
  const response = await redeem({ DPoP: oauth.DPoP({}, keys) });
  const { access_token, token_type } = await oauth.processAuthorizationCodeResponse(
    client.as,
    client.client,
    response,
  );
  assert.equal(token_type, 'dpop');
  const refused = await callMcp(access_token);
  assert.equal(refused.status, 401);
  const call = (path: string, method: 'POST' | 'GET', body: object | null) =>
    oauth.protectedResourceRequest(
      access_token,
      method,
      new URL(path, person.issuer),
      new Headers({ accept: CALL.accept, 'content-type': 'application/json' }),
      body && JSON.stringify(body),
      { ...person.options, DPoP: oauth.DPoP({}, keys) },
    );
  assert.equal((await call('/mcp', 'POST', listTools)).status, 200);
  assert.equal((await call('/v1/me', 'GET', null)).status, 200);
  const stolen = await proofOf(access_token, keys, { path: '/mcp' });
  const authorization = `DPoP ${access_token}`;
  assert.equal((await ask({ authorization, dpop: stolen, path: '/v1/me', method: 'GET' })).status, 401);
  assert.equal((await ask({ authorization, dpop: stolen, body: listTools })).status, 200);
  const replayed = await ask({ authorization, dpop: stolen, body: listTools });
  assert.equal(replayed.status, 401);
  assert.match(
    String(replayed.headers['www-authenticate']),
    /^DPoP algs="ES256 EdDSA RS256".*error="invalid_token"/,
  );
  assert.equal((await ask({ authorization, body: listTools })).status, 401);
  assert.equal(
    (await ask({ authorization: `DPoP ${product.adminToken}`, dpop: stolen, body: listTools })).status,
    401,
  );
});

/** What `oauth4webapi` would send, for sending it elsewhere or twice. */
async function proofOf(
  token: string,
  keys: Parameters<typeof oauth.DPoP>[1],
  { path }: { path: string },
): Promise<string> {
  let proof = '';
  const keep = (_url: string, options: { headers: Record<string, string> }) => {
    proof = new Headers(options.headers).get('dpop') ?? '';
    return Promise.resolve(new Response());
  };
  await oauth.protectedResourceRequest(token, 'POST', new URL(path, person.issuer), undefined, null, {
    [oauth.customFetch]: keep,
    DPoP: oauth.DPoP({}, keys),
  });
  return proof;
}

test('a rotation of the keys invalidates nobody, and survives kill -9', async () => {
  const client = await person.client();
  const tokens = await client.signIn();
  assert.equal((await product.api('POST', '/v1/keys/rotate', {})).status, 200);
  assert.equal((await callMcp(tokens.access_token)).status, 200);
  await restart();
  assert.equal((await callMcp(tokens.access_token)).status, 200);
  const fresh = await client.refreshed(tokens.refresh_token);
  assert.equal((await callMcp(fresh.access_token)).status, 200);
});
