/**
 * Nanoseconds for one match, and milliseconds for one change, in tables of different sizes: both have to stay flat.
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
const NS_PER_MS = 1e6;

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
  return Array.from({ length: 4096 }, (_, k) => ({
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
  const requests = requestsFor(hosts).map(({ authority, target }) => ({
    hostname: parseAuthority(authority)?.hostname ?? '',
    path: normaliseTarget(target)?.path ?? '',
  }));
  const matchNs = nsPer(MATCHES, (k) => {
    const { hostname, path } = requests[k & 4095] ?? { hostname: '', path: '' };
    return matchRequest(table, hostname, 'GET', path) !== undefined;
  });
  const raw = requestsFor(hosts);
  const wholeNs = nsPer(MATCHES, (k) => {
    const { authority, target } = raw[k & 4095] ?? { authority: '', target: '' };
    const hostname = parseAuthority(authority)?.hostname;
    const path = normaliseTarget(target)?.path;
    return (
      hostname !== undefined && path !== undefined && matchRequest(table, hostname, 'GET', path) !== undefined
    );
  });
  const changeNs = nsPer(CHANGES, (k) => {
    table = applyChange(table, { putRoutes: [{ ...routeOf(k % hosts, 3), version: k }] });
    return true;
  });
  return { hosts, matchNs, wholeNs, changeMs: changeNs / NS_PER_MS, buildMs };
}

/** Median of the rounds. `work` answers whether it did what it should, so that nothing is optimised away. */
function nsPer(count: number, work: (k: number) => boolean): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const started = process.hrtime.bigint();
    for (let k = 0; k < count; k++) if (!work(k)) throw new Error('a request of the benchmark did not match');
    return Number(process.hrtime.bigint() - started) / count;
  });
  return rounds.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
}

console.log('  hosts   match   host+path+match   change     build');
for (const hosts of [10, 1000, 10_000]) {
  const { matchNs, wholeNs, changeMs, buildMs } = measure(hosts);
  console.log(
    `${String(hosts).padStart(7)} ${matchNs.toFixed(0).padStart(5)}ns ${wholeNs.toFixed(0).padStart(15)}ns ` +
      `${changeMs.toFixed(3).padStart(6)}ms ${buildMs.toFixed(0).padStart(7)}ms`,
  );
}
