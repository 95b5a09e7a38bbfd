/**
 * A certificate that is shown on port 443 to who asks for the protocol `acme-tls/1`, and to nobody else.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8737#section-3 | RFC 8737 §3}; for addresses RFC 8738 §6
 */
import { hash, type KeyObject } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import { DAY, HOUR } from '../../core/clock.ts';
import { octets } from '../der.ts';
import { extension, newKeys, subjectAltName, toPkcs8, writeCertificate } from '../x509.ts';
import { keyAuthorization } from './challenge.ts';
import { addressBytes, canonicalIdentifier, type Identifier } from './identifier.ts';

/** id-pe-acmeIdentifier. @see RFC 8737 §6.1 */
const ACME_IDENTIFIER = '1.3.6.1.5.5.7.1.31';
const VALID_MS = 7 * DAY;
const NAME = 'ACME challenge';

export interface TlsAlpn01Answer {
  /** The name in the ClientHello by which the CA asks. */
  serverName: string;
  certificatePem: string;
  /** PKCS#8. */
  keyPem: string;
}

export interface TlsAlpn01Wish {
  identifier: Identifier;
  token: string;
  /** Of the account. */
  accountKey: KeyObject;
  /** Milliseconds since 1970. */
  now: number;
}

export async function tlsAlpn01Answer({
  identifier,
  token,
  accountKey,
  now,
}: TlsAlpn01Wish): Promise<TlsAlpn01Answer> {
  const { type, value } = canonicalIdentifier(identifier);
  const keys = await newKeys();
  const proof = Buffer.from(hash('sha256', await keyAuthorization(token, accountKey), 'hex'), 'hex');
  // Exactly this one name, and the proof, critical so that nobody takes it for a certificate of the site.
  const names =
    type === 'ip'
      ? { hostnames: [], addresses: [addressBytes(value)] }
      : { hostnames: [value], addresses: [] };
  const extensions = [subjectAltName(names), extension(ACME_IDENTIFIER, true, octets(proof))];
  const certificatePem = writeCertificate(
    { ...keys, commonName: NAME },
    { subject: NAME, publicKey: keys.publicKey, extensions },
    { notBefore: now - HOUR, notAfter: now + VALID_MS },
  );
  return {
    serverName: type === 'ip' ? reverseName(value) : value,
    certificatePem,
    keyPem: toPkcs8(keys.privateKey),
  };
}

/** `1.2.0.192.in-addr.arpa`, and digit by digit under `ip6.arpa`. @see RFC 1034 §3.6.2, RFC 3596 §2.5, RFC 8738 §6 */
export function reverseName(address: string): string {
  const bytes = ipaddr.parse(address).toByteArray();
  if (bytes.length === 4) return `${bytes.toReversed().join('.')}.in-addr.arpa`;
  const digits = Buffer.from(bytes).toString('hex');
  return `${digits.split('').toReversed().join('.')}.ip6.arpa`;
}
