/**
 * The gateway beside nginx and Caddy, in the same run: alternating order, fresh processes each round, access logs on,
 * the proxy pinned to core 0, load generator and upstream to core 1. Prints CPU µs per completed request of the whole
 * process tree, its ratio to each peer, throughput and p99 at a fixed rate.
 *
 *   node tools/run.mjs bench/gateway.ts [rounds]
 *
 * Needs nginx, caddy, h2load and openssl. Loopback only; bounded by requests and time.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuMicroseconds, median, percentile, printTable, residentMegabytes, spread } from './measure.ts';

const ROUNDS = Number(process.argv[2] ?? 5);
const PROXY_CORE = '0';
const LOAD_CORE = '1';
const CLIENTS = 32;
const WARM_UP_REQUESTS = 8000;
const HOST = 'app.example.com';
const SMALL_BYTES = 200;
const START_TIMEOUT_MS = 20_000;
const root = mkdtempSync(join(tmpdir(), 'ohp-bench-'));

interface Scenario {
  name: string;
  path: string;
  requests: number;
  h1: boolean;
  /** Requests per second of each client, for latency; absent: as fast as it goes. */
  ratePerClient?: number;
}
const scenarios: Scenario[] = [
  { name: 'TLS h1 small', path: '/small', requests: 30_000, h1: true },
  { name: 'TLS h2 small', path: '/small', requests: 30_000, h1: false },
  { name: 'TLS h1 64 KB', path: '/64k', requests: 6000, h1: true },
  {
    name: 'TLS h1 small at 2,000 rps',
    path: '/small',
    requests: 8000,
    h1: true,
    ratePerClient: 2000 / CLIENTS,
  },
];

interface Proxy {
  name: string;
  start(ports: {
    http: number;
    https: number;
    upstream: number;
  }): Promise<{ child: ChildProcess; rootPid: number }>;
}

interface Result {
  cpu: number;
  rps: number;
  p99: number;
  failed: number;
  megabytes: number;
}

const certificate = makeCertificate();

function makeCertificate(): { cert: string; key: string } {
  const [cert, key] = [join(root, 'cert.pem'), join(root, 'key.pem')];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '30',
      '-subj',
      `/CN=${HOST}`,
      '-addext',
      `subjectAltName=DNS:${HOST}`,
    ],
    { stdio: 'ignore' },
  );
  return { cert, key };
}

const pinned = (core: string, command: string, args: string[], env: Record<string, string> = {}) =>
  spawn('taskset', ['-c', core, command, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...env },
  });

const nginx: Proxy = {
  name: 'nginx',
  async start({ https, upstream }) {
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
    return listening(
      https,
      pinned(PROXY_CORE, 'nginx', ['-p', directory, '-c', join(directory, 'nginx.conf')]),
    );
  },
};

const caddy: Proxy = {
  name: 'Caddy',
  async start({ http, https, upstream }) {
    const directory = mkdtempSync(join(root, 'caddy-'));
    writeFileSync(
      join(directory, 'Caddyfile'),
      `{\n admin off\n http_port ${http}\n https_port ${https}\n skip_install_trust\n auto_https disable_redirects\n servers {\n  protocols h1 h2\n }\n}\nhttps://${HOST}:${https} {\n bind 127.0.0.1\n tls ${certificate.cert} ${certificate.key}\n log {\n  output file ${directory}/access.log\n }\n reverse_proxy 127.0.0.1:${upstream} {\n  transport http {\n   keepalive_idle_conns_per_host 64\n  }\n }\n}\n`,
    );
    return listening(
      https,
      pinned(
        PROXY_CORE,
        'caddy',
        ['run', '--config', join(directory, 'Caddyfile'), '--adapter', 'caddyfile'],
        { GOMAXPROCS: '1', XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory, HOME: directory },
      ),
    );
  },
};

const ours: Proxy = {
  name: 'ours',
  async start({ http, https, upstream }) {
    const token = 'administrator-token-of-the-benchmark-0123456789';
    const child = pinned(
      PROXY_CORE,
      process.execPath,
      ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../src/main.ts')],
      {
        OHP_DATA_DIR: mkdtempSync(join(root, 'ours-')),
        OHP_HTTP_PORT: String(http),
        OHP_HTTPS_PORT: String(https),
        OHP_ADMIN_TOKEN: token,
      },
    );
    const started = await listening(https, child);
    const response = await fetch(`http://localhost:${http}/v1/proxies`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ hostname: HOST, target_url: `http://127.0.0.1:${upstream}` }),
    });
    if (!response.ok) throw new Error(`create_proxy: ${response.status} ${await response.text()}`);
    return started;
  },
};

