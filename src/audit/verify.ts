/**
 * Whether the trail is as it was written: every record by its hash and MAC, its place by number and by the hash before
 * it, the first by what the head says was deleted, the last by where the writer is. Reads in pieces and lets others
 * work between them. Answers the first fault; what was missing at an earlier start is told as a gap. Called by
 * `service.ts` for the running process and by `offline.ts` for files without one, which knows less of where they end.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { lastLine, type TrailFile, withFile } from './files.ts';
import type { VerdictTold } from './schema.ts';
import { isFault, type Line, MAX_LINE_BYTES, type Place, readLine } from './line.ts';

const CHUNK_BYTES = 64 * 1024;
const LINE_BREAK = 10;
const MAX_GAPS = 20;

export interface Fault {
  readonly file: string;
  /** Where the record begins, in bytes. */
  readonly offset: number;
  readonly seq?: number | undefined;
  readonly message: string;
}

export interface ToldGap {
  readonly seq: number;
  readonly time: string;
  readonly message: string;
}

export interface Verdict {
  records: number;
  from: number | undefined;
  to: number | undefined;
  /** The last one. */
  last: Place | undefined;
  fault: Fault | undefined;
  gaps: ToldGap[];
  /** Records that could not be written at the time, by what the trail says. */
  lost: number;
}

/** A record that has to be among those that are looked at. */
export interface Known {
  readonly place: Place;
  readonly changed: string;
  readonly missing: string;
}

/** `first` where its name says it. */
export type WalkedFile = Pick<TrailFile, 'name' | 'path'> & Partial<Pick<TrailFile, 'first'>>;

export interface Walk {
  /** In their order, without one left out. */
  readonly files: readonly WalkedFile[];
  /** The one before the first of them. */
  readonly earlier: WalkedFile | undefined;
  /** Absent: MACs are not checked. */
  readonly key: Buffer | undefined;
  /** What was deleted before the first file that is kept. Absent: the first record may be any. */
  readonly before: Place | undefined;
  /** Where the writer is, and how long its file was then; no more of it than `length` is read. Absent: nobody knows. */
  readonly end: (Place & { file: string; length: number; size: number }) | undefined;
  /** Whether the files are all up to there. */
  readonly isToEnd: boolean;
  /** The last file may be in use: what has no line break yet is no record. */
  readonly mayGrow?: boolean | undefined;
  readonly known?: readonly Known[] | undefined;
  readonly signal: AbortSignal;
  readonly progress: (records: number) => void;
}

/** @throws AbortError, and what the system says of a file. */
export async function verify(walk: Walk): Promise<Verdict> {
  const walker = new Walker(walk);
  for (const file of walk.files) {
    walker.enter(file);
    await readFileOf(walk, file, walker);
    if (walker.verdict.fault) break;
  }
  walker.finish();
  return walker.verdict;
}

/** `head`: where the trail ends. */
export const toldOf = (
  { records, from, to, fault, gaps, lost }: Verdict,
  head: Place | undefined,
): VerdictTold => ({
  intact: fault === undefined,
  records,
  ...(from !== undefined && { from_seq: from }),
  ...(to !== undefined && { to_seq: to }),
  ...(fault && { fault: { ...fault } }),
  gaps: gaps.map((gap) => ({ ...gap })),
  lost_records: lost,
  ...(head && { head: `${head.seq}.${head.hash}` }),
});

/** A head that an auditor kept, as `toldOf` tells it. */
export function keptHead(head: string): Known {
  const [text = '', hash = ''] = head.split('.');
  const seq = Number(text);
  return {
    place: { seq, hash },
    changed: 'has another hash than the one you kept: what is here was written anew',
    missing: `record ${seq}, of which you have the hash, is not among those that were looked at`,
  };
}

async function readFileOf(
  { files, end, mayGrow, signal, progress }: Walk,
  { name, path }: WalkedFile,
  walker: Walker,
): Promise<void> {
  const limit = name === end?.file ? end.length : Number.POSITIVE_INFINITY;
  const isGrowing = mayGrow === true && name === files.at(-1)?.name;
  const file = await open(path, 'r');
  try {
    let at = 0;
    let rest: Buffer = Buffer.alloc(0);
    for (;;) {
      signal.throwIfAborted();
      const chunk = await readChunk(file, at + rest.length, limit);
      if (chunk.length === 0) break;
      rest = Buffer.concat([rest, chunk]);
      for (let stop = rest.indexOf(LINE_BREAK); stop >= 0; stop = rest.indexOf(LINE_BREAK)) {
        if (!walker.take(rest.toString('latin1', 0, stop), at)) return;
        at += stop + 1;
        rest = rest.subarray(stop + 1);
      }
      if (rest.length > MAX_LINE_BYTES) return walker.blame(at, 'is no record of this trail');
      progress(walker.verdict.records);
    }
    if (rest.length > 0 && !isGrowing) walker.blame(at, 'is not whole');
    else if (limit !== Number.POSITIVE_INFINITY && at < limit)
      walker.blame(at, 'records that were written here are gone: they were cut off');
  } finally {
    await file.close();
  }
}

