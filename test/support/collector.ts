/**
 * A collector of OpenTelemetry that takes nothing that is not right: OTLP over HTTP, decoded strictly, every id, time and
 * number looked at. What is wrong is kept for the test and answered with 400. How it answers can be set for each test.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { PATIENCE_MS } from './eventually.ts';
import { decode, type Message } from './otlp-proto.ts';

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: it begins the trace. */
  readonly parentId: string;
  readonly name: string;
  readonly kind: 'internal' | 'server' | 'client';
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly traceState: string;
  readonly isError: boolean;
  readonly isParentRemote: boolean;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly resource: Readonly<Record<string, unknown>>;
}

export interface CollectedLog {
  readonly traceId: string;
  readonly spanId: string;
  readonly severity: number;
  readonly body: unknown;
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface CollectedMetric {
  readonly name: string;
  readonly description: string;
  readonly kind: 'gauge' | 'sum' | 'histogram';
  readonly points: readonly {
    readonly attributes: Readonly<Record<string, unknown>>;
    readonly value: number;
  }[];
}

type Signal = 'traces' | 'logs' | 'metrics';
/** True: it has answered. */
export type Behaviour = (response: ServerResponse, signal: Signal, request: IncomingMessage) => boolean;

export interface Collector extends AsyncDisposable {
  readonly url: string;
  readonly spans: CollectedSpan[];
  readonly logs: CollectedLog[];
  readonly metrics: CollectedMetric[];
  /** Bodies and headers of everything that came of a kind, as they were. */
  got(signal: Signal): readonly Buffer[];
  readonly requests: { readonly signal: string; readonly headers: IncomingMessage['headers'] }[];
  /** What was not right. */
  readonly faults: unknown[];
  /** Undefined: takes everything. */
  behaviour: Behaviour | undefined;
  /** As soon as something of a kind is there that fits. */
  span(fits: (span: CollectedSpan) => boolean): Promise<CollectedSpan>;
  log(fits: (log: CollectedLog) => boolean): Promise<CollectedLog>;
  metric(fits: (metric: CollectedMetric) => boolean): Promise<CollectedMetric>;
  until(holds: () => boolean): Promise<void>;
}

export async function startCollector(tls?: {
  readonly key: string;
  readonly cert: string;
}): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const logs: CollectedLog[] = [];
  const metrics: CollectedMetric[] = [];
  const bytes: Record<Signal, Buffer[]> = { traces: [], logs: [], metrics: [] };
  const faults: unknown[] = [];
  const requests: Collector['requests'][number][] = [];
  const waiting = new Set<() => void>();

  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const signal = /^\/v1\/(traces|logs|metrics)$/.exec(request.url ?? '')?.[1] as Signal | undefined;
    const body = await buffer(request);
    if (signal) bytes[signal].push(Buffer.from(JSON.stringify([request.url, request.rawHeaders])), body);
    requests.push({ signal: signal ?? '', headers: request.headers });
    try {
      assert.ok(signal, `path ${request.url}`);
      if (collector.behaviour?.(response, signal, request)) return;
      assert.equal(request.method, 'POST');
      assert.equal(request.headers['content-type'], 'application/x-protobuf');
      const plain = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
      const message = decode(signal, plain);
      if (signal === 'traces') spans.push(...spansIn(message));
      else if (signal === 'logs') logs.push(...logsIn(message));
      else metrics.push(...metricsIn(message));
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    } catch (fault) {
      faults.push(fault);
      response.writeHead(400).end();
    } finally {
      for (const look of waiting) look();
    }
  }

  const listener = (request: IncomingMessage, response: ServerResponse) =>
    // Who is cut off in the middle has nothing to be answered.
    void take(request, response).catch((cause: unknown) => void faults.push(cause));
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  async function until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.delete(look);
        reject(new Error(`never came; ${JSON.stringify(spans.map(({ name }) => name))} ${faults.join(' ')}`));
      }, PATIENCE_MS);
      const look = () => {
        if (!holds()) return;
        clearTimeout(timer);
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
    });
  }

  const first = async <Item>(items: readonly Item[], fits: (item: Item) => boolean): Promise<Item> => {
    await until(() => items.some(fits));
    return items.find(fits) as Item;
  };

  const collector: Collector = {
    url: `${tls ? 'https' : 'http'}://${tls ? 'localhost' : '127.0.0.1'}:${port}`,
    spans,
    logs,
    metrics,
    got: (signal) => bytes[signal],
    requests,
    faults,
    behaviour: undefined,
    span: (fits) => first(spans, fits),
    log: (fits) => first(logs, fits),
    metric: (fits) => first(metrics, fits),
    until,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return collector;
}

/** @see trace.proto, SpanKind */
const kinds = { 1: 'internal', 2: 'server', 3: 'client' } as const;
const STATUS_ERROR = 2;
const MAX_SEVERITY = 24;
const TRACE_BYTES = 16;
const SPAN_BYTES = 8;
/** @see trace.proto, SpanFlags */
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;
const CUMULATIVE = 2;

