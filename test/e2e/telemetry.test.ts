/**
 * Traces, log records and what becomes of them, end to end: a client with a trace → the product over TLS → an upstream
 * that keeps what it was told → a collector that decodes strictly. The chain of parents has to join exactly.
 */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import test, { after } from 'node:test';
import { callTool, configFile, type Era, modernHeaders, modernMeta, postMcp } from '../support/callers.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { eventually } from '../support/eventually.ts';
import { caPem, leafFor } from '../support/gateway.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const collector = await startCollector(await leafFor('localhost'));
const upstream = await startUpstream();
const caFile = configFile(caPem);
const headersFile = configFile('x-api-key=key%20of%20the%20collector\n');
const otlp = (more: object = {}) => ({
  endpoint: collector.url,
  ca_file: caFile,
  headers_file: headersFile,
  interval_ms: 50,
  metrics_interval_ms: 1000,
  resource_attributes: { 'deployment.environment.name': 'test' },
  ...more,
});
const start = (more: object = {}): Promise<Product> =>
  startProduct({ env: { OHP_CONFIG: configFile({ telemetry: { otlp: otlp(more) } }) } });
const product = await start();
after(async () => {
  await product[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
  await collector[Symbol.asyncDispose]();
});
await product.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: upstream.url });

let made = 0;
const PARENT = 'b7ad6b7169203331';
/** A trace of its own for each test. */
function newTrace(): { id: string; traceparent: string } {
  const id = `0af7651916cd43dd8448eb21${String(++made).padStart(8, '0')}`;
  return { id, traceparent: `00-${id}-${PARENT}-01` };
}

const spanOf = (id: string, fits: (span: Collector['spans'][number]) => boolean) =>
  collector.span((span) => span.traceId === id && fits(span));

test('the chain of parents joins: client, request, try at the upstream, upstream', async () => {
  const { id, traceparent } = newTrace();
  const answer = await product.get('app.example.com', '/a?canary=1', {
    headers: { traceparent, tracestate: 'rojo=00f067aa0ba902b7' },
  });
  assert.equal(answer.status, 200);
  const attempt = await spanOf(id, ({ kind }) => kind === 'client');
  const request = await spanOf(id, ({ kind }) => kind === 'server');
  const told = upstream.requests.at(-1)?.headers;
  assert.equal(told?.traceparent, `00-${id}-${attempt.spanId}-01`);
  assert.equal(told?.tracestate, 'rojo=00f067aa0ba902b7');
  assert.equal(attempt.parentId, request.spanId);
  assert.deepEqual([request.parentId, request.isParentRemote], [PARENT, true]);
  assert.equal(request.traceState, 'rojo=00f067aa0ba902b7');
  assert.ok(request.startTime <= attempt.startTime && attempt.endTime <= request.endTime);
  assert.equal(request.resource['service.name'], 'oauth-https-proxy');
  assert.equal(request.resource['deployment.environment.name'], 'test');
  assert.equal(request.attributes['url.scheme'], 'https');
  assert.equal(request.attributes['url.path'], '/a');
  assert.equal(collector.requests[0]?.headers['x-api-key'], 'key of the collector');
  assert.deepEqual(collector.faults, []);
});

test('a log record arrives with its trace and its span, redacted as in the log', async () => {
  const { id, traceparent } = newTrace();
  await product.get('app.example.com', '/logged', { headers: { traceparent } });
  const request = await spanOf(id, ({ kind }) => kind === 'server');
  const log = await collector.log(({ traceId }) => traceId === id);
  assert.equal(log.spanId, request.spanId);
  assert.equal(log.attributes['http.response.status_code'], 200);
  assert.equal(log.body, 'GET app.example.com/logged 200');
  assert.equal(log.severity, 9);
});

/** An `echo` whose message says where it stands. */
function echo(era: Era, meta: object, headers: Record<string, string> = {}) {
  const isModern = era === 'modern';
  const _meta = { ...(isModern && modernMeta), ...meta };
  return postMcp(product, {
    token: product.adminToken,
    headers: { ...(isModern && modernHeaders('tools/call', 'echo')), ...headers },
    body: {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'echo', arguments: { message: 'hi' }, _meta },
    },
  });
}

