/** What an MCP server behind a proxy answers, on its way to a caller who may see only some of its tools. */
import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import type { McpPolicy } from '../proxies/auth-policy.ts';
import { eventually } from '../../test/support/eventually.ts';
import { ask, proxyOf, startGateway, startUpstream } from '../../test/support/gateway.ts';
import {
  ALL,
  allowing,
  call,
  has,
  HOST,
  listEvent,
  namesIn,
  open,
  policyOf,
  post,
  protection,
  rpc,
  ruleOf,
  rules,
  setUp,
  streaming,
  tokens,
  toolsOf,
} from '../../test/support/tool-gateway.ts';
import { toolLimits } from './tools/limits.ts';

test('a list of more tools than anybody offers is refused, in whatever messages and form it comes', async (t) => {
  const many = { jsonrpc: '2.0', id: 1, result: { tools: toolsOf(Array<string>(6000).fill('open')) } };
  const batch = JSON.stringify([many, many]);
  const { gateway } = await setUp(t, (request, response) => {
    request.resume();
    const isStream = request.headers.accept === 'text/event-stream';
    response.setHeader('content-type', isStream ? 'text/event-stream' : 'application/json');
    response.end(isStream ? `data: ${batch}\n\n` : batch);
  });
  assert.equal((await post(gateway, { body: rpc('tools/list') })).status, 502);
  const stream = await open(gateway);
  await eventually(async () => stream.isOver || undefined, 'the end of the stream');
  assert.equal(stream.text, '');
});

test('lists in event streams are filtered, and everything else on them passes at once, byte for byte', async (t) => {
  const { gateway, streams } = await streaming(t);
  const opened = [
    await open(gateway),
    await open(gateway, { headers: { 'last-event-id': 'e0' } }),
    await open(gateway, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(rpc('tools/list')),
    }),
  ];
  for (const [i, state] of opened.entries()) {
    const stream = streams[i] as ServerResponse;
    const progress =
      'event: message\r\nid: 7\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n';
    for (const part of [
      ': keep-alive\n',
      'retry: 500\n\n',
      'id: 6\ndata:\n\n',
      progress,
      'data: no JSON\n\n',
    ]) {
      const before = state.text.length;
      stream.write(part);
      await has(
        {
          get text() {
            return state.text.slice(before);
          },
        },
        part,
      );
    }
    stream.write(listEvent(1));
    stream.write('data: over\n\n');
    await has(state, 'over');
    assert.doesNotMatch(state.text, /secret_one|gone/);
    assert.match(state.text, /"open"/);
    assert.match(state.text, /"cacheScope":"private"/);
    assert.match(state.text, /^id: e1$/m);
    stream.end();
  }
});

test('lists are filtered however a target cuts its stream and ends its lines', async (t) => {
  const { gateway, streams } = await streaming(t);
  for (const [i, end] of ['\n', '\r\n', '\r'].entries()) {
    const state = await open(gateway);
    const stream = streams[i] as ServerResponse;
    for (const byte of Buffer.from(`: x${end}${listEvent('é', end)}data: over${end}${end}`)) {
      stream.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    await has(state, 'over');
    assert.doesNotMatch(state.text, /secret_one|gone/);
    assert.match(state.text, /"id":"é".*"open"/);
    stream.end();
  }
});

test('an event that is too large to be looked into ends the stream instead of passing', async (t) => {
  const { gateway, streams } = await streaming(t);
  const state = await open(gateway);
  streams[0]?.write('data: 1\n\n');
  await has(state, 'data: 1');
  streams[0]?.write(`data: ${'x'.repeat(toolLimits.eventBytes + 1)}`);
  await eventually(async () => state.isOver || undefined, 'the end of the stream');
  assert.equal(state.text, 'data: 1\n\n');
  assert.equal(state.response.complete, false);
  const { outcome, detail } = await gateway.record(({ path }) => path === '/mcp');
  assert.equal(outcome, 'UPSTREAM_FAILED');
  assert.match(String(detail?.reason), /an event is larger than/);
});

test('a list that can not be looked into is refused: compressed, in another form, too large', async (t) => {
  let answer: (response: ServerResponse) => void = () => {};
  const asked: IncomingMessage[] = [];
  const { gateway } = await setUp(t, (request, response) => {
    asked.push(request);
    request.resume();
    answer(response);
  });
  const list = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { tools: toolsOf(ALL) } });
  const type = { 'content-type': 'application/json' };
  const refused: [string, (response: ServerResponse) => void][] = [
    ['gzip', (r) => r.writeHead(200, { ...type, 'content-encoding': 'gzip' }).end(gzipSync(list))],
    ['text', (r) => r.writeHead(200, { 'content-type': 'text/plain' }).end(list)],
    ['no JSON', (r) => r.writeHead(200, type).end(list.slice(1))],
    ['large', (r) => r.writeHead(200, type).end(' '.repeat(toolLimits.listBytes) + list)],
    [
      'gzip events',
      (r) =>
        r
          .writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' })
          .end(gzipSync(list)),
    ],
  ];
  for (const [what, write] of refused) {
    answer = write;
    const { status, body } = await post(gateway, {
      by: 'bob',
      body: rpc('tools/list'),
      headers: { 'accept-encoding': 'gzip', range: 'bytes=1-' },
    });
    assert.equal(status, 502, what);
    assert.doesNotMatch(body, /secret_one/, what);
  }
  for (const { headers } of asked)
    assert.deepEqual([headers['accept-encoding'], headers.range], ['identity', undefined]);
  answer = (r) => r.writeHead(200, { 'content-length': list.length, etag: '"x"' }).end(list);
  const untyped = await post(gateway, { by: 'bob', body: rpc('tools/list') });
  assert.deepEqual(namesIn(untyped.json), ['open', 'danger', 'slow'], 'without a type it is read as JSON');
  assert.equal(untyped.headers.etag, undefined);
  answer = (r) => r.writeHead(404, { 'content-type': 'text/html' }).end('nothing here');
  assert.equal((await post(gateway, { body: rpc('tools/list') })).body, 'nothing here');
});

