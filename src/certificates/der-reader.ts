/**
 * Takes DER apart, as far as something has to be found in a certificate that Node does not tell.
 * @see {@link https://www.itu.int/rec/T-REC-X.690 | X.690 §8.1 and §10.1}
 */
const SHORT_LENGTH = 0x80;
const HIGH_TAG = 0x1f;
const MAX_LENGTH_BYTES = 4;

export interface Element {
  tag: number;
  content: Buffer;
}

/** The elements that the bytes are, one after another. Of bytes that can't be read to their end, none. */
export function readAll(bytes: Buffer): Element[] {
  const found: Element[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const header = readHeader(rest);
    if (!header || rest.length < header.size + header.length) return [];
    const end = header.size + header.length;
    found.push({ tag: header.tag, content: rest.subarray(header.size, end) });
    rest = rest.subarray(end);
  }
  return found;
}

/** Tags of one byte and definite lengths, which is all that certificates use. */
function readHeader(bytes: Buffer): { tag: number; size: number; length: number } | undefined {
  const [tag = 0, first] = bytes;
  if (first === undefined || (tag & HIGH_TAG) === HIGH_TAG) return undefined;
  if (first < SHORT_LENGTH) return { tag, size: 2, length: first };
  const digits = first - SHORT_LENGTH;
  if (digits === 0 || digits > MAX_LENGTH_BYTES || bytes.length < 2 + digits) return undefined;
  return { tag, size: 2 + digits, length: bytes.readUIntBE(2, digits) };
}