for (const era of ['legacy', 'modern'] as const) {
  test(`${era}: the trace of a message counts for all of its request where the head has none`, async () => {
    const { id, traceparent } = newTrace();
    const reply = await echo(era, { traceparent, tracestate: 'rojo=1' });
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['x-trace-id'], id);
    const call = await spanOf(id, ({ name }) => name === 'tools/call echo');
    const request = await spanOf(id, ({ name }) => name === 'POST');
    assert.deepEqual([request.parentId, request.traceState], [PARENT, 'rojo=1']);
    assert.equal(call.parentId, request.spanId);
    assert.equal(call.attributes['gen_ai.tool.name'], 'echo');
    assert.equal(call.attributes['mcp.method.name'], 'tools/call');
    const audit = await collector.log(
      ({ traceId, attributes }) => traceId === id && attributes['ohp.kind'] === 'audit',
    );
    assert.equal(audit.spanId, call.spanId);
  });

  test(`${era}: where head and message stand elsewhere, each is followed, and they are linked`, async () => {
    const ofHead = newTrace();
    const ofMessage = newTrace();
    const reply = await echo(
      era,
      { traceparent: ofMessage.traceparent },
      { traceparent: ofHead.traceparent },
    );
    assert.equal(reply.headers['x-trace-id'], ofMessage.id);
    const request = await spanOf(ofHead.id, ({ name }) => name === 'POST');
    const call = await spanOf(ofMessage.id, ({ name }) => name === 'tools/call echo');
    assert.deepEqual([request.parentId, call.parentId, call.isParentRemote], [PARENT, PARENT, true]);
    assert.deepEqual(call.links, [{ traceId: ofHead.id, spanId: request.spanId }]);
    const record = await collector.log(
      ({ traceId, attributes }) => traceId === ofMessage.id && attributes['ohp.kind'] === 'mcp',
    );
    assert.match(String(record.attributes['ohp.detail']), new RegExp(`"http_trace_id":"${ofHead.id}"`));
  });

  test(`${era}: what is no trace is passed over`, async () => {
    for (const traceparent of ['nonsense', 1, null, `00-${'0'.repeat(32)}-${PARENT}-01`]) {
      const reply = await echo(era, { traceparent });
      assert.equal(reply.status, 200, reply.text);
      const id = String(reply.headers['x-trace-id']);
      const request = await spanOf(id, ({ name }) => name === 'POST');
      assert.equal(request.parentId, '');
    }
  });
}

test('explain_request tells a call by the trace id of its message', async () => {
  const { id, traceparent } = newTrace();
  await echo('modern', { traceparent });
  await eventually(async () => {
    const args = { name: 'explain_request', arguments: { trace_id: id } };
    const { json } = await callTool(product, product.adminToken, { name: 'call_operation', args });
    const story = json.result.structuredContent;
    const text = JSON.stringify(story ?? '');
    return text.includes('echo') && text.includes('mcp') ? story : undefined;
  }, 'the story of the call');
});

test('an operation over REST is a span below its request', async () => {
  const { id, traceparent } = newTrace();
  await product.api('GET', '/v1/proxies', undefined, { traceparent });
  const request = await spanOf(id, ({ kind }) => kind === 'server');
  const operation = await spanOf(id, ({ name }) => name === 'list_proxies');
  assert.deepEqual([operation.kind, operation.parentId], ['internal', request.spanId]);
});

test('metrics are those that /metrics tells, with the same names and labels', async () => {
  await product.api('POST', '/v1/proxies', { hostname: 'counted.example.com', target_url: upstream.url });
  await product.get('counted.example.com', '/');
  const isOurs = ({ attributes }: { attributes: Record<string, unknown> }) =>
    attributes.host === 'counted.example.com';
  const counted = await collector.metric(
    ({ name, points }) => name === 'ohp_http_requests_total' && points.some(isOurs),
  );
  assert.equal(counted.kind, 'sum');
  assert.equal(counted.points.find(isOurs)?.value, 1);
  const duration = await collector.metric(
    ({ name, points }) => name === 'ohp_http_request_duration_seconds' && points.some(isOurs),
  );
  assert.equal(duration.kind, 'histogram');
  assert.equal((await collector.metric(({ name }) => name === 'ohp_hosts')).kind, 'gauge');
  const text = await fetch(`http://localhost:${product.httpPort}/metrics`, {
    headers: { authorization: `Bearer ${product.adminToken}` },
  });
  assert.match(await text.text(), new RegExp(`# HELP ohp_http_requests_total ${counted.description}`));
  assert.deepEqual(collector.faults, []);
});

