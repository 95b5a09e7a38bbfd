/**
 * Where the trail of an earlier process ends, and whether that is where it said it would. Never fatal: whatever is
 * found, records go on after it, and what is missing is told by the first of them.
 */
import { type Gap, gapSchema, type Head, type HeadFile, isPlace } from './head.ts';
import { lastLine, linesFrom, listFiles, seqIn, type TrailFile, withFile } from './files.ts';
import { isFault, type Line, NOTHING_BEFORE, type Place, readLine } from './line.ts';

export interface End {
  readonly last: Place;
  readonly synced: Place;
  /** What stands before the first record that is kept. */
  readonly before: Place;
  /** Where the next record goes; undefined: into a new file. */
  readonly file: { name: string; length: number; tornBytes: number } | undefined;
  /** Beginnings without an end. */
  readonly open: readonly number[];
  readonly gap: Gap | undefined;
  /** Of an earlier start, or an earlier process. */
  readonly suspicion: Gap | undefined;
}

export const NOTHING: Place = { seq: 0, hash: NOTHING_BEFORE };

export function findEnd(folder: string, headFile: HeadFile, key: Buffer): End {
  const files = listFiles(folder);
  const head = headFile.read();
  if (typeof head === 'string') return withoutHead(files, head, key);
  const start = files.findIndex(({ name }) => name === head.file);
  const file = files[start];
  if (!file || !endsAsSaid(file, head, key)) return goneBack(files, head, key);
  return ahead(files.slice(start), head, key);
}

function endsAsSaid({ path }: TrailFile, head: Head, key: Buffer): boolean {
  return withFile(path, (file, size) => {
    const line = size < head.length ? undefined : lastLine(file, head.length);
    if (line?.end !== head.length) return false;
    const read = readLine(line.text, key);
    return !isFault(read) && isPlace(read, head.last);
  });
}

/** A kill between two writings, or a power failure, leaves records that the head does not know yet. */
function ahead(files: readonly TrailFile[], head: Head, key: Buffer): End {
  const open = new Set(head.open);
  let { suspicion } = head;
  const end = { last: head.last, name: head.file, length: head.length, tornBytes: 0 };
  for (const { name, path } of files) {
    const isWhole = withFile(path, (file, size) => {
      const start = name === head.file ? head.length : 0;
      Object.assign(end, { name, length: start });
      for (const { text, end: next } of linesFrom(file, start)) {
        const line = readLine(text, key);
        if (isFault(line) || line.prev !== end.last.hash || line.seq !== end.last.seq + 1) return false;
        end.last = { seq: line.seq, hash: line.hash };
        end.length = next;
        follow(open, line);
        suspicion = suspicionIn(line) ?? suspicion;
      }
      end.tornBytes = size - end.length;
      return true;
    });
    const { last, tornBytes } = end;
    const isLast = name === files.at(-1)?.name;
    // Only the end of the last file may be torn: after any other one somebody wrote on.
    if (isWhole && (isLast || tornBytes === 0)) continue;
    const gap = {
      expected: last.seq,
      found: last.seq,
      why: `what follows in ${name} is no record of this trail`,
    };
    return { ...head, suspicion, last, open: [...open], file: undefined, gap: { ...gap, suspect: true } };
  }
  const { last, name, length, tornBytes } = end;
  return { ...head, suspicion, last, open: [...open], file: { name, length, tornBytes }, gap: undefined };
}

function follow(open: Set<number>, { event, seq, of }: Line): void {
  if (event === 'begun') open.add(seq);
  else if (of !== undefined) open.delete(of);
}

function suspicionIn({ event, seq, detail }: Line): Gap | undefined {
  const told = event === 'gap' ? gapSchema.safeParse(detail) : undefined;
  return told?.data?.suspect === true ? { ...told.data, seq } : undefined;
}

/** What the head tells of is not there. What was not on the disk yet may have gone with the power. */
function goneBack(files: readonly TrailFile[], head: Head, key: Buffer): End {
  const found = lastOf(files.at(-1), key);
  const seq = found?.last.seq ?? 0;
  const suspect = seq < head.synced.seq || seq > head.last.seq;
  const why = suspect
    ? 'records that were on the disk are gone: somebody cut them off or replaced the file'
    : 'records that were not on the disk yet are gone: the power failed, or somebody cut them off';
  return {
    last: { seq: Math.max(seq, head.last.seq), hash: found?.last.hash ?? NOTHING_BEFORE },
    synced: NOTHING,
    before: head.before,
    file: found?.file,
    open: head.open,
    suspicion: head.suspicion,
    gap: { expected: head.last.seq, found: seq, why, suspect },
  };
}

function withoutHead(files: readonly TrailFile[], state: 'none' | 'damaged', key: Buffer): End {
  const newest = files.at(-1);
  const fresh = {
    last: NOTHING,
    synced: NOTHING,
    before: NOTHING,
    file: undefined,
    open: [],
    gap: undefined,
    suspicion: undefined,
  };
  if (!newest && state === 'none') return fresh;
  const found = lastOf(newest, key);
  const last = found?.last ?? { ...NOTHING, seq: (newest?.first ?? 1) - 1 };
  const why = `the head, by which the end of the trail is known, is ${state === 'none' ? 'gone' : 'damaged'}`;
  const gap = { expected: last.seq, found: last.seq, why, suspect: true };
  const first = files[0]?.first ?? 1;
  return { ...fresh, last, before: { ...NOTHING, seq: first - 1 }, file: found?.file, gap };
}

/** A record that can't be trusted is not gone on from, but its number is not used again. */
function lastOf(newest: TrailFile | undefined, key: Buffer): Pick<End, 'last' | 'file'> | undefined {
  if (!newest) return undefined;
  return withFile(newest.path, (file, size) => {
    const found = lastLine(file, size);
    if (!found) return undefined;
    const line = readLine(found.text, key);
    if (!isFault(line)) {
      const tornBytes = size - found.end;
      return {
        last: { seq: line.seq, hash: line.hash },
        file: { name: newest.name, length: found.end, tornBytes },
      };
    }
    const seq = seqIn(found.text);
    // No record is shorter than a byte: any other number was made up.
    const isLikely = seq >= newest.first && seq < newest.first + size;
    return isLikely ? { last: { seq, hash: NOTHING_BEFORE }, file: undefined } : undefined;
  });
}
