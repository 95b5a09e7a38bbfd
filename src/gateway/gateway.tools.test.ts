/** Rules for the tools of an MCP server behind a proxy, request by request. Real SDK servers and clients: `test/e2e/protect-an-mcp-server.test.ts`. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import type { LogRecord } from '../core/record.ts';
import {
  ask,
  ask2,
  echo,
  type Fixture,
  http2Session,
  proxyOf,
  readUntil,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';
import { eventually } from '../../test/support/eventually.ts';
import {
  call,
  gatewayTo,
  HOST,
  namesIn,
  policyOf,
  post,
  protection,
  rpc,
  rules,
  mcpServer,
  setUp,
  tokens,
} from '../../test/support/tool-gateway.ts';
import { toolLimits } from './tools/limits.ts';

test('a caller sees and calls what the rules give them, and nothing else exists for them', async (t) => {
  const { gateway, seen } = await setUp(t);
  const listed = async (by: string) => (await post(gateway, { by, body: rpc('tools/list') })).json;
  const ofAlice = await listed('alice');
  assert.deepEqual(namesIn(ofAlice), ['open', 'secret_one', 'secret_two', 'danger', 'slow']);
  assert.equal(ofAlice.result.nextCursor, 'next');
  assert.deepEqual(namesIn(await listed('bob')), ['open', 'danger', 'slow']);
  assert.deepEqual((await post(gateway, { body: call('secret_one') })).json.result, { content: [] });
  const before = seen.length;
  for (const name of ['secret_one', 'gone', 'bad name', 'secret_', 'open ', '\u017fecret_one']) {
    const { status, json } = await post(gateway, { by: 'bob', body: call(name, {}, 'x7') });
    assert.equal(status, 200);
    assert.deepEqual([json.id, json.error.code, json.error.message], ['x7', -32602, `Unknown tool: ${name}`]);
  }
  assert.equal(seen.length, before, 'nothing of it reached the target');
});

test('the bytes that were authorised are the bytes that are forwarded, over both protocols', async (t) => {
  const { gateway, seen } = await setUp(t);
  const body =
    ' {"jsonrpc" : "2.0","method":"tools/call", "params":{"name":"open","arguments":{"n":1e2,"s":"\\u00e9"}},"id":3}\n';
  assert.equal((await post(gateway, { body })).status, 200);
  const session = await http2Session(gateway);
  t.after(() => session.destroy());
  const headers = {
    ':method': 'POST',
    ':path': '/mcp',
    authorization: 'Bearer alice',
    'content-type': 'application/json',
  };
  assert.equal((await ask2(session, headers, body)).status, 200);
  assert.deepEqual(seen, [body, body]);
  const { body: denied } = await ask2(session, headers, JSON.stringify(call('gone')));
  assert.equal(JSON.parse(denied).error.code, -32602);
});

test('a call that more scopes would open is answered 403 with all of them, and the tool is in the list', async (t) => {
  const { gateway } = await setUp(t);
  const { status, headers, json } = await post(gateway, { by: 'narrow', body: call('danger', {}, 9) });
  assert.equal(status, 403);
  assert.equal(
    headers['www-authenticate'],
    `Bearer error="insufficient_scope", scope="access danger", resource_metadata="https://${HOST}/.well-known/oauth-protected-resource/mcp"`,
  );
  assert.equal(json.id, 9);
  assert.ok(
    namesIn((await post(gateway, { by: 'narrow', body: rpc('tools/list') })).json).includes('danger'),
  );
});

test('a batch is looked at message by message, and passes whole or not at all', async (t) => {
  const { gateway, seen } = await setUp(t);
  const good = [
    call('open', {}, 1),
    rpc('tools/list', undefined, 2),
    { jsonrpc: '2.0', method: 'notifications/x' },
  ];
  const answered = await post(gateway, { by: 'bob', body: good });
  assert.deepEqual(namesIn(answered.json ?? JSON.parse(answered.body)[1]), ['open', 'danger', 'slow']);
  const { status, body } = await post(gateway, { by: 'bob', body: [...good, call('secret_one', {}, 'b')] });
  assert.equal(status, 200);
  assert.deepEqual(
    JSON.parse(body).map(({ id, error }: any) => [id, error.code]),
    [
      [1, -32600],
      [2, -32600],
      ['b', -32602],
    ],
  );
  const mixed = await post(gateway, { by: 'narrow', body: [call('open'), call('danger', {}, 2)] });
  assert.equal(mixed.status, 403);
  assert.equal(seen.length, 1);
  for (const bad of [[], [1], [good], Array.from({ length: toolLimits.batch + 1 }, () => call('open'))])
    assert.equal((await post(gateway, { body: bad })).status, 400);
});

test('a call without an id is decided on like any other, and answered by a status alone', async (t) => {
  const { gateway, seen } = await setUp(t, (request, response) => {
    seen.push(String(request.url));
    response.writeHead(202).end();
  });
  const notified = (name: string) => ({ jsonrpc: '2.0', method: 'tools/call', params: { name } });
  assert.equal((await post(gateway, { by: 'bob', body: notified('gone') })).status, 403);
  assert.equal(seen.length, 0);
  assert.equal((await post(gateway, { by: 'bob', body: notified('open') })).status, 202);
});

test('what a body of 2026-07-28 asks for and what its header names have to agree', async (t) => {
  const { gateway, seen } = await setUp(t);
  const meta = { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } };
  const body = rpc('tools/call', { name: 'secret_one', ...meta });
  const version = { 'mcp-protocol-version': '2026-07-28' };
  const encoded = (text: string) => `=?base64?${Buffer.from(text).toString('base64')}?=`;
  const good = { ...version, 'mcp-method': 'tools/call', 'mcp-name': 'secret_one' };
  for (const headers of [good, { ...good, 'mcp-name': encoded('secret_one') }])
    assert.equal((await post(gateway, { body, headers })).status, 200);
  const before = seen.length;
  const bad: Record<string, string>[] = [
    { ...good, 'mcp-name': 'open' },
    { ...good, 'mcp-name': encoded('open') },
    { ...good, 'mcp-name': '=?base64?c2VjcmV0X29uZQ=?=' },
    { ...good, 'mcp-name': '=?base64?/w==?=' },
    { ...good, 'mcp-name': 'Secret_one' },
    { ...good, 'mcp-method': 'tools/list' },
    { ...good, 'mcp-protocol-version': '2027-01-01' },
    { ...version, 'mcp-name': 'secret_one' },
    { ...version, 'mcp-method': 'tools/call' },
    version,
  ];
  for (const headers of bad) {
    const { status, json } = await post(gateway, { body, headers });
    assert.deepEqual([status, json.error.code, json.id], [400, -32020, 1], JSON.stringify(headers));
  }
  const batch = await post(gateway, { body: [call('open')], headers: { 'mcp-method': 'tools/call' } });
  assert.equal(batch.status, 400);
  const list = await post(gateway, { body: rpc('tools/list'), headers: { 'mcp-name': 'open' } });
  assert.equal(list.status, 400);
  assert.equal(seen.length, before);
});

const spellings = [
  '/mcp/',
  '//mcp',
  '/%6dcp',
  '/MCP',
  '/mCp/',
  '/x/../mcp',
  '/./mcp',
  '/mcp;a=1',
  '/mcp/tools',
  '/mcp?x=1',
];
test('no spelling of the path, and nothing below it, leads around the rules', async (t) => {
  const { gateway, seen } = await setUp(t);
  for (const path of spellings) {
    const { json } = await post(gateway, { by: 'bob', path, body: call('secret_one') });
    assert.equal(json?.error?.code, -32602, path);
  }
  assert.equal(seen.length, 0);
});

test('with the path / there is no other path at all', async (t) => {
  const { gateway, seen } = await setUp(t, undefined, { mcp: { path: '/', tools: rules } });
  for (const path of ['/', '/mcp', '/anything/else'])
    assert.equal(
      (await post(gateway, { by: 'bob', path, body: call('gone') })).json.error.code,
      -32602,
      path,
    );
  assert.equal(seen.length, 0);
});

test('other paths are streamed as ever: no rule, no limit and no look at what passes', async (t) => {
  const { gateway } = await setUp(t, echo);
  const { status, json } = await post(gateway, {
    by: 'bob',
    path: '/mcp-other',
    body: call('gone'),
    headers: { 'accept-encoding': 'gzip' },
  });
  assert.equal(status, 200);
  assert.equal(json.headers['accept-encoding'], 'gzip');
  const large = await post(gateway, { path: '/upload', body: Buffer.alloc(toolLimits.bodyBytes + 1, 'x') });
  assert.equal(large.status, 200);
});

test('what can not be read, or could be read otherwise, is refused and goes nowhere', async (t) => {
  const { gateway, seen } = await setUp(t);
  const body = JSON.stringify(call('open'));
  const cases: [string, Parameters<typeof post>[1], number][] = [
    ['no body', { body: '' }, 400],
    ['no JSON', { body: '{' }, 400],
    ['not UTF-8', { body: Buffer.concat([Buffer.from(body), Buffer.from([0xff])]) }, 400],
    ['a byte order mark', { body: `\ufeff${body}` }, 400],
    ['UTF-16', { body: Buffer.from(body, 'utf16le') }, 400],
    ['two documents', { body: body + body }, 400],
    ['too large', { body: `${body}${' '.repeat(toolLimits.bodyBytes)}` }, 413],
    ['too deep', { body: `${'['.repeat(70)}${']'.repeat(70)}` }, 400],
    ['no content type', { body, headers: { 'content-type': '' } }, 415],
    ['text', { body, headers: { 'content-type': 'text/plain' } }, 415],
    ['a form', { body, headers: { 'content-type': 'application/x-www-form-urlencoded' } }, 415],
    ['another charset', { body, headers: { 'content-type': 'application/json; charset=utf-16' } }, 415],
    [
      'two content types',
      { body, headers: { 'content-type': ['application/json', 'text/plain'] as never } },
      400,
    ],
    ['another spelling', { body, headers: { content_type: 'text/plain' } }, 400],
    ['gzip', { body: gzipSync(body), headers: { 'content-encoding': 'gzip' } }, 415],
    ['a method in a field', { body, headers: { 'x-http-method-override': 'GET' } }, 400],
    ['PUT', { body, method: 'PUT' }, 405],
    ['PATCH', { body, method: 'PATCH' }, 405],
    ['GET with a body', { body, method: 'GET', headers: { 'content-length': String(body.length) } }, 400],
    [
      'DELETE with a body',
      { body, method: 'DELETE', headers: { 'content-length': String(body.length) } },
      400,
    ],
    ['two names', { body, headers: { 'mcp-name': ['open', 'gone'] as never } }, 400],
  ];
  for (const [what, sent, expected] of cases) {
    const { status, json } = await post(gateway, sent);
    assert.equal(status, expected, `${what}: ${JSON.stringify(json)}`);
    assert.equal(json.jsonrpc, '2.0', what);
  }
  assert.equal(seen.length, 0);
  assert.equal(
    (await post(gateway, { body, headers: { 'content-type': 'Application/JSON; charset="UTF-8"' } })).status,
    200,
  );
});

test('a chunked body, and one that waits for 100 Continue, are read whole first', async (t) => {
  const { gateway, seen } = await setUp(t);
  const head = (more: string) =>
    `POST /mcp HTTP/1.1\r\nhost: ${HOST}\r\nauthorization: Bearer bob\r\ncontent-type: application/json\r\nconnection: close\r\n${more}\r\n\r\n`;
  const body = JSON.stringify(call('secret_one'));
  const chunks = Array.from(body, (character) => `1\r\n${character}\r\n`).join('');
  const socket = await tlsSocket(gateway, HOST);
  socket.write(`${head('transfer-encoding: chunked')}${chunks}0\r\n\r\n`);
  assert.match(await readUntil(socket), /Unknown tool: secret_one/);
  const waiting = await tlsSocket(gateway, HOST);
  waiting.write(head(`expect: 100-continue\r\ncontent-length: ${body.length}`));
  waiting.once('data', () => waiting.write(body));
  assert.match(await readUntil(waiting), /^HTTP\/1.1 100 [\s\S]*Unknown tool: secret_one/);
  assert.equal(seen.length, 0);
});

test('a socket to the path is refused over both protocols, and other paths keep theirs', async (t) => {
  const { gateway, upstream } = await setUp(t);
  upstream.server.on('upgrade', (_request, socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'),
  );
  const opened = async (path: string) => {
    const socket = await tlsSocket(gateway, HOST);
    socket.write(
      `GET ${path} HTTP/1.1\r\nhost: ${HOST}\r\nauthorization: Bearer alice\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
    );
    return readUntil(socket, /\r\n\r\n/);
  };
  assert.match(await opened('/MCP/'), /^HTTP\/1.1 403 /);
  assert.match(await opened('/socket'), /^HTTP\/1.1 101 /);
  const session = await http2Session(gateway);
  t.after(() => session.destroy());
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': '/mcp',
    ':scheme': 'https',
    ':authority': HOST,
    authorization: 'Bearer alice',
  });
  stream.on('error', () => {});
  const [answered] = await once(stream, 'response');
  assert.equal(answered[':status'], 403);
});

test('a front that only asks whether a request may pass is told no: it can not show the body', async (t) => {
  const upstream = await startUpstream(mcpServer());
  t.after(() => upstream[Symbol.asyncDispose]());
  const served = proxyOf(HOST, upstream.url, { auth: policyOf(), serve_mcp: false });
  const gateway = await startGateway({
    proxies: [served],
    tokens,
    protection: protection(),
    settings: { trustedProxies: ['127.0.0.1'] },
  });
  t.after(() => gateway[Symbol.asyncDispose]());
  const verify = async (path: string) =>
    (
      await ask(gateway, {
        host: 'localhost',
        path: '/auth/verify',
        headers: {
          authorization: 'Bearer alice',
          'x-forwarded-method': 'POST',
          'x-forwarded-proto': 'https',
          'x-forwarded-host': HOST,
          'x-forwarded-uri': path,
        },
      })
    ).status;
  assert.deepEqual([await verify('/other'), await verify('/mcp'), await verify('/MCP/')], [200, 403, 403]);
});

test('so many calls a minute of each user for each tool: whatever the client, and a batch counts each', async (t) => {
  const { gateway } = await setUp(t);
  assert.equal((await post(gateway, { body: call('slow') })).status, 200);
  assert.equal((await post(gateway, { body: [call('slow', {}, 1), call('slow', {}, 2)] })).status, 429);
  assert.equal(
    (await post(gateway, { by: 'narrow', body: call('slow') })).status,
    200,
    'nothing was counted',
  );
  const { status, headers, json } = await post(gateway, { body: call('slow', {}, 'n') });
  assert.deepEqual([status, json.id, json.error.code], [429, 'n', 429]);
  assert.match(String(headers['retry-after']), /^[1-9]\d?$/);
  assert.equal((await post(gateway, { by: 'bob', body: call('slow') })).status, 200);
  assert.equal((await post(gateway, { body: call('open') })).status, 200);
});

test('a session is of no use in other hands, and outlives a restart', async (t) => {
  const sessions: unknown[] = [];
  const listener: RequestListener = (request, response) => {
    request.resume();
    sessions.push(request.headers['mcp-session-id']);
    response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': 'abc.def' });
    response.end('{"jsonrpc":"2.0","id":1,"result":{}}');
  };
  const { gateway, upstream } = await setUp(t, listener);
  const begun = await post(gateway, { body: rpc('initialize', {}) });
  const session = String(begun.headers['mcp-session-id']);
  assert.match(session, /^abc\.def\.[\w-]{22}$/);
  const use = async (by: string, id: string, on = gateway, method = 'POST') =>
    (
      await ask(on, {
        method,
        path: '/mcp',
        headers: { authorization: `Bearer ${by}`, 'mcp-session-id': id, 'content-type': 'application/json' },
        ...(method === 'POST' && { body: JSON.stringify(rpc('ping')) }),
      })
    ).status;
  assert.equal(await use('alice', session), 200);
  assert.equal(await use('alice', session, gateway, 'DELETE'), 200);
  assert.deepEqual(sessions, [undefined, 'abc.def', 'abc.def']);
  for (const method of ['POST', 'GET', 'DELETE']) {
    assert.equal(await use('bob', session, gateway, method), 404, method);
    assert.equal(await use('narrow', session, gateway, method), 404, 'another client of the same user');
  }
  for (const id of [
    'abc.def',
    `abc.def.${'A'.repeat(22)}`,
    session.slice(0, -1),
    `x${session}`,
    '.',
    'x'.repeat(9000),
  ])
    assert.equal(await use('alice', id), 404, id.slice(0, 40));
  assert.equal(sessions.length, 3);
  const restarted = await gatewayTo(t, upstream.url);
  assert.equal(await use('alice', session, restarted), 200);
  assert.equal(await use('bob', session, restarted), 404);
  const served = proxyOf(HOST, upstream.url, { auth: policyOf(), serve_mcp: false });
  const stranger = await startGateway({ proxies: [served], tokens, protection: protection('another key') });
  t.after(() => stranger[Symbol.asyncDispose]());
  assert.equal(await use('alice', session, stranger), 404);
});

const audited = (gateway: Fixture) =>
  gateway.records
    .filter(({ kind }) => kind === 'audit')
    .map(({ outcome, detail }) => [detail?.tool, outcome, detail?.result]);

test('every call has one audit record: what was decided, and what the target said', async (t) => {
  let answer = '';
  const { gateway } = await setUp(t, (request, response) => {
    request.resume();
    response.setHeader('content-type', answer.startsWith('data') ? 'text/event-stream' : 'application/json');
    response.end(answer);
  });
  const result = (inner: object) => JSON.stringify({ jsonrpc: '2.0', id: 1, ...inner });
  const said = [
    result({ result: { content: [] } }),
    result({ result: { content: [], isError: true } }),
    result({ error: { code: -32000, message: 'no' } }),
    `data: ${result({ result: { isError: true } })}\n\n`,
    `data: ${result({ result: {} })}\n\n`,
    'not JSON',
  ];
  for (answer of said) await post(gateway, { body: call('open') });
  await post(gateway, { body: [call('gone', {}, 1), call('open', {}, 2)] });
  await post(gateway, { by: 'narrow', body: call('danger') });
  for (let i = 0; i < 3; i++) await post(gateway, { by: 'bob', body: call('slow') });
  await post(gateway, { body: call('open'), headers: { 'mcp-name': 'danger' } });
  await eventually(async () => (audited(gateway).length === 13 ? true : undefined), 'the records');
  assert.deepEqual(audited(gateway), [
    ['open', 'OK', 'result'],
    ['open', 'UPSTREAM_FAILED', 'isError'],
    ['open', 'UPSTREAM_FAILED', 'error -32000'],
    ['open', 'UPSTREAM_FAILED', 'isError'],
    ['open', 'OK', 'result'],
    ['open', 'OK', 'HTTP 200'],
    ['gone', 'FORBIDDEN', 'not allowed'],
    ['open', 'FORBIDDEN', 'not allowed'],
    ['danger', 'FORBIDDEN', 'lacks scopes'],
    ['slow', 'OK', 'HTTP 200'],
    ['slow', 'OK', 'HTTP 200'],
    ['slow', 'RATE_LIMITED', 'too many calls'],
    ['open', 'INVALID_INPUT', 'header and body differ'],
  ]);
});

test('an audit record has the caller and the arguments without their secrets, and never the credential', async (t) => {
  const { gateway } = await setUp(t);
  const args = {
    path: '/tmp/x',
    dbPassword: 'c4n4ry-1',
    nested: { 'X-Api-Key': 'c4n4ry-2', pin: 1234, note: 'Bearer c4n4ry-3-token' },
    'a\u202ename': 'v\u001b[31m',
    long: 'y'.repeat(5000),
    many: Array.from({ length: 500 }, (_, i) => i),
  };
  await post(gateway, { body: call('open', args) });
  const record = (await eventually(
    async () => gateway.records.find(({ kind }) => kind === 'audit'),
    'a record',
  )) as LogRecord;
  const text = JSON.stringify(record);
  for (const secret of ['c4n4ry', '1234', 'Bearer alice', '\\u202e', '\\u001b'])
    assert.ok(!text.includes(secret), secret);
  assert.match(String(record.detail?.arguments), /^\{"path":"\/tmp\/x","dbPassword":"\[redacted\]"/);
  assert.ok(String(record.detail?.arguments).length <= 2048);
  assert.match(String(record.detail?.arguments_digest), /^[\w-]{43}$/);
  assert.deepEqual(
    [record.principal, record.hostname, record.operation, record.detail?.client, record.detail?.user],
    ['usr_alice:client', HOST, 'tools/call', 'https://client.example/', 'usr_alice'],
  );
  assert.equal(typeof record.trace_id, 'string');
});
