/**
 * Claim: with a day of 5 million records the writer takes 20,000 a second and stays small, what an index finds is answered
 * within 50 ms, and counts of a day by the rollup within 100 ms. Run: `node tools/run.mjs bench/logs-volume.ts [records]
 * [folder]`; a folder is kept, and taken as it is when it has been filled already. `peers` as the third argument asks
 * DuckDB, grep and GoAccess the same of the same records as text (logs-peers.ts). Cold: a new reader thread without an
 * open file, and the files out of the kernel's cache.
 */
import { spawnSync } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Worker } from 'node:worker_threads';
import { type Clock, systemClock } from '../src/core/clock.ts';
import { system } from '../src/core/principal.ts';
import { silentLog } from '../src/core/record.ts';
import { createLogArchive } from '../src/logs/archive.ts';
import { createLogService, type LogService } from '../src/logs/service.ts';
import { startWriterThread } from '../src/logs/sink.ts';
import { benchSink } from './log-sink.ts';
import { clientAt, END, hostAt, principalAt, recordsOf, textLine } from './log-model.ts';
import { askPeers, type Needles } from './logs-peers.ts';
import { percentile, printTable, spread } from './measure.ts';

const RECORDS = Number(process.argv[2] ?? 200_000);
const QUEUE_RECORDS = 10_000;
const WARM_ROUNDS = 20;
const COLD_ROUNDS = 3;
/** What takes longer is asked once more only. */
const SLOW_MS = 1000;
const FLUSH_MS = 60_000;
const LINES = 50;
const MEGABYTE = 1024 * 1024;
const clock: Clock = { ...systemClock, now: () => END };
const context = { principal: system, signal: new AbortController().signal };

const folder = process.argv[3] ?? mkdtempSync(join(tmpdir(), 'bench-logs-'));
const [directory, textFile] = [join(folder, 'logs'), join(folder, 'access.log')];
const isFilled = existsSync(directory);
let writer: Worker | undefined;
/** Threads of the log keep no process alive. */
const alive = setInterval(() => {}, FLUSH_MS);

try {
  if (!isFilled) await measureIngest();
  const needles = await needlesOf();
  if (process.argv[4] === 'peers') {
    if (!existsSync(textFile)) await writeText();
    await askPeers(textFile, needles);
  } else await measureQuestions(needles);
} finally {
  clearInterval(alive);
  if (process.argv[3] === undefined) rmSync(folder, { recursive: true });
}

function newSink() {
  return benchSink({
    startWriter: (data) => (writer = startWriterThread(data)),
    directory,
    clock,
    queueRecords: QUEUE_RECORDS,
  });
}

async function measureIngest(): Promise<void> {
  const idle = residentMegabytes() - heapOfMain();
  await using sink = newSink();
  let [peak, heap, slice] = [0, 0, performance.now()];
  const slices: number[] = [];
  const [started, cpu, main] = [performance.now(), process.cpuUsage(), process.threadCpuUsage()];
  let index = 0;
  const sliceRecords = Math.max(QUEUE_RECORDS, Math.floor(RECORDS / 20));
  for (const record of recordsOf(RECORDS)) {
    sink.write(record);
    index += 1;
    if (index % (QUEUE_RECORDS / 2) === 0) await sink.flush(FLUSH_MS);
    if (index % sliceRecords !== 0) continue;
    peak = Math.max(peak, residentMegabytes() - heapOfMain());
    heap = Math.max(heap, ((await writer?.getHeapStatistics())?.total_physical_size ?? 0) / MEGABYTE);
    slices.push(sliceRecords / ((performance.now() - slice) / 1000));
    slice = performance.now();
  }
  await sink.flush(FLUSH_MS);
  const seconds = (performance.now() - started) / 1000;
  const [total, ofMain] = [each(process.cpuUsage(cpu)), each(process.threadCpuUsage(main))];
  const { written, dropped } = sink.stats();
  await sink.close();
  const bytes = readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  printTable([
    ['ingest', 'figure'],
    ['records written / dropped', `${written} / ${dropped}`],
    ['records a second, in all', Math.round(RECORDS / seconds).toString()],
    ['records a second, by twentieths', spread(slices)],
    ['CPU of the writer, µs a record', (total - ofMain).toFixed(1)],
    ['bytes a record in the files', Math.round(bytes / written).toString()],
    ['memory of the writer at most, MB: its heap', heap.toFixed(0)],
    ['the same: what the process grew by, less the heap of the main thread', (peak - idle).toFixed(0)],
  ]);
}

