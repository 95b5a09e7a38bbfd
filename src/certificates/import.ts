/**
 * Certificate and key as people have them (PEM) → a leaf with its chain in order and the key that belongs to it.
 * Pure. Whatever the text is, the answer is a result or INVALID_INPUT; no part of the key is ever in a message.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { AppError, messageOf } from '../core/errors.ts';
import { factsOf, hostnamesOf, oneLine } from './facts.ts';

export const MAX_PEM = 65_536;
const MAX_CERTIFICATES = 10;
const MAX_NAMES = 200;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const ANY_USAGE = '2.5.29.37.0';

/** @see {@link https://www.rfc-editor.org/rfc/rfc7468#section-3 | RFC 7468 §3}. Text around the blocks is explanation. */
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----/g;
const keyLabels = ['PRIVATE KEY', 'EC PRIVATE KEY', 'RSA PRIVATE KEY'];

export interface ImportedCertificate {
  /** Hostnames and `*.parent`, canonical. */
  names: readonly string[];
  /** SHA-256 of the leaf. */
  fingerprint: string;
  /** Leaf first, each certificate followed by its issuer; the root, which clients have, is left out. */
  chainPem: string;
  /** PKCS#8. */
  keyPem: string;
}

/** `now` in milliseconds since 1970. @throws AppError INVALID_INPUT that says which text is wrong, and how. */
export function parseImport(certificatePem: string, privateKeyPem: string, now: number): ImportedCertificate {
  const certificates = parseCertificates(certificatePem);
  const key = parseKey(privateKeyPem);
  const chain = orderChain(certificates, key);
  for (const certificate of chain) requireNotExpired(certificate, now);
  const [leaf] = chain;
  if (!leaf) throw fault('certificate_pem', 'holds no certificate');
  const names = requireServerNames(leaf);
  const chainPem = chain.map((certificate) => certificate.toString()).join('');
  const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
  requireServable(chainPem, keyPem);
  return { names, fingerprint: leaf.fingerprint256, chainPem, keyPem };
}

const fault = (field: 'certificate_pem' | 'private_key_pem', problem: string, cause?: unknown): AppError =>
  new AppError('INVALID_INPUT', `${field}: ${problem}`, { cause });

function blocksOf(field: 'certificate_pem' | 'private_key_pem', text: string) {
  if (text.length > MAX_PEM) throw fault(field, `longer than ${MAX_PEM} characters`);
  const blocks = [...text.matchAll(BLOCK)].map(([pem, label = '']) => ({ pem, label }));
  if (text.split('-----BEGIN ').length - 1 !== blocks.length)
    throw fault(field, 'a block between BEGIN and END is cut, or is not base64');
  return blocks;
}

function parseCertificates(text: string): X509Certificate[] {
  if (text.includes('PRIVATE KEY-----'))
    throw fault('certificate_pem', 'holds a private key; pass the key as private_key_pem only');
  const blocks = blocksOf('certificate_pem', text);
  if (blocks.length === 0)
    throw fault('certificate_pem', 'holds no certificate; PEM begins with -----BEGIN CERTIFICATE-----');
  if (blocks.length > MAX_CERTIFICATES)
    throw fault('certificate_pem', `holds ${blocks.length} blocks; at most ${MAX_CERTIFICATES} are taken`);
  const unique = new Map<string, X509Certificate>();
  for (const [index, { pem, label }] of blocks.entries()) {
    if (label !== 'CERTIFICATE')
      throw fault('certificate_pem', `block ${index + 1} is ${label}, not CERTIFICATE`);
    const certificate = parseCertificate(pem, index + 1);
    unique.set(certificate.fingerprint256, certificate);
  }
  return [...unique.values()];
}

function parseCertificate(pem: string, position: number): X509Certificate {
  try {
    const certificate = new X509Certificate(pem);
    requireReadable(certificate);
    return certificate;
  } catch (cause) {
    throw fault('certificate_pem', `certificate ${position} can't be read: ${messageOf(cause)}`, cause);
  }
}

