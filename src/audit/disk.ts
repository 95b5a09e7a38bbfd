/**
 * The file that records are appended to. A record is in the hands of the system when `append` returns: it outlives the
 * process. It is on the disk after `sync`, of which calls at the same time share one.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeFolder, syncFolder } from '../core/folder.ts';
import { dayOf, listFiles, nameOf } from './files.ts';

const OWNER_ONLY_FILE = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
/** A file that an auditor can carry away, and that is verified in a second or two. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const syncData = promisify(fdatasync);

export interface DiskPlace {
  readonly file: string;
  /** Where the next record begins, in bytes. */
  readonly length: number;
}

interface Open {
  readonly file: number;
  readonly name: string;
  length: number;
  /** A record was written in part: what is there of it goes before the next one. */
  isTorn: boolean;
}

export class TrailDisk {
  readonly #folder: string;
  #open: Open | undefined;
  /** Files that a sync may still be at work on. */
  #left: number[] = [];
  #syncing = 0;
  #bytes = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Of all files. */
  get bytes(): number {
    return this.#bytes;
  }

  get place(): DiskPlace {
    return { file: this.#open?.name ?? '', length: this.#open?.length ?? 0 };
  }

  /** Of the file that is written, whoever made it so long. */
  size(): number {
    return this.#open ? (this.#found(this.#open)?.size ?? 0) : 0;
  }

  /** Makes the folder where it is missing. @throws what the system says. */
  prepare(): void {
    makeFolder(this.#folder, OWNER_ONLY_FOLDER);
    chmodSync(this.#folder, OWNER_ONLY_FOLDER);
    this.measure();
  }

  measure(): void {
    this.#bytes = listFiles(this.#folder).reduce((sum, { path }) => sum + statSync(path).size, 0);
  }

  /** Goes on in a file of an earlier process. What stands after `length` is cut off. */
  resume({ name, length, tornBytes }: { name: string; length: number; tornBytes: number }): void {
    const file = openSync(join(this.#folder, name), O_WRONLY | O_NOFOLLOW);
    this.#open = { file, name, length, isTorn: tornBytes > 0 };
  }

  /**
   * @param seq of the record, for the name of a file that begins with it.
   * @throws what the system says; then nothing of the text counts as written.
   */
  append(text: string, { seq, now }: { seq: number; now: number }): void {
    const open = this.#fileFor(text.length, seq, now);
    if (open.isTorn) ftruncateSync(open.file, open.length);
    open.isTorn = true;
    let written = 0;
    while (written < text.length)
      written += writeSync(
        open.file,
        written === 0 ? text : text.slice(written),
        open.length + written,
        'latin1',
      );
    open.length += written;
    open.isTorn = false;
    this.#bytes += written;
  }

  /** Cuts off what was written of a record in part. Where that fails, the next record does it. */
  mend(): void {
    const open = this.#open;
    if (!open?.isTorn) return;
    ftruncateSync(open.file, open.length);
    open.isTorn = false;
  }

  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  /**
   * @throws what the system says; then the next record begins a new file, since nobody knows what is on the disk. Also
   * where no file is open: what was written before is in one that was given up.
   */
  async sync(): Promise<void> {
    const open = this.#open;
    if (!open) throw new Error('the file of the last records was given up');
    this.#syncing += 1;
    try {
      await syncData(open.file);
    } catch (cause) {
      if (this.#open === open) this.#leave(open);
      throw cause;
    } finally {
      this.#syncing -= 1;
      if (this.#syncing === 0) for (const file of this.#left.splice(0)) closeSync(file);
    }
  }

  /** Whether the file is still the one that its name leads to. */
  isThere(): boolean {
    const open = this.#open;
    return !open || this.#found(open)?.ino === fstatSync(open.file).ino;
  }

  /** The next record begins a new file. */
  leave(): void {
    if (this.#open) this.#leave(this.#open);
  }

  #fileFor(length: number, seq: number, now: number): Open {
    const today = dayOf(now);
    const open = this.#open;
    // A clock that was set back goes on in the file of the later day.
    if (open && open.name.slice(0, today.length) >= today && open.length + length <= MAX_FILE_BYTES)
      return open;
    const day = open && open.name.slice(0, today.length) > today ? open.name.slice(0, today.length) : today;
    const name = nameOf(day, seq);
    const file = makeFile(join(this.#folder, name));
    if (open) {
      fdatasyncSync(open.file);
      this.#leave(open);
    }
    this.#open = { file, name, length: 0, isTorn: false };
    syncFolder(this.#folder);
    return this.#open;
  }

  #found({ name }: Open) {
    return statSync(join(this.#folder, name), { throwIfNoEntry: false });
  }

  #leave({ file }: Open): void {
    this.#open = undefined;
    if (this.#syncing > 0) this.#left.push(file);
    else closeSync(file);
  }
}

/** What has the name already can hold none of our records, for its number is a new one: it is set aside. */
function makeFile(path: string): number {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0) renameSync(path, `${path}.damaged`);
  return openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, OWNER_ONLY_FILE);
}