function each({ user, system: kernel }: NodeJS.CpuUsage): number {
  return (user + kernel) / RECORDS;
}

function heapOfMain(): number {
  return process.memoryUsage().heapTotal / MEGABYTE;
}

function residentMegabytes(): number {
  return process.memoryUsage.rss() / MEGABYTE;
}

async function writeText(): Promise<void> {
  const file = createWriteStream(textFile);
  let lines: string[] = [];
  for (const record of recordsOf(RECORDS)) {
    if (record.kind === 'access') lines.push(textLine(record));
    if (lines.length < QUEUE_RECORDS) continue;
    if (!file.write(lines.join(''))) await once(file, 'drain');
    lines = [];
  }
  file.end(lines.join(''));
  await once(file, 'close');
}

/** What is asked for, some of it frequent and some rare; the trace is of the middle of the day. */
async function needlesOf(): Promise<Needles> {
  await using sink = newSink();
  await using archive = createLogArchive({ directory, clock, log: silentLog });
  const { records } = await createLogService({ sink, archive, clock }).get(
    { filter: 'kind:access host:*.example.com until:12h', lines: 1 },
    context,
  );
  return {
    trace: records[0]?.trace_id ?? '',
    busyHost: hostAt(0),
    rareHost: hostAt(199),
    busyClient: clientAt(0),
    rareClient: clientAt(30_000),
    principal: principalAt(5),
  };
}

type Ask = (logs: LogService) => Promise<string>;

