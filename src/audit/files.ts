/**
 * The files of the trail: `2026-12-01-000000000123.ndjson` begins with record 123. Their names sort as their records
 * do. Finding places in them, by reading as little as is needed.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { isFault, type Line, MAX_LINE_BYTES, readLine } from './line.ts';

const NAME = /^(\d{4}-\d\d-\d\d)-(\d{12})\.ndjson$/;
const SEQ_DIGITS = 12;
const DAY_LENGTH = 10;
const LINE_BREAK = 10;
const CHUNK_BYTES = 64 * 1024;

export interface TrailFile {
  readonly name: string;
  readonly path: string;
  /** `2026-12-01`, in UTC. */
  readonly day: string;
  /** Of its first record. */
  readonly first: number;
}

export const dayOf = (time: number): string => new Date(time).toISOString().slice(0, DAY_LENGTH);

export const nameOf = (day: string, first: number): string =>
  `${day}-${String(first).padStart(SEQ_DIGITS, '0')}.ndjson`;

export function fileOf(folder: string, name: string): TrailFile | undefined {
  const [, day, first] = NAME.exec(name) ?? [];
  return day === undefined ? undefined : { name, path: join(folder, name), day, first: Number(first) };
}

/** In the order of their records. @throws what the system says, unless the folder is missing. */
export function listFiles(folder: string): TrailFile[] {
  return namesIn(folder)
    .flatMap((name) => fileOf(folder, name) ?? [])
    .sort((a, b) => a.first - b.first || (a.name < b.name ? -1 : 1));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return [];
    throw cause;
  }
}

/** `run` with an open file, which is closed after it. */
export function withFile<Result>(path: string, run: (file: number, size: number) => Result): Result {
  const file = openSync(path, 'r');
  try {
    return run(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
}

export interface FoundLine {
  readonly text: string;
  /** Where it begins and where the next one does, in bytes. */
  readonly start: number;
  readonly end: number;
}

/** Whole lines from `start` on, one after the other; what has no line break yet is left. */
export function* linesFrom(file: number, start: number): Generator<FoundLine> {
  let rest: Buffer = Buffer.alloc(0);
  let at = start;
  for (;;) {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const size = readSync(file, chunk, 0, CHUNK_BYTES, at + rest.length);
    if (size === 0) return;
    rest = Buffer.concat([rest, chunk.subarray(0, size)]);
    for (let end = rest.indexOf(LINE_BREAK); end >= 0; end = rest.indexOf(LINE_BREAK)) {
      yield { text: rest.toString('latin1', 0, end), start: at, end: at + end + 1 };
      at += end + 1;
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_LINE_BYTES) return;
  }
}

/** The last whole line within the first `size` bytes. */
export function lastLine(file: number, size: number): FoundLine | undefined {
  const bytes = Math.min(size, 2 * MAX_LINE_BYTES);
  const tail = Buffer.alloc(bytes);
  readSync(file, tail, 0, bytes, size - bytes);
  const end = tail.lastIndexOf(LINE_BREAK);
  if (end < 0) return undefined;
  const before = end === 0 ? -1 : tail.lastIndexOf(LINE_BREAK, end - 1);
  const offset = size - bytes;
  return {
    text: tail.toString('latin1', before + 1, end),
    start: offset + before + 1,
    end: offset + end + 1,
  };
}

/** Where the first record from `seq` on begins, in bytes: by halving, since their numbers rise. */
export function offsetOf(file: number, size: number, seq: number): number {
  let [low, high] = [0, size];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const line = lineAfter(file, middle);
    if (line && line.start < high && seqIn(line.text) < seq) low = line.end;
    else high = middle;
  }
  return lineAfter(file, low)?.start ?? size;
}

/** The first line that begins at `offset` or after it. */
function lineAfter(file: number, offset: number): FoundLine | undefined {
  if (offset === 0) return linesFrom(file, 0).next().value ?? undefined;
  const [cut] = linesFrom(file, offset - 1);
  return cut && (linesFrom(file, cut.end).next().value ?? undefined);
}

const SEQ = /^\{"seq":(\d{1,15}),/;
/** What is no record is passed over: it is for the verification to find. */
export const seqIn = (text: string): number => Number(SEQ.exec(text)?.[1] ?? 0);

/** One record by its number. */
export function findLine(folder: string, seq: number, key: Buffer): Line | undefined {
  const file = listFiles(folder).findLast(({ first }) => first <= seq);
  if (!file) return undefined;
  return withFile(file.path, (open, size) => {
    const [found] = linesFrom(open, offsetOf(open, size, seq));
    const line = found && readLine(found.text, key);
    return line && !isFault(line) && line.seq === seq ? line : undefined;
  });
}
