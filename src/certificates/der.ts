/**
 * Writes DER, as far as the internal CA's certificates and requests to other CAs need it. `der-reader.ts` reads.
 * @see {@link https://www.itu.int/rec/T-REC-X.690 | X.690 §8 and §10}
 */
const SHORT_LENGTH = 0x80;
const SIGN = 0x80;
const CONTEXT = 0x80;
const CONSTRUCTED = 0x20;

const node = (tag: number, ...content: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  return Buffer.concat([Buffer.from([tag]), lengthOf(body.length), body]);
};

function lengthOf(bytes: number): Buffer {
  if (bytes < SHORT_LENGTH) return Buffer.from([bytes]);
  const digits = bytesOf(bytes);
  return Buffer.concat([Buffer.from([SHORT_LENGTH | digits.length]), digits]);
}

export const sequence = (...items: readonly Uint8Array[]): Buffer => node(0x30, ...items);
export const set = (item: Uint8Array): Buffer => node(0x31, item);
export const boolean = (value: boolean): Buffer => node(0x01, Buffer.from([value ? 0xff : 0]));
/** NULL. */
export const nothing = (): Buffer => node(0x05);
export const octets = (content: Uint8Array): Buffer => node(0x04, content);
export const utf8 = (text: string): Buffer => node(0x0c, Buffer.from(text));
/** `[n]` around other values. */
export const explicit = (n: number, item: Uint8Array): Buffer => node(CONTEXT | CONSTRUCTED | n, item);
/** `[n]` in place of the tag of a primitive value. */
export const implicit = (n: number, content: Uint8Array): Buffer => node(CONTEXT | n, content);

/** Not negative, in as few bytes as can be: a leading zero keeps the first bit from being read as a sign. */
export function integer(value: number | Uint8Array): Buffer {
  const bytes = typeof value === 'number' ? bytesOf(value) : value;
  const first = bytes.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Uint8Array.of(0) : bytes.subarray(first);
  return (digits[0] ?? 0) >= SIGN ? node(0x02, Uint8Array.of(0), digits) : node(0x02, digits);
}

/** Of a whole number that is not negative. */
function bytesOf(value: number): Buffer {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex');
}

export const bits = (content: Uint8Array, unusedBits = 0): Buffer =>
  node(0x03, Buffer.from([unusedBits]), content);

/** Of dotted text such as `2.5.4.3`. */
export function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  return node(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) digits.unshift((rest & 0x7f) | 0x80);
  return digits;
}

/** UTCTime up to 2049, GeneralizedTime after. @see {@link https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.5 | RFC 5280 §4.1.2.5} */
export function time(milliseconds: number): Buffer {
  const text = `${new Date(milliseconds).toISOString().slice(0, 19).replace(/[-:T]/g, '')}Z`;
  const isUtc = text < '2050';
  return node(isUtc ? 0x17 : 0x18, Buffer.from(isUtc ? text.slice(2) : text));
}
