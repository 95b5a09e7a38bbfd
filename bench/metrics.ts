/**
 * What counting a request costs, and what a scrape of 1,000 hosts costs everybody else: how long it takes, and for how long at
 * most nothing else runs. prom-client does the same work in the same run, by turns: one counter and one
 * histogram with our labels, and no exemplars, which would cost it more.
 * Run: node bench/metrics.ts
 */
import { setImmediate as turn } from 'node:timers/promises';
import client from 'prom-client';
import { ManualClock } from '../src/core/clock.ts';
import type { EndedRequest, Served } from '../src/core/meter.ts';
import { catalog } from '../src/metrics/catalog.ts';
import { MetricsService } from '../src/metrics/service.ts';
import { Tallies } from '../src/metrics/tallies.ts';

const HOSTS = 1000;
const REQUESTS = 500_000;
const ROUNDS = 5;
const SCRAPES = 20;
const NS_PER_US = 1000;
const KIB = 1024;
const WIDTH = 14;
const TRACE = '0af7651916cd43dd8448eb211c80319c';

const served: Served[] = Array.from({ length: HOSTS }, (_, i) => ({
  proxy: { id: `prx_${i}`, hostname: `host-${i}.example.com` },
  route: undefined,
}));
const methods = ['GET', 'GET', 'GET', 'POST'];
const statuses = [200, 200, 304, 404];
const requests: EndedRequest[] = Array.from({ length: HOSTS * methods.length }, (_, i) => ({
  kind: 'proxied',
  match: served[i % HOSTS],
  hostname: `host-${i % HOSTS}.example.com`,
  method: methods[Math.floor(i / HOSTS)] ?? 'GET',
  status: statuses[Math.floor(i / HOSTS)] ?? 200,
  outcome: 'OK',
  bytesOut: 1000,
  traceId: TRACE,
  isEndless: false,
}));
const facts = { endedAt: 1_700_000_000_000, durationMs: 20, bytesIn: 0, told: undefined };

const tallies = new Tallies({
  controlHosts: new Set(),
  isKnown: () => true,
  generation: () => 0,
});
const ours = new MetricsService({ clock: new ManualClock(), sources: { counted: () => tallies.families() } });

const registry = new client.Registry();
const peer = {
  requests: new client.Counter({
    name: 'ohp_http_requests_total',
    help: 'Requests',
    labelNames: ['host', 'route', 'kind', 'method', 'status'],
    registers: [registry],
  }),
  times: new client.Histogram({
    name: 'ohp_http_request_duration_seconds',
    help: 'Durations',
    labelNames: ['host', 'route', 'kind'],
    buckets: [...catalog.ohp_http_request_duration_seconds.bounds],
    registers: [registry],
  }),
};

function countByPeer({ match, method, status }: EndedRequest): void {
  const host = match?.proxy.hostname ?? '';
  peer.requests.inc({ host, route: '', kind: 'proxied', method, status: `${Math.floor(status / 100)}xx` });
  peer.times.observe({ host, route: '', kind: 'proxied' }, 0.02);
}

function nsOf(count: (request: EndedRequest) => void): number {
  const before = process.cpuUsage();
  for (let i = 0; i < REQUESTS; i++) {
    const request = requests[(i * 7919) % requests.length];
    if (request) count(request);
  }
  return (process.cpuUsage(before).user * NS_PER_US) / REQUESTS;
}

/** Milliseconds, and the longest time in which nothing else ran: the best of all, since a busy machine only adds to both. */
async function scrape(write: () => Promise<string>) {
  const times: number[] = [];
  const stalls: number[] = [];
  let size = 0;
  for (let i = 0; i < SCRAPES; i++) {
    await turn();
    let last = performance.now();
    let longest = 0;
    let isOver = false;
    const look = () => {
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
      if (!isOver) setImmediate(look);
    };
    setImmediate(look);
    const began = performance.now();
    size = (await write()).length;
    times.push(performance.now() - began);
    isOver = true;
    stalls.push(Math.max(longest, performance.now() - last));
    await turn();
  }
  return { ms: Math.min(...times), longest: Math.min(...stalls), size };
}

const medianOf = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

const rounds = Array.from({ length: ROUNDS }, () => ({
  ours: nsOf((request) => tallies.ended(request, facts)),
  peer: nsOf(countByPeer),
}));
const text = {
  ours: await scrape(() => ours.text('text')),
  peer: await scrape(() => registry.metrics()),
};
const line = (...cells: string[]) => console.log(cells.map((cell) => cell.padStart(WIDTH)).join(''));
line('', 'ns a request', 'scrape ms', 'longest ms', 'KiB');
for (const who of ['ours', 'peer'] as const) {
  const { ms, longest, size } = text[who];
  const ns = medianOf(rounds.map((round) => round[who]));
  line(
    who === 'peer' ? 'prom-client' : who,
    ns.toFixed(0),
    ms.toFixed(1),
    longest.toFixed(1),
    (size / KIB).toFixed(0),
  );
}
