import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { catalog } from './catalog.ts';
import { expose, formatFor } from './exposition.ts';
import { family, one } from './family.ts';
import { Histogram } from './histogram.ts';

const requests = family('ohp_http_requests_total', [
  { labels: ['app.example.com', '', 'proxied', 'GET', '2xx'], value: 3 },
]);

test('a metric is told with its meaning, its type and its labels by name', async () => {
  assert.equal(
    await expose([requests, one('ohp_connections_open', 2)], 'text'),
    `# HELP ohp_http_requests_total ${catalog.ohp_http_requests_total.help}
# TYPE ohp_http_requests_total counter
ohp_http_requests_total{host="app.example.com",route="",kind="proxied",method="GET",status="2xx"} 3
# HELP ohp_connections_open ${catalog.ohp_connections_open.help}
# TYPE ohp_connections_open gauge
ohp_connections_open 2
`,
  );
});

test('OpenMetrics: a counter is named without _total, the text ends with EOF', async () => {
  const text = await expose([requests], 'openmetrics');
  assert.match(
    text,
    /^# HELP ohp_http_requests .*\n# TYPE ohp_http_requests counter\nohp_http_requests_total\{/,
  );
  assert.ok(text.endsWith('\n# EOF\n'));
});

test('buckets are added up, and each bound belongs to its bucket', async () => {
  const pause = new Histogram([0.1, 1]);
  for (const seconds of [0.05, 0.1, 0.5, 7]) pause.observe(seconds);
  const told = {
    name: 'nodejs_gc_duration_seconds',
    definition: { type: 'histogram', help: 'x', labels: ['kind'], bounds: [0.1, 1] },
    points: [pause.point(['major'])],
  } as const;
  const lines = (await expose([told], 'openmetrics')).split('\n').slice(2, 7);
  assert.deepEqual(lines, [
    'nodejs_gc_duration_seconds_bucket{kind="major",le="0.1"} 2',
    'nodejs_gc_duration_seconds_bucket{kind="major",le="1.0"} 3',
    'nodejs_gc_duration_seconds_bucket{kind="major",le="+Inf"} 4',
    'nodejs_gc_duration_seconds_sum{kind="major"} 7.65',
    'nodejs_gc_duration_seconds_count{kind="major"} 4',
  ]);
});

test('a trace id stands behind its bucket in OpenMetrics and nowhere in the older format', async () => {
  const times = new Histogram(catalog.ohp_http_request_duration_seconds.bounds);
  times.observeTraced(0.02, '0af7651916cd43dd8448eb211c80319c', 1_700_000_000_123);
  const told = family('ohp_http_request_duration_seconds', [times.point(['a', '', 'proxied'])]);
  const text = await expose([told], 'openmetrics');
  const traced = text.split('\n').filter((line) => line.includes('trace_id'));
  assert.equal(traced.length, 1);
  assert.match(
    traced[0] ?? '',
    /le="0\.025"\} 1 # \{trace_id="0af7651916cd43dd8448eb211c80319c"\} 0\.02 1700000000\.123$/,
  );
  assert.doesNotMatch(await expose([told], 'text'), /trace_id|#.*\}/);
});

test('no label can end its line or its quotes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'grapheme-composite' }), async (name) => {
      const told = family('ohp_certificates', [{ labels: [name], value: 1 }]);
      const [, , line = '', rest] = (await expose([told], 'text')).split('\n');
      assert.equal(rest, '');
      const [, inside = ''] =
        /^ohp_certificates\{source="((?:[^"\\]|\\.)*)"\} 1$/s.exec(line) ?? assert.fail(line);
      const read = inside.replace(/\\(.)/gs, (_, one: string) => (one === 'n' ? '\n' : one));
      assert.equal(read, name);
    }),
  );
});

test('what has no points is not told', async () => {
  assert.equal(await expose([family('ohp_certificates', [])], 'text'), '');
});

test('others get their turn while much is written', async () => {
  const points = Array.from({ length: 5000 }, (_, i) => ({ labels: [`s${i}`], value: i }));
  let turns = 0;
  let isOver = false;
  const count = () => {
    if (isOver) return;
    turns++;
    setImmediate(count);
  };
  setImmediate(count);
  await expose([family('ohp_certificates', points)], 'text');
  isOver = true;
  assert.ok(turns >= 20, `${turns} turns`);
});

for (const [accept, format] of [
  [undefined, 'text'],
  ['*/*', 'text'],
  ['text/plain', 'text'],
  // Prometheus 2.42 and 3.
  [
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
    'openmetrics',
  ],
  [
    'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
    'openmetrics',
  ],
  ['application/openmetrics-text; version=0.0.1', 'text'],
  ['application/openmetrics-text;q=0', 'text'],
  ['application/openmetrics-text;q=0.2,text/plain', 'text'],
  ['application/openmetrics-text;q=x', 'text'],
  ['application/vnd.google.protobuf', 'text'],
] as const)
  test(`asked for ${accept ?? 'nothing'} it is ${format}`, () => {
    assert.equal(formatFor(accept), format);
  });

test('any Accept is answered', () => {
  fc.assert(
    fc.property(fc.string(), (accept) => {
      assert.match(formatFor(accept), /^(?:text|openmetrics)$/);
    }),
  );
});
