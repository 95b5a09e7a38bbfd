/**
 * Many hostnames created at once, at a real CA (Pebble): how long until all have its certificate, whether they come in
 * order of demand, and what that does to the latency of a hostname that is served all the while. The product on core 0;
 * CA, load and upstream on core 1, where the upstream is asked without the product too: what that shows is the machine's.
 *
 *   node tools/run.mjs bench/hostnames.ts [hostnames] [requests a second]
 *
 * Needs pebble, pebble-challtestsrv and openssl. Loopback only. The CA's `Retry-After` of seconds is left out: it has
 * nothing to wait for.
 */
import { connect } from 'node:tls';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { loadavg } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { type AcmeFront, startAcmeFront } from '../test/support/acme-front.ts';
import { freePort } from '../test/support/free-port.ts';
import { startPebble, withoutPebble } from '../test/support/pebble.ts';
import { printTable } from './measure.ts';
import { LOAD_CORE, type MeasuredProduct, pin, startProduct } from './product.ts';
import { type Measured, startSteadyLoad } from './steady-load.ts';

const HOSTNAMES = Number(process.argv[2] ?? 1000);
const PER_SECOND = Number(process.argv[3] ?? 100);
const SERVED = 'served.example.org';
const CALLS_AT_ONCE = 8;
const WARM_UP_MS = 5000;
const IDLE_MS = 15_000;
const POLL_MS = 100;
const GIVEN_UP_MS = 200_000;
const MORE_CALLS = 1_000_000;

if (withoutPebble) throw new Error(withoutPebble);
pin(process.pid, LOAD_CORE); // What is started here later inherits the core.
await using stack = new AsyncDisposableStack();

const upstream = createServer((_request, response) => response.end('x'.repeat(200))).listen(0, '127.0.0.1');
await once(upstream, 'listening');
stack.defer(() => void upstream.close());
const { port: upstreamPort } = upstream.address() as AddressInfo;
const targetUrl = `http://127.0.0.1:${upstreamPort}`;

const ports = { httpPort: await freePort(), httpsPort: await freePort() };
const pebble = stack.use(
  await startPebble({
    httpPort: ports.httpPort,
    tlsPort: ports.httpsPort,
    env: { PEBBLE_WFE_NONCEREJECT: '0' },
  }),
);
const front = stack.use(await startAcmeFront(pebble, { isHurried: true }));
const product = stack.use(
  await startProduct(
    {
      acme: { issuers: [{ name: 'pebble', directory: front.directoryUrl, ca_pem: front.trustPem }] },
      mcp: { calls_per_minute: MORE_CALLS, calls_per_minute_per_address: MORE_CALLS },
    },
    ports,
  ),
);

const count = (resource: 'newOrder' | 'certificate') =>
  front.requests.filter((request) => request.resource === resource).length;
const until = async (isDone: () => boolean) => {
  const end = performance.now() + GIVEN_UP_MS;
  while (!isDone() && performance.now() < end) await delay(POLL_MS);
};

await create(SERVED);
await until(() => count('certificate') === 1);
const load = startSteadyLoad({
  perSecond: PER_SECOND,
  hostname: SERVED,
  httpsPort: product.httpsPort,
  upstreamPort,
});
stack.defer(() => load.stop());
await delay(WARM_UP_MS);
await load.next();
await delay(IDLE_MS);
const idle = await load.next();

const names = Array.from({ length: HOSTNAMES }, (_, index) => `host-${index}.example.com`);
const cpuBefore = await product.cpu();
const startedAt = performance.now();
const todo = names.values();
await Promise.all(
  Array.from({ length: CALLS_AT_ONCE }, async () => {
    for (const name of todo) await create(name);
  }),
);
const createdMs = performance.now() - startedAt;
const issuedMeanwhile = count('certificate') - 1;
const creating = await load.next();
// Who asks by hand for the last one is served before all those that nobody asks for.
const urgent = names.at(-1) ?? '';
const before = count('newOrder');
const asked = product.ask('POST', '/v1/certificate-orders', { names: [urgent] });
await until(() => count('certificate') >= HOSTNAMES + 1);
const issuedMs = performance.now() - startedAt;
const issuing = await load.next();
await asked;
const cpu = (await product.cpu()) - cpuBefore;
await delay(IDLE_MS);
const after = await load.next();

const certified = await certifiedAmong(names, product);
const order = orderOf(front);
const line = (what: string, { product: ours, upstream: direct }: Measured) => [
  what,
  String(ours.count),
  String(ours.failed),
  ...[ours.p50, ours.p99, ours.max, direct.p50, direct.p99].map((ms) => ms.toFixed(1)),
];
printTable([
  ['', 'requests', 'failed', 'p50 ms', 'p99 ms', 'max ms', 'upstream alone p50', 'p99'],
  line('idle', idle),
  line('creating', creating),
  line('issuing', issuing),
  line('idle afterwards', after),
]);
console.log(`
${HOSTNAMES} hostnames created in ${(createdMs / 1000).toFixed(1)} s (${issuedMeanwhile} issued meanwhile); all issued after ${(issuedMs / 1000).toFixed(1)} s
${certified} of ${HOSTNAMES} are served with a certificate of the CA; ${count('newOrder') - 1} orders
CPU of the product ${(cpu / 1000 / HOSTNAMES).toFixed(1)} ms a hostname, ${((cpu / 1000 / issuedMs) * 100).toFixed(0)} % of a core, the load's included
order of demand: at most ${displacement(order)} places from the order of creation; the last one, asked for by hand, was number ${order.indexOf(urgent) + 1 - (before - 1)} from then on
load average ${loadavg()
  .map((each) => each.toFixed(1))
  .join(' ')}`);

function create(hostname: string): Promise<string> {
  return product.ask('POST', '/v1/proxies', { hostname, target_url: targetUrl });
}

function orderOf({ requests }: AcmeFront): string[] {
  return requests
    .filter(({ resource }) => resource === 'newOrder')
    .map(({ payload }) => String(payload.identifiers[0].value))
    .slice(1);
}

/** How far any hostname is from its place, the one that was asked for by hand left out. */
function displacement(order: readonly string[]): number {
  const others = order.filter((name) => name !== urgent);
  return Math.max(...others.map((name, place) => Math.abs(place - names.indexOf(name))));
}

async function certifiedAmong(hostnames: readonly string[], { httpsPort }: MeasuredProduct): Promise<number> {
  let found = 0;
  for (const servername of hostnames) {
    const socket = connect({ host: '127.0.0.1', port: httpsPort, servername, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    if (/Pebble/.test(socket.getPeerX509Certificate()?.issuer ?? '')) found += 1;
    socket.destroy();
  }
  return found;
}
