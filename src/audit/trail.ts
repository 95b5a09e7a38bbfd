/**
 * The audit trail: who did what, in files that nobody changes unnoticed. Every record of kind audit passes here on its
 * way to the log, whoever writes it, and is in the hands of the system when `write` returns, or what `tell` gave
 * resolves: a kill loses none that was answered. What
 * changes something is on the disk before it is acted on, and its result before it is answered. What can't be written is
 * counted, told and made up for; until then nothing is changed (`begin` refuses). Reading is not here (verify.ts,
 * export.ts). Opened by `app.audit.ts`; docs/decisions/0042.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { AuditTrail, Begun } from '../core/audit.ts';
import { type Clock, SECOND, type Timer } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { system } from '../core/principal.ts';
import type { Component, Log, LogLevel, LogRecord } from '../core/record.ts';
import { type DiskPlace, TrailDisk } from './disk.ts';
import { type End, findEnd, NOTHING } from './end.ts';
import { findLine, type TrailFile } from './files.ts';
import { type Gap, HeadFile, MAX_OPEN } from './head.ts';
import { type Entry, type Event, makeLine, type Place } from './line.ts';
import { Strangers } from './strangers.ts';

/** What a power failure can cost of reads, and a kill of what the head knows. */
const SYNC_MS = SECOND;
const RETRY_MS = 5 * SECOND;
/** Written as one, they are at most 4 MiB. */
const MAX_GATHERED = 128;

export interface TrailOptions {
  folder: string;
  /** 32 bytes, for this purpose only. */
  key: Buffer;
  clock: Clock;
  /** Where records of every kind go on to. */
  log: Log;
}

export interface TrailState {
  /** Why records can't be kept now. */
  problem: string | undefined;
  /** Records that could not be kept since the start. */
  lost: number;
  bytes: number;
  /** What was missing at the start; what is suspicious, also of an earlier one. */
  gap: Gap | undefined;
}

/** Lost records that the trail does not tell of yet. */
interface Untold {
  readonly count: number;
  /** Of them: results. */
  readonly results: number;
  readonly since: number;
  /** Of the first. */
  readonly why: string | undefined;
}
const NONE_UNTOLD: Untold = { count: 0, results: 0, since: 0, why: undefined };

export class Trail implements Log, AuditTrail, AsyncDisposable {
  readonly folder: string;
  readonly key: Buffer;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #disk: TrailDisk;
  readonly #head: HeadFile;
  readonly #strangers: Strangers;
  /** Undefined until the end of an earlier process's records is found. */
  #last: Place | undefined;
  #synced: Place = NOTHING;
  #before: Place = NOTHING;
  #isPrepared = false;
  readonly #open = new Set<number>();
  #gap: Gap | undefined;
  #problem: string | undefined;
  #lost = 0;
  /** Of the lost: not told yet. */
  #untold: Untold = NONE_UNTOLD;
  #waiters: { resolve: () => void; reject: (cause: unknown) => void }[] = [];
  /** Told in this turn of the event loop, not written yet. */
  #gathered: Entry[] = [];
  #gathering = Promise.withResolvers<void>();
  #isSyncing = false;
  #syncTimer: Timer | undefined;
  #retryTimer: Timer | undefined;
  #isClosed = false;
  #isOver = false;

  constructor({ folder, key, clock, log }: TrailOptions) {
    this.folder = folder;
    this.key = key;
    this.#clock = clock;
    this.#log = log;
    this.#disk = new TrailDisk(folder);
    this.#head = new HeadFile(folder, key);
    this.#strangers = new Strangers(clock, (record) => void this.#append({ event: 'strangers', record }));
    this.#attempt(() => this.#ready());
  }

  enabled(component: Component, level: LogLevel): boolean {
    return this.#log.enabled(component, level);
  }

