/**
 * A page of another site can make a browser send simple requests, and forms, to an administrative API (Caddy's /load).
 * Nothing that a browser sends without asking first may change anything, and nothing that a browser adds by itself is
 * a credential.
 */
import assert from 'node:assert/strict';
import test, { after, afterEach } from 'node:test';
import { configFile, generous, postMcp, send } from '../support/callers.ts';
import { Person } from '../support/oauth.ts';
import { startProduct } from '../support/product.ts';

const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
after(() => product[Symbol.asyncDispose]());
const { adminToken, httpPort } = product;

const VICTIM = 'victim.example.com';
const TARGET = 'http://localhost:1';
assert.equal(
  (await product.api('POST', '/v1/proxies', { hostname: VICTIM, target_url: TARGET })).status,
  201,
);
const [administrator] = (await product.api('GET', '/v1/tokens')).body.tokens;
const other = (await product.api('POST', '/v1/tokens', { name: 'other', bundle: 'viewer' })).body;

/** Every change that REST offers, each so that it would succeed. */
const changes: [method: string, path: string, body: object][] = [
  ['POST', '/v1/proxies', { hostname: 'new.example.com', target_url: TARGET }],
  ['PATCH', `/v1/proxies/${VICTIM}`, { enabled: false }],
  ['POST', '/v1/routes', { hostname: VICTIM, path: '/x', target_url: TARGET }],
  ['POST', '/v1/tokens', { name: 'thief', bundle: 'admin' }],
  ['POST', `/v1/tokens/${other.id}/rotate`, {}],
  ['PUT', '/v1/log-levels/mcp', { level: 'debug' }],
  ['POST', '/v1/commands', { command: 'uptime' }],
];
const toolCall = {
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'delete_proxy', arguments: { hostname: VICTIM } },
};
const SITE = 'http://evil.example.com';

const stateNow = async () => {
  const lists = ['/v1/proxies', '/v1/routes', '/v1/tokens', '/v1/log-levels'].map((path) =>
    product.api('GET', path),
  );
  return (await Promise.all(lists)).map(({ body }) =>
    JSON.stringify(body, (key, value: unknown) => (key === 'last_used_at' ? undefined : value)),
  );
};
const before = await stateNow();
afterEach(async () => assert.deepEqual(await stateNow(), before, 'nothing has changed'));

/** What a browser sends without asking first, and what comes near it. */
const simpleTypes = [
  'text/plain',
  'text/plain;charset=UTF-8',
  'text/plain; application/json',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/json, text/plain',
  'text/plain, application/json',
  'text/html',
  '',
  undefined,
];

test('incident 04: REST changes nothing for a body that is not declared as JSON, with the right credential too', async () => {
  for (const [method, path, body] of changes)
    for (const type of simpleTypes) {
      const headers = type === undefined ? {} : { 'content-type': type };
      const { status, text } = await send(product, {
        method,
        path,
        token: adminToken,
        body: JSON.stringify(body),
        headers,
      });
      assert.equal(status, 400, `${method} ${path} as ${type}: ${text}`);
      assert.match(text, /content-type/);
    }
});

test('incident 04: /mcp runs nothing for a body that is not declared as JSON', async () => {
  const body = JSON.stringify(toolCall);
  for (const type of simpleTypes) {
    const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type };
    const sent = { method: 'POST', path: '/mcp', token: adminToken, body, headers };
    assert.equal((await send(product, sent)).status, 415, String(type));
  }
});

test('incident 04: a form of another site, as each browser encodes it, is refused', async () => {
  // `text/plain` forms make JSON out of name=value; the other encodings make none.
  const bodies = {
    'text/plain': `{"hostname":"new.example.com","target_url":"${TARGET}","x":"="}\r\n`,
    'application/x-www-form-urlencoded': `hostname=new.example.com&target_url=${encodeURIComponent(TARGET)}`,
    'multipart/form-data; boundary=b': `--b\r\nContent-Disposition: form-data; name="hostname"\r\n\r\nnew.example.com\r\n--b--\r\n`,
  };
  for (const [type, body] of Object.entries(bodies))
    for (const origin of [SITE, 'null', undefined])
      for (const token of [adminToken, undefined]) {
        const headers = {
          'content-type': type,
          'sec-fetch-site': 'cross-site',
          'sec-fetch-mode': 'navigate',
          ...(origin !== undefined && { origin }),
        };
        const { status } = await send(product, { method: 'POST', path: '/v1/proxies', token, body, headers });
        assert.ok([400, 401, 403].includes(status), `${type} from ${origin}: ${status}`);
      }
});

