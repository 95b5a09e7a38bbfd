/**
 * Writes X.509 certificates: an ECDSA P-256 root of the internal CA and server leaves under it, and the parts that the
 * ACME client's own certificates and requests are made of.
 * @see {@link https://www.rfc-editor.org/rfc/rfc5280#section-4.1 | RFC 5280 §4.1}
 */
import { createPrivateKey, generateKeyPair, hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { bits, boolean, explicit, implicit, integer, octets, oid, sequence, set, time, utf8 } from './der.ts';

const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
const COMMON_NAME = '2.5.4.3';
const SUBJECT_KEY_IDENTIFIER = '2.5.29.14';
const KEY_USAGE = '2.5.29.15';
const SUBJECT_ALT_NAME = '2.5.29.17';
const BASIC_CONSTRAINTS = '2.5.29.19';
const AUTHORITY_KEY_IDENTIFIER = '2.5.29.35';
const EXTENDED_KEY_USAGE = '2.5.29.37';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

const VERSION_3 = 2;
const SERIAL_BYTES = 16;
/** Of an uncompressed point on P-256: what the BIT STRING of its SubjectPublicKeyInfo holds. */
const POINT_BYTES = 65;
const KEY_ID_HEX = 40;
/** @see RFC 5280 appendix A.1, ub-common-name */
const MAX_COMMON_NAME = 64;
const LONG_NAME = 'see subject alternative name';
/** @see {@link https://www.rfc-editor.org/rfc/rfc7468#section-2 | RFC 7468 §2}: 64 characters each. */
const LINES = /.{1,64}/g;

const newKeyPair = promisify(generateKeyPair);

export interface Signer {
  commonName: string;
  /** P-256. */
  privateKey: KeyObject;
  publicKey: KeyObject;
}

interface Validity {
  /** Milliseconds since 1970; certificates know seconds. */
  notBefore: number;
  notAfter: number;
}

export async function newKeys(): Promise<Pick<Signer, 'privateKey' | 'publicKey'>> {
  return newKeyPair('ec', { namedCurve: 'P-256' });
}

/** Self-signed; may sign leaves and nothing deeper. */
export function writeRoot(root: Signer, validity: Validity): string {
  const extensions = [
    extension(BASIC_CONSTRAINTS, true, sequence(boolean(true), integer(0))),
    // keyCertSign and cRLSign: bits 5 and 6.
    extension(KEY_USAGE, true, bits(Buffer.from([0b0000_0110]), 1)),
    extension(SUBJECT_KEY_IDENTIFIER, false, octets(keyId(root.publicKey))),
  ];
  return writeCertificate(
    root,
    { subject: root.commonName, publicKey: root.publicKey, extensions },
    validity,
  );
}

export interface LeafSubject {
  /** Canonical hostnames or `*.parent`. */
  hostnames: readonly string[];
  /** In network byte order, 4 or 16 bytes each. */
  addresses: readonly Uint8Array[];
  publicKey: KeyObject;
}

/** For TLS servers only. @see {@link https://www.rfc-editor.org/rfc/rfc9525 | RFC 9525}: names are in subjectAltName. */
export function writeLeaf(
  root: Signer,
  { hostnames, addresses, publicKey }: LeafSubject,
  validity: Validity,
): string {
  const [first = ''] = hostnames;
  const extensions = [
    extension(BASIC_CONSTRAINTS, true, sequence()),
    // digitalSignature: bit 0.
    extension(KEY_USAGE, true, bits(Buffer.from([0b1000_0000]), 7)),
    extension(EXTENDED_KEY_USAGE, false, sequence(oid(SERVER_AUTH))),
    subjectAltName({ hostnames, addresses }),
    extension(SUBJECT_KEY_IDENTIFIER, false, octets(keyId(publicKey))),
    extension(AUTHORITY_KEY_IDENTIFIER, false, sequence(implicit(0, keyId(root.publicKey)))),
  ];
  const subject = first.length > MAX_COMMON_NAME ? LONG_NAME : first;
  return writeCertificate(root, { subject, publicKey, extensions }, validity);
}

export const toPkcs8 = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
export const fromPkcs8 = (pem: string): KeyObject => createPrivateKey(pem);

/** @see {@link https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.6 | RFC 5280 §4.2.1.6} */
export function subjectAltName({ hostnames, addresses }: Omit<LeafSubject, 'publicKey'>): Buffer {
  const names = [
    ...hostnames.map((name) => implicit(2, Buffer.from(name, 'latin1'))),
    ...addresses.map((address) => implicit(7, address)),
  ];
  return extension(SUBJECT_ALT_NAME, false, sequence(...names));
}

interface Body {
  subject: string;
  publicKey: KeyObject;
  extensions: readonly Buffer[];
}

export function writeCertificate(
  issuer: Signer,
  { subject, publicKey, extensions }: Body,
  { notBefore, notAfter }: Validity,
): string {
  const algorithm = sequence(oid(ECDSA_WITH_SHA256));
  const body = sequence(
    explicit(0, integer(VERSION_3)),
    integer(newSerial()),
    algorithm,
    nameOf(issuer.commonName),
    sequence(time(notBefore), time(notAfter)),
    nameOf(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...extensions)),
  );
  return toPem(sequence(body, algorithm, bits(sign('sha256', body, issuer.privateKey))));
}

/** Positive, 127 random bits, and never with leading zero bytes. @see RFC 5280 §4.1.2.2 */
function newSerial(): Buffer {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial;
}

const nameOf = (commonName: string): Buffer => sequence(set(sequence(oid(COMMON_NAME), utf8(commonName))));

export const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value));

/** @see {@link https://www.rfc-editor.org/rfc/rfc7093#section-2 | RFC 7093 §2, method 1}: leftmost 160 bits of SHA-256. */
function keyId(publicKey: KeyObject): Buffer {
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-POINT_BYTES);
  return Buffer.from(hash('sha256', point, 'hex').slice(0, KEY_ID_HEX), 'hex');
}

function toPem(der: Buffer): string {
  const lines = der.toString('base64').match(LINES) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}
