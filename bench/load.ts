/** What benchmarks of the gateway stand between: h2load in front of it, and behind it nginx with files of known sizes. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { percentile } from './measure.ts';
import { LOAD_CORE } from './product.ts';

const START_TIMEOUT_MS = 20_000;
const POLL_MS = 50;
const LOAD_TIMEOUT_MS = 120_000;
const SMALL_BYTES = 200;
const MIDDLE_BYTES = 65_536;
const LARGE_BYTES = 10 * 1024 * 1024;
const MICROSECONDS = 1000;

export const pinned = (
  core: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): ChildProcess =>
  spawn('taskset', ['-c', core, command, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...env },
  });

/** The process, when it listens. @throws Error when it does not. */
export async function listening(port: number, child: ChildProcess): Promise<ChildProcess> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline && child.exitCode === null) {
    const socket = connect(port, '127.0.0.1');
    const up = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (up) return child;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`nothing listens on ${port}`);
}

/** nginx with `/small`, `/64k` and `/10m`: cheaper than anything it is put behind. */
export async function startFiles(port: number, directory: string): Promise<ChildProcess> {
  mkdirSync(join(directory, 'files'), { recursive: true });
  writeFileSync(join(directory, 'files/small'), 'x'.repeat(SMALL_BYTES));
  writeFileSync(join(directory, 'files/64k'), 'x'.repeat(MIDDLE_BYTES));
  writeFileSync(join(directory, 'files/10m'), Buffer.alloc(LARGE_BYTES, 'x'));
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log; user root;
events { worker_connections 4096; }
http { access_log off; sendfile on; open_file_cache max=10; keepalive_requests 10000000; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
 server { listen 127.0.0.1:${port}; root ${directory}/files; } }`,
  );
  return listening(port, pinned(LOAD_CORE, 'nginx', ['-p', directory, '-c', join(directory, 'nginx.conf')]));
}

export interface Load {
  port: number;
  hostname: string;
  path: string;
  h1: boolean;
  clients: number;
  requests: number;
  /** Requests per second of each client, for latency; absent: as fast as it goes. */
  ratePerClient?: number;
}

export interface Loaded {
  rps: number;
  failed: number;
  /** Milliseconds. */
  p50: number;
  p99: number;
}

/** Blocks until h2load is done. */
export function loadWith({ port, hostname, path, h1, clients, requests, ratePerClient }: Load): Loaded {
  const folder = mkdtempSync(join(tmpdir(), 'h2load-'));
  const log = join(folder, 'requests.log');
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
      `--requests=${requests}`,
      `--clients=${clients}`,
      '--threads=1',
      `--log-file=${log}`,
      `--connect-to=127.0.0.1:${port}`,
      `https://${hostname}:${port}${path}`,
    ],
    { encoding: 'utf8', timeout: LOAD_TIMEOUT_MS },
  );
  const [, rps = 'NaN'] = /finished in [^,]+, ([\d.]+) req\/s/.exec(stdout) ?? [];
  const [, succeeded = '0'] = /requests: .* (\d+) succeeded/.exec(stdout) ?? [];
  const [, ok = '0'] = /status codes: (\d+) 2xx/.exec(stdout) ?? [];
  const times = existsSync(log) ? timesIn(readFileSync(log, 'utf8')) : [];
  rmSync(folder, { recursive: true });
  return {
    rps: Number(rps),
    failed: requests - Math.min(Number(succeeded), Number(ok)),
    p50: percentile(times, 0.5) / MICROSECONDS,
    p99: percentile(times, 0.99) / MICROSECONDS,
  };
}

/** Microseconds, sorted. */
const timesIn = (log: string): number[] =>
  log
    .trim()
    .split('\n')
    .map((line) => Number(line.split('\t')[2]))
    .sort((a, b) => a - b);
