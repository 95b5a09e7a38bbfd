/**
 * The trail without the process that writes it: a folder of its files, or files that were exported or copied. What is
 * checked of a record is what `verify_audit` checks, with the key where it is there. Where the trail has to end is known
 * by the head beside its files, or by one that an auditor kept. Reads only, also where a process is writing. Called by
 * `src/verify-audit-files.ts`.
 */
import { basename, dirname } from 'node:path';
import { AppError } from '../core/errors.ts';
import { fileOf, listFiles } from './files.ts';
import { type Head, headIn, type ReadHead } from './head.ts';
import type { Place } from './line.ts';
import type { VerdictTold } from './schema.ts';
import { type Fault, keptHead, type Known, toldOf, verify, type Verdict } from './verify.ts';

export interface OfflineWish {
  /** Absent: who made the records is not known, only that they follow each other. */
  readonly key: Buffer | undefined;
  /** A head of before. */
  readonly known: string | undefined;
  readonly signal: AbortSignal;
}

/** @throws AppError NOT_FOUND where there is no record, and what the system says of a file. */
export async function verifyFolder(folder: string, wish: OfflineWish): Promise<VerdictTold> {
  const { key } = wish;
  // First: a process may write on meanwhile, and what the head knows is in the files by then.
  const head = headIn(folder, key);
  const before = beforeIn(head);
  try {
    const verdict = await walkFolder(folder, head, wish);
    if (!verdict.fault || isSame(before, beforeIn(headIn(folder, key)))) return told(verdict);
  } catch (cause) {
    if (isSame(before, beforeIn(headIn(folder, key)))) throw cause;
  }
  // Files were deleted for their age while they were read: once a day at most.
  return told(await walkFolder(folder, headIn(folder, key), wish));
}

async function walkFolder(
  folder: string,
  head: ReadHead,
  { key, known, signal }: OfflineWish,
): Promise<Verdict> {
  const files = listFiles(folder);
  const isHead = typeof head !== 'string';
  const verdict = await verify({
    files,
    key,
    signal,
    earlier: undefined,
    before: beforeIn(head),
    end: undefined,
    isToEnd: true,
    mayGrow: true,
    known: [...(isHead && head.last.seq > 0 ? [endOf(head)] : []), ...knownIn(known)],
    progress: () => undefined,
  });
  if (!isHead && (files.length > 0 || head === 'damaged')) verdict.fault ??= headFault(head, key);
  return verdict;
}

const beforeIn = (head: ReadHead): Place | undefined => (typeof head === 'string' ? undefined : head.before);
const isSame = (one: Place | undefined, other: Place | undefined): boolean =>
  one?.seq === other?.seq && one?.hash === other?.hash;

/** In the order in which they are given: each goes on where the one before it ends. @throws what the system says of a file. */
export async function verifyExports(
  paths: readonly string[],
  { key, known, signal }: OfflineWish,
): Promise<VerdictTold> {
  const verdict = await verify({
    files: paths.map((path) => ({ ...fileOf(dirname(path), basename(path)), name: basename(path), path })),
    key,
    signal,
    earlier: undefined,
    before: undefined,
    end: undefined,
    isToEnd: false,
    known: knownIn(known),
    progress: () => undefined,
  });
  return told(verdict);
}

/** Nothing is not whole: somebody named the wrong place, or all of it is gone. */
function told(verdict: Verdict): VerdictTold {
  if (verdict.records > 0 || verdict.fault) return toldOf(verdict, verdict.last);
  throw new AppError('NOT_FOUND', 'there is no record of an audit trail');
}

const knownIn = (head: string | undefined): Known[] => (head === undefined ? [] : [keptHead(head)]);

const endOf = ({ last }: Head): Known => ({
  place: last,
  changed: 'has another hash than the head says: it was written anew',
  missing: `record ${last.seq}, up to which the head says the trail goes, is not there: records were cut off, or a power failure took them`,
});

const headFault = (head: 'none' | 'damaged', key: Buffer | undefined): Fault => ({
  file: 'head',
  offset: 0,
  message:
    head === 'none'
      ? 'is gone: where the trail has to end is not known. Of files that were copied without it, name the files'
      : `is damaged${key ? ', or was not written under this master key' : ''}: where the trail has to end is not known`,
});
