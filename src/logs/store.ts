/**
 * Log files: one SQLite file per UTC day, so that retention is the deletion of a file. Appends, sweeps and packs; never reads
 * rows (query.ts) and never waits for anybody. Only the writer thread (writer.ts) uses it, and time comes from outside.
 */
import { chmodSync, closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import BetterSqlite3, { type Database, type Statement } from 'better-sqlite3';
import { DAY } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { isSuspicious, redact } from '../core/redact.ts';
import { REFUSED_SQL } from './conditions.ts';
import { dayOf, filesByDay, pathOf } from './folder.ts';
import { Packing, restore } from './packed.ts';
import { parseRecordText } from './record-text.ts';
import { hasRollup, isPrepared, prepareRollup, Rollup } from './rollup.ts';
import { columns } from './row.ts';
import { SLOT } from './slots.ts';

const OWNER_ONLY_FILE = 0o600;
const OWNER_ONLY_FOLDER = 0o700;
const BUSY_TIMEOUT_MS = 5000;
const PAGE_BYTES = 8192;
const WAL_BYTES = 16 * 1024 * 1024;
/** The pages that a batch changes of a big day: with fewer they go to the disk and come back within one batch. */
const CACHE_KIB = 16 * 1024;
/** A page that changes again and again goes to the file once in this many. */
const CHECKPOINT_PAGES = 4000;
/** Today, and yesterday for what arrives around midnight. */
const MAX_OPEN_DAYS = 2;
/** Raised when the columns change; a reader leaves files of another version alone. */
export const SCHEMA_VERSION = 1;

const DAMAGED = new Set(['SQLITE_NOTADB', 'SQLITE_CORRUPT']);

/**
 * Each index answers a question that people ask, newest first. The partial ones hold what is rare and wanted most:
 * trouble, what failed, was refused or slow; they cost an ordinary row nothing. Where one has more columns than its order
 * needs, what else is asked for is decided without reading the record (SQLite takes it only with `id` behind the time).
 * What differs from row to row is indexed within slots of the day (slots.ts).
 */
const SCHEMA = `
  create table records (
    id integer primary key, time bigint not null, level integer not null, kind text not null, component text not null,
    message text not null, trace_id text, hostname text, method text, path text, status integer, duration_ms real,
    bytes_in bigint, bytes_out bigint, client_address text, principal text, user_agent text, operation text,
    outcome text, detail text);
  create index records_time on records (time);
  create index records_hostname on records (hostname, time);
  create index records_client_address on records (${SLOT}, client_address, time);
  create index records_principal on records (principal, time) where principal <> 'anonymous';
  create index records_trace_id on records (${SLOT}, trace_id) where trace_id is not null;
  create index records_trouble on records (time, id, kind) where level >= 2;
  create index records_failed on records (time) where status >= 400;
  pragma user_version = ${SCHEMA_VERSION};`;

/** What an earlier version of this system did not have. */
const LATER_SCHEMA = `
  create index if not exists records_audit on records (time) where kind = 'audit';
  create index if not exists records_failed_hostname on records (hostname, time) where status >= 400;
  create index if not exists records_failed_client on records (client_address, time) where status >= 400;
  create index if not exists records_slow on records (time) where duration_ms >= 1000;
  create index if not exists records_not_ok on records (time) where outcome <> 'OK';
  create index if not exists records_refused on records (time, id, hostname, principal, client_address)
    where ${REFUSED_SQL};`;
const MAX_RECORDS_FILLED = 200_000;

const COLUMNS = [...columns, 'detail'];
const INSERT = `insert into records (${COLUMNS.join(', ')}) values (${COLUMNS.map(() => '?').join(', ')})`;

export interface Retention {
  retentionDays: number;
  retentionBytes: number;
}

export interface Appended {
  /** Records that are not in any file. */
  failed: number;
  /** Why a record was refused: a fault of who wrote it. */
  fault: string | undefined;
  /** Why a file can't be used: a fault of the disk. */
  error: string | undefined;
}

export interface Swept {
  /** Days whose file was deleted, oldest first. */
  deleted: string[];
  /** What is left. */
  bytes: number;
}

interface OpenDay {
  connection: Database;
  insert: Statement;
  /** Undefined in a large file of an earlier version. */
  rollup: Rollup | undefined;
}

export class LogStore {
  readonly #directory: string;
  readonly #open = new Map<string, OpenDay>();
  #packing: Packing | undefined;
  /** What could not be packed since the last sweep: the others go on. */
  readonly #skipped = new Set<string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Records as `recordText` writes them. One transaction per day, as good as always one; what can't be written is counted. */
  append(texts: readonly string[]): Appended {
    const result: Appended = { failed: 0, fault: undefined, error: undefined };
    /** By the number of the day, which costs a record less than its name. */
    const days = new Map<number, { day: string; rows: Values[] }>();
    for (const text of texts) {
      try {
        const values = valuesIn(text);
        const time = timeOf(values);
        const number = Math.floor(time / DAY);
        const known = days.get(number);
        if (known) known.rows.push(values);
        else days.set(number, { day: dayOf(time), rows: [values] });
      } catch (cause) {
        result.failed += 1;
        result.fault = messageOf(cause);
      }
    }
    for (const { day, rows } of days.values()) this.#appendDay(day, rows, result);
    return result;
  }

  /** Deletes whole days, oldest first, until age and size are within bounds. The day of `now` always stays. */
  sweep(now: number, { retentionDays, retentionBytes }: Retention): Swept {
    this.#skipped.clear();
    const files = filesByDay(this.#directory);
    const today = dayOf(now);
    const oldest = dayOf(now - (retentionDays - 1) * DAY);
    let bytes = [...files.values()].flat().reduce((sum, file) => sum + file.bytes, 0);
    const deleted: string[] = [];
    for (const [day, parts] of files) {
      if (day >= today || (day >= oldest && bytes <= retentionBytes)) break;
      this.#close(day);
      this.#stopPacking(day);
      for (const { name } of parts) rmSync(join(this.#directory, name), { force: true });
      bytes -= parts.reduce((sum, part) => sum + part.bytes, 0);
      deleted.push(day);
    }
    return { deleted, bytes };
  }

  /**
   * A piece of the work of compressing what is older than so many days; false when nothing is left to do.
   * @throws Error when it can't be done now; the day stays as it is, and the next call goes on with another.
   */
  pack(now: number, afterDays: number): boolean {
    const day = this.#packing?.day ?? this.#nextToPack(dayOf(now - afterDays * DAY));
    if (day === undefined) return false;
    let isOver = true;
    try {
      this.#packing ??= this.#beginPacking(day);
      isOver = this.#packing.step();
    } catch (cause) {
      this.#skipped.add(day);
      throw cause;
    } finally {
      if (isOver) this.#packing = undefined;
    }
    return true;
  }

  close(): void {
    this.#packing?.abort();
    this.#packing = undefined;
    for (const day of this.#open.keys()) this.#close(day);
  }

  #nextToPack(before: string): string | undefined {
    for (const [day, parts] of filesByDay(this.#directory)) {
      if (day >= before) return undefined;
      const plain = basename(pathOf(this.#directory, day));
      if (!this.#skipped.has(day) && parts.some(({ name }) => name === plain)) return day;
    }
    return undefined;
  }

  #beginPacking(day: string): Packing {
    this.#close(day);
    countToEnd(pathOf(this.#directory, day));
    return new Packing(this.#directory, day);
  }

  #stopPacking(day: string): void {
    if (this.#packing?.day !== day) return;
    this.#packing.abort();
    this.#packing = undefined;
  }

  #appendDay(day: string, rows: readonly Values[], result: Appended): void {
    try {
      this.#insert(day, rows, result);
    } catch (cause) {
      // The next batch opens the file anew: a disk that is back is used again without a restart.
      this.#close(day);
      if (isDamaged(cause)) return this.#replace(day, rows, result);
      result.failed += rows.length;
      result.error = messageOf(cause);
    }
  }

  #insert(day: string, rows: readonly Values[], result: Appended): void {
    const { connection, insert, rollup } = this.#openDay(day);
    const faults: string[] = [];
    connection.exec('begin immediate');
    try {
      const written = rows.filter((values) => insertOne(insert, values, faults));
      rollup?.add(written);
      connection.exec('commit');
    } catch (cause) {
      if (connection.inTransaction) connection.exec('rollback');
      throw cause;
    }
    result.failed += faults.length;
    result.fault = faults.at(-1) ?? result.fault;
  }

  /** A file that is no database would cost a whole day of records: it is set aside and the day begins again. */
  #replace(day: string, rows: readonly Values[], result: Appended): void {
    try {
      const path = pathOf(this.#directory, day);
      renameSync(path, `${path}.damaged`);
      for (const suffix of ['-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
      this.#insert(day, rows, result);
    } catch (cause) {
      this.#close(day);
      result.failed += rows.length;
      result.error = messageOf(cause);
    }
  }

  #openDay(day: string): OpenDay {
    const known = this.#open.get(day);
    if (known) return known;
    this.#stopPacking(day);
    const connection = openDayFile(this.#directory, day);
    const opened = {
      connection,
      insert: connection.prepare(INSERT),
      rollup: isPrepared(connection) ? openRollup(connection) : undefined,
    };
    this.#open.set(day, opened);
    for (const other of [...this.#open.keys()].sort().slice(0, -MAX_OPEN_DAYS)) {
      if (other !== day) this.#close(other);
    }
    return opened;
  }

  #close(day: string): void {
    this.#open.get(day)?.connection.close();
    this.#open.delete(day);
  }
}

function openDayFile(directory: string, day: string): Database {
  mkdirSync(directory, { recursive: true, mode: OWNER_ONLY_FOLDER });
  chmodSync(directory, OWNER_ONLY_FOLDER);
  restore(directory, day);
  const path = pathOf(directory, day);
  // SQLite gives -wal and -shm the mode of the database file.
  closeSync(openSync(path, 'a', OWNER_ONLY_FILE));
  chmodSync(path, OWNER_ONLY_FILE);
  const connection = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    connection.pragma(`page_size = ${PAGE_BYTES}`);
    connection.pragma('journal_mode = WAL');
    connection.pragma('synchronous = NORMAL');
    connection.pragma(`cache_size = ${-CACHE_KIB}`);
    connection.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    connection.pragma(`journal_size_limit = ${WAL_BYTES}`);
    createSchema(connection, path);
    return connection;
  } catch (cause) {
    connection.close();
    throw cause;
  }
}

function createSchema(connection: Database, path: string): void {
  const version = connection.pragma('user_version', { simple: true });
  if (version !== 0 && version !== SCHEMA_VERSION)
    throw new Error(`${path} has log format ${String(version)}, not ${SCHEMA_VERSION}`);
  if (version === SCHEMA_VERSION && isPrepared(connection)) return;
  if (version === SCHEMA_VERSION && !hasRollup(connection) && isLarge(connection)) return;
  const create = connection.transaction(() => {
    if (version === 0) connection.exec(SCHEMA);
    if (!isLarge(connection)) connection.exec(LATER_SCHEMA);
    prepareRollup(connection);
  });
  create.immediate();
}

const openRollup = (connection: Database): Rollup =>
  connection.transaction(() => new Rollup(connection)).immediate();

/** Of a packed day nobody reads records for a count. */
function countToEnd(path: string): void {
  const connection = new BetterSqlite3(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    if (isPrepared(connection)) connection.transaction(() => new Rollup(connection).sumUpToEnd()).immediate();
  } finally {
    connection.close();
  }
}

/** Its records would hold up those that come; until the day is over they are counted when somebody asks. */
function isLarge(connection: Database): boolean {
  const found = connection.prepare<[], { last: number | null }>('select max(id) as last from records').get();
  return (found?.last ?? 0) > MAX_RECORDS_FILLED;
}

/** A record that breaks the schema is a fault of who wrote it, and costs no other record. */
function insertOne(insert: Statement, values: Values, faults: string[]): boolean {
  try {
    insert.run(values);
    return true;
  } catch (cause) {
    if (!isFaultOfRecord(cause)) throw cause;
    faults.push(messageOf(cause));
    return false;
  }
}

const isFaultOfRecord = (cause: unknown): boolean =>
  cause instanceof TypeError ||
  (cause instanceof BetterSqlite3.SqliteError && cause.code.startsWith('SQLITE_CONSTRAINT'));

function isDamaged(cause: unknown): boolean {
  return cause instanceof BetterSqlite3.SqliteError && DAMAGED.has(cause.code);
}

/** One for each column. */
type Values = unknown[];

function valuesIn(text: string): Values {
  const { row, detail } = parseRecordText(text);
  if (!isSuspicious(text)) return [...row, detail];
  return [...row.map((value) => redact(value)), detail && JSON.stringify(redact(JSON.parse(detail)))];
}

function timeOf([time]: Values): number {
  // Others would be in no slot of the day.
  if (typeof time === 'number' && Number.isInteger(time) && time >= 0) return time;
  throw new TypeError('a record has to begin with its time, whole milliseconds since 1970');
}
