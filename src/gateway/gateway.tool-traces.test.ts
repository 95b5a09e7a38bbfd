/** Where a message to an MCP server behind a proxy stands in its caller's trace, and what that server is told of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Span, SpanSink } from '../core/spans.ts';
import { call, post, setUp } from '../../test/support/tool-gateway.ts';

const ID = '0af7651916cd43dd8448eb211c80319c';
const OTHER = '11111111111111111111111111111111';
const PARENT = 'b7ad6b7169203331';
const of = (id: string) => `00-${id}-${PARENT}-01`;

function taking(): SpanSink & { readonly spans: Span[] } {
  const spans: Span[] = [];
  return {
    spans,
    samples: (_id, caller) => caller?.isSampled ?? true,
    take: (span) => void spans.push(span),
  };
}

const placed = (name: string, traceparent: unknown) => {
  const { params, ...rest } = call(name);
  return { ...rest, params: { ...params, _meta: { traceparent, tracestate: 'rojo=1' } } };
};

test('a message alone says which trace its request is of, and the server gets both forms of the same', async (t) => {
  const sink = taking();
  const { gateway, upstream, seen } = await setUp(t, undefined, { spans: sink });
  const body = JSON.stringify(placed('open', of(ID)));
  await post(gateway, { body });
  const record = await gateway.record(() => true);
  assert.equal(record.trace_id, ID);
  const find = (kind: Span['kind']) => sink.spans.find((span) => span.kind === kind);
  const [request, attempt, called] = [find('server'), find('client'), find('internal')];
  assert.ok(request && attempt && called);
  assert.deepEqual([request.traceId, request.parentId], [ID, PARENT]);
  assert.deepEqual([attempt.parentId, called.parentId], [request.spanId, request.spanId]);
  assert.equal(called.name, 'tools/call open');
  const { headers } = upstream.requests[0] ?? {};
  assert.deepEqual([headers?.traceparent, headers?.tracestate], [`00-${ID}-${attempt.spanId}-01`, 'rojo=1']);
  assert.deepEqual(seen, [body], 'the message is as it came');
  const audit = gateway.records.find(({ kind }) => kind === 'audit');
  assert.deepEqual([audit?.trace_id, audit?.span_id], [ID, called.spanId]);
});

test('where head and message stand elsewhere, the request stays with the head and the call goes with the message', async (t) => {
  const sink = taking();
  const { gateway, upstream } = await setUp(t, undefined, { spans: sink });
  await post(gateway, { body: placed('open', of(ID)), headers: { traceparent: of(OTHER) } });
  const record = await gateway.record(() => true);
  assert.deepEqual([record.trace_id, record.detail?.http_trace_id, record.span_id], [ID, OTHER, undefined]);
  const called = sink.spans.find(({ kind }) => kind === 'internal');
  const request = sink.spans.find(({ kind }) => kind === 'server');
  assert.deepEqual([called?.traceId, called?.parentId], [ID, PARENT]);
  assert.deepEqual(called?.links, [{ traceId: OTHER, spanId: request?.spanId }]);
  assert.match(String(upstream.requests[0]?.headers.traceparent), new RegExp(`^00-${OTHER}-`));
});

test('a call that is refused is a span too, and what is no trace is passed over', async (t) => {
  const sink = taking();
  const { gateway } = await setUp(t, undefined, { spans: sink });
  await post(gateway, { body: placed('gone', 'nonsense') });
  const record = await gateway.record(() => true);
  const called = sink.spans.find(({ kind }) => kind === 'internal');
  assert.deepEqual([called?.traceId, called?.isError], [record.trace_id, true]);
  assert.equal(called?.attributes['error.type'], 'FORBIDDEN');
});

test('where nobody takes spans, the server is told of the place of the message', async (t) => {
  const { gateway, upstream } = await setUp(t);
  await post(gateway, { body: placed('open', of(ID)) });
  assert.equal(upstream.requests[0]?.headers.traceparent, of(ID));
  assert.equal((await gateway.record(() => true)).trace_id, ID);
});
