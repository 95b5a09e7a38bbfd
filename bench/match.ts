/**
 * What one match and one change cost in tables of different sizes: both have to stay flat. Beside it, in the same run, a
 * look-up in a plain map: what grows there grows because memory is slower than the cache. `one host` asks for the same
 * host each time, `all hosts` for thousands in turn.
 * Run: node bench/match.ts
 */
import { type Proxy, proxySchema } from '../src/proxies/schema.ts';
import { applyChange, createTable, matchRequest } from '../src/routes/match.ts';
import { normaliseTarget, parseAuthority } from '../src/routes/normalise.ts';
import { type Route, routeSchema } from '../src/routes/schema.ts';

const ROUTES_PER_HOST = 10;
const MATCHES = 1_000_000;
const CHANGES = 200;
const ROUNDS = 5;
const NS_PER_US = 1000;
const WIDTH = 14;
/** Requests are prepared ahead; a power of two. */
const REQUESTS = 4096;
const MASK = REQUESTS - 1;

const time = '2026-01-01T00:00:00.000Z';
const facts = { owner: 'tok_bench', version: 1, created_at: time, updated_at: time };
const hostnameOf = (i: number) => `host-${i}.example.com`;

const plainProxy = proxySchema.parse({
  ...facts,
  id: 'prx_0',
  hostname: hostnameOf(0),
  target_url: 'http://localhost:3000',
});
const plainRoute = routeSchema.parse({
  ...facts,
  id: 'rte_0',
  hostname: hostnameOf(0),
  path: '/',
  target_url: 'http://localhost:4000',
});

const proxyOf = (i: number): Proxy => ({ ...plainProxy, id: `prx_${i}`, hostname: hostnameOf(i) });
const routeOf = (i: number, j: number): Route => ({
  ...plainRoute,
  id: `rte_${i}_${j}`,
  hostname: hostnameOf(i),
  path: `/service-${j}/v1`,
});

/** Every fourth request names a path that no route covers: the dearest case. */
function requestsFor(hosts: number) {
  return Array.from({ length: REQUESTS }, (_, k) => ({
    authority: hostnameOf((k * 7919) % hosts),
    target: k % 4 === 0 ? '/unknown/path?x=1' : `/service-${k % ROUTES_PER_HOST}/v1/items/42?x=1`,
  }));
}

function measure(hosts: number) {
  const proxies = Array.from({ length: hosts }, (_, i) => proxyOf(i));
  const routes = proxies.flatMap((_, i) => Array.from({ length: ROUTES_PER_HOST }, (_, j) => routeOf(i, j)));
  const built = performance.now();
  let table = createTable(proxies, routes);
  const buildMs = performance.now() - built;
  const map = new Map(proxies.map((proxy) => [proxy.hostname, proxy]));
  const raw = requestsFor(hosts);
  const requests = raw.map(({ authority, target }) => ({
    hostname: parseAuthority(authority)?.hostname ?? '',
    path: normaliseTarget(target)?.path ?? '',
  }));
  const matches = (hostname = '', path = '') => matchRequest(table, hostname, 'GET', path) !== undefined;
  const [first] = requests;
  return {
    mapNs: nsPer(MATCHES, (k) => map.get(requests[k & MASK]?.hostname ?? '')?.enabled === true),
    oneNs: nsPer(MATCHES, () => matches(first?.hostname, first?.path)),
    matchNs: nsPer(MATCHES, (k) => matches(requests[k & MASK]?.hostname, requests[k & MASK]?.path)),
    wholeNs: nsPer(MATCHES, (k) => {
      const { authority, target } = raw[k & MASK] ?? { authority: '', target: '' };
      return matches(parseAuthority(authority)?.hostname, normaliseTarget(target)?.path);
    }),
    changeNs: nsPer(CHANGES, (k) => {
      table = applyChange(table, { putRoutes: [{ ...routeOf(k % hosts, 3), version: k }] });
      return true;
    }),
    buildMs,
  };
}

/**
 * Processor time, because a shared machine's clock says more about its other users; the median of the rounds. `work`
 * answers whether it did what it should, so that nothing is optimised away.
 */
function nsPer(count: number, work: (k: number) => boolean): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const started = process.cpuUsage();
    for (let k = 0; k < count; k++) if (!work(k)) throw new Error('a request of the benchmark did not match');
    return (process.cpuUsage(started).user * NS_PER_US) / count;
  });
  return rounds.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
}

const columns = ['hosts', 'plain map', 'one host', 'all hosts', 'with parsing', 'change', 'build'];
const print = (cells: string[]) => console.log(cells.map((cell) => cell.padStart(WIDTH)).join(''));

print(columns);
for (const hosts of [10, 1000, 10_000]) {
  const { mapNs, oneNs, matchNs, wholeNs, changeNs, buildMs } = measure(hosts);
  const times = [mapNs, oneNs, matchNs, wholeNs].map((ns) => `${ns.toFixed(0)} ns`);
  print([String(hosts), ...times, `${(changeNs / NS_PER_US).toFixed(0)} us`, `${buildMs.toFixed(0)} ms`]);
}
