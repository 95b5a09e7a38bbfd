/**
 * Claim: logging costs a request a few microseconds of the main thread, the writer keeps up with 20,000 records a second,
 * and ordinary questions are answered in milliseconds. Run: `node tools/run.mjs bench/logs.ts [records]`.
 * CPU times are of this machine at this moment; compare them within one run only.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type Clock, HOUR, systemClock } from '../src/core/clock.ts';
import { system } from '../src/core/principal.ts';
import { type LogRecord, silentLog } from '../src/core/record.ts';
import { createLogArchive } from '../src/logs/archive.ts';
import { createLogService, type LogQuestion } from '../src/logs/service.ts';
import { benchSink } from './log-sink.ts';

const RECORDS = Number(process.argv[2] ?? 200_000);
const QUEUE_RECORDS = 10_000;
const ROUNDS = 30;
const FLUSH_MS = 60_000;
/** The records spread over the last six hours of a day. */
const END = Date.UTC(2026, 2, 10, 18);
const SPAN_MS = 6 * HOUR;
const clock: Clock = { ...systemClock, now: () => END };

const directory = join(mkdtempSync(join(tmpdir(), 'bench-logs-')), 'logs');
const sink = benchSink({
  directory,
  clock,
  queueRecords: QUEUE_RECORDS,
});
const archive = createLogArchive({ directory, clock, log: silentLog });

try {
  await measureIngest();
  await measureQuestions();
} finally {
  await archive.close();
  await sink.close();
  rmSync(join(directory, '..'), { recursive: true });
}

async function measureIngest(): Promise<void> {
  const records = Array.from({ length: RECORDS }, (_, i) => accessRecord(i));
  const [started, cpu, main] = [performance.now(), process.cpuUsage(), process.threadCpuUsage()];
  for (const [i, record] of records.entries()) {
    sink.write(record);
    if (i % (QUEUE_RECORDS / 2) === 0) await sink.flush(FLUSH_MS);
  }
  await sink.flush(FLUSH_MS);
  const seconds = (performance.now() - started) / 1000;
  const total = process.cpuUsage(cpu);
  const ofMain = process.threadCpuUsage(main);
  const { written, dropped } = sink.stats();
  const bytes = readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  console.log(`records ${written}, dropped ${dropped}`);
  console.log(
    `ingest  ${Math.round(RECORDS / seconds)} records/s, ${Math.round(bytes / written)} bytes each`,
  );
  console.log(`cpu     ${each(total)} µs a record in all, ${each(ofMain)} µs of it in the main thread`);
}

function each({ user, system: kernel }: NodeJS.CpuUsage): string {
  return ((user + kernel) / RECORDS).toFixed(2);
}

async function measureQuestions(): Promise<void> {
  const logs = createLogService({ sink, archive, clock });
  const questions: Record<string, LogQuestion> = {
    'newest 100': { lines: 100 },
    'level error': { lines: 100, level: 'ERROR' },
    'status 5xx of a host, 1 h': { lines: 100, hostname: 'app7.example.com', status_min: 500, since: '1h' },
    'a host': { lines: 100, hostname: 'app7.example.com' },
    'a client': { lines: 100, client_address: '192.0.2.77' },
    'a principal': { lines: 100, principal: 'tok_5' },
    'a trace id': { trace_id: traceId(RECORDS >> 1) },
    'text that is nowhere': { contains: 'no such text' },
    'path prefix, rare': { path_prefix: '/rare' },
  };
  for (const [name, question] of Object.entries(questions)) {
    const times: number[] = [];
    let found = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const started = performance.now();
      const page = await logs.get(question, { principal: system, signal: new AbortController().signal });
      times.push(performance.now() - started);
      found = page.records.length;
    }
    times.sort((a, b) => a - b);
    const [p50 = 0, worst = 0] = [times[ROUNDS >> 1], times.at(-1)];
    console.log(
      `${name.padEnd(28)} ${String(found).padStart(4)} rows  p50 ${p50.toFixed(1)} ms  max ${worst.toFixed(1)} ms`,
    );
  }
}

function accessRecord(i: number): LogRecord {
  const status = i % 100 === 0 ? 502 : i % 33 === 0 ? 404 : 200;
  return {
    time: END - SPAN_MS + Math.floor((i / RECORDS) * SPAN_MS),
    kind: 'access',
    level: status === 502 ? 'error' : 'info',
    component: 'gateway',
    message: `GET ${status}`,
    trace_id: traceId(i),
    hostname: `app${i % 50}.example.com`,
    method: 'GET',
    path: i % 20_000 === 7 ? `/rare/${i}` : `/api/items/${i % 1000}`,
    status,
    duration_ms: (i % 500) / 10,
    bytes_in: 120,
    bytes_out: 2048,
    client_address: `192.0.2.${i % 250}`,
    principal: i % 3 === 0 ? `tok_${i % 40}` : 'anonymous',
    user_agent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)',
  };
}

/** Spread like random ones, and the same in every run. */
function traceId(i: number): string {
  const mixed = Math.imul(i + 1, 0x9e3779b1) >>> 0;
  return mixed.toString(16).padStart(8, '0').repeat(4);
}
