/** A method in a header field is a method to many upstreams: it must not be another one than was matched. */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  ask,
  ask2,
  echo,
  http2Session,
  principalOf,
  proxyOf,
  readUntil,
  routeOf,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';

const app = 'app.example.com';
const free = 'free.example.com';
const names = ['x-http-method-override', 'x-http-method', 'x-method-override'];
const token = { kind: 'token', permission: 'logs:read' } as const;

/** Reading is for everyone, the rest for holders of a token; `free` has no route for some methods only. */
async function setUp() {
  const upstream = await startUpstream(echo);
  const gateway = await startGateway({
    proxies: [proxyOf(app, upstream.url, { auth: token }), proxyOf(free, upstream.url)],
    routes: [
      routeOf(app, '/', upstream.url, { methods: ['GET'], auth: { kind: 'none' } }),
      routeOf(app, '/items', upstream.url, {
        methods: ['POST', 'PUT'],
        priority: 900,
        auth: { kind: 'none' },
      }),
    ],
    tokens: { reader: principalOf('tok_reader', ['logs:read']) },
  });
  return {
    gateway,
    upstream,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

test('a method in a header field that another route or policy is for is refused before the upstream sees it', async () => {
  await using parts = await setUp();
  const { gateway, upstream } = parts;
  const values = [
    'DELETE',
    'delete',
    ' DeLeTe ',
    'POST',
    'TRACE',
    'CONNECT',
    'GET, DELETE',
    'DELETE,GET',
    'FOO',
    'DEL ETE',
  ];
  for (const name of names)
    for (const value of values) {
      const { status, json } = await ask(gateway, {
        headers: { [name]: value, accept: 'application/json' },
      });
      assert.deepEqual([status, json.error.code], [400, 'INVALID_INPUT'], `${name}: ${value}`);
      assert.match(json.error.message, new RegExp(`${name}.*Send that method itself`, 'i'));
    }
  assert.equal((await ask(gateway, { headers: { 'x-http-method': ['GET', 'DELETE'] } })).status, 400);
  const session = await http2Session(gateway);
  for (const name of names) assert.equal((await ask2(session, { [name]: 'DELETE' })).status, 400, name);
  session.close();
  const socket = await tlsSocket(gateway, app);
  socket.write(
    `GET / HTTP/1.1\r\nHost: ${app}\r\nX-HTTP-Method: PUT\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`,
  );
  assert.match(await readUntil(socket), /^HTTP\/1\.1 400 /);
  assert.equal(upstream.requests.length, 0);
});

test('one that changes nothing about what was decided passes', async () => {
  await using parts = await setUp();
  const { gateway } = parts;
  for (const name of names) {
    for (const [method, value] of [
      ['GET', 'GET'],
      ['GET', 'head'],
      ['HEAD', 'GET'],
    ] as const)
      assert.equal((await ask(gateway, { method, headers: { [name]: value } })).status, 200, value);
    const same = await ask(gateway, {
      method: 'POST',
      path: '/items',
      headers: { [name]: 'PUT' },
      body: 'x',
    });
    assert.equal(same.json.headers[name], 'PUT');
    for (const value of ['DELETE', 'MERGE', 'nonsense of a client'])
      assert.equal(
        (await ask(gateway, { host: free, method: 'POST', headers: { [name]: value } })).json.headers[name],
        value,
      );
    const withToken = { authorization: 'Bearer reader', [name]: 'DELETE' };
    const { status } = await ask(gateway, { method: 'PATCH', path: '/other', headers: withToken });
    assert.equal(status, 200, 'neither method has a route of its own');
  }
});

test('who needs a credential is asked for it first: a refusal tells a stranger nothing about routes', async () => {
  await using parts = await setUp();
  const { gateway } = parts;
  const headers = { 'x-http-method-override': 'GET' };
  assert.equal((await ask(gateway, { method: 'DELETE', headers })).status, 401);
});

test('other spellings that some upstreams take for the same never pass', async () => {
  await using parts = await setUp();
  const { gateway } = parts;
  const spellings = [
    'X_HTTP_METHOD_OVERRIDE',
    'X-HTTP_Method-Override',
    'x.http.method',
    'X_Method_Override',
  ];
  for (const name of spellings) {
    const { json } = await ask(gateway, { host: free, method: 'POST', headers: { [name]: 'DELETE' } });
    assert.ok(!JSON.stringify(json.rawHeaders).includes('DELETE'), name);
  }
});

test('a route for some methods that comes later counts from then on', async () => {
  await using parts = await setUp();
  const { gateway, upstream } = parts;
  const asked = { host: free, method: 'POST', headers: { 'x-http-method-override': 'DELETE' } };
  assert.equal((await ask(gateway, asked)).status, 200);
  const route = routeOf(null, '/', upstream.url, { methods: ['DELETE'], auth: token });
  gateway.gateway.publisher.prepare({ putRoutes: [route] }).publish();
  assert.equal((await ask(gateway, asked)).status, 400);
});