  write(record: LogRecord): void {
    if (record.kind === 'audit' && !this.#strangers.takes(record)) this.#append({ event: 'event', record });
    this.#log.write(record);
  }

  tell(record: LogRecord): Promise<void> {
    this.#log.write(record);
    if (this.#strangers.takes(record)) return Promise.resolve();
    const { promise } = this.#gathering;
    this.#gathered.push({ event: 'event', record });
    if (this.#gathered.length === 1) setImmediate(() => this.#writeGathered());
    else if (this.#gathered.length === MAX_GATHERED) this.#writeGathered();
    return promise;
  }

  async begin(record: LogRecord): Promise<Begun> {
    if (this.#open.size >= MAX_OPEN)
      throw new AppError(
        'UNAVAILABLE',
        `${MAX_OPEN} changes are under way already; try again when some are done`,
      );
    const seq = this.#append({ event: 'begun', record });
    if (seq === undefined) throw this.#refusal();
    this.#open.add(seq);
    try {
      await this.#durable();
    } catch (cause) {
      this.#end(seq, { ...record, outcome: 'UNAVAILABLE' });
      throw this.#refusal(cause);
    }
    return {
      end: async (result) => {
        this.#end(seq, result);
        this.#log.write(result);
        // It was done, so it is answered; that its result may be lost is told by the state.
        await this.#durable().catch(() => undefined);
      },
    };
  }

  state(): TrailState {
    const { bytes } = this.#disk;
    return { problem: this.#problem, lost: this.#lost, bytes, gap: this.#gap };
  }

  /** Where the trail ends now, and begins. Undefined while its end is not known. */
  extent(): (DiskPlace & { last: Place; before: Place; size: number }) | undefined {
    this.#writeGathered();
    const size = this.#disk.size();
    return this.#last && { last: this.#last, before: this.#before, size, ...this.#disk.place };
  }

  /** Records are missing, as `why` says: it is in the trail itself from here on. */
  distrust(why: string, expected = this.#last?.seq ?? 0): void {
    this.#tellGap({ expected, found: this.#last?.seq ?? 0, why, suspect: true });
  }

  /** Deletes files. The head tells what stood in them before they go, so that a crash between the two leaves no gap. */
  retire(files: readonly TrailFile[], before: Place): void {
    const areGone = this.#attempt(() => {
      this.#before = before;
      if (this.#gap?.seq !== undefined && this.#gap.seq <= before.seq) this.#gap = undefined;
      this.#writeHead();
      for (const { path } of files) rmSync(path, { force: true });
      this.#disk.measure();
    });
    if (!areGone) return; // The next sweep finds what is left of them.
    const names = files.map(({ name }) => name);
    this.#tell('retired', `records up to ${before.seq} were deleted because of their age`, {
      files: names,
      last: before,
    });
  }

  /** What is written after that is lost, as it is to the log. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#strangers.flush();
    this.#writeGathered();
    this.#isClosed = true;
    this.#syncTimer?.cancel();
    this.#retryTimer?.cancel();
    await this.#durable().catch(() => undefined); // The state has told it.
    this.#isOver = true;
    this.#disk.leave();
    this.#head.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #end(seq: number, record: LogRecord): void {
    this.#open.delete(seq);
    if (this.#append({ event: 'ended', of: seq, record }) !== undefined) return;
    this.#untold = { ...this.#untold, results: this.#untold.results + 1 };
  }

  #writeGathered(): void {
    if (this.#gathered.length === 0) return;
    const [entries, { resolve }] = [this.#gathered, this.#gathering];
    [this.#gathered, this.#gathering] = [[], Promise.withResolvers()];
    this.#write(entries);
    resolve();
  }

  /** The number of the record, which comes after what was told before it; undefined: it is lost. */
  #append(entry: Entry): number | undefined {
    this.#writeGathered();
    return this.#write([entry]);
  }

  /** The number of the last of the records, which are written as one; undefined: they are lost. */
  #write(entries: readonly Entry[]): number | undefined {
    if (this.#isOver) return undefined;
    let unmade: readonly string[] = [];
    const isWritten = this.#attempt(() => {
      const last = this.#ready();
      this.#makeUp();
      unmade = this.#put(entries, this.#last ?? last);
    });
    if (!isWritten) this.#lose(entries.length, this.#problem);
    else if (unmade.length > 0) this.#lose(unmade.length, unmade[0]);
    return isWritten && unmade.length < entries.length ? this.#last?.seq : undefined;
  }

