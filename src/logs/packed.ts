/**
 * Days that are over, compressed: one file with the day's SQLite file in pieces (zstd, RFC 8878) and, readable as it is,
 * its counts by minute and hour. Made a piece at a time by the writer thread between its batches; unpacked into a folder of
 * its own by the reader thread when somebody asks for records (query.ts). Where a day has both files, the plain one counts.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import BetterSqlite3, { type Database } from 'better-sqlite3';
import { DAY, HOUR } from '../core/clock.ts';
import { syncFolder, syncPath } from '../core/folder.ts';
import { packedPathOf, packingPathOf, pathOf } from './folder.ts';
import { hasRollup, ROLLUP_SCHEMA, SPANS } from './rollup.ts';

/** Some 15 ms of work: what a batch of records waits at most. */
const PIECE_BYTES = 4 * 1024 * 1024;
const OWNER_ONLY_FILE = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const FORMAT = 1;
const ZSTD = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

const SCHEMA = `
  create table pieces (number integer primary key, data blob not null);
  pragma user_version = ${FORMAT};`;

/** One day on its way into its packed file. Nobody writes to the day meanwhile; who must calls `abort`. */
export class Packing {
  readonly day: string;
  readonly #directory: string;
  readonly #packing: string;
  readonly #target: Database;
  readonly #source: number;
  #pieces = 0;
  /** Hours whose counts are copied. */
  #hours = 0;

  /** @throws Error when the day can't be read or there is no room; nothing is left behind then. */
  constructor(directory: string, day: string) {
    this.day = day;
    this.#directory = directory;
    this.#packing = packingPathOf(directory, day);
    const plain = pathOf(directory, day);
    settle(plain);
    rmSync(this.#packing, { force: true });
    closeSync(openSync(this.#packing, 'w', OWNER_ONLY_FILE));
    this.#target = new BetterSqlite3(this.#packing);
    try {
      // Who is killed begins anew, so nothing is to be recovered.
      this.#target.pragma('journal_mode = OFF');
      this.#target.pragma('synchronous = OFF');
      this.#target.exec(SCHEMA);
      this.#target.prepare('attach ? as plain').run(plain);
      if (hasRollup(this.#target, 'plain')) this.#target.exec(ROLLUP_SCHEMA);
      else this.#hours = DAY / HOUR;
      this.#source = openSync(plain, 'r');
    } catch (cause) {
      this.#target.close();
      rmSync(this.#packing, { force: true });
      throw cause;
    }
  }

  /** One piece of work; true when the day is packed and its plain file gone. @throws Error as `constructor`. */
  step(): boolean {
    try {
      if (this.#hours < DAY / HOUR) this.#copyHour();
      else if (!this.#copyPiece()) {
        this.#finish();
        return true;
      }
      return false;
    } catch (cause) {
      this.abort();
      throw cause;
    }
  }

  abort(): void {
    this.#close();
    rmSync(this.#packing, { force: true });
  }

  #copyHour(): void {
    const start = Date.parse(this.day) + this.#hours * HOUR;
    this.#target
      .prepare('insert into sums select * from plain.sums where span in (?, ?) and start >= ? and start < ?')
      .run(...SPANS, start, start + HOUR);
    this.#hours += 1;
  }

  /** False at the end of the file. */
  #copyPiece(): boolean {
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    const length = readSync(this.#source, piece, 0, PIECE_BYTES, this.#pieces * PIECE_BYTES);
    if (length === 0) return false;
    this.#pieces += 1;
    this.#target
      .prepare('insert into pieces values (?, ?)')
      .run(this.#pieces, zstdCompressSync(piece.subarray(0, length), ZSTD));
    return length === PIECE_BYTES;
  }

  /** Durable before the plain file goes. */
  #finish(): void {
    this.#close();
    syncPath(this.#packing);
    renameSync(this.#packing, packedPathOf(this.#directory, this.day));
    syncFolder(this.#directory);
    removePlain(this.#directory, this.day);
  }

  #close(): void {
    if (!this.#target.open) return;
    this.#target.close();
    closeSync(this.#source);
  }
}

/** A packed day on its way back; goes on where it stopped. */
export class Unpacking {
  readonly #packed: Database;
  readonly #path: string;
  readonly #file: number;
  #pieces = 0;

  /** @throws NoRoom when less than `reserveBytes` of the disk would stay free. */
  constructor(packedPath: string, path: string, reserveBytes: number) {
    this.#packed = new BetterSqlite3(packedPath, { readonly: true });
    this.#path = path;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: OWNER_ONLY_FOLDER });
      refuseWithoutRoom(dirname(path), piecesIn(this.#packed) * PIECE_BYTES + reserveBytes);
      this.#file = openSync(path, 'w', OWNER_ONLY_FILE);
    } catch (cause) {
      this.#packed.close();
      throw cause;
    }
  }

  /** True when the file is whole. @throws Error when there is no room or a piece is damaged; nothing is left then. */
  step(): boolean {
    try {
      const piece = this.#packed
        .prepare<unknown[], { data: Buffer }>('select data from pieces where number = ?')
        .get(this.#pieces + 1);
      if (!piece) {
        this.#close();
        return true;
      }
      const data = unpacked(piece.data);
      for (let done = 0; done < data.length; ) done += writeSync(this.#file, data, done);
      this.#pieces += 1;
      return false;
    } catch (cause) {
      this.abort();
      throw cause;
    }
  }

  abort(): void {
    this.#close();
    rmSync(this.#path, { force: true });
  }

  #close(): void {
    if (!this.#packed.open) return;
    this.#packed.close();
    closeSync(this.#file);
  }
}

class NoRoom extends Error {}
class DamagedPiece extends Error {}

export const isDamagedPiece = (cause: unknown): boolean => cause instanceof DamagedPiece;
export const isNoRoom = (cause: unknown): boolean =>
  cause instanceof NoRoom || (cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC');

function refuseWithoutRoom(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < bytes) throw new NoRoom(`${folder} has no room for ${bytes} bytes`);
}

function piecesIn(packed: Database): number {
  const found = packed.prepare<[], { count: number }>('select count(*) as count from pieces').get();
  return found?.count ?? 0;
}

function unpacked(data: Buffer): Buffer {
  try {
    return zstdDecompressSync(data, { maxOutputLength: PIECE_BYTES });
  } catch (cause) {
    throw new DamagedPiece('a piece of a packed day is damaged', { cause });
  }
}

/** For a record that comes late, by a clock that was set back: the day is plain again. */
export function restore(directory: string, day: string): void {
  const packed = packedPathOf(directory, day);
  if (!existsSync(packed)) return;
  if (existsSync(pathOf(directory, day))) return rmSync(packed);
  const path = packingPathOf(directory, day);
  const unpacking = new Unpacking(packed, path, 0);
  while (!unpacking.step()) continue;
  syncPath(path);
  renameSync(path, pathOf(directory, day));
  syncFolder(directory);
  rmSync(packed);
}

/** All of the day is in the one file then. @throws Error when somebody reads in it just now. */
function settle(path: string): void {
  const connection = new BetterSqlite3(path, { fileMustExist: true });
  try {
    const [result] = connection.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
    if (result?.busy !== 0) throw new Error(`${path} is being read`);
  } finally {
    connection.close();
  }
  if (statSync(path).size === 0) throw new Error(`${path} is empty`);
}

function removePlain(directory: string, day: string): void {
  const path = pathOf(directory, day);
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
}