const health = async (of: Product) => {
  const { body } = await of.api('GET', '/v1/health');
  return body.components.find(({ name }: { name: string }) => name === 'telemetry');
};

test('a collector that fails for a while loses nothing that may be sent again', async () => {
  let refused = 0;
  collector.behaviour = (response) => {
    if (++refused > 3) return false;
    response.writeHead(refused === 1 ? 503 : 429, { 'retry-after': '0' }).end();
    return true;
  };
  const { id, traceparent } = newTrace();
  await product.get('app.example.com', '/', { headers: { traceparent } });
  await spanOf(id, ({ kind }) => kind === 'server');
  collector.behaviour = undefined;
});

test('what a collector does not take is counted, and the requests of clients know nothing of it', async () => {
  await using other = await start({ queue_items: 100, metrics: false });
  await other.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: upstream.url });
  assert.equal((await eventually(() => health(other), 'health')).status, 'ok');
  collector.behaviour = (response, signal) => {
    if (signal !== 'traces') return false;
    // partial_success { rejected_spans: 1 }
    response.writeHead(200).end(Buffer.from([0x0a, 0x02, 0x08, 0x01]));
    return true;
  };
  assert.equal((await other.get('app.example.com', '/')).status, 200);
  await eventually(
    async () => (/traces: \d+ sent, [1-9]\d* lost/.test((await health(other)).message) ? true : undefined),
    'rejected spans',
  );
  collector.behaviour = (response) => {
    response.writeHead(400).end('canary-of-the-collector');
    return true;
  };
  assert.equal((await other.get('app.example.com', '/')).status, 200);
  const failing = await eventually(async () => {
    const found = await health(other);
    return /the collector answered 400/.test(found.message) ? found : undefined;
  }, 'a failing collector');
  assert.equal(failing.status, 'degraded');
  // Hangs from here on: what waits is bounded, and what is more is lost.
  const unanswered: ServerResponse[] = [];
  collector.behaviour = (response) => unanswered.push(response) > 0;
  for (let i = 0; i < 60; i++) assert.equal((await other.get('app.example.com', '/')).status, 200);
  const full = await eventually(async () => {
    const found = await health(other);
    return /traces: \d+ sent, (?:[2-9]\d|\d{3,}) lost/.test(found.message) ? found : undefined;
  }, 'a full queue');
  assert.equal(full.status, 'degraded');
  collector.behaviour = undefined;
  for (const response of unanswered) response.destroy();
  const { id, traceparent } = newTrace();
  await eventually(async () => {
    await other.get('app.example.com', '/', { headers: { traceparent } });
    return collector.spans.some(({ traceId }) => traceId === id) ? true : undefined;
  }, 'spans after the collector came back');
  assert.ok(!other.output().includes('canary-of-the-collector'));
});

test('what is left is sent when the product ends, and a collector that hangs does not hold it up', async () => {
  const ending = await start({ interval_ms: 60_000 });
  await ending.api('POST', '/v1/proxies', { hostname: 'app.example.com', target_url: upstream.url });
  const { id, traceparent } = newTrace();
  await ending.get('app.example.com', '/', { headers: { traceparent } });
  assert.ok(!collector.spans.some(({ traceId }) => traceId === id));
  assert.equal(await ending.stop(), 0);
  assert.ok(collector.spans.some(({ traceId, kind }) => traceId === id && kind === 'server'));
  assert.ok(collector.logs.some(({ traceId }) => traceId === id));
  await using hung = await ending.restart();
  await hung.get('app.example.com', '/');
  collector.behaviour = () => true;
  assert.equal(await hung.stop(), 0);
  collector.behaviour = undefined;
});
