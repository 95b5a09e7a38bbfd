/** Records as they are kept, a page at a time. */
import { linesFrom, offsetOf, type TrailFile, withFile } from './files.ts';
import type { Exported } from './schema.ts';
import type { ExportWish } from './service.ts';

/** More than any page of usual records; a page is held in memory. */
const MAX_PAGE_BYTES = 1024 * 1024;
/** Of lines that are passed over because of their time, in one call: all others wait while they are read. */
const MAX_LOOKED_AT_BYTES = 2 * 1024 * 1024;
const HEADER = /^\{"seq":(\d{1,15}),"time":"([^"]{1,40})"/;

/** `files`: in the order of their records. */
export function exportPage(
  files: readonly TrailFile[],
  { after = 0, since, until, limit }: ExportWish,
): Exported {
  const lines: string[] = [];
  const page = { bytes: 0, lookedAt: 0, last: undefined as number | undefined };
  const isFull = () =>
    lines.length >= limit || page.bytes >= MAX_PAGE_BYTES || page.lookedAt >= MAX_LOOKED_AT_BYTES;
  for (const { path } of from(files, after)) {
    withFile(path, (file, size) => {
      for (const { text, start, end } of linesFrom(file, offsetOf(file, size, after + 1))) {
        if (isFull()) return;
        const { seq, time } = headerOf(text);
        page.lookedAt += end - start;
        page.last = seq ?? page.last;
        if ((since !== undefined && time < since) || (until !== undefined && time >= until)) continue;
        page.bytes += text.length;
        lines.push(`${text}\n`);
      }
    });
    if (isFull()) break;
  }
  return {
    ndjson: lines.join(''),
    records: lines.length,
    ...(page.last !== undefined && { last_seq: page.last }),
    complete: !isFull(),
  };
}

/** The first of them may begin earlier and go on behind it. */
function from(files: readonly TrailFile[], after: number): readonly TrailFile[] {
  const start = files.findLastIndex(({ first }) => first <= after + 1);
  return files.slice(Math.max(0, start));
}

/** What was changed by somebody is exported all the same: whoever gets it can see that. */
function headerOf(text: string): { seq: number | undefined; time: number } {
  const [, seq, time = ''] = HEADER.exec(text) ?? [];
  return { seq: seq === undefined ? undefined : Number(seq), time: Date.parse(time) };
}
