/**
 * The files of days as the reader thread has them: opened when their turn comes, a few at once, and packed ones unpacked
 * into a folder that is this thread's own and goes with it.
 */
import { existsSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import BetterSqlite3, { type Database } from 'better-sqlite3';
import { packedPathOf, pathOf, readableDays, unpackedFolderOf } from './folder.ts';
import type { LeftOut } from './left-out.ts';
import { isDamagedPiece, isNoRoom, Unpacking } from './packed.ts';
import { SCHEMA_VERSION } from './store.ts';

const BUSY_TIMEOUT_MS = 1000;
const MAX_OPEN = 8;
/** What unpacked days may take of the disk: the one that is read, and the one beside it. */
const MAX_UNPACKED = 2;
/** What unpacking leaves free of the disk, for what is written meanwhile. */
const RESERVE_BYTES = 256 * 1024 ** 2;
const SKIPPED = new Set(['SQLITE_CANTOPEN', 'SQLITE_NOTADB']);

export class DayFiles {
  readonly #directory: string;
  readonly #open = new Map<string, { connection: Database; inode: number | undefined }>();
  /** Days that are unpacked, or on their way: then with what is left to do. Longest first. */
  readonly #unpacked = new Map<string, Unpacking | undefined>();
  /** Days that can't be read, with the file that it was: another one is tried. */
  readonly #damaged = new Map<string, number | undefined>();
  #leftOut = new Map<string, LeftOut['why']>();
  readonly #reserveBytes: number;

  constructor(directory: string, reserveBytes = RESERVE_BYTES) {
    this.#directory = directory;
    this.#reserveBytes = reserveBytes;
    rmSync(unpackedFolderOf(directory), { recursive: true, force: true });
  }

  /** Days that can be read, newest first. What retention took is let go of. */
  days(): string[] {
    const days = readableDays(this.#directory);
    const present = new Set(days);
    for (const day of this.#damaged.keys()) if (!present.has(day)) this.#damaged.delete(day);
    this.#leftOut = new Map();
    for (const day of this.#unpacked.keys())
      if (!present.has(day) || existsSync(pathOf(this.#directory, day))) this.#remove(day);
    // A day that is packed and plain again is another file by the same name.
    for (const [path, { inode }] of this.#open) if (inodeOf(path) !== inode) this.#close(path);
    return days;
  }

  /** What is read of a day; undefined when that can't be done, which costs the other days nothing: see `leftOut`. */
  read<T>(day: string, ask: () => T): T | undefined {
    const inode = inodeOf(pathOf(this.#directory, day)) ?? inodeOf(packedPathOf(this.#directory, day));
    if (this.#damaged.has(day) && this.#damaged.get(day) === inode) {
      this.#leftOut.set(day, 'damaged');
      return undefined;
    }
    try {
      return ask();
    } catch (cause) {
      const isDamage = isDamaged(cause);
      if (!isDamage && !isNoRoom(cause)) throw cause;
      if (isDamage) this.#damaged.set(day, inode);
      this.#leftOut.set(day, isDamage ? 'damaged' : 'no_room');
      this.#remove(day);
      return undefined;
    }
  }

  /** Of the days since `days` was asked. */
  leftOut(): LeftOut[] {
    return [...this.#leftOut].map(([day, why]) => ({ day, why }));
  }

  /** Undefined while the file has no table yet, or has one of another version; `late` when the time is up before it is unpacked. */
  records(day: string, isLate: () => boolean): Database | 'late' | undefined {
    const plain = this.#connect(pathOf(this.#directory, day));
    const packed = packedPathOf(this.#directory, day);
    if (plain || !existsSync(packed)) return plain;
    const path = this.#unpackedPathOf(day);
    if (!this.#unpacked.has(day)) this.#begin(day, new Unpacking(packed, path, this.#reserveBytes));
    const unpacking = this.#unpacked.get(day);
    while (unpacking) {
      if (isLate()) return 'late';
      if (this.#goOn(day, unpacking)) break;
    }
    return this.#connect(path);
  }

  /** Where the counts of the day are: there is nothing to unpack for them. */
  counts(day: string): Database | undefined {
    return this.#connect(pathOf(this.#directory, day)) ?? this.#connect(packedPathOf(this.#directory, day));
  }

  close(): void {
    for (const day of this.#unpacked.keys()) this.#remove(day);
    for (const path of this.#open.keys()) this.#close(path);
    rmSync(unpackedFolderOf(this.#directory), { recursive: true, force: true });
  }

  #begin(day: string, unpacking: Unpacking): void {
    const [longest] = this.#unpacked.keys();
    if (longest !== undefined && this.#unpacked.size >= MAX_UNPACKED) this.#remove(longest);
    this.#unpacked.set(day, unpacking);
  }

  #goOn(day: string, unpacking: Unpacking): boolean {
    try {
      const isWhole = unpacking.step();
      if (isWhole) this.#unpacked.set(day, undefined);
      return isWhole;
    } catch (cause) {
      this.#unpacked.delete(day);
      throw cause;
    }
  }

  #remove(day: string): void {
    this.#unpacked.get(day)?.abort();
    this.#unpacked.delete(day);
    const path = this.#unpackedPathOf(day);
    this.#close(path);
    rmSync(path, { force: true });
  }

  #unpackedPathOf(day: string): string {
    return join(unpackedFolderOf(this.#directory), `${day}.sqlite`);
  }

  #connect(path: string): Database | undefined {
    const known = this.#open.get(path);
    if (known) return known.connection;
    const inode = inodeOf(path);
    const connection = openForReading(path);
    if (!connection) return undefined;
    const [longestOpen] = this.#open.keys();
    if (longestOpen !== undefined && this.#open.size >= MAX_OPEN) this.#close(longestOpen);
    this.#open.set(path, { connection, inode });
    return connection;
  }

  #close(path: string): void {
    this.#open.get(path)?.connection.close();
    this.#open.delete(path);
  }
}

const inodeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.ino;

function openForReading(path: string): Database | undefined {
  let connection: Database | undefined;
  try {
    // Opened for writing so that the last one to close leaves no -wal behind; nothing here writes.
    connection = new BetterSqlite3(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
    connection.pragma('query_only = ON');
    if (connection.pragma('user_version', { simple: true }) === SCHEMA_VERSION) return connection;
  } catch (cause) {
    if (!isSkipped(cause)) throw cause;
  }
  connection?.close();
  return undefined;
}

const isDamaged = (cause: unknown): boolean =>
  isDamagedPiece(cause) ||
  (cause instanceof BetterSqlite3.SqliteError &&
    (cause.code === 'SQLITE_NOTADB' || cause.code.startsWith('SQLITE_CORRUPT')));

/** Deleted by retention a moment ago, or no database: the writer sets such a file aside. */
function isSkipped(cause: unknown): boolean {
  return cause instanceof BetterSqlite3.SqliteError && SKIPPED.has(cause.code);
}
