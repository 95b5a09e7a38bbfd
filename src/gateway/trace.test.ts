/** Which span an upstream is told of, and what is made of a request, with a gateway and an upstream that are real. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import test from 'node:test';
import { WebSocketServer } from 'ws';
import { loadBalancing } from '../proxies/load-balancing.ts';
import type { Span, SpanSink } from '../core/spans.ts';
import { ask, echo, proxyOf, raw, startGateway, startUpstream } from '../../test/support/gateway.ts';

const app = 'app.example.com';
const id = '0af7651916cd43dd8448eb211c80319c';
const parent = 'b7ad6b7169203331';
const given = `00-${id}-${parent}-01`;
const plain = { redirect_to_https: false } as const;

/** Takes what its caller records, and everything that begins here. */
class Taken implements SpanSink {
  readonly spans: Span[] = [];
  #wanted = 0;
  #done = () => {};

  samples: SpanSink['samples'] = (_traceId, caller) => caller?.isSampled ?? true;

  take(span: Span): void {
    this.spans.push(span);
    if (this.spans.length === this.#wanted) this.#done();
  }

  /** As soon as there are so many. */
  async count(wanted: number): Promise<readonly Span[]> {
    this.#wanted = wanted;
    if (this.spans.length < wanted) await new Promise<void>((resolve) => (this.#done = resolve));
    return this.spans;
  }
}

const byKind = (spans: readonly Span[], kind: Span['kind']) => spans.filter((span) => span.kind === kind);

test('the upstream is told of a span that is taken, whose parent is the span of the request, whose parent is the client', async () => {
  const taken = new Taken();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)], spans: taken });
  const { json } = await ask(gateway, {
    path: '/a/b?token=canary',
    headers: { traceparent: given, tracestate: 'rojo=1', authorization: 'Bearer canary' },
  });
  const [attempt, request] = await taken.count(2);
  assert.ok(attempt && request);
  assert.equal(json.headers.traceparent, `00-${id}-${attempt.spanId}-01`);
  assert.equal(json.headers.tracestate, 'rojo=1');
  assert.deepEqual([attempt.traceId, attempt.parentId, attempt.isParentRemote], [id, request.spanId, false]);
  assert.deepEqual([request.traceId, request.parentId, request.isParentRemote], [id, parent, true]);
  assert.equal(request.state, 'rojo=1');
  assert.ok(request.startedAt <= attempt.startedAt && attempt.endedAt <= request.endedAt);
  assert.deepEqual([request.kind, attempt.kind], ['server', 'client']);
  assert.equal(request.attributes['url.path'], '/a/b');
  assert.equal(request.attributes['http.response.status_code'], 200);
  assert.equal(request.attributes['server.address'], app);
  assert.equal(attempt.attributes['url.full'], `${upstream.url}/a/b`);
  assert.ok(!JSON.stringify(taken.spans).includes('canary'));
});

test('a request without a trace begins one, and one whose caller does not record it is passed on as it came', async () => {
  const taken = new Taken();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)], spans: taken });
  const fresh = await ask(gateway);
  const [attempt, request] = await taken.count(2);
  assert.equal(request?.parentId, undefined);
  assert.equal(fresh.json.headers.traceparent, `00-${request?.traceId}-${attempt?.spanId}-01`);
  const notRecorded = `00-${id}-${parent}-00`;
  const passed = await ask(gateway, { headers: { traceparent: notRecorded } });
  assert.equal(passed.json.headers.traceparent, notRecorded);
  assert.equal((await gateway.record(({ trace_id }) => trace_id === id)).span_id, undefined);
  assert.equal(taken.spans.length, 2);
});

test('a trace that the share leaves out is told as not recorded', async () => {
  const none: SpanSink = { samples: () => false, take: () => assert.fail('nothing was sampled') };
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)], spans: none });
  const { json } = await ask(gateway);
  assert.match(json.headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
});

