/**
 * The gateway beside nginx and Caddy, in the same run: alternating order, fresh processes each round, access logs on.
 * Core 0 has the proxy with all its processes and threads (of ours the log's writer too) and nothing else; core 1 has
 * the load generator and the upstream. Prints CPU µs per completed request of the whole process tree (what the log
 * still has to write when the load ends is counted), its ratio to each peer, throughput and p99.
 *
 *   node tools/run.mjs bench/gateway.ts [rounds] [divisor of the numbers of requests, for a smoke run]
 *   node tools/run.mjs bench/gateway.ts [rounds] [divisor] targets     ours with one target beside ours with several
 *
 * Needs nginx, caddy, h2load and openssl. Loopback only; five rounds take about ten minutes.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { makeCertificate } from './certificate.ts';
import { listening, type Load, loadWith, pinned, startFiles } from './load.ts';
import { cpuMicroseconds, median, percentile, printTable, residentMegabytes, spread } from './measure.ts';
import { freePort } from '../test/support/free-port.ts';
import { LOAD_CORE, MEASURED_CORE, pin, startProduct } from './product.ts';

const DEFAULT_ROUNDS = 5;
const ROUNDS = Number(process.argv[2] ?? DEFAULT_ROUNDS);
const DIVISOR = Number(process.argv[3] ?? 1);
const IS_OF_TARGETS = process.argv[4] === 'targets';
const CLIENTS = 32;
const WARM_UP_REQUESTS = 8000;
const HOST = 'app.example.com';
const HANDSHAKES_AT_ONCE = 8;
const root = mkdtempSync(join(tmpdir(), 'ohp-bench-'));

interface Scenario extends Pick<Load, 'path' | 'h1' | 'ratePerClient'> {
  name: string;
  requests: number;
  /** A full handshake for each request, on a connection of its own. */
  handshakes?: boolean;
}
const PACED_RPS = 2000;
const scenarios: Scenario[] = [
  { name: 'TLS h1 small', path: '/small', requests: 30_000, h1: true },
  { name: 'TLS h2 small', path: '/small', requests: 30_000, h1: false },
  { name: 'TLS h1 64 KB', path: '/64k', requests: 6000, h1: true },
  { name: 'TLS h1 10 MB', path: '/10m', requests: 100, h1: true },
  { name: 'full TLS handshakes', path: '/small', requests: 2000, h1: true, handshakes: true },
  {
    name: `TLS h1 small at ${PACED_RPS} rps`,
    path: '/small',
    requests: 8000,
    h1: true,
    ratePerClient: PACED_RPS / CLIENTS,
  },
];

interface Running extends AsyncDisposable {
  /** Of the whole tree. */
  readonly pid: number;
  readonly port: number;
  /** Resolves when nothing is left to do of what was asked; how many records were lost. */
  settle(): Promise<number>;
}

interface Proxy {
  name: string;
  start(upstream: number): Promise<Running>;
}

interface Result {
  cpu: number;
  rps: number;
  p99: number;
  failed: number;
  megabytes: number;
}

const certificate = makeCertificate(root, HOST);

const nginx: Proxy = {
  name: 'nginx',
  async start(upstream) {
    const https = await freePort();
    const directory = mkdtempSync(join(root, 'nginx-'));
    const configuration = `daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  access_log ${directory}/access.log; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
  keepalive_requests 1000000;
  upstream u { server 127.0.0.1:${upstream}; keepalive 64; keepalive_requests 1000000; }
  server { listen 127.0.0.1:${https} ssl http2; server_name ${HOST}; ssl_certificate ${certificate.cert}; ssl_certificate_key ${certificate.key};
    location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; } }
}`;
    writeFileSync(join(directory, 'nginx.conf'), configuration);
    return runningAt(
      https,
      pinned(MEASURED_CORE, 'nginx', ['-p', directory, '-c', join(directory, 'nginx.conf')]),
    );
  },
};

const caddy: Proxy = {
  name: 'Caddy',
  async start(upstream) {
    const [http, https] = [await freePort(), await freePort()];
    const directory = mkdtempSync(join(root, 'caddy-'));
    writeFileSync(
      join(directory, 'Caddyfile'),
      `{\n admin off\n log {\n  level ERROR\n }\n http_port ${http}\n https_port ${https}\n skip_install_trust\n auto_https disable_redirects\n servers {\n  protocols h1 h2\n }\n}\nhttps://${HOST}:${https} {\n bind 127.0.0.1\n tls ${certificate.cert} ${certificate.key}\n log {\n  output file ${directory}/access.log\n }\n reverse_proxy 127.0.0.1:${upstream} {\n  transport http {\n   keepalive_idle_conns_per_host 64\n  }\n }\n}\n`,
    );
    return runningAt(
      https,
      pinned(
        MEASURED_CORE,
        'caddy',
        ['run', '--config', join(directory, 'Caddyfile'), '--adapter', 'caddyfile'],
        { GOMAXPROCS: '1', XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory, HOME: directory },
      ),
    );
  },
};

/** Room for every record, so that none is saved the work by being dropped. */
const QUEUE_RECORDS = 1_000_000;