/** Touches all that is used later, so that a key or a date that makes no sense is found where it can be named. */
function requireReadable(certificate: X509Certificate): void {
  factsOf(certificate);
  certificate.publicKey.export({ type: 'spki', format: 'der' });
}

function parseKey(text: string): KeyObject {
  // PKCS#8 says it in its label, the older forms in a header line (RFC 1421 §4.6.1.1).
  if (/-----BEGIN ENCRYPTED |Proc-Type: *4, *ENCRYPTED/.test(text))
    throw fault(
      'private_key_pem',
      'is encrypted; decrypt it first, for example with: openssl pkey -in key.pem',
    );
  const [block, ...more] = blocksOf('private_key_pem', text).filter(({ label }) => keyLabels.includes(label));
  if (!block) throw fault('private_key_pem', `holds no private key; it is one of ${keyLabels.join(', ')}`);
  if (more.length > 0) throw fault('private_key_pem', 'holds more than one private key');
  try {
    return createPrivateKey(block.pem);
  } catch (cause) {
    throw fault('private_key_pem', "can't be read as a private key", cause);
  }
}

/** From the certificate that the key belongs to, up to the last issuer that was sent. */
function orderChain(certificates: readonly X509Certificate[], key: KeyObject): X509Certificate[] {
  const leaf = certificates.find((certificate) => certificate.checkPrivateKey(key));
  if (!leaf)
    throw fault(
      'private_key_pem',
      `does not belong to ${certificates.length === 1 ? 'the certificate' : `any of the ${certificates.length} certificates`}`,
    );
  const chain = [leaf];
  for (let next: X509Certificate | undefined = leaf; next; ) {
    next = issuerOf(
      next,
      certificates.filter((candidate) => !chain.includes(candidate)),
    );
    if (next && !isSelfSigned(next)) chain.push(next);
    else break;
  }
  const stray = certificates.find(
    (candidate) => !chain.includes(candidate) && !chain.some((member) => isIssuedBy(member, candidate)),
  );
  if (stray)
    throw fault(
      'certificate_pem',
      `${oneLine(stray.subject)} is not part of the chain of ${oneLine(leaf.subject)}; leave it out`,
    );
  return chain;
}

/** A cross-signed intermediate comes before a root, so that the chain is as long as what was sent allows. */
function issuerOf(
  certificate: X509Certificate,
  candidates: readonly X509Certificate[],
): X509Certificate | undefined {
  const issuers = candidates.filter((candidate) => isIssuedBy(certificate, candidate));
  return issuers.find((issuer) => !isSelfSigned(issuer)) ?? issuers[0];
}

const isIssuedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);

const isSelfSigned = (certificate: X509Certificate): boolean => isIssuedBy(certificate, certificate);

function requireNotExpired({ subject, validToDate }: X509Certificate, now: number): void {
  if (validToDate.getTime() > now) return;
  throw fault('certificate_pem', `${oneLine(subject)} expired at ${validToDate.toISOString()}`);
}

function requireServerNames(leaf: X509Certificate): string[] {
  const names = hostnamesOf(leaf);
  if (names.length === 0)
    throw fault('certificate_pem', 'names no hostname in subjectAltName, so no client would accept it');
  if (names.length > MAX_NAMES)
    throw fault('certificate_pem', `names ${names.length} hostnames; at most ${MAX_NAMES} are taken`);
  // Node calls the extended key usages `keyUsage`.
  const usages: readonly string[] | undefined = leaf.keyUsage;
  if (usages && !usages.includes(SERVER_AUTH) && !usages.includes(ANY_USAGE))
    throw fault('certificate_pem', 'is not for TLS servers: its extended key usage lacks serverAuth');
  return names;
}

/** The TLS library has the last word, now rather than at the first handshake: short keys, weak digests, odd curves. */
function requireServable(cert: string, key: string): void {
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw fault('certificate_pem', `can't be served: ${messageOf(cause)}`, cause);
  }
}
