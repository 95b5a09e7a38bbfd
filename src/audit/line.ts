/**
 * One line of the trail: a JSON object in ASCII that ends with the SHA-256 of all that stands before it, which anybody
 * can compute, and with a MAC of that hash, which only who has the master key can make. `prev` is the hash of the line
 * before, so each hash stands for all lines up to it. Pure; docs/guides/audit.md tells auditors the same.
 */
import { hash } from 'node:crypto';
import { z } from 'zod';
import { assert } from '../core/assert.ts';
import { isSuspicious, redact } from '../core/redact.ts';
import type { LogRecord } from '../core/record.ts';
import { isSameText } from '../core/same-text.ts';

export const events = [
  /** About to be acted on. */
  'begun',
  /** Its result; `of` is the `seq` of its beginning. */
  'ended',
  /** Its process ended before it did: no result is known. */
  'interrupted',
  /** Done or refused at once: reads, refusals, sign-ins. */
  'event',
  /** Refusals of strangers that are not told one by one. */
  'strangers',
  /** Records that could not be written. */
  'lost',
  /** A line that was not written to its end, and was cut off. */
  'torn',
  /** What should stand before this is not there. */
  'gap',
  /** Files that were deleted because of their age. */
  'retired',
] as const;
export type Event = (typeof events)[number];

export const NOTHING_BEFORE = '0'.repeat(64);
export const MAX_LINE_BYTES = 32 * 1024;
const MAX_BODY_LENGTH = 16 * 1024;
const MAX_FIELD_LENGTH = 1024;
const MAX_DETAIL_LENGTH = 6 * 1024;

export interface Place {
  readonly seq: number;
  readonly hash: string;
}

export interface Entry {
  readonly event: Event;
  /** The `seq` of what it ends. */
  readonly of?: number | undefined;
  readonly record: Omit<LogRecord, 'kind' | 'level'>;
}

/** The text of the line after `last`, with its line break, and its place. */
export function makeLine(entry: Entry, last: Place, key: Buffer): Place & { text: string } {
  const seq = last.seq + 1;
  const fields = fieldsOf(entry, seq, last.hash);
  let text = textOf(fields);
  if (isSuspicious(text)) text = textOf(redact(fields));
  const body = text.replace(BEYOND_ASCII, escape).slice(0, -1);
  const digest = hash('sha256', body);
  return { seq, hash: digest, text: `${body}${HASH_FIELD}${digest}","mac":"${macOf(digest, key)}"}\n` };
}

const lineSchema = z.looseObject({
  seq: z.int().min(1),
  time: z.string(),
  event: z.enum(events),
  of: z.int().optional(),
  prev: z.string(),
  hash: z.string(),
  mac: z.string(),
});
export type Line = z.output<typeof lineSchema>;

/**
 * A line without its break, as it was made, or what is wrong with it by itself. Its place is for the reader to check.
 * Without the key nobody knows who made it.
 */
export function readLine(text: string, key: Buffer | undefined): Line | { fault: string } {
  const parsed = lineSchema.safeParse(jsonIn(text));
  if (!parsed.success) return { fault: 'is no record of this trail' };
  const line = parsed.data;
  const tail = `${HASH_FIELD}${line.hash}","mac":"${line.mac}"}`;
  if (!text.endsWith(tail)) return { fault: 'is no record of this trail' };
  if (hash('sha256', text.slice(0, -tail.length)) !== line.hash)
    return { fault: 'was changed since it was written: it has another hash' };
  if (key && !isSameText(line.mac, macOf(line.hash, key)))
    return { fault: 'was not written under this master key: somebody else made it' };
  return line;
}

export const isFault = (line: Line | { fault: string }): line is { fault: string } => 'fault' in line;

/**
 * HMAC-SHA-256 by two hashes at one go each: an object for every record, as of `createHmac`, takes more than the rest.
 * `text` is ASCII. @see {@link https://www.rfc-editor.org/rfc/rfc2104#section-2 | RFC 2104 §2}
 */
export function macOf(text: string, key: Buffer): string {
  const { inner, outer } = padsOf(key);
  const isOfHash = text.length === HASH_LENGTH;
  if (isOfHash) inner.write(text, BLOCK_BYTES, 'latin1');
  const whole = isOfHash
    ? inner
    : Buffer.concat([inner.subarray(0, BLOCK_BYTES), Buffer.from(text, 'latin1')]);
  outer.write(hash('sha256', whole, 'binary'), BLOCK_BYTES, 'latin1');
  return hash('sha256', outer, 'base64url');
}

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
/** As hexadecimal. */
const HASH_LENGTH = 2 * DIGEST_BYTES;
const INNER = 0x36;
const OUTER = 0x5c;
/** Each with room for what is written behind it: a call makes no buffer of its own. */
const padsByKey = new WeakMap<Buffer, { inner: Buffer; outer: Buffer }>();

function padsOf(key: Buffer): { inner: Buffer; outer: Buffer } {
  const known = padsByKey.get(key);
  if (known) return known;
  assert(key.length <= BLOCK_BYTES, 'a key of the trail is no longer than a block of its hash');
  const pad = (byte: number, room: number) =>
    Buffer.concat([Buffer.alloc(BLOCK_BYTES, byte).map((one, i) => one ^ (key[i] ?? 0)), Buffer.alloc(room)]);
  const pads = { inner: pad(INNER, HASH_LENGTH), outer: pad(OUTER, DIGEST_BYTES) };
  padsByKey.set(key, pads);
  return pads;
}

const HASH_FIELD = ',"hash":"';
/** Nothing in it moves a terminal's cursor or turns a line around. */
const BEYOND_ASCII = /[\u007f-\uffff]/g;
const HEX = 16;
const escape = (found: string): string => `\\u${found.charCodeAt(0).toString(HEX).padStart(4, '0')}`;

type Told = Exclude<keyof LogRecord, 'kind' | 'level'>;

/** One by one: to copy what an object has takes several times as long, and every call is told. */
function fieldsOf({ event, of, record: it }: Entry, seq: number, prev: string): Record<string, unknown> {
  const told: Record<Told, unknown> & { [name: string]: unknown } = {
    seq,
    time: new Date(it.time).toISOString(),
    event,
    of,
    component: it.component,
    message: it.message,
    trace_id: it.trace_id,
    span_id: it.span_id,
    hostname: it.hostname,
    method: it.method,
    path: it.path,
    status: it.status,
    duration_ms: it.duration_ms,
    bytes_in: it.bytes_in,
    bytes_out: it.bytes_out,
    client_address: it.client_address,
    principal: it.principal,
    user_agent: it.user_agent,
    operation: it.operation,
    outcome: it.outcome,
    detail: it.detail,
    prev,
  };
  return told;
}

function textOf(fields: unknown): string {
  try {
    const text = JSON.stringify(fields);
    if (text.length <= MAX_BODY_LENGTH) return text;
    return JSON.stringify(shortened(fields));
  } catch {
    // A cycle or a bigint: that it was there is all that can be told.
    return JSON.stringify(shortened({ ...(fields as object), detail: 'could not be written as JSON' }));
  }
}

/** A long record tells less of each field; its place in the chain stays. */
const shortened = (fields: unknown): unknown =>
  Object.fromEntries(
    Object.entries(fields as object).map(([key, value]) => [
      key,
      typeof value === 'string'
        ? value.slice(0, MAX_FIELD_LENGTH)
        : typeof value === 'object' && value !== null
          ? { cut: JSON.stringify(value).slice(0, MAX_DETAIL_LENGTH) }
          : value,
    ]),
  );

export function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not JSON is no record, which the caller says.
  }
}
