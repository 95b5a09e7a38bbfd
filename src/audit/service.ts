/** What can be asked of the trail. Files are looked at where they lie; the writer says only how far they go. */
import type { OperationContext } from '../core/operation.ts';
import { type Clock, DAY } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { exportPage } from './export.ts';
import { dayOf, linesFrom, listFiles, type TrailFile, withFile } from './files.ts';
import type { Place } from './line.ts';
import type { Exported, VerdictTold } from './schema.ts';
import type { Trail } from './trail.ts';
import { keptHead, toldOf, verify } from './verify.ts';

const PREV = /,"prev":"([0-9a-f]{64})","hash":"[0-9a-f]{64}","mac":"[\w-]{43}"\}$/;

/** Milliseconds since 1970. */
export interface Span {
  since?: number | undefined;
  until?: number | undefined;
}

export interface ExportWish extends Span {
  after?: number | undefined;
  limit: number;
}

export class AuditService {
  readonly #trail: Trail;
  readonly #clock: Clock;
  /** Runs of the disk and of a core: one at a time. Nothing is deleted meanwhile. */
  #isVerifying = false;

  constructor(trail: Trail, clock: Clock) {
    this.#trail = trail;
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  /** @throws AppError RATE_LIMITED while another one is under way, UNAVAILABLE while the files can't be read. */
  async verify(
    { known, ...span }: Span & { known?: string | undefined },
    { signal, progress }: Pick<OperationContext, 'signal' | 'progress'>,
  ): Promise<VerdictTold> {
    if (this.#isVerifying)
      throw new AppError('RATE_LIMITED', 'a verification is under way; ask again when it is done');
    this.#isVerifying = true;
    try {
      const extent = this.#extent();
      const all = listFiles(this.#trail.folder);
      const files = all.filter((file) => isWithin(file, span));
      const verdict = await verify({
        files,
        earlier: files[0] && all[all.indexOf(files[0]) - 1],
        key: this.#trail.key,
        before: extent.before,
        end: { ...extent.last, file: extent.file, length: extent.length, size: extent.size },
        isToEnd: files.at(-1) === all.at(-1) && (files.length > 0 || all.length === 0),
        known: known === undefined ? [] : [keptHead(known)],
        signal,
        progress: (done) =>
          progress?.({ progress: done, message: `${done} records are as they were written` }),
      });
      return toldOf(verdict, extent.last);
    } catch (cause) {
      throw readable(cause);
    } finally {
      this.#isVerifying = false;
    }
  }

  /** @throws AppError UNAVAILABLE while the files can't be read. */
  async export(wish: ExportWish): Promise<Exported> {
    try {
      const files = listFiles(this.#trail.folder).filter((file) => isWithin(file, wish));
      return exportPage(files, wish);
    } catch (cause) {
      throw readable(cause);
    }
  }

  /** Deletes files whose records are all older than that. The newest one stays. */
  sweep(retentionDays: number): void {
    if (this.#isVerifying) return;
    const oldest = dayOf(this.#clock.now() - retentionDays * DAY);
    const files = listFiles(this.#trail.folder);
    const kept = files.findIndex(({ day }, i) => day >= oldest || i === files.length - 1);
    const first = files[kept];
    if (kept <= 0 || !first) return;
    const before = beforeIn(first);
    if (before) this.#trail.retire(files.slice(0, kept), before);
  }

  #extent() {
    const extent = this.#trail.extent();
    if (extent) return extent;
    throw new AppError('UNAVAILABLE', 'the audit trail can not be read now; health_check says why');
  }
}

/** What the system says of a folder or a file (permissions, a link to nowhere, a failing disk), as the caller may know it: without paths. */
function readable(cause: unknown): unknown {
  if (!(cause instanceof Error && 'syscall' in cause && 'code' in cause)) return cause;
  const why = `${String(cause.syscall)}: ${String(cause.code)}`;
  return new AppError(
    'UNAVAILABLE',
    `the files of the audit trail can not be read now (${why}); whoever runs this system has to look at the folder audit in its data directory`,
    { cause },
  );
}

/** What the first record of a file follows. What is no record is no ground to delete what stands before it. */
const beforeIn = ({ path, first }: TrailFile): Place | undefined =>
  withFile(path, (file) => {
    const [line] = linesFrom(file, 0);
    const prev = line && PREV.exec(line.text)?.[1];
    return prev === undefined ? undefined : { seq: first - 1, hash: prev };
  });

/** A file has the records of one day. */
const isWithin = ({ day }: TrailFile, { since, until }: Span): boolean =>
  (since === undefined || day >= dayOf(since)) && (until === undefined || day <= dayOf(until));
