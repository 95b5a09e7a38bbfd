/**
 * The head: how far the trail goes, beside it in `data/audit/head`, under a MAC. Without it nobody could tell that the
 * last lines were cut off. Two slots are written by turns, so that a power failure in the middle of one leaves the other.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { isSameText } from '../core/same-text.ts';
import { withFile } from './files.ts';
import { jsonIn, macOf, type Place } from './line.ts';

const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
const FILE = 'head';
const OWNER_ONLY = 0o600;
/** A page of the system's, which is written whole or not at all when a process is killed. */
const SLOT_BYTES = 4096;
const SLOTS = 2;
/** As many beginnings as a slot has room for. */
export const MAX_OPEN = 200;
/** The rest of a slot has room for it, also where each character is escaped. */
const MAX_WHY = 300;
const BEYOND_ASCII = /[^ -~]/g;

const placeSchema = z.object({ seq: z.int().min(0), hash: z.string() });

export const gapSchema = z.object({
  /** The record that tells it; absent: there is none yet, or it could not be written. */
  seq: z.int().optional(),
  /** The last record that there should have been. */
  expected: z.int(),
  /** The last record that is there. */
  found: z.int(),
  why: z.string(),
  /** Whether a power failure can't have done it. */
  suspect: z.boolean(),
});
export type Gap = Readonly<z.output<typeof gapSchema>>;

const headSchema = z.object({
  /** Rises with every writing. */
  turn: z.int(),
  /** The last record, in the hands of the system. */
  last: placeSchema,
  /** The last record that is on the disk. */
  synced: placeSchema,
  /** What stands before the first record that is kept. */
  before: placeSchema,
  /** File of the last record, and where the next one begins. */
  file: z.string(),
  length: z.int().min(0),
  /** Records of beginnings without an end. */
  open: z.array(z.int()).max(MAX_OPEN),
  /** That somebody changed the trail, as long as the record of that is kept. */
  suspicion: gapSchema.optional(),
});
export type Head = z.output<typeof headSchema>;
/** The newest that is whole; `none`: there is no file; `damaged`: there is, and it holds none. */
export type ReadHead = Head | 'none' | 'damaged';

export class HeadFile {
  readonly #path: string;
  readonly #key: Buffer;
  readonly #slot = Buffer.alloc(SLOT_BYTES);
  #file: number | undefined;
  #turn = 0;

  constructor(folder: string, key: Buffer) {
    this.#path = join(folder, FILE);
    this.#key = key;
  }

  read(): ReadHead {
    const newest = readHead(this.#path, this.#key);
    if (typeof newest !== 'string') this.#turn = newest.turn;
    return newest;
  }

  write({ suspicion, ...head }: Omit<Head, 'turn'>): void {
    this.#file ??= openSync(this.#path, O_WRONLY | O_CREAT | O_NOFOLLOW, OWNER_ONLY);
    const turn = this.#turn + 1;
    const why = suspicion?.why.slice(0, MAX_WHY).replace(BEYOND_ASCII, '?');
    const text = JSON.stringify({ turn, ...head, suspicion: suspicion && { ...suspicion, why } });
    this.#slot.fill(' ');
    this.#slot.write(`${text}\n${macOf(text, this.#key)}\n`, 'latin1');
    // Both at first: later there may be no room for another page.
    for (const slot of this.#turn === 0 ? [0, 1] : [turn % SLOTS])
      writeSync(this.#file, this.#slot, 0, SLOT_BYTES, slot * SLOT_BYTES);
    this.#turn = turn;
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

/** What it says, to who has no key to check that with. */
export const headIn = (folder: string, key: Buffer | undefined): ReadHead =>
  readHead(join(folder, FILE), key);

function readHead(path: string, key: Buffer | undefined): ReadHead {
  const bytes = bytesOf(path);
  if (bytes === undefined || bytes.length === 0) return 'none';
  const heads = Array.from({ length: SLOTS }, (_, slot) =>
    parse(bytes.toString('latin1', slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES), key),
  ).filter((head) => head !== undefined);
  const [newest] = heads.sort((a, b) => b.turn - a.turn);
  return newest ?? 'damaged';
}

function bytesOf(path: string): Buffer | undefined {
  try {
    return withFile(path, (file) => {
      const bytes = Buffer.alloc(SLOTS * SLOT_BYTES);
      return bytes.subarray(0, readSync(file, bytes));
    });
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

function parse(slot: string, key: Buffer | undefined): Head | undefined {
  const [text = '', mac = ''] = slot.split('\n');
  if (key) return isSameText(mac, macOf(text, key)) ? headSchema.parse(JSON.parse(text)) : undefined;
  return headSchema.safeParse(jsonIn(text)).data;
}

export const isPlace = ({ seq, hash }: Place, other: Place): boolean =>
  seq === other.seq && hash === other.hash;
