/** The product as a process of its own, started for measuring: pinned, on free ports, with fresh data. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../test/support/free-port.ts';
import type { Memory } from './probe.ts';

/** What is measured runs here, the log's threads included; load generators and upstreams on the other one. */
export const MEASURED_CORE = '0';
export const LOAD_CORE = '1';
export const ADMINISTRATOR = 'administrator-token-of-the-benchmark-0123456789';

const START_TIMEOUT_MS = 20_000;
const POLL_MS = 5;
/** A question that took less was not kept waiting to its limit. */
const CAUGHT_UP_MS = 900;
const root = join(import.meta.dirname, '..');

/** A process that answers `probe.ts`'s questions. */
export interface Measured extends AsyncDisposable {
  readonly pid: number;
  /** Microseconds so far, of every thread. */
  cpu(): Promise<number>;
  memory(): Promise<Memory>;
}

export interface MeasuredProduct extends Measured {
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly dataDir: string;
  /** A call of REST as the administrator; the body of the answer as text. @throws Error when it is refused. */
  ask(method: string, path: string, body?: object): Promise<string>;
  /** Resolves when every record made so far is in its file; how many were lost since the start. */
  settle(): Promise<number>;
}

/** Threads that it starts later inherit the core. */
export function pin(pid: number, core: string): void {
  const { status } = spawnSync('taskset', ['-a', '-p', '-c', core, String(pid)]);
  if (status !== 0)
    process.stderr.write('taskset is not there: what is measured and its load share the cores\n');
}

export function startMeasured(script: string, args: string[], env: Record<string, string>): ChildProcess {
  const child = fork(join(root, script), args, {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    execArgv: ['--no-warnings', '--expose-gc', `--import=${join(import.meta.dirname, 'probe.ts')}`],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  pin(child.pid ?? 0, MEASURED_CORE);
  return child;
}

export function measuredOf(child: ChildProcess): Measured {
  const ask = async <Answer>(question: 'cpu' | 'memory'): Promise<Answer> => {
    child.send(question);
    const [answer] = (await once(child, 'message')) as [Answer];
    return answer;
  };
  return {
    pid: child.pid ?? 0,
    async cpu() {
      const { user, system } = await ask<NodeJS.CpuUsage>('cpu');
      return user + system;
    },
    memory: () => ask<Memory>('memory'),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL'); // Nothing of it is kept.
      await once(child, 'exit');
    },
  };
}

/** `settings` as in the settings file. Ready when it says so itself. */
export async function startProduct(
  settings: object = {},
  ports?: Pick<MeasuredProduct, 'httpPort' | 'httpsPort'>,
): Promise<MeasuredProduct> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-bench-'));
  const config = join(folder, 'config.yaml');
  writeFileSync(config, JSON.stringify(settings)); // JSON is YAML.
  const { httpPort, httpsPort } = ports ?? { httpPort: await freePort(), httpsPort: await freePort() };
  const child = startMeasured('src/main.ts', [], {
    OHP_CONFIG: config,
    OHP_DATA_DIR: join(folder, 'data'),
    OHP_HTTP_PORT: String(httpPort),
    OHP_HTTPS_PORT: String(httpsPort),
    OHP_ADMIN_TOKEN: ADMINISTRATOR,
  });
  const measured = measuredOf(child);
  await whenReady(httpPort, () => child.exitCode === null && child.signalCode === null);
  const ask: MeasuredProduct['ask'] = (...call) => askRest(httpPort, ...call);
  return {
    ...measured,
    httpPort,
    httpsPort,
    dataDir: join(folder, 'data'),
    ask,
    settle: () => settle(ask),
    async [Symbol.asyncDispose]() {
      await measured[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function askRest(httpPort: number, method: string, path: string, body?: object): Promise<string> {
  const response = await fetch(`http://localhost:${httpPort}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${ADMINISTRATOR}`,
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text;
}

/** A question to the log waits for what was written before, up to a second; health says what was dropped. */
async function settle(ask: MeasuredProduct['ask']): Promise<number> {
  for (let isCaughtUp = false; !isCaughtUp; ) {
    const asked = performance.now();
    await ask('GET', '/v1/logs?lines=1&kind=all');
    isCaughtUp = performance.now() - asked < CAUGHT_UP_MS;
  }
  return Number(/(\d+) records lost/.exec(await ask('GET', '/v1/health'))?.[1] ?? Number.NaN);
}

/** Resolves when `/readyz` answers 200. */
export async function whenReady(httpPort: number, isAlive: () => boolean): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await isReady(httpPort))) {
    if (!isAlive() || performance.now() > deadline) throw new Error('the product did not become ready');
    await delay(POLL_MS);
  }
}

function isReady(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ port, host: '127.0.0.1', path: '/readyz', headers: { host: `localhost:${port}` } });
    request.on('response', (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('error', () => resolve(false)); // Nothing listens yet.
  });
}