async function readChunk(file: FileHandle, at: number, limit: number): Promise<Buffer> {
  const size = Math.min(CHUNK_BYTES, limit - at);
  if (size <= 0) return Buffer.alloc(0);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, at);
  return buffer.subarray(0, bytesRead);
}

class Walker {
  readonly verdict: Verdict = {
    records: 0,
    from: undefined,
    to: undefined,
    last: undefined,
    fault: undefined,
    gaps: [],
    lost: 0,
  };
  readonly #walk: Walk;
  #file: WalkedFile | undefined;
  #last: Place | undefined;
  readonly #seen = new Set<Known>();

  constructor(walk: Walk) {
    this.#walk = walk;
    const { earlier, key, before } = walk;
    this.#last = earlier ? placeAtEnd(earlier, key) : before;
  }

  enter(file: WalkedFile): void {
    this.#file = file;
  }

  /** Whether to go on. */
  take(text: string, offset: number): boolean {
    const line = readLine(text, this.#walk.key);
    const message = isFault(line) ? line.fault : this.#faultOf(line, offset);
    if (isFault(line) || message !== undefined) {
      this.blame(offset, message ?? '', isFault(line) ? undefined : line.seq);
      return false;
    }
    const { verdict } = this;
    verdict.records += 1;
    verdict.from ??= line.seq;
    verdict.to = line.seq;
    this.#last = { seq: line.seq, hash: line.hash };
    verdict.last = this.#last;
    return true;
  }

  blame(offset: number, message: string, seq?: number): void {
    this.verdict.fault ??= { file: this.#file?.name ?? '', offset, seq, message };
  }

  finish(): void {
    const { end, isToEnd, known } = this.#walk;
    const { verdict } = this;
    if (verdict.fault) return;
    if (end && isToEnd && (this.#last?.seq !== end.seq || this.#last.hash !== end.hash))
      this.blame(
        end.length,
        `the trail should end with record ${end.seq}; what follows ${this.#last?.seq ?? 0} is gone`,
      );
    else if (end && isToEnd && end.size > end.length)
      this.blame(end.length, 'what follows was not written by this system');
    const unseen = known?.find((one) => !this.#seen.has(one));
    if (unseen) this.blame(0, unseen.missing);
  }

  /** What is wrong with its place. */
  #faultOf(line: Line, offset: number): string | undefined {
    const isFirst = offset === 0;
    if (isFirst && this.#file?.first !== undefined && line.seq !== this.#file.first)
      return `the file begins with record ${line.seq}, and not as its name says`;
    for (const one of this.#walk.known ?? []) {
      if (one.place.seq !== line.seq) continue;
      this.#seen.add(one);
      if (one.place.hash !== line.hash) return one.changed;
    }
    if (line.event === 'lost') this.verdict.lost += countIn(line);
    if (line.event === 'gap') return this.#gapFault(line);
    return this.#placeFault(line);
  }

  #placeFault({ seq, prev }: Line): string | undefined {
    const last = this.#last;
    // Files that were to be deleted with those before them, when something came between.
    const { before, earlier } = this.#walk;
    const isLeftOver = this.verdict.records === 0 && !earlier && (!before || seq <= before.seq);
    if (isLeftOver) return undefined;
    if (!last) return 'what stands before it is no record of this trail';
    if (seq !== last.seq + 1)
      return `follows record ${last.seq}: those between them are gone, or out of order`;
    return prev === last.hash ? undefined : `does not follow the record ${last.seq} that stands before it`;
  }

  /** It says itself that it doesn't follow, under a MAC. */
  #gapFault({ seq, time, prev, message, detail }: Line): string | undefined {
    const told = typeof message === 'string' ? message : '';
    if (this.verdict.gaps.length < MAX_GAPS) this.verdict.gaps.push({ seq, time, message: told });
    const isSuspect =
      typeof detail !== 'object' || detail === null || !('suspect' in detail) || detail.suspect !== false;
    if (isSuspect) return told;
    return prev === this.#last?.hash ? undefined : 'does not follow the record that stands before it';
  }
}

function countIn({ detail }: Line): number {
  const count = typeof detail === 'object' && detail !== null && 'count' in detail ? detail.count : 0;
  return typeof count === 'number' ? count : 0;
}

function placeAtEnd({ path }: WalkedFile, key: Buffer | undefined): Place | undefined {
  return withFile(path, (file, size) => {
    const found = lastLine(file, size);
    const line = found && readLine(found.text, key);
    return line && !isFault(line) ? line : undefined;
  });
}