test('incident 04: a page of another site is refused on every change, JSON and credential notwithstanding', async () => {
  for (const marks of [
    { origin: SITE },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
  ])
    for (const [method, path, body] of changes) {
      const { status } = await send(product, { method, path, token: adminToken, body, headers: marks });
      assert.equal(status, 403, `${method} ${path} with ${JSON.stringify(marks)}`);
    }
  for (const origin of [SITE, 'null'])
    assert.equal(
      (await postMcp(product, { token: adminToken, body: toolCall, headers: { origin } })).status,
      403,
    );
});

test('incident 04: a page of another site that asks first is told no, and may read nothing', async () => {
  for (const path of ['/v1/proxies', '/v1/tokens', '/mcp', '/mcp/', '/', '/openapi.json'])
    for (const origin of [SITE, 'null']) {
      const headers = {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      };
      const reply = await send(product, { method: 'OPTIONS', path, headers });
      assert.equal(reply.status, 403, `${path} from ${origin}`);
      assert.ok(
        !Object.keys(reply.headers).some((name) => name.startsWith('access-control-')),
        `${path}: ${Object.keys(reply.headers).join()}`,
      );
    }
});

test('incident 04: only the Authorization header is a credential: nothing a browser adds by itself, nothing in a URL', async () => {
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  const disguises: Record<string, string>[] = [
    ...['token', 'access_token', 'session', 'ohp', 'ohp_token', 'Authorization', 'mcp-session-id'].map(
      (name) => ({
        cookie: `${name}=${adminToken}; ${name}=Bearer ${adminToken}`,
      }),
    ),
    { authorization: basic(`:${adminToken}`) },
    { authorization: basic(`${adminToken}:`) },
    { authorization: basic(`admin:${adminToken}`) },
    { authorization: adminToken },
    { authorization: `Token ${adminToken}` },
    { authorization: `Bearer ${adminToken}, Bearer ${adminToken}` },
    { authorization: `Bearer "${adminToken}"` },
    { 'proxy-authorization': `Bearer ${adminToken}` },
    { 'x-api-key': adminToken },
    { 'x-auth-token': adminToken },
    { 'x-forwarded-access-token': adminToken },
    { 'x-forwarded-user': 'administrator' },
    { 'x-remote-user': 'administrator' },
    { 'mcp-session-id': adminToken },
  ];
  for (const headers of disguises) {
    assert.equal(
      (await send(product, { path: '/v1/proxies', headers })).status,
      401,
      JSON.stringify(headers),
    );
    assert.equal((await postMcp(product, { body: toolCall, headers })).status, 401, JSON.stringify(headers));
  }
  for (const name of ['access_token', 'token', 'authorization', 'api_key', 'bearer']) {
    assert.equal((await send(product, { path: `/v1/proxies?${name}=${adminToken}` })).status, 401, name);
    assert.equal(
      (await postMcp(product, { query: `?${name}=${adminToken}`, body: toolCall })).status,
      401,
      name,
    );
  }
  const inBody = {
    method: 'POST',
    path: '/v1/proxies',
    body: { access_token: adminToken, hostname: 'new.example.com' },
  };
  assert.equal((await send(product, inBody)).status, 401);
});

