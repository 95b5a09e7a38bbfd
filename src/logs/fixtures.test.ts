/** What the tests of this folder share: a record, a folder of their own, a wait for a condition. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ManualClock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { levelsOf } from './levels.ts';
import { LogFiles } from './query.ts';
import { recordText } from './record-text.ts';
import { createLogSink, type LogSink, type LogSinkOptions } from './sink.ts';
import { LogStore } from './store.ts';

export const NOON = Date.UTC(2026, 2, 10, 12);

export function aRecord(fields: Partial<LogRecord> = {}): LogRecord {
  return { time: NOON, kind: 'access', level: 'info', component: 'gateway', message: 'request', ...fields };
}

export const asTexts = (...records: LogRecord[]): string[] => records.map(recordText);

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'logs-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'logs');
}

/** A store with these records, and files that read them. */
export function someFiles(t: TestContext, records: readonly LogRecord[] = []) {
  const directory = temporaryFolder(t);
  const store = new LogStore(directory);
  const files = new LogFiles(directory);
  t.after(() => {
    files.close();
    store.close();
  });
  store.append(asTexts(...records));
  return { directory, store, files };
}

const POLL_MS = 5;
const GIVE_UP_MS = 20_000;

/** Waits for a condition, not for a time. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + GIVE_UP_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`gave up waiting until ${what}`);
    await delay(POLL_MS);
  }
}

/** A sink with a real writer thread, closed when the test ends. */
export function aSink(
  t: TestContext,
  options: Partial<LogSinkOptions> = {},
): { sink: LogSink; clock: ManualClock; directory: string; printed: string[] } {
  const clock = new ManualClock(NOON);
  const directory = options.directory ?? temporaryFolder(t);
  const printed: string[] = [];
  const sink = createLogSink({
    directory,
    clock,
    queueRecords: 10_000,
    levels: levelsOf('info'),
    retentionDays: 30,
    retentionBytes: 2 ** 32,
    stderr: true,
    print: (line) => void printed.push(line),
    ...options,
  });
  t.after(() => sink.close());
  return { sink, clock, directory, printed };
}
