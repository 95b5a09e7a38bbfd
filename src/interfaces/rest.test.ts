import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import test from 'node:test';
import fc from 'fast-check';
import { startWorld, thingOperations, tokens, type World } from '../../test/surface-harness.ts';
import { AppError } from '../core/errors.ts';
import type { Exchange } from '../core/exchange.ts';
import { limits } from '../core/limits.ts';
import { system } from '../core/principal.ts';
import { openApiOf } from './openapi.ts';
import { parseBody } from './rest-input.ts';
import { createRestInterface } from './rest.ts';

interface Sent {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  token?: string | undefined;
}

async function send(
  world: World,
  path: string,
  { method = 'GET', headers, body, token = tokens.admin }: Sent = {},
) {
  const response = await fetch(world.url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body }),
    redirect: 'manual',
  });
  const raw = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json');
  return {
    status: response.status,
    headers: response.headers,
    raw,
    json: isJson && raw !== '' ? JSON.parse(raw) : undefined,
  };
}

const lamp = '{"name":"lamp","size":3}';
const post = (world: World, body: string, headers?: Record<string, string>) =>
  send(world, '/v1/things', { method: 'POST', body, ...(headers && { headers }) });

test('creating answers 201, where it is, and its version as an ETag', async () => {
  await using world = await startWorld();
  const { status, headers } = await post(world, '{"name":"a/b é","size":3}');
  assert.equal(status, 201);
  assert.equal(headers.get('location'), '/v1/things/a%2Fb%20%C3%A9');
  assert.equal(headers.get('etag'), '"1"');
  const read = await send(world, headers.get('location')!);
  assert.equal(read.json.name, 'a/b é');
  assert.equal(read.headers.get('etag'), '"1"');
});

test('answers are not stored, sniffed or longer than they say', async () => {
  await using world = await startWorld();
  for (const path of ['/v1/things', '/v1/nothing', '/openapi.json', '/']) {
    const { headers, raw } = await send(world, path);
    assert.equal(headers.get('cache-control'), 'no-store', path);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', path);
    assert.equal(headers.get('content-length'), String(Buffer.byteLength(raw)), path);
  }
});

test('If-Match is the version and Idempotency-Key the key', async () => {
  await using world = await startWorld();
  const key = { 'idempotency-key': 'once-and-once-only' };
  await post(world, lamp, key);
  const again = await post(world, lamp, key);
  assert.deepEqual([again.status, again.json.version], [201, 1]);

  const patch = (headers: Record<string, string>, body = '{"size":4}') =>
    send(world, '/v1/things/lamp', { method: 'PATCH', body, headers });
  assert.equal((await patch({ 'if-match': '"7"' })).status, 412);
  assert.equal((await patch({ 'if-match': '"1"' })).headers.get('etag'), '"2"');
  assert.equal((await patch({ 'if-match': '"2"' }, '{"size":5,"version":2}')).status, 200);
  assert.equal((await patch({ 'if-match': '*' })).status, 200);
});

test('a header that contradicts an argument, or that nothing takes, is refused', async () => {
  await using world = await startWorld();
  await post(world, lamp);
  const patch = (headers: Record<string, string>, body: string) =>
    send(world, '/v1/things/lamp', { method: 'PATCH', body, headers });
  for (const tag of ['W/"1"', '1', '"x"', '"1", "2"', '"01"', '""'])
    assert.match(
      (await patch({ 'if-match': tag }, '{}')).json.error.message,
      /^if-match: has to be one ETag/,
    );
  assert.match((await patch({ 'if-match': '"1"' }, '{"version":2}')).json.error.message, /^version: differs/);
  assert.match(
    (await patch({ 'idempotency-key': 'whatever-it-is' }, '{}')).json.error.message,
    /^idempotency-key: update_thing does not take it/,
  );
});

test('a body cannot change which resource the URL names', async () => {
  await using world = await startWorld();
  await post(world, lamp);
  const { json } = await send(world, '/v1/things/lamp', {
    method: 'PATCH',
    body: '{"name":"other","size":9}',
  });
  assert.deepEqual([json.name, json.size], ['lamp', 9]);
});