test('a stream that is compressed is refused, whoever asked for it, and so is a session id that is none', async (t) => {
  let head: Record<string, string> = {};
  const { gateway } = await setUp(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', ...head });
    response.end(gzipSync(listEvent(1)));
  });
  for (head of [
    { 'content-encoding': 'gzip' },
    { 'mcp-session-id': 'a b' },
    { 'mcp-session-id': 'x'.repeat(2000) },
  ])
    assert.equal(
      (await ask(gateway, { path: '/mcp', headers: { authorization: 'Bearer bob' } })).status,
      502,
      JSON.stringify(head).slice(0, 60),
    );
});

test('a list is found inside a batch, behind escapes, and in an event of any type', async (t) => {
  const list = { jsonrpc: '2.0', id: 1, result: { tools: toolsOf(ALL) } };
  const escaped = JSON.stringify(list).replace('"tools"', '"\\u0074ools"');
  const batch = JSON.stringify([{ jsonrpc: '2.0', method: 'notifications/x' }, list]);
  const events = [escaped, batch].map((data) => `event: other\ndata: ${data}\n\n`).join('');
  const { gateway } = await setUp(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(events);
  });
  const { body } = await ask(gateway, { path: '/mcp', headers: { authorization: 'Bearer bob' } });
  assert.doesNotMatch(body, /secret_one|gone|bad name/);
  assert.equal(body.match(/"open"/g)?.length, 2);
  assert.match(body, /notifications\/x/);
});

test('a target of the older HTTP+SSE answers on its stream, and a list that it adds to its 202 is left out', async (t) => {
  const { gateway, streams } = await (async () => {
    const opened: ServerResponse[] = [];
    const made = await setUp(
      t,
      (request, response) => {
        request.resume();
        if (request.method === 'GET') {
          response.writeHead(200, { 'content-type': 'text/event-stream' });
          response.write('event: endpoint\ndata: /mcp/messages?session=1\n\n');
          opened.push(response);
        } else {
          response.writeHead(202).end(`Accepted ${JSON.stringify(toolsOf(ALL))}`);
          opened[0]?.write(listEvent(1));
        }
      },
      { mcp: { path: '/', tools: rules } },
    );
    return { ...made, streams: opened };
  })();
  const stream = await open(gateway);
  await has(stream, 'data: /mcp/messages?session=1');
  const posted = await post(gateway, { by: 'bob', path: '/mcp/messages?session=1', body: rpc('tools/list') });
  assert.deepEqual([posted.status, posted.body], [202, '']);
  await has(stream, '"open"');
  assert.doesNotMatch(stream.text, /secret_one/);
  assert.equal(streams.length, 1);
});

test('a change of the rules counts for streams that are open, and ends a call that they would refuse', async (t) => {
  const { gateway, upstream, streams } = await streaming(t);
  const stream = await open(gateway, { by: 'alice' });
  const calling = await open(gateway, {
    by: 'alice',
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(call('secret_one')),
  });
  const change = (mcp: Partial<McpPolicy>) =>
    gateway.gateway.publisher
      .prepare({ putProxies: [{ ...served, auth: policyOf(mcp), version: 2 }] })
      .publish();
  const served = proxyOf(HOST, upstream.url, { serve_mcp: false });
  change({
    tools: [ruleOf('secret_*', { deny: true }), ruleOf('open', { allow: allowing({ everyone: true }) })],
  });
  await eventually(async () => calling.isOver || undefined, 'the end of the call');
  streams[0]?.write(listEvent(1));
  await has(stream, '"open"');
  assert.doesNotMatch(stream.text, /secret_one/);
  assert.equal(stream.isOver, false);
});

test('a stream that was open before there were rules ends when there are some', async (t) => {
  const upstream = await startUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
  });
  t.after(() => upstream[Symbol.asyncDispose]());
  const { mcp: _, ...without } = policyOf() as ReturnType<typeof policyOf> & { mcp?: McpPolicy };
  const served = proxyOf(HOST, upstream.url, { auth: without, serve_mcp: false });
  const gateway = await startGateway({ proxies: [served], tokens, protection: protection() });
  t.after(() => gateway[Symbol.asyncDispose]());
  const stream = await open(gateway, { by: 'alice' });
  gateway.gateway.publisher.prepare({ putProxies: [{ ...served, auth: policyOf(), version: 2 }] }).publish();
  await eventually(async () => stream.isOver || undefined, 'the end of the stream');
});
