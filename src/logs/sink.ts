/**
 * Where records go in: the main-thread side of the log. `write` turns a record into text, puts it in a bounded queue
 * and returns; batches go to the writer thread (writer.ts), which alone touches files. It never throws at a caller and
 * never blocks one: what can't be kept is counted, and the count is logged once it can be. Not here: reading (archive.ts).
 */
import type { Worker } from 'node:worker_threads';
import { type Clock, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Component, Log, LogLevel, LogRecord } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import { type AdjustableComponent, levelRank, LevelTable, type Levels } from './levels.ts';
import type { FromWriter, ToWriter, WriterData } from './messages.ts';
import { redactText } from '../core/redact.ts';
import { recordText } from './record-text.ts';
import { startThread } from './thread.ts';

/** A record is on its way to the disk no later than this: what a kill can cost. */
const FLUSH_MS = 200;
/** One transaction writes each changed page of each index once, so large batches cost less a record. */
const BATCH_RECORDS = 2048;
/** Enough to keep the writer busy while the next batch is made. */
const MAX_BATCHES_IN_FLIGHT = 2;
/** Room that access records can't take: a flood of requests drops no audit record. */
const RESERVED_RECORDS = 1000;
const REPORT_MS = SECOND;
const SWEEP_MS = 10 * MINUTE;
const RESTART_MIN_MS = SECOND;
const RESTART_MAX_MS = 30 * SECOND;
const CLOSE_MS = 5 * SECOND;
const LINE_LENGTH = 2000;
/** Each is told once. */
const MAX_PACK_PROBLEMS = 100;

export interface LogSinkOptions {
  directory: string;
  clock: Clock;
  /** Access records that may wait for the writer. */
  queueRecords: number;
  levels: Levels;
  retentionDays: number;
  retentionBytes: number;
  /** Older days are compressed; absent: none. */
  compressAfterDays?: number | undefined;
  /** Also print system records of level warn and above. */
  stderr: boolean;
  print?: (line: string) => void;
  startWriter?: (data: WriterData) => Worker;
}

export interface LogStats {
  /** Records that are in their file. */
  written: number;
  dropped: number;
  /** Waiting, or on their way. */
  queued: number;
  writer: 'ok' | 'failing' | 'down';
  /** Why records can't be written now. */
  problem: string | undefined;
}

export interface LogSink extends Log, AsyncDisposable {
  setLevel(component: AdjustableComponent, level: LogLevel): void;
  levels(): Levels;
  stats(): LogStats;
  /** Whoever is given every record that is kept, beside the writer; returns at once and never throws. */
  copyTo(take: (record: LogRecord) => void): void;
  /** Whether everything written before is in its file or counted as dropped, after at most `limitMs`. */
  flush(limitMs: number): Promise<boolean>;
  /** Flushes, ends the writer, and waits for both within bounds. Later records are dropped and counted. */
  close(): Promise<void>;
}

export function createLogSink(options: LogSinkOptions): LogSink {
  return new WorkerSink(options);
}

class WorkerSink implements LogSink {
  readonly #options: LogSinkOptions;
  readonly #clock: Clock;
  readonly #levels: LevelTable;
  readonly #sweeps: Timer;
  #writer: Worker | undefined;
  #queue: string[] = [];
  /** Sizes of the batches that the writer has not answered yet, oldest first. */
  #inFlight: number[] = [];
  #waiters: { until: number; resolve: () => void }[] = [];
  #flushTimer: Timer | undefined;
  #reportTimer: Timer | undefined;
  #restartTimer: Timer | undefined;
  #restartMs = RESTART_MIN_MS;
  #flushing = false;
  #closing: Promise<void> | undefined;
  #accepted = 0;
  /** Of the accepted: written, or dropped on the way. */
  #settled = 0;
  #written = 0;
  #dropped = 0;
  #reported = 0;
  #dropReason = '';
  #problem: string | undefined;
  #overBytes = false;
  #copy: ((record: LogRecord) => void) | undefined;
  readonly #packProblems = new Set<string>();

  constructor(options: LogSinkOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#levels = new LevelTable(options.levels);
    this.#start();
    this.#sweeps = this.#clock.every(SWEEP_MS, () => this.#sweep());
  }

  enabled(component: Component, level: LogLevel): boolean {
    return this.#levels.keeps(component, level);
  }