function idOf(bytes: Buffer | undefined, length: number, what: string): string {
  assert.ok(bytes, `${what} is there`);
  assert.equal(bytes.length, length, `${what} has ${length} bytes`);
  assert.ok(
    bytes.some((byte) => byte !== 0),
    `${what} is not 0`,
  );
  return bytes.toString('hex');
}

const optionalId = (bytes: Buffer | undefined, length: number, what: string): string =>
  bytes === undefined ? '' : idOf(bytes, length, what);

function spansIn({ resourceSpans }: Message): CollectedSpan[] {
  return each(resourceSpans, (span, resource) => {
    const { startTime, endTime, kind } = span;
    assert.ok(startTime > 0n && endTime >= startTime, `times ${startTime} ${endTime}`);
    assert.ok(kind in kinds, `kind ${kind}`);
    assert.ok(span.name.length > 0);
    assert.ok([0, 1, STATUS_ERROR].includes(span.status?.code ?? 0));
    assert.equal(span.droppedAttributes, 0);
    const parentId = optionalId(span.parentSpanId, SPAN_BYTES, 'parent_span_id');
    const spanId = idOf(span.spanId, SPAN_BYTES, 'span_id');
    assert.notEqual(parentId, spanId);
    assert.ok(span.flags & HAS_IS_REMOTE);
    return {
      traceId: idOf(span.traceId, TRACE_BYTES, 'trace_id'),
      spanId,
      parentId,
      name: span.name,
      kind: kinds[kind as keyof typeof kinds],
      startTime,
      endTime,
      traceState: span.traceState ?? '',
      isError: span.status?.code === STATUS_ERROR,
      isParentRemote: (span.flags & IS_REMOTE) !== 0,
      attributes: attributesIn(span.attributes),
      links: span.links.map((link: Message) => ({
        traceId: idOf(link.traceId, TRACE_BYTES, 'trace_id of a link'),
        spanId: idOf(link.spanId, SPAN_BYTES, 'span_id of a link'),
      })),
      resource,
    };
  });
}

function logsIn({ resourceLogs }: Message): CollectedLog[] {
  return each(resourceLogs, (log) => {
    assert.ok(log.time > 0n && log.observedTime > 0n);
    assert.ok(log.severityNumber >= 1 && log.severityNumber <= MAX_SEVERITY);
    return {
      traceId: optionalId(log.traceId, TRACE_BYTES, 'trace_id'),
      spanId: optionalId(log.spanId, SPAN_BYTES, 'span_id'),
      severity: log.severityNumber,
      body: valueIn(log.body),
      attributes: attributesIn(log.attributes),
    };
  });
}

function metricsIn({ resourceMetrics }: Message): CollectedMetric[] {
  return each(resourceMetrics, ({ name, description = '', gauge, sum, histogram }) => {
    assert.match(name, /^[a-zA-Z][\w./-]{0,254}$/);
    const kind = gauge ? 'gauge' : sum ? 'sum' : 'histogram';
    const data: Message = gauge ?? sum ?? histogram;
    if (kind !== 'gauge') assert.equal(data.temporality, CUMULATIVE);
    if (sum) assert.equal(sum.isMonotonic, true);
    const points = data.points.map((point: Message) => {
      assert.ok(point.time > 0n && (kind === 'gauge' || point.startTime <= point.time));
      if (kind === 'histogram') checkHistogram(point);
      const value = kind === 'histogram' ? Number(point.count) : (point.double ?? point.int);
      assert.equal(typeof value, 'number');
      return { attributes: attributesIn(point.attributes), value };
    });
    const keys = points.map(({ attributes }: { attributes: object }) => JSON.stringify(attributes));
    assert.equal(new Set(keys).size, keys.length, `${name} has a series twice`);
    return { name, description, kind, points };
  });
}

function checkHistogram({ bounds, bucketCounts, count }: Message): void {
  assert.equal(bucketCounts.length, bounds.length + 1);
  assert.equal(
    bucketCounts.reduce((sum: bigint, of: bigint) => sum + of, 0n),
    count,
  );
  assert.ok(bounds.every((bound: number, i: number) => i === 0 || bound > bounds[i - 1]));
}

/** Resource → scope → items. */
function each<Item>(
  resources: readonly Message[],
  read: (item: Message, resource: Readonly<Record<string, unknown>>) => Item,
): Item[] {
  assert.ok(resources.length > 0, 'something is in it');
  return resources.flatMap(({ resource, scopes }) => {
    const of = attributesIn(resource.attributes);
    assert.ok(of['service.name'], 'the resource names its service');
    return scopes.flatMap(({ scope, items }: Message) => {
      assert.ok(scope.name);
      return items.map((item: Message) => read(item, of));
    });
  });
}

function attributesIn(pairs: readonly Message[]): Record<string, unknown> {
  const keys = pairs.map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length, `attributes are there once: ${keys.join(' ')}`);
  assert.ok(keys.every((key) => typeof key === 'string' && key !== ''));
  return Object.fromEntries(pairs.map(({ key, value }) => [key, valueIn(value)]));
}

function valueIn(value: Message | undefined): unknown {
  const { array, kvlist, ...scalar } = value ?? {};
  if (array) return array.values.map(valueIn);
  if (kvlist) return attributesIn(kvlist.values);
  return Object.values(scalar)[0];
}
