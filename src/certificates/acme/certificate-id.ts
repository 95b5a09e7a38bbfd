/**
 * The name of a certificate in ARI and in `replaces`: who signed it, and its serial number.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773#section-4.1 | RFC 9773 §4.1}
 */
import { X509Certificate } from 'node:crypto';
import { readAll } from '../der-reader.ts';

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
const KEY_IDENTIFIER = 0x80;
/** 2.5.29.35 as its octets. @see RFC 5280 §4.2.1.1 */
const AUTHORITY_KEY_IDENTIFIER = Buffer.from([0x55, 0x1d, 0x23]);

/** Undefined for a certificate without an authority key identifier, which can't be asked about. */
export function certificateId(certificatePem: string): string | undefined {
  const [body] = contentOf(new X509Certificate(certificatePem).raw, SEQUENCE);
  const fields = body ? readAll(body.content) : [];
  const serial = fields.find(
    ({ tag }, index) => tag === INTEGER && index <= (fields[0]?.tag === VERSION ? 1 : 0),
  );
  const identifier = keyIdentifierOf(fields.find(({ tag }) => tag === EXTENSIONS)?.content);
  if (!serial || !identifier) return undefined;
  return `${identifier.toString('base64url')}.${serial.content.toString('base64url')}`;
}

function keyIdentifierOf(extensions: Buffer | undefined): Buffer | undefined {
  for (const { content } of contentOf(extensions, SEQUENCE)) {
    const parts = readAll(content);
    if (!parts[0]?.content.equals(AUTHORITY_KEY_IDENTIFIER)) continue;
    return contentOf(parts.at(-1)?.content, SEQUENCE).find(({ tag }) => tag === KEY_IDENTIFIER)?.content;
  }
  return undefined;
}

/** What is in the one element that the bytes are. */
function contentOf(bytes: Buffer | undefined, tag: number) {
  const [outer] = bytes ? readAll(bytes) : [];
  return outer?.tag === tag ? readAll(outer.content) : [];
}
