/**
 * How long from the command to `/readyz`, and what an idle process takes: fresh processes on fresh data, as `npm start`
 * runs them, alternating between a compile cache from an earlier start and an empty one, as the first start after an
 * install has. Beside it a start on the data of an earlier one, which is what a restart is.
 *
 *   node tools/run.mjs bench/start.ts [rounds]
 *
 * Prints for each limit whether it is kept; the exit code is 1 when one is not.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { median, printTable, residentMegabytes, spread } from './measure.ts';
import { freePort } from '../test/support/free-port.ts';
import { ADMINISTRATOR, whenReady } from './product.ts';

const DEFAULT_ROUNDS = 5;
const ROUNDS = Number(process.argv[2] ?? DEFAULT_ROUNDS);
const IDLE_MS = 5000;
const MAX_READY_MS = 2000;
const MAX_IDLE_MB = 150;

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'ohp-bench-'));
const fresh = (name: string): string => mkdtempSync(join(folder, `${name}-`));

interface Way {
  name: string;
  cache(): string;
  data(): string;
}

const warmCache = fresh('cache');
const oldData = fresh('data');
const ways: Way[] = [
  { name: 'first start, with compile cache', cache: () => warmCache, data: () => fresh('data') },
  { name: 'first start, without', cache: () => fresh('cache'), data: () => fresh('data') },
  { name: 'restart, with compile cache', cache: () => warmCache, data: () => oldData },
];

interface Sample {
  readyMs: number;
  idleMegabytes: number;
}

async function start(way: Way): Promise<Sample> {
  const [httpPort, httpsPort] = [await freePort(), await freePort()];
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: way.cache(),
    OHP_DATA_DIR: way.data(),
    OHP_HTTP_PORT: String(httpPort),
    OHP_HTTPS_PORT: String(httpsPort),
    OHP_ADMIN_TOKEN: ADMINISTRATOR,
  };
  const started = performance.now();
  // It becomes the other program on a Node that is new enough, so that the pid is the product's own.
  const child = spawn(process.execPath, [join(root, 'tools/run.mjs'), 'src/main.ts'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said = text(child.stderr);
  try {
    await whenReady(httpPort, () => child.exitCode === null && child.signalCode === null);
    const readyMs = performance.now() - started;
    await delay(IDLE_MS);
    return { readyMs, idleMegabytes: residentMegabytes(child.pid ?? 0) };
  } catch (cause) {
    child.kill('SIGKILL');
    throw new Error(await said, { cause });
  } finally {
    // Politely, because it writes its compile cache at its end.
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
}

const verdict = (figure: number, limit: number): string => `≤ ${limit}: ${figure <= limit ? 'pass' : 'FAIL'}`;

async function main(): Promise<void> {
  const samples = new Map<string, Sample[]>(ways.map(({ name }) => [name, []]));
  const [first] = ways;
  if (first) await start({ ...first, data: () => oldData }); // Fills the cache and makes the data of the restarts.
  for (let round = 0; round < ROUNDS; round += 1)
    for (const way of round % 2 === 0 ? ways : ways.toReversed())
      samples.get(way.name)?.push(await start(way));
  console.log(
    `Node ${process.versions.node}, ${cpus()[0]?.model}, ${ROUNDS} rounds, load average ${loadavg()[0]?.toFixed(1)}\n`,
  );
  const rows = [...samples].map(([name, of]) => {
    const [ready, idle] = [of.map(({ readyMs }) => readyMs), of.map(({ idleMegabytes }) => idleMegabytes)];
    if (median(ready) > MAX_READY_MS || median(idle) > MAX_IDLE_MB) process.exitCode = 1;
    return [
      name,
      spread(ready),
      verdict(median(ready), MAX_READY_MS),
      spread(idle),
      verdict(median(idle), MAX_IDLE_MB),
    ];
  });
  printTable([
    ['median (spread)', 'ready, ms', 'limit', `RSS after ${IDLE_MS / 1000} s, MB`, 'limit'],
    ...rows,
  ]);
}

try {
  await main();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
