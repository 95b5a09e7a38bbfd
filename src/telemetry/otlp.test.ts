/** The SDK with our exporter behind it, against a collector that decodes strictly. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import test from 'node:test';
import { systemClock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import type { Span } from '../core/spans.ts';
import { startCollector } from '../../test/support/collector.ts';
import type { OtlpSettings } from './settings.ts';
import { openTelemetry, type Telemetry } from './telemetry.ts';

const id = '0af7651916cd43dd8448eb211c80319c';
const usual: OtlpSettings = {
  endpoint: '',
  headers: {},
  ca: undefined,
  traces: true,
  logs: true,
  metrics: true,
  samplingShare: 1,
  attributes: { 'service.name': 'test' },
  timeoutMs: 2000,
  intervalMs: 50,
  metricsIntervalMs: 60_000,
  queueItems: 100,
};

const open = (more: Partial<OtlpSettings>, reports: string[] = []): Promise<Telemetry> =>
  openTelemetry({
    settings: { ...usual, ...more },
    clock: systemClock,
    version: '1.2.3',
    fetch,
    report: (level, message) => reports.push(`${level} ${message}`),
  });

const span = (more: Partial<Span> = {}): Span => ({
  traceId: id,
  spanId: 'b7ad6b7169203331',
  parentId: undefined,
  isParentRemote: false,
  state: undefined,
  links: [],
  startedAt: 1_700_000_000_000.25,
  endedAt: 1_700_000_000_001.5,
  name: 'GET',
  kind: 'server',
  attributes: { 'http.response.status_code': 200, absent: undefined },
  isError: false,
  ...more,
});
const record = (more: Partial<LogRecord> = {}): LogRecord => ({
  time: 1_700_000_000_000,
  kind: 'system',
  level: 'warn',
  component: 'system',
  message: 'something',
  ...more,
});

test('a span arrives as it was, to the microsecond', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  telemetry.spans?.take(span());
  telemetry.spans?.take(
    span({ spanId: '00f067aa0ba902b7', parentId: 'b7ad6b7169203331', isError: true, kind: 'client' }),
  );
  const first = await collector.span(({ kind }) => kind === 'server');
  assert.deepEqual(
    [first.startTime, first.endTime],
    [1_700_000_000_000_250_000n, 1_700_000_000_001_500_000n],
  );
  assert.deepEqual(first.attributes, { 'http.response.status_code': 200 });
  assert.equal(first.resource['service.version'], '1.2.3');
  const second = await collector.span(({ kind }) => kind === 'client');
  assert.deepEqual([second.parentId, second.isError, first.isError], ['b7ad6b7169203331', true, false]);
  assert.deepEqual(collector.faults, []);
});

test('a record arrives with the trace that it has, with or without a span', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  for (const more of [{}, { trace_id: id }, { trace_id: id, span_id: 'b7ad6b7169203331' }])
    telemetry.takeRecord?.(record(more));
  await collector.until(() => collector.logs.length === 3);
  assert.deepEqual(
    collector.logs.map(({ traceId, spanId }) => [traceId, spanId]),
    [
      ['', ''],
      [id, ''],
      [id, 'b7ad6b7169203331'],
    ],
  );
  assert.equal(collector.logs[0]?.severity, 13);
  assert.deepEqual(collector.faults, []);
});

test('what looks like a credential is redacted in a record, wherever in it', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  const secret = `ohp_${'S3cret'.repeat(8)}`;
  telemetry.takeRecord?.(
    record({
      message: `got ${secret}`,
      path: `/${secret}`,
      user_agent: `Bearer ${secret}`,
      detail: { reason: [`x ${secret}`], password: 'canary-1', inner: { authorization: 'canary-2' } },
    }),
  );
  const log = await collector.log(() => true);
  const text = JSON.stringify(log);
  for (const one of [secret, 'canary-1', 'canary-2']) assert.ok(!text.includes(one), text);
  assert.match(String(log.body), /^got \[redacted\]/);
});

test('what looks like a credential is redacted in a span, in its name and in any attribute', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  const secret = `ohp_${'S3cret'.repeat(8)}`;
  telemetry.spans?.take(
    span({
      name: `tools/call ${secret}`,
      attributes: {
        'url.path': `/reset/password=canary-1/x`,
        'url.full': `https://user:canary-2@app.example.com/${secret}`,
        'gen_ai.tool.name': secret,
        'http.response.status_code': 200,
        'ohp.outcome': 'OK',
      },
    }),
  );
  const found = await collector.span(() => true);
  const text = JSON.stringify([found.name, found.attributes]);
  for (const one of [secret, 'canary-1', 'canary-2']) assert.ok(!text.includes(one), text);
  assert.equal(found.name, 'tools/call [redacted]');
  assert.equal(found.attributes['url.path'], '/reset/password=[redacted]');
  assert.equal(found.attributes['http.response.status_code'], 200);
  assert.equal(found.attributes['ohp.outcome'], 'OK');
});

test('a record that can not be written as JSON arrives without its detail', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  telemetry.takeRecord?.(record({ detail: { size: 1n } }));
  const log = await collector.log(() => true);
  assert.equal(log.attributes['ohp.detail'], undefined);
});

test('more than the queue holds is dropped and counted, and all that is kept arrives', async () => {
  await using collector = await startCollector();
  const telemetry = await open({ endpoint: collector.url, intervalMs: 60_000 });
  for (let i = 0; i < 250; i++)
    telemetry.spans?.take(span({ spanId: (i + 1).toString(16).padStart(16, '0') }));
  const { lost } = telemetry.state().counts.traces ?? {};
  assert.equal(lost, 150);
  await telemetry[Symbol.asyncDispose]();
  assert.equal(collector.spans.length, 100);
  assert.deepEqual(telemetry.state().counts.traces, { sent: 100, lost: 150, queued: 0 });
  telemetry.spans?.take(span());
  assert.equal(telemetry.state().counts.traces?.queued, 0, 'nothing is taken after the end');
});

test('what a collector does not take of a batch is lost, and that is told once', async () => {
  await using collector = await startCollector();
  collector.behaviour = (response) => {
    // partial_success { rejected_spans: 2 error_message: "canary" }
    response.writeHead(200).end(Buffer.from([0x0a, 0x0a, 0x08, 0x02, 0x12, 0x06, ...Buffer.from('canary')]));
    return true;
  };
  const reports: string[] = [];
  const telemetry = await open({ endpoint: collector.url, intervalMs: 60_000 }, reports);
  for (const spanId of ['1', '2', '3']) telemetry.spans?.take(span({ spanId: spanId.repeat(16) }));
  await telemetry[Symbol.asyncDispose]();
  assert.deepEqual(telemetry.state().counts.traces, { sent: 1, lost: 2, queued: 0 });
  assert.deepEqual(reports, ['warn traces do not reach the collector: the collector did not take 2 of 3']);
});

test('an end is bounded, however the collector behaves', async () => {
  await using collector = await startCollector();
  for (const behave of [
    () => true,
    (response: ServerResponse) => {
      response.writeHead(200).write('x');
      return true;
    },
    (response: ServerResponse) => {
      response.writeHead(503, { 'retry-after': '3600' }).end();
      return true;
    },
  ]) {
    collector.behaviour = behave;
    const telemetry = await open({ endpoint: collector.url, timeoutMs: 100 });
    telemetry.spans?.take(span());
    telemetry.takeRecord?.(record());
    await telemetry[Symbol.asyncDispose]();
    const { traces, logs } = telemetry.state().counts;
    assert.deepEqual([traces?.queued, traces?.lost, logs?.queued, logs?.lost], [0, 1, 0, 1]);
  }
});

test('a share of the traces that begin here is taken, the same for the same trace, and others as their caller does', async () => {
  const caller = { traceId: id, parentId: 'b7ad6b7169203331', flags: '01', state: undefined };
  const shareOf = async (samplingShare: number) => {
    await using telemetry = await open({ endpoint: 'http://127.0.0.1:1', samplingShare });
    const { spans } = telemetry;
    assert.ok(spans);
    assert.equal(spans.samples(id, { ...caller, isSampled: true }), true);
    assert.equal(spans.samples(id, { ...caller, isSampled: false }), false);
    const ids = Array.from({ length: 2000 }, (_, i) => {
      const end = ((i * 2_654_435_761) % 2 ** 32).toString(16).padStart(8, '0');
      return `0000000000000000000${end}00000`;
    });
    for (const each of ids.slice(0, 10))
      assert.equal(spans.samples(each, undefined), spans.samples(each, undefined));
    return ids.filter((each) => spans.samples(each, undefined)).length / ids.length;
  };
  assert.equal(await shareOf(1), 1);
  assert.equal(await shareOf(0), 0);
  const quarter = await shareOf(0.25);
  assert.ok(Math.abs(quarter - 0.25) < 0.02, String(quarter));
});

test('a signal that is turned off is not there', async () => {
  await using telemetry = await open({
    endpoint: 'http://127.0.0.1:1',
    traces: false,
    logs: false,
    metrics: false,
  });
  await telemetry.tellMetrics(() => assert.fail('nobody asks'))[Symbol.asyncDispose]();
  assert.deepEqual(
    [telemetry.spans, telemetry.takeRecord, telemetry.state().counts],
    [undefined, undefined, {}],
  );
});

test('metrics are told once more at the end, as they are then', async () => {
  await using collector = await startCollector();
  await using telemetry = await open({ endpoint: collector.url });
  const definition = { help: 'what it is', labels: ['host'] };
  const bounds = [0.1, 1];
  const telling = telemetry.tellMetrics(async () => [
    {
      name: 'a_total',
      definition: { ...definition, type: 'counter' },
      points: [{ labels: ['x'], value: 3 }],
    },
    { name: 'b', definition: { ...definition, type: 'gauge' }, points: [{ labels: ['x'], value: 0.5 }] },
    { name: 'none', definition: { ...definition, type: 'gauge' }, points: [] },
    {
      name: 'c_seconds',
      definition: { ...definition, type: 'histogram', bounds },
      points: [{ labels: ['x'], buckets: [1, 2, 3], count: 6, sum: 9.5 }],
    },
  ]);
  await telling[Symbol.asyncDispose]();
  assert.deepEqual(collector.faults, []);
  assert.deepEqual(
    collector.metrics.map(({ name, kind, points }) => [name, kind, points]),
    [
      ['a_total', 'sum', [{ attributes: { host: 'x' }, value: 3 }]],
      ['b', 'gauge', [{ attributes: { host: 'x' }, value: 0.5 }]],
      ['c_seconds', 'histogram', [{ attributes: { host: 'x' }, value: 6 }]],
    ],
  );
  assert.deepEqual(telemetry.state().counts.metrics, { sent: 3, lost: 0, queued: 0 });
});