  #lose(count: number, why: string | undefined): void {
    const { count: before, results } = this.#untold;
    const { since, why: first } = before === 0 ? { since: this.#clock.now(), why } : this.#untold;
    this.#untold = { count: before + count, results, since, why: first };
    this.#lost += count;
  }

  /** Returns why lines could not be made: such a record costs no other one its place. */
  #put(entries: readonly Entry[], before: Place): string[] {
    let [last, texts] = [before, ''];
    const unmade: string[] = [];
    for (const entry of entries) {
      try {
        const { text, seq, hash } = makeLine(entry, last, this.key);
        texts += text;
        last = { seq, hash };
      } catch (cause) {
        unmade.push(`no line could be made of a record: ${messageOf(cause)}`);
      }
    }
    if (texts === '') return unmade;
    this.#disk.append(texts, { seq: before.seq + 1, now: this.#clock.now() });
    this.#last = last;
    if (!this.#isClosed) this.#syncTimer ??= this.#clock.after(SYNC_MS, () => this.#syncNow());
    return unmade;
  }

  #syncNow(): void {
    this.#syncTimer = undefined;
    this.#attempt(() => {
      if (!this.#disk.isThere()) this.#miss();
    });
    this.#durable().catch(() => undefined); // The state has told it.
  }

  /** Its records went with it. */
  #miss(): void {
    const { file } = this.#disk.place;
    this.#disk.leave();
    this.#giveUp();
    this.distrust(`${file} was deleted or replaced while it was written`);
  }

  /** What could not be told when it happened. Before anything else, so that its place in the trail is right. */
  #makeUp(): void {
    const untold = this.#untold;
    const { count, results, since, why } = untold;
    if (count === 0) return;
    this.#untold = NONE_UNTOLD;
    try {
      const detail = { count, results, since: new Date(since).toISOString(), why };
      const note = this.#note('lost', `${count} audit records could not be written`, detail);
      this.#put([note], this.#last ?? NOTHING);
    } catch (cause) {
      this.#untold = untold;
      throw cause;
    }
  }

  #ready(): Place {
    if (!this.#isPrepared) this.#disk.prepare();
    this.#isPrepared = true;
    if (this.#last) return this.#last;
    const end = findEnd(this.folder, this.#head, this.key);
    if (end.file) this.#disk.resume(end.file);
    this.#last = end.last;
    this.#synced = end.synced;
    this.#before = end.before;
    this.#gap = end.suspicion;
    for (const seq of end.open) this.#open.add(seq);
    this.#takeUp(end);
    return this.#last;
  }

  /** Tells what an earlier process left. What can't be told now is counted as lost. */
  #takeUp({ file, gap, open }: End): void {
    if (file && file.tornBytes > 0)
      this.#tell('torn', `a record was not written to its end: ${file.tornBytes} bytes were cut off`, {
        bytes: file.tornBytes,
      });
    if (gap) this.#tellGap(gap);
    for (const seq of open) this.#interrupt(seq);
  }

  /** A suspicion stands as long as the record of it is kept; a remark takes no suspicion's place. */
  #tellGap(gap: Gap): void {
    const seq = this.#tell('gap', gap.why, { ...gap });
    if (gap.suspect || this.#gap?.suspect !== true) this.#gap = { ...gap, seq };
  }

  #interrupt(seq: number): void {
    const begun = findLine(this.folder, seq, this.key);
    const text = (name: string) => (typeof begun?.[name] === 'string' ? begun[name] : undefined);
    const record: LogRecord = {
      time: this.#clock.now(),
      kind: 'audit',
      level: 'error',
      component: 'audit',
      message: `${text('message') ?? `record ${seq}`}: interrupted, no result is known`,
      trace_id: text('trace_id'),
      hostname: text('hostname'),
      principal: text('principal'),
      operation: text('operation'),
      outcome: 'INTERNAL',
    };
    this.#open.delete(seq);
    this.#append({ event: 'interrupted', of: seq, record });
    this.#log.write(record);
  }

  #note(event: Event, message: string, detail: Record<string, unknown>): Entry & { record: LogRecord } {
    const [time, principal] = [this.#clock.now(), system.id];
    return {
      event,
      record: { time, kind: 'audit', level: 'warn', component: 'audit', message, principal, detail },
    };
  }

  #tell(event: Event, message: string, detail: Record<string, unknown>): number | undefined {
    const note = this.#note(event, message, detail);
    const seq = this.#append(note);
    this.#log.write(note.record);
    return seq;
  }

  /** Resolves when what was written so far is on the disk: calls at the same time share the wait. */
  #durable(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ resolve, reject });
    if (!this.#isSyncing) void this.#syncAll();
    return promise;
  }

  async #syncAll(): Promise<void> {
    this.#isSyncing = true;
    while (this.#waiters.length > 0) {
      const waiters = this.#waiters.splice(0);
      try {
        if (await this.#sync()) this.#works();
        for (const { resolve } of waiters) resolve();
      } catch (cause) {
        this.#fails(cause);
        // What those wrote who came meanwhile may be in the same file, which is given up.
        for (const { reject } of [...waiters, ...this.#waiters.splice(0)]) reject(cause);
      }
    }
    this.#isSyncing = false;
  }

  /** Whether there was anything to write, by which alone it is known that it can be. */
  async #sync(): Promise<boolean> {
    const last = this.#last ?? NOTHING;
    if (last.seq <= this.#synced.seq && !this.#disk.isOpen) return false;
    await this.#disk.sync();
    this.#synced = last;
    this.#writeHead();
    return true;
  }

  #writeHead(): void {
    if (!this.#last) return;
    const [last, synced, before, open] = [this.#last, this.#synced, this.#before, [...this.#open]];
    const suspicion = this.#gap?.suspect === true ? this.#gap : undefined;
    this.#head.write({ last, synced, before, open, suspicion, ...this.#disk.place });
  }

  #attempt(run: () => void): boolean {
    try {
      run();
      return true;
    } catch (cause) {
      this.#fails(cause);
      return false;
    }
  }

  #works(): void {
    if (this.#problem === undefined || this.#untold.count > 0) return;
    this.#problem = undefined;
    this.#print('warn', 'the audit trail can be written again');
  }

  #fails(cause: unknown): void {
    this.#giveUp();
    const problem = `the audit trail in ${this.folder} can't be written: ${messageOf(cause)}`;
    if (this.#problem === undefined) {
      this.#print(
        'error',
        `${problem}; until it can, nothing is changed. Make room, or let this user write there`,
      );
    }
    this.#problem = problem;
    if (!this.#isClosed) this.#retryTimer ??= this.#clock.after(RETRY_MS, () => this.#retry());
  }

  /** The next record begins with the folder. */
  #giveUp(): void {
    this.#isPrepared = false;
    this.#head.close();
    try {
      this.#disk.mend();
    } catch {
      // The next record cuts it off, or fails by it.
    }
  }

  #retry(): void {
    this.#retryTimer = undefined;
    if (this.#problem === undefined) return;
    const isBack = this.#attempt(() => {
      this.#ready();
      this.#makeUp();
    });
    if (isBack) this.#durable().catch(() => undefined); // The state has told it.
  }

  #print(level: LogLevel, message: string): void {
    this.#log.write({ time: this.#clock.now(), kind: 'system', level, component: 'system', message });
  }

  #refusal(cause?: unknown): AppError {
    return new AppError(
      'UNAVAILABLE',
      'nothing was changed, since the audit trail can not be written; health_check says why. Make room on the disk, or let the server write its data folder, and try again',
      { cause },
    );
  }
}

export const folderIn = (dataDir: string): string => join(dataDir, 'audit');
