/**
 * What the spans of one proxied request cost the thread that serves: begun, told upstream, ended and taken by the SDK's
 * queue, with a log record beside them; and what it costs to write a batch of them for the collector, once for all.
 * Nothing is sent: the collector is a function that answers at once.
 * Run: node bench/spans.ts
 */
import { systemClock } from '../src/core/clock.ts';
import { newTraceId } from '../src/core/ids.ts';
import { OpenSpan } from '../src/core/spans.ts';
import { openTelemetry } from '../src/telemetry/telemetry.ts';
import { median, printTable } from './measure.ts';

const ROUNDS = 7;
const REQUESTS = 5000;

let bytes = 0;
const telemetry = await openTelemetry({
  settings: {
    endpoint: 'http://127.0.0.1:4318',
    headers: {},
    ca: undefined,
    traces: true,
    logs: true,
    metrics: false,
    samplingShare: 1,
    attributes: { 'service.name': 'bench' },
    timeoutMs: 10_000,
    // Nothing is written before it is asked for: the two costs are told apart.
    intervalMs: 60_000,
    metricsIntervalMs: 60_000,
    queueItems: 1_000_000,
  },
  clock: systemClock,
  version: '0',
  fetch: async (_url, init) => {
    const { body } = init ?? {};
    if (body instanceof Uint8Array) bytes += body.length;
    return new Response(null);
  },
  report: () => {},
});
const { spans, takeRecord } = telemetry;
if (!spans || !takeRecord) throw new Error('both are on');

function request(): void {
  const span = OpenSpan.begin(spans!, { traceId: newTraceId(), caller: undefined, now: Date.now() });
  const attempt = span.child();
  for (const [one, kind] of [
    [attempt, 'client'],
    [span, 'server'],
  ] as const)
    one.end({
      name: 'GET',
      kind,
      isError: false,
      attributes: {
        'http.request.method': 'GET',
        'url.scheme': 'https',
        'url.path': '/a/path/of/usual/length',
        'server.address': 'app.example.com',
        'server.port': 443,
        'http.response.status_code': 200,
        'client.address': '203.0.113.7',
        'network.protocol.version': '1.1',
        'user.id': 'anonymous',
        'ohp.proxy': 'prx_0123456789abcdef01234567',
        'ohp.outcome': 'OK',
      },
    });
}

function record(): void {
  takeRecord!({
    time: Date.now(),
    kind: 'access',
    level: 'info',
    component: 'gateway',
    message: 'GET app.example.com/a/path/of/usual/length 200',
    trace_id: '0af7651916cd43dd8448eb211c80319c',
    hostname: 'app.example.com',
    method: 'GET',
    path: '/a/path/of/usual/length',
    status: 200,
    duration_ms: 3,
    bytes_in: 0,
    bytes_out: 1234,
    client_address: '203.0.113.7',
    principal: 'anonymous',
    user_agent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)',
    outcome: 'OK',
    detail: { request: 'proxied', protocol: 'h2', scheme: 'https', proxy: 'prx_0123456789abcdef01234567' },
  });
}

/** Microseconds of this thread: others may have the machine meanwhile. */
const used = (): number => {
  const { user, system } = process.threadCpuUsage();
  return user + system;
};
const timed = (run: () => void): number => {
  const before = used();
  for (let i = 0; i < REQUESTS; i++) run();
  return (used() - before) / REQUESTS;
};
const rounds = { spans: [] as number[], record: [] as number[] };
for (let round = 0; round < ROUNDS; round++) {
  rounds.spans.push(timed(request));
  rounds.record.push(timed(record));
}
const before = used();
await telemetry[Symbol.asyncDispose]();
const written = (used() - before) / (ROUNDS * REQUESTS);
printTable([
  ['for each request', 'µs'],
  ['two spans, taken', median(rounds.spans).toFixed(1)],
  ['one log record, taken', median(rounds.record).toFixed(1)],
  ['both, written for the collector', written.toFixed(1)],
]);
console.log(`${Math.round(bytes / (ROUNDS * REQUESTS))} bytes for each request`);
