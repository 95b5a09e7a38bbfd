import assert from 'node:assert/strict';
import test from 'node:test';
import type { EndedRequest, Served } from '../core/meter.ts';
import type { Family } from './family.ts';
import { MAX_REQUEST_SERIES, RequestTallies } from './requests.ts';

const facts = { endedAt: 0, durationMs: 20, bytesIn: 5 };
const asked: EndedRequest = {
  kind: 'proxied',
  match: undefined,
  hostname: 'app.example.com',
  method: 'GET',
  status: 200,
  outcome: 'OK',
  bytesOut: 7,
  traceId: '0af7651916cd43dd8448eb211c80319c',
  isEndless: false,
};
const served = (id: string, hostname: string, route?: string): Served => ({
  proxy: { id, hostname },
  route: route === undefined ? undefined : { id: route },
});

function world() {
  const known = new Set<string>();
  const state = { generation: 0 };
  const tallies = new RequestTallies({
    controlHosts: new Set(['localhost']),
    isKnown: (id) => known.has(id),
    generation: () => state.generation,
  });
  return { tallies, known, state };
}

/** Labels and value of each series, in one line. */
function told(families: readonly Family[], name: string): string[] {
  const found = families.find((one) => one.name === name) ?? assert.fail(name);
  return found.points.map((point) =>
    [...point.labels, 'value' in point ? point.value : point.count].join(' '),
  );
}
const counts = (tallies: RequestTallies) => told(tallies.families(), 'ohp_http_requests_total');

test('a request counts for the proxy and route that served it, by method and class of status', () => {
  const { tallies, known } = world();
  known.add('prx_1').add('rte_1');
  const match = served('prx_1', '*.example.com', 'rte_1');
  for (const status of [200, 204, 404, 0]) tallies.ended({ ...asked, match, status }, facts);
  tallies.ended({ ...asked, match, method: 'PROPFIND' }, facts);
  assert.deepEqual(counts(tallies), [
    '*.example.com rte_1 proxied GET none 1',
    '*.example.com rte_1 proxied GET 2xx 2',
    '*.example.com rte_1 proxied GET 4xx 1',
    '*.example.com rte_1 proxied other 2xx 1',
  ]);
  const families = tallies.families();
  assert.deepEqual(told(families, 'ohp_http_request_duration_seconds'), ['*.example.com rte_1 proxied 5']);
  assert.deepEqual(told(families, 'ohp_http_request_bytes_total'), ['*.example.com rte_1 proxied 25']);
  assert.deepEqual(told(families, 'ohp_http_response_bytes_total'), ['*.example.com rte_1 proxied 35']);
});

test('a name that nobody serves, and what was refused at once, count as other', () => {
  const { tallies } = world();
  for (const hostname of ['a.invalid', 'b.invalid', ''])
    tallies.ended({ ...asked, hostname, kind: undefined }, facts);
  tallies.ended({ ...asked, hostname: 'localhost', kind: 'control' }, facts);
  assert.deepEqual(counts(tallies), ['other  refused GET 2xx 3', 'localhost  control GET 2xx 1']);
});

test('an edit of a proxy goes on with its series; what is deleted has none, also for requests that end later', () => {
  const { tallies, known, state } = world();
  known.add('prx_1');
  const first = served('prx_1', 'app.example.com');
  const edited = served('prx_1', 'app.example.com');
  for (const match of [first, edited]) tallies.ended({ ...asked, match }, facts);
  assert.deepEqual(counts(tallies), ['app.example.com  proxied GET 2xx 2']);
  known.clear();
  state.generation++;
  assert.deepEqual(counts(tallies), []);
  tallies.ended({ ...asked, match: edited }, facts);
  assert.deepEqual(counts(tallies), []);
  tallies.ended({ ...asked, match: served('prx_1', 'app.example.com') }, facts);
  assert.deepEqual(counts(tallies), ['other  proxied GET 2xx 1']);
});

test('there are no more series than are allowed; what is new counts as other until something is deleted', () => {
  const { tallies, known, state } = world();
  for (let i = 0; i < MAX_REQUEST_SERIES + 10; i++) {
    known.add(`prx_${i}`);
    tallies.ended({ ...asked, match: served(`prx_${i}`, `host-${i}.example.com`) }, facts);
  }
  const lines = counts(tallies);
  assert.equal(lines.length, MAX_REQUEST_SERIES + 1);
  assert.equal(lines.at(-1), 'other  proxied GET 2xx 10');
  known.delete('prx_0');
  known.delete('prx_1');
  state.generation++;
  tallies.ended({ ...asked, match: served(`prx_${MAX_REQUEST_SERIES}`, 'late.example.com') }, facts);
  assert.equal(counts(tallies).at(-1), 'late.example.com  proxied GET 2xx 1');
});

test('a tunnel and a standing stream count, and their length does not', () => {
  const { tallies } = world();
  tallies.ended({ ...asked, isEndless: true }, facts);
  assert.equal(counts(tallies).length, 1);
  assert.deepEqual(told(tallies.families(), 'ohp_http_request_duration_seconds'), ['other  proxied 0']);
});

test('errors are counted by their code', () => {
  const { tallies } = world();
  for (const outcome of ['NOT_FOUND', 'NOT_FOUND', 'CANCELLED', 'OK'])
    tallies.ended({ ...asked, outcome }, facts);
  assert.deepEqual(told(tallies.families(), 'ohp_http_errors_total'), ['NOT_FOUND 2', 'CANCELLED 1']);
});
