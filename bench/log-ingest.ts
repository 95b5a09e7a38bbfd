/**
 * A process that fills a log of its own at a steady rate, as other hostnames of a busy server would: its writer thread on
 * the measured core, beside the product's, and what makes the records on the other one. Started by logs-cost.ts.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../src/core/clock.ts';
import type { LogRecord } from '../src/core/record.ts';
import { benchSink } from './log-sink.ts';
import { recordsOf } from './log-model.ts';
import { LOAD_CORE, MEASURED_CORE, pin } from './product.ts';

const TICK_MS = 5;
const SECOND_MS = 1000;
const QUEUE_RECORDS = 100_000;
const FLUSH_MS = 60_000;
/** Made before they are needed: what is measured beside this process is not their making. */
const RECORDS = 50_000;
const MODE = 'ingest';

export interface Ingest extends AsyncDisposable {
  go(): void;
  /** Records a second since `go`, all of them in their file. */
  pause(): Promise<number>;
}

export function startIngest(perSecond: number): Ingest {
  const child = fork(import.meta.filename, [MODE, String(perSecond)], { execArgv: ['--no-warnings'] });
  return {
    go: () => void child.send('go'),
    async pause() {
      child.send('pause');
      const [rate] = (await once(child, 'message')) as [number];
      return rate;
    },
    [Symbol.asyncDispose]: () => ended(child),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  child.disconnect();
  await once(child, 'exit');
}

async function run(perSecond: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-ingest-'));
  pin(process.pid, MEASURED_CORE);
  const sink = benchSink({
    directory: join(folder, 'logs'),
    clock: systemClock,
    queueRecords: QUEUE_RECORDS,
  });
  await sink.flush(FLUSH_MS); // The writer has its core by now, and this thread goes away.
  spawnSync('taskset', ['-p', '-c', LOAD_CORE, String(process.pid)]);
  const records = [...recordsOf(RECORDS)];
  let timer: NodeJS.Timeout | undefined;
  let [startedAt, before, sent] = [0, 0, 0];
  const tick = (): void => {
    const due = ((performance.now() - startedAt) * perSecond) / SECOND_MS;
    for (; sent < due; sent++) sink.write(atNow(records[sent % RECORDS]!));
  };
  process.on('message', (what) => {
    clearInterval(timer);
    if (what === 'go') {
      [startedAt, before, sent] = [performance.now(), sink.stats().written, 0];
      timer = setInterval(tick, TICK_MS);
    } else
      void sink
        .flush(FLUSH_MS)
        .then(() =>
          process.send?.(((sink.stats().written - before) * SECOND_MS) / (performance.now() - startedAt)),
        );
  });
  process.once('disconnect', () => {
    clearInterval(timer);
    void sink.close().then(() => rmSync(folder, { recursive: true }));
  });
}

const atNow = (record: LogRecord): LogRecord => ({ ...record, time: Date.now() });

if (process.argv[2] === MODE) await run(Number(process.argv[3]));
