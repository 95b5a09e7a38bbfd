/**
 * External account binding: proof that a new account belongs to a customer of the CA.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3.4 | RFC 8555 §7.3.4}
 */
import type { KeyObject } from 'node:crypto';
import { type FlattenedJWS, FlattenedSign } from 'jose';
import { AppError } from '../../core/errors.ts';
import { publicJwk } from './jws.ts';

const BASE64URL = /^[A-Za-z0-9_-]+={0,2}$/;

export interface ExternalAccount {
  keyId: string;
  /** As the CA gives it out: base64url. */
  hmacKey: string;
}

/** `key`: of the account; `url`: where it is made. @throws AppError INVALID_INPUT for a key that is not base64url */
export async function signExternalAccount(
  { keyId, hmacKey }: ExternalAccount,
  { key, url }: { key: KeyObject; url: string },
): Promise<FlattenedJWS> {
  if (!BASE64URL.test(hmacKey))
    throw new AppError('INVALID_INPUT', 'the HMAC key of the external account is not base64url');
  return new FlattenedSign(Buffer.from(JSON.stringify(publicJwk(key))))
    .setProtectedHeader({ alg: 'HS256', kid: keyId, url })
    .sign(Buffer.from(hmacKey, 'base64url'));
}