test('incident 4: what a foreign page may send without asking first is refused', async () => {
  await using world = await startWorld();
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
    assert.match(
      (await post(world, lamp, { 'content-type': type })).json.error.message,
      /^content-type: has to be/,
    );
  assert.equal((await post(world, lamp, { 'content-type': 'application/json; charset=utf-8' })).status, 201);
  assert.equal((await post(world, lamp, { 'content-type': 'application/json; charset=latin1' })).status, 400);
  assert.equal((await post(world, lamp, { 'content-type': 'application/jsonp' })).status, 400);
  const untyped = request(`${world.url}/v1/things`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tokens.admin}` },
  }).end('{"name":"desk","size":3}');
  const [answer] = await once(untyped, 'response');
  assert.match(await text(answer), /content-type: is missing/);
});

test('incident 2: tricks with the body change nothing but the answer', async () => {
  await using world = await startWorld();
  const refused: [string | Uint8Array<ArrayBuffer>, RegExp][] = [
    ['{', /has to be JSON/],
    ['[]', /has to be a JSON object/],
    ['null', /has to be a JSON object/],
    ['"text"', /has to be a JSON object/],
    [`\ufeff${lamp}`, /has to be JSON/],
    [new Uint8Array([0x7b, 0xff, 0x7d]), /not UTF-8/],
    ['{"name":"x","size":1,"Size":2}', /unknown argument "Size"/],
    ['{"name":"x","size":1e999}', /size: /],
    ['{"name":"x","size":1,"__proto__":{"admin":true}}', /unknown argument "__proto__"/],
    ['{"name":"x","size":1,"constructor":{}}', /unknown argument "constructor"/],
    [
      `{"name":"x","size":1,"labels":${'['.repeat(limits.jsonDepth)}${']'.repeat(limits.jsonDepth)}}`,
      /nests deeper than 64/,
    ],
  ];
  for (const [body, message] of refused) {
    const { status, json } = await send(world, '/v1/things', { method: 'POST', body });
    assert.equal(status, 400, String(body));
    assert.match(json.error.message, message);
  }
  assert.equal(world.things.all.size, 0);
  // The last of two keys counts, and it is the one that is checked.
  assert.equal((await post(world, '{"name":"x","size":1,"size":5000}')).status, 400);
});

test('property: a body is an object or a refusal that says why', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json().map((value) => Buffer.from(value)),
        fc.uint8Array(),
      ),
      (bytes) => {
        try {
          assert.equal(typeof parseBody(Buffer.from(bytes)), 'object');
        } catch (cause) {
          assert.ok(
            cause instanceof AppError && cause.code === 'INVALID_INPUT' && cause.message.includes('body'),
          );
        }
      },
    ),
  );
});

test('a body over the limit is refused, whether or not it says how long it is', async () => {
  await using world = await startWorld();
  const body = `{"name":"${'x'.repeat(limits.controlBodyBytes)}"}`;
  const told = await post(world, body);
  assert.deepEqual([told.status, told.json.error.code], [413, 'TOO_LARGE']);
  const streamed = request(`${world.url}/v1/things`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tokens.admin}`, 'content-type': 'application/json' },
  });
  streamed.on('error', () => undefined); // The server may close while the rest is still being sent.
  streamed.write(body.slice(0, 10)); // Written in parts, it does not say how long it will be.
  streamed.end(body.slice(10));
  const [response] = await once(streamed, 'response');
  assert.equal(response.statusCode, 413);
});

