/**
 * How long requests go to a dead address while containers start and stop: services on a real Docker Engine, ended and
 * started by the engine's own API, with traffic to all of them. `node tools/run.mjs bench/services.ts [services] [seconds]`
 */
import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { configFile, generous } from '../test/support/callers.ts';
import { IMAGE, startDocker } from '../test/support/docker.ts';
import { startProduct } from '../test/support/product.ts';
import { cpuMicroseconds, percentile } from './measure.ts';

const SERVICES = Number(process.argv[2] ?? 100);
const SECONDS = Number(process.argv[3] ?? 60);
const CREATING = 8;
const CHURNING = 4;
const ASKING = 8;
const MAX_DOWN_MS = 600;
const PATIENCE_MS = 5000;
const POLL_MS = 5;
const AWAY = 503;
const serving = 'echo "$NAME" > /tmp/index.html; exec httpd -f -p 8080 -h /tmp';

const names = Array.from({ length: SERVICES }, (_, i) => `service-${i}`);
const hostOf = (name: string): string => `${name}.example.com`;

await using docker = await startDocker();
await docker.addImage(IMAGE);
await using product = await startProduct({
  env: {
    OHP_CONFIG: configFile({ ...generous, services: { images: ['docker.io/contract/*'] } }),
    OHP_DOCKER_SOCKET: docker.socket,
  },
});

async function call(path: string, body: object): Promise<void> {
  const reply = await product.api('POST', `/v1${path}`, body);
  if (reply.status !== 201) throw new Error(`${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
}

async function inTurns(workers: number, work: () => Promise<boolean>): Promise<void> {
  const worker = async () => {
    while (await work());
  };
  await Promise.all(Array.from({ length: workers }, worker));
}

const toCreate = [...names];
await inTurns(CREATING, async () => {
  const name = toCreate.pop();
  if (name === undefined) return false;
  await call('/services', {
    name,
    image: IMAGE,
    command: ['sh', '-c', serving],
    environment: { NAME: name },
    temporary_paths: ['/tmp'],
    memory_bytes: 16 * 1024 ** 2,
    restart: { policy: 'no' },
  });
  await call('/proxies', {
    hostname: hostOf(name),
    target_url: `service://${name}:8080`,
    redirect_to_https: false,
  });
  return true;
});
process.stdout.write(`${SERVICES} services are up\n`);

const agent = new Agent({ keepAlive: true });
function ask(name: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const asking = request(
      { host: '127.0.0.1', port: product.httpPort, agent, headers: { host: hostOf(name) } },
      (reply) => {
        let text = '';
        reply.on('data', (chunk) => (text += String(chunk)));
        reply.on('end', () => resolve({ status: reply.statusCode ?? 0, text: text.trim() }));
        reply.on('error', () => resolve({ status: 0, text: '' }));
      },
    );
    asking.on('error', () => resolve({ status: 0, text: '' }));
    asking.end();
  });
}

/** When it was known to be dead; undefined: it is alive, or on its way. */
const deadSince = new Map<string, number>();
const busy = new Set<string>();
const asked = { all: 0, answered: 0, away: 0, toDead: 0, toOthers: 0, cut: 0 };
/** How long after its death a request still went to the old address. */
const late: number[] = [];
/** From the engine's answer to `start` until requests go there, and until the service answers. */
const followed: number[] = [];
const back: number[] = [];
const endsAt = Date.now() + SECONDS * 1000;
const pick = (): string => names[Math.floor(Math.random() * names.length)] ?? '';

async function traffic(): Promise<boolean> {
  const name = pick();
  const began = Date.now();
  const since = deadSince.get(name);
  const { status, text } = await ask(name);
  asked.all++;
  if (status === AWAY) asked.away++;
  else if (status === 200 && text === name) asked.answered++;
  else if (status === 200) asked.toOthers++;
  else if (since === undefined) asked.cut++;
  else {
    asked.toDead++;
    late.push(began - since);
  }
  return Date.now() < endsAt;
}

async function churn(): Promise<boolean> {
  const name = pick();
  if (busy.has(name)) return true;
  busy.add(name);
  await docker.api('POST', `/containers/${name}.1/kill`);
  deadSince.set(name, Date.now());
  await delay(Math.random() * MAX_DOWN_MS);
  deadSince.delete(name);
  await docker.api('POST', `/containers/${name}.1/start`);
  const started = Date.now();
  const until = async (isSo: (status: number) => boolean) => {
    while (!isSo((await ask(name)).status) && Date.now() - started < PATIENCE_MS) await delay(POLL_MS);
    return Date.now() - started;
  };
  followed.push(await until((status) => status !== AWAY));
  back.push(await until((status) => status === 200));
  busy.delete(name);
  return Date.now() < endsAt;
}

const cpuBefore = cpuMicroseconds(product.child.pid ?? 0);
await Promise.all([inTurns(ASKING, traffic), inTurns(CHURNING, churn)]);
const cpuSeconds = (cpuMicroseconds(product.child.pid ?? 0) - cpuBefore) / 1_000_000;
agent.destroy();

const shown = (found: number[]): string => {
  if (found.length === 0) return 'none';
  const sorted = found.toSorted((one, other) => one - other);
  return `${sorted.length}: p50 ${percentile(sorted, 0.5)}, p99 ${percentile(sorted, 0.99)}, longest ${sorted.at(-1) ?? 0} ms`;
};
process.stdout.write(`${JSON.stringify(asked)}\n`);
process.stdout.write(`to a dead address, so long after its death: ${shown(late)}\n`);
process.stdout.write(`${cpuSeconds.toFixed(1)} s of CPU of the product, ${back.length} stops and starts\n`);
process.stdout.write(`followed after a start: ${shown(followed)}\n`);
process.stdout.write(`first answer after a start: ${shown(back)}\n`);