const oursWith = (name: string, load_balancing: (upstream: number) => object | undefined): Proxy => ({
  name,
  async start(upstream) {
    const product = await startProduct({ log: { queue_records: QUEUE_RECORDS } });
    await product.ask('POST', '/v1/proxies', {
      hostname: HOST,
      target_url: `http://127.0.0.1:${upstream}`,
      load_balancing: load_balancing(upstream),
    });
    return { ...product, port: product.httpsPort };
  },
});
const ours = oursWith('ours', () => undefined);
/** The same server by two names. */
const targets = (upstream: number) => [{ url: `http://localhost:${upstream}` }];
const balanced = oursWith('two targets', (upstream) => ({ targets: targets(upstream) }));
const sticky = oursWith('two, sticky', (upstream) => ({ targets: targets(upstream), sticky: {} }));

async function runningAt(port: number, child: ChildProcess): Promise<Running> {
  await listening(port, child);
  return {
    pid: child.pid ?? 0,
    port,
    settle: () => Promise.resolve(0),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

/** As many at once as there are clients; the session of one connection is never offered on another. */
async function shakeHands(
  port: number,
  count: number,
): Promise<{ rps: number; failed: number; p99: number }> {
  const times: number[] = [];
  let left = count;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: HANDSHAKES_AT_ONCE }, async () => {
      while (left-- > 0) {
        const begun = performance.now();
        const socket = connectTls({ port, host: '127.0.0.1', servername: HOST, rejectUnauthorized: false });
        if (
          await once(socket, 'secureConnect').then(
            () => true,
            () => false,
          )
        )
          times.push(performance.now() - begun);
        socket.destroy();
      }
    }),
  );
  const rps = (times.length * 1000) / (performance.now() - started);
  const p99 = percentile(
    times.sort((a, b) => a - b),
    0.99,
  );
  return { rps, failed: count - times.length, p99 };
}

async function measure(proxy: Proxy, scenario: Scenario, upstream: number): Promise<Result> {
  await using running = await proxy.start(upstream);
  const { pid, port } = running;
  const { ratePerClient: _rate, ...flatOut } = scenario;
  // At least one for each client.
  const requests = Math.max(CLIENTS, Math.ceil(scenario.requests / DIVISOR));
  const run = (as: Scenario, count: number) =>
    as.handshakes
      ? shakeHands(port, count)
      : loadWith({ ...as, port, hostname: HOST, clients: CLIENTS, requests: count });
  await run(flatOut, Math.min(WARM_UP_REQUESTS, requests));
  await running.settle();
  const before = cpuMicroseconds(pid);
  const { rps, failed, p99 } = await run(scenario, requests);
  const lost = await running.settle();
  if (lost > 0) process.stderr.write(`${proxy.name}, ${scenario.name}: ${lost} records were lost\n`);
  const cpu = (cpuMicroseconds(pid) - before) / (requests - failed);
  return { cpu, rps, failed, p99, megabytes: residentMegabytes(pid) };
}

async function main(): Promise<void> {
  pin(process.pid, LOAD_CORE);
  const started = performance.now();
  const upstreamPort = await freePort();
  const upstream = await startFiles(upstreamPort, join(root, 'upstream'));
  const proxies = IS_OF_TARGETS ? [ours, balanced, sticky] : [ours, nginx, caddy];
  const measured = IS_OF_TARGETS ? scenarios.slice(0, 2) : scenarios;
  const rows: string[][] = [
    ['scenario', 'proxy', 'CPU µs/request', 'ours ÷ peer', 'req/s', 'p99 ms', 'RSS MB', 'failed'],
  ];
  try {
    for (const scenario of measured) {
      const results = new Map<string, Result[]>(proxies.map(({ name }) => [name, []]));
      for (let round = 0; round < ROUNDS; round++) {
        const order = round % 2 === 0 ? proxies : [...proxies].reverse();
        for (const proxy of order)
          results.get(proxy.name)?.push(await measure(proxy, scenario, upstreamPort));
      }
      const ourCpu = (results.get('ours') ?? []).map(({ cpu }) => cpu);
      for (const [name, runs] of results) rows.push(rowOf(scenario, name, runs, ourCpu));
    }
  } finally {
    upstream.kill('SIGTERM');
    await once(upstream, 'exit');
    rmSync(root, { recursive: true, force: true });
  }
  const minutes = ((performance.now() - started) / 60_000).toFixed(0);
  console.log(
    `Node ${process.versions.node}, ${cpus()[0]?.model}, ${ROUNDS} rounds in ${minutes} min, load average ${loadavg()[0]?.toFixed(1)}.`,
    `Core ${MEASURED_CORE}: the proxy, all its processes and threads; core ${LOAD_CORE}: load generator and upstream.\n`,
  );
  printTable(rows);
}

function rowOf({ name: scenario }: Scenario, name: string, runs: Result[], ourCpu: number[]): string[] {
  const pick = (key: keyof Result) => runs.map((run) => run[key]);
  const ratios = ourCpu.map((cpu, round) => cpu / (runs[round]?.cpu ?? Number.NaN));
  return [
    scenario,
    name,
    spread(pick('cpu')),
    name === 'ours' ? '' : spread(ratios, 2),
    spread(pick('rps')),
    spread(pick('p99'), 1),
    median(pick('megabytes')).toFixed(0),
    String(pick('failed').reduce((sum, count) => sum + count, 0)),
  ];
}

await main();
