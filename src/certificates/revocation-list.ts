/**
 * Reads certificate revocation lists: whose they are, until when they count and how much is on them. Which certificate
 * is on one the TLS library finds out, at each handshake. Pure.
 * @see {@link https://www.rfc-editor.org/rfc/rfc5280#section-5.1 | RFC 5280 §5.1}
 */
import { type KeyObject, verify, type X509Certificate } from 'node:crypto';
import { type Element, readAll } from './der-reader.ts';

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
/** 2.5.29.15 */
const KEY_USAGE = '551d0f';
/** cRLSign, the seventh bit. @see RFC 5280 §4.2.1.3 */
const CRL_SIGN = 0b0000_0010;
const CENTURY = 2000;
/** UTCTime has two digits of the year. @see RFC 5280 §4.1.2.5.1 */
const PIVOT = 50;

/** Content of the object identifier in hex → digest; null: the algorithm has its own. SHA-1 is not among them. */
const signatures: Readonly<Record<string, string | null>> = {
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
  '2b6570': null,
};

export interface RevocationList {
  /** DER of the name. */
  readonly issuer: Buffer;
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  /** Undefined when the list does not say. */
  readonly nextUpdate: number | undefined;
  readonly revoked: number;
  /** Whether this key signed it. */
  isSignedBy(key: KeyObject): boolean;
}

/** Undefined: this is no such list, or one that can't be read. */
export function readRevocationList(der: Buffer): RevocationList | undefined {
  const parts = partsOf(der);
  if (!parts) return undefined;
  const fields = readAll(parts.body.content);
  if (fields[0]?.tag === INTEGER) fields.shift();
  const [algorithm, issuer, begins, ...rest] = fields;
  // RFC 5280 §5.1.1.2: what is named outside of what is signed has to be the same.
  if (algorithm?.content.equals(parts.algorithm.content) !== true) return undefined;
  const thisUpdate = timeOf(begins);
  if (issuer?.tag !== SEQUENCE || thisUpdate === undefined) return undefined;
  const nextUpdate = timeOf(rest[0]);
  const entries = rest[nextUpdate === undefined ? 0 : 1];
  return {
    issuer: issuer.content,
    thisUpdate,
    nextUpdate,
    revoked: entries?.tag === SEQUENCE ? readAll(entries.content).length : 0,
    isSignedBy: (key) => isSignedBy(parts, key),
  };
}

function partsOf(der: Buffer): Parts | undefined {
  const [outer, ...more] = readAll(der);
  if (outer?.tag !== SEQUENCE || more.length > 0) return undefined;
  const [body, algorithm, signature] = readAll(outer.content);
  if (body?.tag !== SEQUENCE || algorithm?.tag !== SEQUENCE || signature?.tag !== BIT_STRING)
    return undefined;
  // A signature is whole bytes.
  if (signature.content[0] !== 0) return undefined;
  return { outer, body, algorithm, signature };
}

type Parts = Record<'outer' | 'body' | 'algorithm' | 'signature', Element>;

function isSignedBy({ outer, body, algorithm, signature }: Parts, key: KeyObject): boolean {
  const [identifier] = readAll(algorithm.content);
  const digest = signatures[identifier?.content.toString('hex') ?? ''];
  if (digest === undefined) return false;
  const length = body.content.byteOffset - outer.content.byteOffset + body.content.length;
  try {
    // The first byte of a BIT STRING counts the bits that are not used: none.
    return verify(digest, outer.content.subarray(0, length), key, signature.content.subarray(1));
  } catch {
    return false; // A key of another kind than the signature's did not sign it.
  }
}

function timeOf(element: Element | undefined): number | undefined {
  const text = element?.content.toString('latin1') ?? '';
  if (element?.tag === UTC_TIME) {
    const year = Number(text.slice(0, 2));
    return parseTime(`${year < PIVOT ? CENTURY + year : CENTURY - 100 + year}${text.slice(2)}`);
  }
  return element?.tag === GENERALIZED_TIME ? parseTime(text) : undefined;
}

function parseTime(text: string): number | undefined {
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text) ?? [];
  const time = Date.parse(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`);
  return Number.isNaN(time) ? undefined : time;
}

/** DER of the name in a certificate's subject. */
export function subjectOf({ raw }: X509Certificate): Buffer | undefined {
  const fields = bodyOf(raw);
  return fields[fields[0]?.tag === VERSION ? 5 : 4]?.content;
}

/** A CA that says what its key is for has to say that it signs such lists (RFC 5280 §6.3.3 f). */
export function maySignLists({ raw }: X509Certificate): boolean {
  const extensions = bodyOf(raw).find(({ tag }) => tag === EXTENSIONS);
  for (const extension of readAll(
    readAll(extensions?.content ?? Buffer.alloc(0))[0]?.content ?? Buffer.alloc(0),
  )) {
    const parts = readAll(extension.content);
    if (parts[0]?.content.toString('hex') !== KEY_USAGE) continue;
    const usage = readAll(parts.at(-1)?.content ?? Buffer.alloc(0))[0]?.content;
    return ((usage?.[1] ?? 0) & CRL_SIGN) !== 0;
  }
  return true;
}

function bodyOf(der: Buffer): Element[] {
  const [certificate] = readAll(der);
  const [body] = readAll(certificate?.content ?? Buffer.alloc(0));
  return readAll(body?.content ?? Buffer.alloc(0));
}
