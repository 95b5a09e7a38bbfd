/**
 * Certificate keys, and the request that one is to be certified for some names (PKCS#10).
 * @see {@link https://www.rfc-editor.org/rfc/rfc2986#section-4 | RFC 2986 §4}
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.4 | RFC 8555 §7.4}: names in subjectAltName; no common name is needed
 */
import { createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { AppError } from '../../core/errors.ts';
import type { CertificateKeyType } from '../../core/key-type.ts';
import { bits, explicit, integer, nothing, oid, sequence, set } from '../der.ts';
import { subjectAltName, toPkcs8 } from '../x509.ts';
import { addressBytes, type Identifier, namesOf } from './identifier.ts';

const VERSION_1 = 0;
/** @see RFC 2985 §5.4.2 */
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';

const newKeyPair = promisify(generateKeyPair);

/** A private key. */
export async function newCertificateKey(type: CertificateKeyType = 'p256'): Promise<KeyObject> {
  const { privateKey } = type.startsWith('rsa')
    ? await newKeyPair('rsa', { modulusLength: Number(type.slice(3)) })
    : await newKeyPair('ec', { namedCurve: type === 'p384' ? 'P-384' : 'P-256' });
  return privateKey;
}

/** DER. `key`: the certificate's, private. @throws AppError INVALID_INPUT for a name or key that can't be certified */
export function writeCsr(identifiers: readonly Identifier[], key: KeyObject): Buffer {
  const { hostnames, addresses } = namesOf(identifiers);
  const names = subjectAltName({ hostnames, addresses: addresses.map(addressBytes) });
  const attribute = sequence(oid(EXTENSION_REQUEST), set(sequence(names)));
  const { algorithm, digest } = signatureOf(key);
  const body = sequence(
    integer(VERSION_1),
    sequence(),
    createPublicKey(toPkcs8(key)).export({ type: 'spki', format: 'der' }),
    explicit(0, attribute),
  );
  return sequence(body, algorithm, bits(sign(digest, body, key)));
}

/** @see RFC 5758 §3.2; RFC 4055 §5: of RSA, the parameters are NULL. */
function signatureOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject) {
  if (type === 'rsa')
    return { algorithm: sequence(oid('1.2.840.113549.1.1.11'), nothing()), digest: 'sha256' };
  if (details?.namedCurve === 'prime256v1')
    return { algorithm: sequence(oid('1.2.840.10045.4.3.2')), digest: 'sha256' };
  if (details?.namedCurve === 'secp384r1')
    return { algorithm: sequence(oid('1.2.840.10045.4.3.3')), digest: 'sha384' };
  throw new AppError('INVALID_INPUT', 'a certificate is for a key on P-256 or P-384, or an RSA key');
}