  write(record: LogRecord): void {
    if (!this.#levels.keeps(record.component, record.level) && record.kind !== 'audit') return;
    if (record.kind === 'system') this.#printRecord(record);
    this.#copy?.(record);
    if (this.#closing) return this.#drop(1, 'the log is closed');
    if (!this.#hasRoom(record)) return this.#drop(1, 'the writer could not keep up');
    this.#accepted += 1;
    if (this.#queue.push(recordText(record)) >= BATCH_RECORDS) this.#pump();
    this.#flushTimer ??= this.#clock.after(FLUSH_MS, () => this.#flushSoon());
  }

  setLevel(component: AdjustableComponent, level: LogLevel): void {
    this.#levels.set(component, level);
  }

  copyTo(take: (record: LogRecord) => void): void {
    this.#copy = take;
  }

  levels(): Levels {
    return this.#levels.all();
  }

  stats(): LogStats {
    const problem = this.#problem;
    const writer = this.#writer === undefined ? 'down' : problem === undefined ? 'ok' : 'failing';
    const queued = this.#accepted - this.#settled;
    return { written: this.#written, dropped: this.#dropped, queued, writer, problem };
  }

  async flush(limitMs: number): Promise<boolean> {
    const until = this.#accepted;
    if (this.#settled >= until) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#clock.after(limitMs, resolve);
    const waiter = { until, resolve };
    this.#waiters.push(waiter);
    this.#flushing = true;
    this.#writer?.ref();
    this.#pump();
    await promise;
    timer.cancel();
    this.#waiters = this.#waiters.filter((other) => other !== waiter);
    if (this.#waiters.length === 0 && !this.#closing) this.#writer?.unref();
    return this.#settled >= until;
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    this.#sweeps.cancel();
    this.#restartTimer?.cancel();
    const writer = this.#writer;
    if (writer) await this.flush(CLOSE_MS);
    for (const timer of [this.#flushTimer, this.#reportTimer, this.#restartTimer]) timer?.cancel();
    if (writer && writer === this.#writer) await this.#stop(writer);
    this.#writer = undefined;
    const left = this.#accepted - this.#settled;
    this.#queue = [];
    this.#settle(left);
    this.#dropped += left;
  }

  async #stop(writer: Worker): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#clock.after(CLOSE_MS, resolve);
    writer.once('exit', () => resolve());
    writer.ref();
    writer.postMessage({ type: 'close' } satisfies ToWriter);
    await promise;
    timer.cancel();
    await writer.terminate();
  }

  #hasRoom({ kind }: LogRecord): boolean {
    const { queueRecords } = this.#options;
    const room = kind === 'access' ? queueRecords : queueRecords + RESERVED_RECORDS;
    return this.#accepted - this.#settled < room;
  }

  #flushSoon(): void {
    this.#flushTimer = undefined;
    this.#flushing = true;
    this.#pump();
  }

  /** Sends batches while the writer has room for them: full ones, or all of them when flushing. */
  #pump(): void {
    const writer = this.#writer;
    while (writer && this.#inFlight.length < MAX_BATCHES_IN_FLIGHT) {
      if (this.#queue.length < (this.#flushing ? 1 : BATCH_RECORDS)) break;
      const texts = this.#queue.splice(0, BATCH_RECORDS);
      this.#inFlight.push(texts.length);
      writer.postMessage({ type: 'append', texts } satisfies ToWriter);
    }
    if (this.#queue.length === 0) this.#flushing = false;
  }

  #start(): void {
    this.#restartTimer = undefined;
    const { directory, retentionDays, retentionBytes, compressAfterDays = 0 } = this.#options;
    const { startWriter = startWriterThread } = this.#options;
    try {
      const writer = startWriter({ directory, retentionDays, retentionBytes, compressAfterDays });
      writer.on('message', (message: FromWriter) => this.#onMessage(message));
      writer.on('error', (error) => this.#fail(`the log writer failed: ${messageOf(error)}`));
      writer.once('exit', () => this.#onExit(writer));
      // After the listeners, because they hold on to it: only who waits for a flush keeps the process alive.
      writer.unref();
      this.#writer = writer;
    } catch (cause) {
      this.#fail(`the log writer did not start: ${messageOf(cause)}`);
      return this.#restart();
    }
    this.#sweep();
    this.#pump();
  }

  #onExit(writer: Worker): void {
    if (writer !== this.#writer) return;
    this.#writer = undefined;
    const lost = this.#inFlight.reduce((sum, size) => sum + size, 0);
    this.#inFlight = [];
    this.#settle(lost);
    this.#drop(lost, 'the writer ended');
    if (this.#closing) return this.#resolveWaiters(true);
    this.#fail('the log writer ended');
    this.#restart();
  }

  #restart(): void {
    this.#restartTimer = this.#clock.after(this.#restartMs, () => this.#start());
    this.#restartMs = Math.min(2 * this.#restartMs, RESTART_MAX_MS);
  }

  #onMessage(message: FromWriter): void {
    if (message.type === 'appended') return this.#onAppended(message);
    if (message.type === 'not_packed') return this.#onNotPacked(message.error);
    if (message.error !== undefined) return this.#tell(`old log files cannot be deleted: ${message.error}`);
    const over = message.bytes > this.#options.retentionBytes;
    if (over && !this.#overBytes)
      this.#tell(`the log of today alone has ${message.bytes} bytes, more than log.retention_bytes`);
    this.#overBytes = over;
  }

  /** Tried again after every sweep, and told once. */
  #onNotPacked(error: string): void {
    if (this.#packProblems.has(error) || this.#packProblems.size >= MAX_PACK_PROBLEMS) return;
    this.#packProblems.add(error);
    this.#tell(`an old log file cannot be compressed now: ${error}`);
  }

  #onAppended({ failed, fault, error }: FromWriter & { type: 'appended' }): void {
    const size = this.#inFlight.shift() ?? 0;
    this.#written += size - failed;
    this.#settle(size);
    this.#drop(failed, error ?? fault ?? '');
    if (error !== undefined) this.#fail(`log records cannot be written: ${error}`);
    else this.#recover();
    this.#pump();
  }

  #settle(count: number): void {
    this.#settled += count;
    this.#resolveWaiters(false);
  }

  #resolveWaiters(all: boolean): void {
    for (const { until, resolve } of this.#waiters) if (all || this.#settled >= until) resolve();
  }

  #recover(): void {
    this.#problem = undefined;
    this.#restartMs = RESTART_MIN_MS;
  }

  /** The file can't hold this news, so it goes to the terminal, once. */
  #fail(problem: string): void {
    if (this.#problem === undefined) this.#print('error', problem);
    this.#problem = problem;
  }

  #drop(count: number, reason: string): void {
    if (count === 0) return;
    this.#dropped += count;
    this.#dropReason = reason;
    if (!this.#closing) this.#reportTimer ??= this.#clock.after(REPORT_MS, () => this.#report());
  }

  #report(): void {
    this.#reportTimer = undefined;
    const count = this.#dropped - this.#reported;
    const ready =
      this.#writer !== undefined && this.#problem === undefined && this.#queue.length < BATCH_RECORDS;
    if (!ready) {
      this.#reportTimer = this.#clock.after(REPORT_MS, () => this.#report());
      return;
    }
    this.#reported = this.#dropped;
    this.#tell(`${count} log records were dropped: ${this.#dropReason}`, {
      dropped_since_start: this.#dropped,
    });
  }

  #tell(message: string, detail?: Record<string, unknown>): void {
    const time = this.#clock.now();
    this.write({ time, kind: 'system', level: 'warn', component: 'system', message, detail });
  }

  #sweep(): void {
    this.#writer?.postMessage({ type: 'sweep', now: this.#clock.now() } satisfies ToWriter);
  }

  #printRecord({ level, message, component, trace_id }: LogRecord): void {
    if (levelRank(level) < levelRank('warn')) return;
    this.#print(level, `${component}: ${message}${trace_id === undefined ? '' : ` (trace ${trace_id})`}`);
  }

  #print(level: LogLevel, text: string): void {
    if (!this.#options.stderr) return;
    const { print = printToStderr } = this.#options;
    const time = new Date(this.#clock.now()).toISOString();
    print(`${time} ${level.toUpperCase()} ${cleanText(redactText(text), LINE_LENGTH)}\n`);
  }
}

export const startWriterThread = (data: WriterData): Worker => startThread('writer', data);

function printToStderr(line: string): void {
  process.stderr.write(line);
}