test('incident 04: the page that asks for a yes to one call takes none from another site, page, question or session', async () => {
  const person = new Person(product);
  const { access_token } = await (await person.client()).signIn({ scope: 'logs:read proxies:write' });
  await person.call(access_token, 'get_logs', { lines: 1 });
  const remove = () => person.call(access_token, 'delete_proxy', { hostname: VICTIM });
  const link = person.confirmUrlOf(await remove());
  const update = { hostname: VICTIM, enabled: false };
  const otherLink = person.confirmUrlOf(await person.call(access_token, 'update_proxy', update));
  const [page, otherPage] = [await person.visitor.open(link), await person.visitor.open(otherLink)];
  const csrfOf = ({ body }: { body: string }) => /name="csrf" value="([^"]+)"/.exec(body)?.[1] ?? '';
  const own = { origin: person.issuer, 'sec-fetch-site': 'same-origin' };
  const right = { csrf: csrfOf(page), decision: 'agree' };
  const attacks: [string, Record<string, string>, Record<string, string>][] = [
    ...[SITE, 'null'].map((origin): (typeof attacks)[number] => ['another site', { origin }, right]),
    ['another site, no origin', { 'sec-fetch-site': 'cross-site' }, right],
    ['a sibling host', { origin: person.issuer, 'sec-fetch-site': 'same-site' }, right],
    ['no token', own, { decision: 'agree' }],
    ['a token of another question', own, { csrf: csrfOf(otherPage), decision: 'agree' }],
  ];
  for (const [what, marks, form] of attacks) {
    const reply = await person.visitor.request(new URL(link), {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...marks },
      body: new URLSearchParams(form).toString(),
    });
    assert.equal(reply.status, 403, `${what}: ${reply.body}`);
  }
  const nobody = new Person(product).visitor;
  const sent = { method: 'POST', headers: own, body: new URLSearchParams(right).toString() };
  assert.match(
    (await nobody.request(new URL(link), sent)).headers['location'] as string,
    /\/oauth\/interaction\//,
  );
  for (const method of ['GET', 'HEAD']) {
    const asked = new URL(`${link}?${new URLSearchParams(right).toString()}`);
    assert.equal((await person.visitor.request(asked, { method })).status, 200);
  }
  assert.equal(person.confirmUrlOf(await remove()), link, 'it still waits for an answer');
});

test('incident 04: reading changes nothing: no GET runs what POST or DELETE runs, by no override', async () => {
  const overrides = ['x-http-method-override', 'x-http-method', 'x-method-override'];
  for (const [method, path] of [
    ...changes,
    ['DELETE', `/v1/proxies/${VICTIM}`],
    ['DELETE', `/v1/tokens/${administrator.id}`],
  ])
    for (const as of ['GET', 'HEAD']) {
      const headers = Object.fromEntries(overrides.map((name) => [name, String(method)]));
      await send(product, { method: as, path: String(path), token: adminToken, headers });
      await send(product, {
        method: as,
        path: `${String(path)}?_method=${String(method)}`,
        token: adminToken,
      });
    }
  const stream = { accept: 'text/event-stream' };
  const query = `?${new URLSearchParams({ message: JSON.stringify(toolCall) }).toString()}`;
  assert.equal(
    (await send(product, { path: `/mcp${query}`, token: adminToken, headers: stream })).status,
    400,
  );
});

test('incident 04: no answer sets a cookie, none can be framed or sniffed into a page or a script', async () => {
  const replies = [
    await send(product, { path: '/', headers: { accept: 'text/html' } }),
    await send(product, { path: '/nowhere', headers: { accept: 'text/html' } }),
    await send(product, {
      path: '/v1/proxies?callback=alert',
      token: adminToken,
      headers: { accept: 'text/html' },
    }),
    await send(product, { path: '/', token: 'x'.repeat(40), headers: { accept: 'text/html' } }),
    await send(product, { path: '/<script>', headers: { accept: 'text/html', host: 'evil.example.com' } }),
    await postMcp(product, { body: toolCall, headers: { accept: 'text/html' } }),
  ];
  for (const { headers, text } of replies) {
    assert.equal(headers['set-cookie'], undefined);
    assert.equal(headers['x-content-type-options'], 'nosniff', text);
    assert.doesNotMatch(text, /^alert|<script/);
    if (headers['content-type']?.startsWith('text/html'))
      assert.match(String(headers['content-security-policy']), /default-src 'none'.*frame-ancestors 'none'/);
  }
  assert.ok(replies.every(({ headers }) => !headers['access-control-allow-origin']));
  assert.equal((await send(product, { path: '/', headers: { host: `localhost:${httpPort}` } })).status, 200);
});