test('the record of a request names its span', async () => {
  const taken = new Taken();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)], spans: taken });
  await ask(gateway, { headers: { traceparent: given } });
  const record = await gateway.record(() => true);
  const [, request] = await taken.count(2);
  assert.deepEqual([record.trace_id, record.span_id], [id, request?.spanId]);
});

test('every try at an upstream is a span of its own, and the one that failed says why', async () => {
  const taken = new Taken();
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, 'close');
  await using upstream = await startUpstream(echo);
  const proxy = proxyOf(app, `http://127.0.0.1:${port}`, {
    load_balancing: loadBalancing.parse({ targets: [{ url: upstream.url }] }),
  });
  await using gateway = await startGateway({ proxies: [proxy], spans: taken });
  const { json } = await ask(gateway, { headers: { traceparent: given } });
  const [first, second, request] = await taken.count(3);
  assert.deepEqual([first?.parentId, second?.parentId], [request?.spanId, request?.spanId]);
  assert.notEqual(first?.spanId, second?.spanId);
  assert.equal(json.headers.traceparent, `00-${id}-${second?.spanId}-01`);
  assert.deepEqual([first?.isError, second?.isError], [true, false]);
  assert.equal(first?.attributes['error.type'], 'UPSTREAM_FAILED');
  assert.equal(second?.attributes['http.request.resend_count'], 1);
});

test('a socket and a body that streams have their spans too', async () => {
  const taken = new Taken();
  await using upstream = await startUpstream(echo);
  const sockets = new WebSocketServer({ server: upstream.server });
  sockets.on('connection', (socket) => socket.close());
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url, plain)], spans: taken });
  const upgrade = `GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTraceparent: ${given}\r\n\r\n`;
  await raw(gateway.httpPort, upgrade, /101 /);
  const [tunnel, request] = await taken.count(2);
  assert.deepEqual([tunnel?.kind, tunnel?.parentId], ['client', request?.spanId]);
  assert.equal(tunnel?.attributes['http.response.status_code'], 101);
  const expect = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\nTraceparent: ${given}\r\n\r\nhi`;
  const reply = await raw(gateway.httpPort, expect);
  const [, , single] = await taken.count(4);
  assert.ok(reply.includes(`00-${id}-${single?.spanId}-01`), reply);
});

test('what the gateway answers itself is a span without a try, and a fault of ours is an error', async () => {
  const taken = new Taken();
  await using gateway = await startGateway({ proxies: [], spans: taken });
  const { status } = await ask(gateway, { host: 'nobody.example.com' });
  const [request] = await taken.count(1);
  assert.equal(request?.attributes['http.response.status_code'], status);
  assert.deepEqual(byKind(taken.spans, 'client'), []);
  assert.equal(request?.isError, status >= 500);
});

test('a method that nobody standardised is not told', async () => {
  const taken = new Taken();
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)], spans: taken });
  await ask(gateway, { method: 'PROPFIND' });
  const spans = await taken.count(2);
  for (const { name, attributes } of spans)
    assert.deepEqual([name, attributes['http.request.method']], ['HTTP', '_OTHER']);
});

test('where nobody takes spans a valid trace is passed on as it came, and an invalid one replaced', async () => {
  await using upstream = await startUpstream(echo);
  await using gateway = await startGateway({ proxies: [proxyOf(app, upstream.url)] });
  const { json } = await ask(gateway, { headers: { traceparent: given, tracestate: 'rojo=1' } });
  assert.deepEqual([json.headers.traceparent, json.headers.tracestate], [given, 'rojo=1']);
  const other = await ask(gateway, { headers: { traceparent: 'nonsense', tracestate: 'rojo=1' } });
  assert.match(other.json.headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  assert.equal(other.json.headers.tracestate, undefined);
  const spoilt = await ask(gateway, { headers: { traceparent: given, tracestate: 'rojo=1,rojo=2' } });
  assert.equal(spoilt.json.headers.tracestate, undefined);
});