test('arguments are taken from one place: the query of GET and DELETE, the body of the others', async () => {
  await using world = await startWorld();
  const message = async (path: string, sent: Sent) => (await send(world, path, sent)).json.error.message;
  assert.match(await message('/v1/things?size=1', { method: 'POST', body: lamp }), /go in the JSON body/);
  assert.match(
    await message('/v1/things/lamp', { method: 'DELETE', body: '{"version":1}' }),
    /go in the query/,
  );
  assert.match(await message('/v1/things?limit=1&limit=2', {}), /^limit: given 2 times/);
  assert.match(
    await message('/v1/things?bogus=1', {}),
    /unknown argument "bogus" \(valid arguments are limit, /,
  );
  assert.match(await message('/v1/things?limit=0x10', {}), /limit: /);
  assert.match(await message('/v1/things/%ff', {}), /percent-encoding/);
});

test('an unknown path says where the known ones are, a wrong method which are right', async () => {
  await using world = await startWorld();
  const unknown = await send(world, '/v1/nothing');
  assert.deepEqual([unknown.status, unknown.json.error.code], [404, 'NOT_FOUND']);
  assert.match(unknown.json.error.message, /\/openapi\.json/);
  const wrong = await send(world, '/v1/things/lamp', { method: 'POST', body: '{}' });
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get('allow'), 'DELETE, GET, PATCH, HEAD');
  assert.equal((await send(world, '/v1/things/lamp', { method: 'PROPFIND' })).status, 405);
  for (const path of ['/v1', '/v1/', '/v1/things/', '/V1/things', '/v1/things/a/b'])
    assert.equal((await send(world, path)).status, 404, path);
});

test('HEAD answers as GET does, without the body', async () => {
  await using world = await startWorld();
  await post(world, lamp);
  const head = await send(world, '/v1/things/lamp', { method: 'HEAD' });
  const get = await send(world, '/v1/things/lamp');
  assert.deepEqual([head.status, head.raw], [200, '']);
  assert.equal(head.headers.get('content-length'), get.headers.get('content-length'));
  assert.equal(head.headers.get('etag'), '"1"');
});

test('an error has its code, the trace id, and a challenge where a credential would help', async () => {
  await using world = await startWorld();
  const nobody = await send(world, '/v1/things', { token: 'unknown' });
  assert.equal(nobody.status, 401);
  assert.equal(nobody.headers.get('www-authenticate'), 'Bearer');
  assert.match(nobody.json.error.trace_id, /^[0-9a-f]{32}$/);
  const viewer = await send(world, '/v1/things', { method: 'POST', body: lamp, token: tokens.viewer });
  assert.equal(viewer.status, 403);
  assert.equal(
    viewer.headers.get('www-authenticate'),
    'Bearer error="insufficient_scope", scope="proxies:write"',
  );
  const fault = await send(world, '/v1/fail');
  assert.equal(fault.status, 500);
  assert.doesNotMatch(fault.raw, /inner words/);
});

test('a call ends when its client goes away', async () => {
  await using world = await startWorld();
  const began = new Promise<void>((resolve) => (world.things.onWait = resolve));
  const client = request(`${world.url}/v1/wait`, { headers: { authorization: `Bearer ${tokens.admin}` } });
  client.on('error', () => undefined); // It is this test that ends it.
  client.end();
  await began;
  client.destroy();
  while (!world.log.some(({ outcome }) => outcome === 'CANCELLED')) await new Promise(setImmediate);
});

test('a call whose client goes away in the middle of the body is not made', async () => {
  await using world = await startWorld();
  const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
  socket.write(
    `POST /v1/things HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${tokens.admin}\r\n` +
      `content-type: application/json\r\ncontent-length: 100\r\n\r\n{"name":`,
  );
  socket.end();
  await text(socket);
  while (world.log.length === 0) await new Promise(setImmediate);
  assert.deepEqual(
    world.log.map(({ outcome }) => outcome),
    ['CANCELLED'],
  );
});

test('a body that the gate ended is answered with what the gate said', async () => {
  const { handle } = createRestInterface({
    operations: thingOperations,
    dispatch: async (_operation, read) => {
      if (typeof read === 'function') await read();
      return assert.fail('ran');
    },
    version: '1',
  });
  const body = new PassThrough();
  const answered = Promise.withResolvers<[number, string]>();
  let status = 0;
  const reply = {
    headersSent: false,
    writeHead: (code: number) => (status = code),
    end: (sent: string) => answered.resolve([status, sent]),
  };
  const headers = { 'content-type': 'application/json' };
  const exchange = {
    method: 'POST',
    path: '/v1/things',
    query: '',
    headers,
    body,
    reply,
    note: () => {},
    tell: () => {},
  };
  // The members that this call uses.
  const handled = handle(exchange as unknown as Exchange, system);
  body.destroy(new AppError('TIMEOUT', 'the body took too long'));
  const [code, text] = await answered.promise;
  await handled;
  assert.deepEqual([code, JSON.parse(text).error.code], [504, 'TIMEOUT']);
});

