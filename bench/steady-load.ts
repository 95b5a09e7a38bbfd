/**
 * A steady load from a thread of its own: so many requests a second, whether or not those before are answered, timed from
 * when each was due. Two targets in turn, so that what the machine does to both is known from what it does to one.
 */
import { request as requestHttp } from 'node:http';
import { Agent, request as requestHttps } from 'node:https';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { percentile } from './measure.ts';

export interface LoadTargets {
  readonly perSecond: number;
  readonly hostname: string;
  readonly httpsPort: number;
  /** Of the upstream, asked without the product. */
  readonly upstreamPort: number;
}

export interface Sample {
  readonly count: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface Measured {
  readonly product: Sample;
  readonly upstream: Sample;
}

const MAX_SOCKETS = 64;
const SECOND = 1000;

/** `next()`: what was measured since the last time. */
export function startSteadyLoad(targets: LoadTargets): { next(): Promise<Measured>; stop(): Promise<void> } {
  const worker = new Worker(new URL(import.meta.url), { workerData: targets });
  return {
    next: () =>
      new Promise((resolve, reject) => {
        worker.once('error', reject).once('message', resolve);
        worker.postMessage('next');
      }),
    stop: async () => void (await worker.terminate()),
  };
}

class Timings {
  #taken: number[] = [];
  #failed = 0;

  add(dueAt: number, isGood: boolean): void {
    this.#taken.push(performance.now() - dueAt);
    if (!isGood) this.#failed += 1;
  }

  take(): Sample {
    const sorted = this.#taken.sort((a, b) => a - b);
    const failed = this.#failed;
    this.#taken = [];
    this.#failed = 0;
    return {
      count: sorted.length,
      failed,
      p50: percentile(sorted, 0.5),
      p99: percentile(sorted, 0.99),
      max: sorted.at(-1) ?? Number.NaN,
    };
  }
}

function run({ perSecond, hostname, httpsPort, upstreamPort }: LoadTargets): void {
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  const timings = { product: new Timings(), upstream: new Timings() };
  const ask = (which: keyof typeof timings, dueAt: number) => {
    const outgoing =
      which === 'product'
        ? requestHttps({
            agent,
            host: '127.0.0.1',
            port: httpsPort,
            servername: hostname,
            // Who answers is known: it was started for this.
            rejectUnauthorized: false,
            headers: { host: `${hostname}:${httpsPort}` },
          })
        : requestHttp({ host: '127.0.0.1', port: upstreamPort });
    outgoing.on('response', (response) => {
      response.resume().on('end', () => timings[which].add(dueAt, response.statusCode === 200));
    });
    outgoing.on('error', () => timings[which].add(dueAt, false));
    outgoing.end();
  };
  const startedAt = performance.now();
  let sent = 0;
  setInterval(() => {
    for (; startedAt + (sent * SECOND) / perSecond <= performance.now(); sent++) {
      const dueAt = startedAt + (sent * SECOND) / perSecond;
      ask('product', dueAt);
      ask('upstream', dueAt);
    }
  }, 1);
  parentPort?.on('message', () =>
    parentPort?.postMessage({ product: timings.product.take(), upstream: timings.upstream.take() }),
  );
}

if (!isMainThread) run(workerData as LoadTargets);
