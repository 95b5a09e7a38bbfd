/**
 * How long from the command to `/readyz`, and what an idle process takes: fresh processes as `npm start` runs them, with
 * the compile cache that its install leaves, on fresh data (a first start) and on the data of an earlier start (a restart).
 * Beside it without any cache, as after an `npm ci` by hand: shown, and not held to the limits.
 *
 *   node tools/run.mjs bench/start.ts [rounds]
 *
 * Prints for each limit whether it is kept; the exit code is 1 when one is not.
 */
import { spawn, spawnSync } from 'node:child_process';
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
  isHeld: boolean;
  cache(): string;
  data(): string;
}

const warmCache = fresh('cache');
const oldData = fresh('data');
const ways: Way[] = [
  { name: 'first start', isHeld: true, cache: () => warmCache, data: () => fresh('data') },
  { name: 'restart', isHeld: true, cache: () => warmCache, data: () => oldData },
  { name: 'without compile cache', isHeld: false, cache: () => fresh('cache'), data: () => fresh('data') },
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

function warm(): void {
  const { status } = spawnSync(process.execPath, [join(root, 'tools/warm.ts')], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: warmCache },
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('tools/warm.ts failed');
}

async function main(): Promise<void> {
  const samples = new Map<Way, Sample[]>(ways.map((way) => [way, []]));
  warm();
  const [first] = ways;
  if (first) await start({ ...first, data: () => oldData }); // Makes the data of the restarts.
  for (let round = 0; round < ROUNDS; round += 1)
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) samples.get(way)?.push(await start(way));
  console.log(
    `Node ${process.versions.node}, ${cpus()[0]?.model}, ${ROUNDS} rounds, load average ${loadavg()[0]?.toFixed(1)}\n`,
  );
  const rows = [...samples].map(([{ name, isHeld }, of]) => {
    const [ready, idle] = [of.map(({ readyMs }) => readyMs), of.map(({ idleMegabytes }) => idleMegabytes)];
    if (isHeld && (median(ready) > MAX_READY_MS || median(idle) > MAX_IDLE_MB)) process.exitCode = 1;
    return [
      name,
      spread(ready),
      isHeld ? verdict(median(ready), MAX_READY_MS) : '–',
      spread(idle),
      isHeld ? verdict(median(idle), MAX_IDLE_MB) : '–',
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
