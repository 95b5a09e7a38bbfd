/**
 * Where records come out: the main-thread side of the reader thread (reader.ts), which is started by the first question.
 * One question at a time; the others wait in a bounded queue. Called by service.ts.
 */
import { rmSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { type Clock, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import { unpackedFolderOf } from './folder.ts';
import type { FromReader, Question, ReaderData, ToReader } from './messages.ts';
import type { Answer } from './present.ts';
import type { TextAnswer, TextQuestion } from './search.ts';
import type { StatsAnswer, StatsQuestion } from './stats.ts';
import { startThread } from './thread.ts';

const MAX_WAITING = 64;
/** Beyond the budget that the reader keeps by itself: then it hangs on something. */
const TIMEOUT_MS = 15 * SECOND;
/** The thread gives its memory back when nobody asks. */
const IDLE_MS = MINUTE;
const CLOSE_MS = 3 * SECOND;

export interface LogArchive extends AsyncDisposable {
  /** @throws AppError CANCELLED, TIMEOUT, UNAVAILABLE */
  query(question: Question, signal: AbortSignal): Promise<Answer>;
  stats(question: StatsQuestion, signal: AbortSignal): Promise<StatsAnswer>;
  /** One piece of a search, newest first; `next` says where the next one begins. */
  search(question: TextQuestion, signal: AbortSignal): Promise<TextAnswer>;
  close(): Promise<void>;
}

export interface LogArchiveOptions {
  directory: string;
  clock: Clock;
  /** For what goes wrong where nobody waits. */
  log: Log;
  startReader?: (data: ReaderData) => Worker;
}

export function createLogArchive(options: LogArchiveOptions): LogArchive {
  return new WorkerArchive(options);
}

type AnyAnswer = Answer | StatsAnswer | TextAnswer;

interface Asked {
  question: ToReader;
  /** Of what was asked; answers come in order. */
  resolve: (answer: AnyAnswer) => void;
  reject: (error: AppError) => void;
}

class WorkerArchive implements LogArchive {
  readonly #options: LogArchiveOptions;
  #reader: Worker | undefined;
  #waiting: Asked[] = [];
  #active: { asked: Asked; timer: Timer } | undefined;
  #idleTimer: Timer | undefined;
  #closed = false;

  constructor(options: LogArchiveOptions) {
    this.#options = options;
    // Of a process that was killed.
    rmSync(unpackedFolderOf(options.directory), { recursive: true, force: true });
  }

  async query(question: Question, signal: AbortSignal): Promise<Answer> {
    return (await this.#ask(question, signal)) as Answer;
  }

  async stats(stats: StatsQuestion, signal: AbortSignal): Promise<StatsAnswer> {
    return (await this.#ask({ stats }, signal)) as StatsAnswer;
  }

  async search(text: TextQuestion, signal: AbortSignal): Promise<TextAnswer> {
    return (await this.#ask({ text }, signal)) as TextAnswer;
  }

  async #ask(question: ToReader, signal: AbortSignal): Promise<AnyAnswer> {
    if (signal.aborted) throw cancelled();
    if (this.#closed) throw new AppError('UNAVAILABLE', 'the log is closed');
    if (this.#waiting.length >= MAX_WAITING)
      throw new AppError('UNAVAILABLE', 'too many questions to the log at once; try again in a few seconds');
    const { promise, resolve, reject } = Promise.withResolvers<AnyAnswer>();
    const asked = { question, resolve, reject };
    const give = () => this.#withdraw(asked);
    signal.addEventListener('abort', give, { once: true });
    this.#waiting.push(asked);
    this.#next();
    return promise.finally(() => signal.removeEventListener('abort', give));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const error = new AppError('UNAVAILABLE', 'the log is closed');
    for (const asked of this.#waiting.splice(0)) asked.reject(error);
    this.#finish()?.reject(error);
    await this.#end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** One that is being answered goes on; nobody waits for it. */
  #withdraw(asked: Asked): void {
    this.#waiting = this.#waiting.filter((other) => other !== asked);
    asked.reject(cancelled());
  }

  #next(): void {
    if (this.#active) return;
    const asked = this.#waiting.shift();
    this.#idleTimer?.cancel();
    if (!asked) return this.#rest();
    try {
      this.#reader ??= this.#start();
    } catch (cause) {
      asked.reject(unavailable(messageOf(cause)));
      return this.#next();
    }
    this.#active = { asked, timer: this.#options.clock.after(TIMEOUT_MS, () => this.#giveUp()) };
    // The reader doesn't keep the process alive by itself; somebody who waits for it does.
    this.#reader.ref();
    this.#reader.postMessage(asked.question);
  }

  async #end(): Promise<void> {
    this.#idleTimer?.cancel();
    const reader = this.#reader;
    this.#reader = undefined;
    if (!reader) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(CLOSE_MS, resolve);
    reader.once('exit', () => resolve());
    reader.ref();
    reader.postMessage('close');
    await promise;
    timer.cancel();
    await reader.terminate();
  }

  #rest(): void {
    this.#reader?.unref();
    this.#idleTimer = this.#options.clock.after(IDLE_MS, () => {
      this.#end().catch((cause: unknown) => this.#report(cause));
    });
  }

  #start(): Worker {
    const { directory, startReader = startReaderThread } = this.#options;
    const reader = startReader({ directory });
    let problem = 'the log reader ended';
    reader.on('error', (error) => (problem = messageOf(error)));
    reader.on('message', (message: FromReader) => {
      if (reader === this.#reader) this.#onAnswer(message);
    });
    reader.once('exit', () => {
      if (reader === this.#reader) this.#lose(unavailable(problem));
      // One that was ended from outside, or failed, left what it had unpacked.
      if (this.#reader === undefined) rmSync(unpackedFolderOf(directory), { recursive: true, force: true });
    });
    return reader;
  }

  #onAnswer(message: FromReader): void {
    const asked = this.#finish();
    if ('answer' in message) asked?.resolve(message.answer);
    else asked?.reject(unavailable(message.error));
    this.#next();
  }

  #giveUp(): void {
    const reader = this.#reader;
    this.#lose(new AppError('TIMEOUT', 'the log did not answer in time; narrow the question'));
    reader?.terminate().catch((cause: unknown) => this.#report(cause));
  }

  #report(cause: unknown): void {
    const { log, clock } = this.#options;
    const message = `the log reader did not end: ${messageOf(cause)}`;
    log.write({ time: clock.now(), kind: 'system', level: 'warn', component: 'system', message });
  }

  #lose(error: AppError): void {
    this.#reader = undefined;
    this.#finish()?.reject(error);
    this.#next();
  }

  #finish(): Asked | undefined {
    const active = this.#active;
    this.#active = undefined;
    active?.timer.cancel();
    return active?.asked;
  }
}

export const startReaderThread = (data: ReaderData): Worker => startThread('reader', data);

const cancelled = (): AppError => new AppError('CANCELLED', 'the call was cancelled');
const unavailable = (why: string): AppError =>
  new AppError('UNAVAILABLE', 'the log files cannot be read now', { cause: new Error(why) });