test('a secret is refused in a query', async () => {
  const get = { ...thingOperations[6], http: { method: 'GET', path: '/v1/secret' } } as const;
  await using world = await startWorld([get]);
  assert.match(
    (await send(world, '/v1/secret?secret=x')).json.error.message,
    /^secret: a secret does not belong in a URL/,
  );
});

test('the audit record of a call names the client, cleaned, and the surface', async () => {
  await using world = await startWorld();
  await send(world, '/v1/things', { headers: { 'user-agent': 'curl/8' } });
  assert.deepEqual(
    [world.log[0]?.detail?.surface, world.log[0]?.detail?.client, world.log[0]?.outcome],
    ['rest', 'curl/8', 'OK'],
  );
});

test('the page at / says how to connect, as text or as HTML without script', async () => {
  await using world = await startWorld();
  const plain = await send(world, '/', { headers: { accept: '*/*' } });
  assert.match(plain.headers.get('content-type')!, /^text\/plain/);
  assert.ok(plain.raw.includes(`${world.url}/mcp`));
  const html = await send(world, '/', { headers: { accept: 'text/html,*/*' } });
  assert.match(html.headers.get('content-type')!, /^text\/html/);
  assert.ok(html.raw.includes(`${world.url}/mcp`));
  assert.doesNotMatch(html.raw, /<script|javascript:|https?:\/\/(?!127\.0\.0\.1)/);
  assert.match(html.headers.get('content-security-policy')!, /default-src 'none'.*frame-ancestors 'none'/);
});

test('every route that is served is in the list of endpoints, with its gate', async () => {
  const { endpoints } = createRestInterface({
    operations: thingOperations,
    dispatch: async () => ({}),
    version: '1',
    access: 'public',
  });
  await using world = await startWorld();
  for (const { methods, path, gate } of endpoints)
    for (const method of methods) {
      const hasBody = ['POST', 'PUT', 'PATCH'].includes(method);
      const { status } = await send(world, path.replace(/\{\w+\}/g, 'x'), {
        method,
        token: 'unknown',
        ...(hasBody && { body: '{}' }),
      });
      if (path === '/v1/fail') assert.equal(status, 500);
      else assert.equal(status, gate === 'public' ? 200 : 401, `${method} ${path}`);
    }
  assert.equal(endpoints.length, thingOperations.length + 2);
});

test('a literal path wins over a parameter', async () => {
  const literal = {
    ...thingOperations[0],
    name: 'count_things',
    http: { method: 'GET', path: '/v1/things/count' },
  } as const;
  await using world = await startWorld([...thingOperations, literal]);
  assert.deepEqual((await send(world, '/v1/things/count')).json, { things: [] });
});

test('the OpenAPI document names every argument once, where REST carries it', async () => {
  await using world = await startWorld();
  const { json } = await send(world, '/openapi.json', { token: undefined });
  assert.deepEqual(json, JSON.parse(JSON.stringify(openApiOf(thingOperations, '1.2.3'))));
  const patch = json.paths['/v1/things/{name}'].patch;
  assert.deepEqual(
    patch.parameters.map((parameter: { in: string; name: string }) => `${parameter.in} ${parameter.name}`),
    ['path name', 'header If-Match'],
  );
  assert.deepEqual(Object.keys(patch.requestBody.content['application/json'].schema.properties), [
    'size',
    'on',
    'version',
  ]);
  assert.deepEqual(Object.keys(patch.responses), [
    '200',
    '400',
    '401',
    '403',
    '404',
    '412',
    '413',
    '429',
    '500',
  ]);
  assert.deepEqual(patch.security, [{ bearer: ['proxies:write'] }]);
  const list = json.paths['/v1/things'].get;
  assert.ok(list.parameters.every((parameter: { in: string }) => parameter.in === 'query'));
});
