/**
 * How TLS is spoken with clients: the versions, ciphers, groups and signatures of every handshake. There is no setting
 * for any of it: whoever would loosen it would do so for every hostname. docs/decisions/0023
 */
import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import { HOUR } from './clock.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc8996 | RFC 8996}: earlier ones must not be used. */
export const MIN_TLS_VERSION = 'TLSv1.2';
export const MAX_TLS_VERSION = 'TLSv1.3';

/**
 * AEAD with ephemeral keys and nothing else, AES-128 first.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9325#section-4.2 | RFC 9325 §4.2}
 */
export const CIPHERS: readonly string[] = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
];

/** The first is the hybrid that outlives a quantum computer (FIPS 203, draft-ietf-tls-ecdhe-mlkem); TLS 1.3 only. */
export const GROUPS: readonly string[] = ['X25519MLKEM768', 'X25519', 'P-256', 'P-384'];

/** Without SHA-1, for our certificates and for those of clients. @see RFC 9155 */
export const SIGNATURES: readonly string[] = [
  'ecdsa_secp256r1_sha256',
  'ecdsa_secp384r1_sha384',
  'ecdsa_secp521r1_sha512',
  'ed25519',
  'rsa_pss_pss_sha256',
  'rsa_pss_pss_sha384',
  'rsa_pss_pss_sha512',
  'rsa_pss_rsae_sha256',
  'rsa_pss_rsae_sha384',
  'rsa_pss_rsae_sha512',
  'rsa_pkcs1_sha256',
  'rsa_pkcs1_sha384',
  'rsa_pkcs1_sha512',
];

export const PROTOCOLS: readonly string[] = ['h2', 'http/1.1'];

/** A ticket is for this long, and the key that it is sealed with changes as often. @see RFC 9325 §3.4 */
export const SESSION_LIFETIME_MS = 12 * HOUR;

/** A client that has no fast AES gets ChaCha20. A connection stays as it was negotiated: RFC 9113 §9.2.1, RFC 9325 §3.5. */
const OPTIONS =
  constants.SSL_OP_CIPHER_SERVER_PREFERENCE |
  constants.SSL_OP_PRIORITIZE_CHACHA |
  constants.SSL_OP_NO_RENEGOTIATION |
  constants.SSL_OP_NO_COMPRESSION;

/** Of every context and server: OpenSSL takes some from the one and some from the other. */
export const tlsPolicy = {
  minVersion: MIN_TLS_VERSION,
  maxVersion: MAX_TLS_VERSION,
  ciphers: CIPHERS.join(':'),
  ecdhCurve: GROUPS.join(':'),
  sigalgs: SIGNATURES.join(':'),
  secureOptions: OPTIONS,
  sessionIdContext: 'ohp',
  sessionTimeout: SESSION_LIFETIME_MS / 1000,
} as const satisfies SecureContextOptions;

/** Of hosts that ask for certificates: who was checked is checked again at the next handshake. */
export const withoutResumption = {
  ...tlsPolicy,
  secureOptions: OPTIONS | constants.SSL_OP_NO_TICKET,
  sessionIdContext: 'ohp-client-certificates',
} as const satisfies SecureContextOptions;

/** Asked for by CAs alone, where a challenge is pending. @see {@link https://www.rfc-editor.org/rfc/rfc8737#section-6.2 | RFC 8737 §6.2} */
export const ACME_TLS_PROTOCOL = 'acme-tls/1';
