/**
 * A chain as a CA sends it: read, checked against what was ordered, chosen among alternates. Whether clients trust its
 * root is not for us to say.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-9.1 | RFC 8555 §9.1}: certificates only, leaf first
 */
import { type KeyObject, X509Certificate } from 'node:crypto';
import { hostnamesOf } from '../facts.ts';
import { AcmeFault } from './fault.ts';
import { type Identifier, namesOf } from './identifier.ts';

const MAX_CERTIFICATES = 10;
/** @see {@link https://www.rfc-editor.org/rfc/rfc7468#section-3 | RFC 7468 §3} */
const BLOCK = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----/g;

export interface ExpectedCertificate {
  /** Private or public key of the request. */
  key: KeyObject;
  identifiers: readonly Identifier[];
}

export interface Chain {
  /** Leaf first, without the root; as it came but for blank lines. */
  chainPem: string;
  certificates: readonly X509Certificate[];
}

/** @throws AcmeFault wrong_certificate that says what is wrong. `now`: milliseconds since 1970. */
export function readChain(text: string, expected: ExpectedCertificate, now: number): Chain {
  const certificates = parseCertificates(text);
  const [leaf] = certificates;
  if (!leaf) throw wrong('the reply holds no certificate');
  requireKey(leaf, expected.key);
  requireNames(leaf, expected.identifiers);
  if (leaf.validToDate.getTime() <= now) throw wrong(`it expired at ${leaf.validToDate.toISOString()}`);
  for (const [index, certificate] of certificates.entries()) {
    const issuer = certificates[index + 1];
    if (issuer && !(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)))
      throw wrong(`certificate ${index + 1} of the chain is not signed by the one after it`);
  }
  return { chainPem: certificates.map(String).join(''), certificates };
}

function parseCertificates(text: string): X509Certificate[] {
  const blocks = text.match(BLOCK) ?? [];
  if (text.replace(BLOCK, '').trim() !== '') throw wrong('the reply holds something else than certificates');
  if (blocks.length > MAX_CERTIFICATES)
    throw wrong(`the chain has more than ${MAX_CERTIFICATES} certificates`);
  try {
    return blocks.map((pem) => new X509Certificate(pem));
  } catch (cause) {
    throw wrong("a certificate of the chain can't be read", cause);
  }
}

function requireKey(leaf: X509Certificate, key: KeyObject): void {
  const isOurs = key.type === 'private' ? leaf.checkPrivateKey(key) : leaf.publicKey.equals(key);
  if (!isOurs) throw wrong('it is for another key');
}

function requireNames(leaf: X509Certificate, identifiers: readonly Identifier[]): void {
  const { hostnames, addresses } = namesOf(identifiers);
  const found = new Set(hostnamesOf(leaf));
  const missing = [
    ...hostnames.filter((name) => !found.has(name)),
    ...addresses.filter((address) => leaf.checkIP(address) === undefined),
  ];
  if (missing.length > 0) throw wrong(`it is not for ${missing.join(', ')}`);
}

/** A new order may get a better one: what has come is never used. */
const wrong = (why: string, cause?: unknown): AcmeFault =>
  new AcmeFault('wrong_certificate', `the CA gave out a certificate that was not ordered: ${why}`, {
    consequence: 'order',
    cause,
  });

/** Whether the chain leads to (or through) an authority with this common name. Roots are not in it, so issuers count. */
export function leadsTo({ certificates }: Chain, commonName: string): boolean {
  return certificates.some((certificate) => {
    // As text, commas in it would be escaped.
    const names: string | readonly string[] | undefined = certificate.toLegacyObject().issuer.CN;
    return names === commonName || (Array.isArray(names) && names.includes(commonName));
  });
}