function questionsOf({
  trace,
  busyHost,
  rareHost,
  busyClient,
  rareClient,
  principal,
}: Needles): Record<string, Ask> {
  const get =
    (filter: string): Ask =>
    async (logs) => {
      const { records, truncated } = await logs.get({ filter: `since:24h ${filter}`, lines: LINES }, context);
      return `${records.length} rows${truncated ? ', cut' : ''}`;
    };
  const stats =
    (asked: Omit<Parameters<LogService['stats']>[0], 'since'>): Ask =>
    async (logs) => {
      const { total, source, truncated } = await logs.stats({ since: '24h', ...asked }, context);
      return `${total.count} by ${source}${truncated ? ', cut' : ''}`;
    };
  return {
    'newest 50': get(''),
    'host, busy': get(`host:${busyHost}`),
    'host, rare': get(`host:${rareHost}`),
    'hosts below a wildcard': get('host:*.example.net'),
    'status 5xx': get('status:5xx'),
    'status 404': get('status:404'),
    'status 304': get('status:304'),
    'client, busy': get(`client:${busyClient}`),
    'client, rare': get(`client:${rareClient}`),
    principal: get(`principal:${principal}`),
    trace: get(`trace:${trace}`),
    'host and 5xx': get(`host:${rareHost} status:5xx`),
    'busy host and 403': get(`host:${busyHost} status:403`),
    'client and busy host': get(`client:${rareClient} host:${busyHost}`),
    'client and 5xx': get(`client:${busyClient} status:5xx`),
    'principal and path': get(`principal:${principal} path:/login`),
    'kind audit': get('kind:audit'),
    'not of a path': get('-path:/assets'),
    outcome: get('outcome:BAD_GATEWAY'),
    'rare path': get('path:/rare/'),
    'rare method': get('method:PURGE'),
    'slow ones of a host': get(`duration>9s host:${busyHost}`),
    'very slow ones': get('duration>9990ms'),
    'text that is rare': get('"export-150000"'),
    'text that is nowhere': get('"no such text"'),
    stats: stats({}),
    'stats by hour': stats({ interval: '1h' }),
    'stats of a host by 15m': stats({ filter: `host:${busyHost}`, interval: '15m' }),
    'stats by host': stats({ group_by: 'host' }),
    'stats by route': stats({ group_by: 'route' }),
    'stats by status_class': stats({ group_by: 'status_class' }),
    'stats by status': stats({ group_by: 'status' }),
    'stats by method': stats({ group_by: 'method' }),
    'stats by principal': stats({ group_by: 'principal' }),
    'stats by client': stats({ group_by: 'client' }),
    'stats by outcome': stats({ group_by: 'outcome' }),
    'stats by operation': stats({ group_by: 'operation' }),
    'stats of 5xx by route': stats({ group_by: 'route', filter: 'status:5xx' }),
    'stats of a client by path': stats({ group_by: 'host', filter: `client:${busyClient}` }),
    explain_request: async (logs) =>
      (await logs.explainRequest({ trace_id: trace }, context)).verdict.slice(0, 30),
    'explain_request by time': async (logs) =>
      (await logs.explainRequest({ hostname: busyHost, time: '10h' }, context)).verdict.slice(0, 30),
    why_denied: async (logs) => `${(await logs.whyDenied({}, context)).refusals.length} groups`,
    'why_denied of a principal': async (logs) =>
      `${(await logs.whyDenied({ principal }, context)).refusals.length} groups`,
    'why_denied of a host': async (logs) =>
      `${(await logs.whyDenied({ hostname: rareHost }, context)).refusals.length} groups`,
    what_changed: async (logs) =>
      `${(await logs.whatChanged({ since: '24h' }, context)).changes.length} changes`,
  };
}

async function measureQuestions(needles: Needles): Promise<void> {
  await using sink = newSink();
  console.log(
    '| question, over 24 h | answer | cold, ms | warm p50 | warm max |\n| --- | --- | --- | --- | --- |',
  );
  for (const [name, ask] of Object.entries(questionsOf(needles))) {
    if (process.argv[5] && !name.includes(process.argv[5])) continue;
    const cold: number[] = [];
    const warm: number[] = [];
    let answer = '';
    for (let round = 0; round < COLD_ROUNDS; round += 1) {
      if (round > 0 && (cold[0] ?? 0) > SLOW_MS) round = COLD_ROUNDS - 1;
      await using archive = createLogArchive({ directory, clock, log: silentLog });
      const logs = createLogService({ sink, archive, clock });
      // Starts the thread, which opens no file for it.
      await logs.get({ since: '2000-01-01', until: '2000-01-02' }, context);
      forget();
      cold.push(await timed(async () => (answer = await ask(logs))));
      if (round < COLD_ROUNDS - 1) continue;
      const rounds = (cold.at(-1) ?? 0) > SLOW_MS ? 1 : WARM_ROUNDS;
      for (let again = 0; again < rounds; again += 1) warm.push(await timed(() => ask(logs)));
    }
    warm.sort((a, b) => a - b);
    const [p50, worst] = [percentile(warm, 0.5), warm.at(-1) ?? Number.NaN];
    console.log(`| ${name} | ${answer} | ${spread(cold, 1)} | ${p50.toFixed(1)} | ${worst.toFixed(1)} |`);
  }
}

async function timed(what: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await what();
  return performance.now() - started;
}

/** Out of the kernel's cache, by the one way that takes no privilege. */
function forget(): void {
  for (const name of readdirSync(directory))
    spawnSync('dd', [`if=${join(directory, name)}`, 'iflag=nocache', 'count=0', 'status=none']);
}
