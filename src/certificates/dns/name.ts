/**
 * Domain names of the DNS: bytes of a message ↔ text. The text is canonical: lower case (RFC 4343), no last dot, the
 * root is '', and a byte that is not plain stands as \DDD (RFC 4343 §2.1), so that a dot always divides labels.
 */
import { DnsFault } from './fault.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4 | RFC 1035 §2.3.4} */
const MAX_LABEL = 63;
const MAX_NAME = 255;
/** The two highest bits of a length: a pointer (RFC 1035 §4.1.4). */
const POINTER = 0xc0;
const POINTER_MASK = 0x3fff;
const LABEL_TEXT = /\\(\d{3})|([^\\])/g;
const UNPLAIN = /[^!-~]|[."\\]/g;
const ESCAPE_DIGITS = 3;

/** A name as it stands at `start`, and where what follows it begins. */
export function readName(message: Buffer, start: number): { name: string; end: number } {
  const labels: string[] = [];
  let [at, end, bytes] = [start, -1, 1];
  // A pointer leads to a prior occurrence only, so that nothing can go in circles.
  let limit = start;
  for (;;) {
    const length = byteAt(message, at);
    if (length >= POINTER) {
      const target = ((length << 8) | byteAt(message, at + 1)) & POINTER_MASK;
      if (end < 0) end = at + 2;
      if (target >= limit) throw new DnsFault('malformed', 'a compressed name does not point back');
      at = limit = target;
      continue;
    }
    if (length > MAX_LABEL) throw new DnsFault('malformed', 'a label is of an unknown kind');
    if (length === 0) return { name: labels.join('.'), end: end < 0 ? at + 1 : end };
    bytes += length + 1;
    if (bytes > MAX_NAME || at + 1 + length > message.length)
      throw new DnsFault('malformed', 'a name is too long');
    labels.push(labelText(message.subarray(at + 1, at + 1 + length)));
    at += length + 1;
  }
}

function byteAt(message: Buffer, at: number): number {
  const byte = message[at];
  if (byte === undefined) throw new DnsFault('malformed', 'the message ends within a name');
  return byte;
}

const labelText = (label: Buffer): string =>
  label
    .toString('latin1')
    .replace(/[A-Z]/g, (letter) => letter.toLowerCase())
    .replace(UNPLAIN, (byte) => `\\${String(byte.charCodeAt(0)).padStart(ESCAPE_DIGITS, '0')}`);

/** Without compression, which no message of ours needs. @throws Error for what is no name. */
export function writeName(name: string): Buffer {
  const labels = name === '' ? [] : name.split('.');
  const wire = Buffer.concat([...labels.flatMap(labelBytes), Buffer.of(0)]);
  if (wire.length > MAX_NAME) throw new Error(`${name} is longer than a name of the DNS may be`);
  return wire;
}

function labelBytes(label: string): Buffer[] {
  const bytes = [...label.matchAll(LABEL_TEXT)].map(([, code, plain]) =>
    code === undefined ? (plain ?? '').charCodeAt(0) : Number(code),
  );
  if (bytes.length === 0 || bytes.length > MAX_LABEL || bytes.some((byte) => byte > 0xff))
    throw new Error(`${JSON.stringify(label)} is no label of a name of the DNS`);
  return [Buffer.of(bytes.length), Buffer.from(bytes)];
}

/** One label less; undefined for the root. */
export function parentOf(name: string): string | undefined {
  if (name === '') return undefined;
  const dot = name.indexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1);
}

/** The name itself counts. Both have to be canonical. */
export const isWithin = (name: string, zone: string): boolean => name === zone || name.endsWith(`.${zone}`);