async function listening(
  port: number,
  child: ChildProcess,
): Promise<{ child: ChildProcess; rootPid: number }> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline && child.exitCode === null) {
    const socket = connect(port, '127.0.0.1');
    const up = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (up) return { child, rootPid: child.pid ?? 0 };
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on ${port}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** nginx with static files: cheaper than anything it is put behind. */
async function startUpstream(port: number): Promise<ChildProcess> {
  const directory = join(root, 'upstream');
  mkdirSync(join(directory, 'files'), { recursive: true });
  writeFileSync(join(directory, 'files/small'), 'x'.repeat(SMALL_BYTES));
  writeFileSync(join(directory, 'files/64k'), 'x'.repeat(65_536));
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log; user root;
events { worker_connections 4096; }
http { access_log off; sendfile on; open_file_cache max=10; keepalive_requests 10000000; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
 server { listen 127.0.0.1:${port}; root ${directory}/files; } }`,
  );
  return (
    await listening(port, pinned(LOAD_CORE, 'nginx', ['-p', directory, '-c', join(directory, 'nginx.conf')]))
  ).child;
}

function load(
  port: number,
  { path, h1, ratePerClient }: Scenario,
  requests: number,
): { rps: number; failed: number; p99: number } {
  const log = join(root, 'requests.log');
  rmSync(log, { force: true });
  const streams = h1 ? ['--h1'] : ['-m', '4'];
  const rate = ratePerClient === undefined ? [] : [`--rps=${ratePerClient}`];
  const { stdout } = spawnSync(
    'taskset',
    [
      '-c',
      LOAD_CORE,
      'h2load',
      ...streams,
      ...rate,
      '-n',
      String(requests),
      '-c',
      String(CLIENTS),
      '-t',
      '1',
      `--log-file=${log}`,
      `--connect-to=127.0.0.1:${port}`,
      `https://${HOST}:${port}${path}`,
    ],
    { encoding: 'utf8', timeout: 120_000 },
  );
  const [, rps = 'NaN'] = /finished in [^,]+, ([\d.]+) req\/s/.exec(stdout) ?? [];
  const [, succeeded = '0'] = /requests: .* (\d+) succeeded/.exec(stdout) ?? [];
  const [, ok = '0'] = /status codes: (\d+) 2xx/.exec(stdout) ?? [];
  const times = existsSync(log)
    ? readFileSync(log, 'utf8')
        .trim()
        .split('\n')
        .map((line) => Number(line.split('\t')[2]))
    : [];
  return {
    rps: Number(rps),
    failed: requests - Math.min(Number(succeeded), Number(ok)),
    p99:
      percentile(
        times.sort((a, b) => a - b),
        0.99,
      ) / 1000,
  };
}

async function measure(proxy: Proxy, scenario: Scenario, upstream: number): Promise<Result> {
  const [http, https] = [await freePort(), await freePort()];
  const { child, rootPid } = await proxy.start({ http, https, upstream });
  try {
    const { ratePerClient: _rate, ...flatOut } = scenario;
    load(https, flatOut, Math.min(WARM_UP_REQUESTS, scenario.requests));
    const before = cpuMicroseconds(rootPid);
    const { rps, failed, p99 } = load(https, scenario, scenario.requests);
    const cpu = (cpuMicroseconds(rootPid) - before) / (scenario.requests - failed);
    return { cpu, rps, failed, p99, megabytes: residentMegabytes(rootPid) };
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

async function main(): Promise<void> {
  const upstreamPort = await freePort();
  const upstream = await startUpstream(upstreamPort);
  const proxies = [ours, nginx, caddy];
  const rows: string[][] = [
    ['scenario', 'proxy', 'CPU µs/request', 'ours ÷ peer', 'req/s', 'p99 ms', 'RSS MB', 'failed'],
  ];
  try {
    for (const scenario of scenarios) {
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
