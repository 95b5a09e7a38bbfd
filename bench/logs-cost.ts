/**
 * Claim: what the log keeps of a request costs the gateway at most 5 % of the CPU of that request, and no p99. The product
 * as a process of its own in front of a real upstream, with records of requests and without (`set_log_level gateway error`:
 * they are not even made), in short blocks that alternate within one process, since the machine changes from minute to
 * minute; then the same beside a second log that takes 10,000 records a second on the same core. Core 0 has the product
 * with all its threads, core 1 load and upstream.
 *
 *   node tools/run.mjs bench/logs-cost.ts [rounds] [divisor of the numbers of requests] [records that the log has before]
 *
 * CPU by thread, as the kernel counts it (schedstat). Needs nginx, h2load and openssl.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { LogStore } from '../src/logs/store.ts';
import { recordText } from '../src/logs/record-text.ts';
import { freePort } from '../test/support/free-port.ts';
import { loadWith, startFiles } from './load.ts';
import { type Ingest, startIngest } from './log-ingest.ts';
import { END, recordsOf } from './log-model.ts';
import { printTable, spread, threadMicroseconds } from './measure.ts';
import { LOAD_CORE, MEASURED_CORE, type MeasuredProduct, pin, startProduct } from './product.ts';

const ROUNDS = Number(process.argv[2] ?? 12);
const DIVISOR = Number(process.argv[3] ?? 1);
const RECORDS_BEFORE = Number(process.argv[4] ?? 0);
const HOST = 'app.example.com';
const CLIENTS = 32;
const WARM_UP_REQUESTS = 20_000;
const QUEUE_RECORDS = 1_000_000;
const INGEST_PER_SECOND = 10_000;
const BATCH_RECORDS = 2048;
const PACED_RPS = 1000;
const PERCENT = 100;

interface Scenario {
  name: string;
  requests: number;
  ratePerClient?: number;
  isBesideIngest?: true;
}
const scenarios: Scenario[] = [
  { name: 'flat out', requests: 5000 },
  { name: `${PACED_RPS} a second`, requests: 2000, ratePerClient: PACED_RPS / CLIENTS },
  {
    name: `${PACED_RPS} a second beside ${INGEST_PER_SECOND} records a second`,
    requests: 2000,
    ratePerClient: PACED_RPS / CLIENTS,
    isBesideIngest: true,
  },
];
const modes = ['without', 'with'] as const;
type Mode = (typeof modes)[number];

/** CPU in µs of a request. */
interface Block {
  all: number;
  main: number;
  writer: number;
  rps: number;
  p50: number;
  p99: number;
  failed: number;
}

async function main(): Promise<void> {
  pin(process.pid, LOAD_CORE);
  const root = mkdtempSync(join(tmpdir(), 'bench-cost-'));
  const port = await freePort();
  const upstream = await startFiles(port, root);
  try {
    await using product = await startProduct({ log: { queue_records: QUEUE_RECORDS } });
    await using ingest = startIngest(INGEST_PER_SECOND);
    await product.ask('POST', '/v1/proxies', { hostname: HOST, target_url: `http://127.0.0.1:${port}` });
    if (RECORDS_BEFORE > 0) await fill(product);
    loadOn(product, { name: 'warm-up', requests: WARM_UP_REQUESTS });
    const results = new Map(scenarios.map((it) => [it, { without: [] as Block[], with: [] as Block[] }]));
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++)
      for (const [scenario, blocks] of results)
        for (const mode of round % 2 === 0 ? modes : modes.toReversed())
          blocks[mode].push(await measure({ product, ingest, rates }, scenario, mode));
    print(results, rates);
  } finally {
    upstream.kill('SIGTERM');
    await once(upstream, 'exit');
    rmSync(root, { recursive: true, force: true });
  }
}

/** The writer of the product has the file open: what is put in beside it is as good as its own. */
async function fill(product: MeasuredProduct): Promise<void> {
  await product.settle();
  const store = new LogStore(join(product.dataDir, 'logs'));
  const later = Date.now() - END;
  let texts: string[] = [];
  for (const record of recordsOf(RECORDS_BEFORE)) {
    texts.push(recordText({ ...record, time: record.time + later }));
    if (texts.length < BATCH_RECORDS) continue;
    store.append(texts);
    texts = [];
  }
  store.append(texts);
  store.close();
}

function loadOn({ httpsPort }: MeasuredProduct, { requests, ratePerClient }: Scenario) {
  const at = { port: httpsPort, hostname: HOST, path: '/small', h1: true, clients: CLIENTS };
  return loadWith({ ...at, requests, ...(ratePerClient !== undefined && { ratePerClient }) });
}

interface Measuring {
  product: MeasuredProduct;
  ingest: Ingest;
  /** Of the second log. */
  rates: number[];
}

async function measure(
  { product, ingest, rates }: Measuring,
  scenario: Scenario,
  mode: Mode,
): Promise<Block> {
  const level = mode === 'with' ? 'info' : 'error';
  await product.ask('PUT', '/v1/log-levels/gateway', { level });
  await product.settle();
  await product.memory(); // A collection: what others left is theirs.
  if (scenario.isBesideIngest) ingest.go();
  const before = threadMicroseconds(product.pid);
  const requests = Math.ceil(scenario.requests / DIVISOR);
  const { rps, p50, p99, failed } = loadOn(product, { ...scenario, requests });
  const lost = await product.settle();
  const after = threadMicroseconds(product.pid);
  if (scenario.isBesideIngest) rates.push(await ingest.pause());
  if (lost > 0) process.stderr.write(`${lost} records were lost\n`);
  const of = (name: string) => ((after.get(name) ?? 0) - (before.get(name) ?? 0)) / requests;
  const all = [...after.keys()].reduce((sum, name) => sum + of(name), 0);
  return { all, main: of('MainThread'), writer: of('logs-writer'), rps, p50, p99, failed };
}

function print(results: Map<Scenario, Record<Mode, Block[]>>, rates: readonly number[]): void {
  console.log(
    `Node ${process.versions.node}, ${cpus()[0]?.model}, ${ROUNDS} rounds, load average ${loadavg()[0]?.toFixed(1)},`,
    `${RECORDS_BEFORE} records before. Core ${MEASURED_CORE}: the product; core ${LOAD_CORE}: load and upstream.`,
    `The second log took ${spread(rates)} records a second.\n`,
  );
  const head = [
    'requests',
    'records',
    'CPU µs/request',
    'added',
    'main',
    'writer',
    'req/s',
    'p50 ms',
    'p99 ms',
  ];
  const rows = [[...head, 'failed']];
  for (const [{ name }, blocks] of results) {
    const added = blocks.with.map(
      ({ all }, round) => (all / (blocks.without[round]?.all ?? Number.NaN) - 1) * PERCENT,
    );
    for (const mode of modes) {
      const pick = (key: keyof Block) => blocks[mode].map((block) => block[key]);
      const spreads = [pick('main'), pick('writer')].map((values) => spread(values, 1));
      const times = [pick('p50'), pick('p99')].map((values) => spread(values, 1));
      const failed = String(pick('failed').reduce((sum, count) => sum + count, 0));
      const more = mode === 'with' ? `${spread(added, 1)} %` : '';
      rows.push([
        name,
        mode,
        spread(pick('all'), 1),
        more,
        ...spreads,
        spread(pick('rps')),
        ...times,
        failed,
      ]);
    }
  }
  printTable(rows);
}

await main();
