/**
 * Signed requests: flattened JSON, with the URL and a nonce in the protected header, and either the account's URL
 * (`kid`) or the key itself (`jwk`) where there is no account yet or the key is a certificate's.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.2 | RFC 8555 §6.2}
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { calculateJwkThumbprint, type FlattenedJWS, FlattenedSign, type JWK } from 'jose';
import { AppError } from '../../core/errors.ts';

const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384' };

export interface JwsSigner {
  /** Private. */
  key: KeyObject;
  /** URL of the account; absent: the public key is sent along. */
  kid?: string | undefined;
}

export interface JwsContent {
  url: string;
  /** Undefined inside another JWS. @see RFC 8555 §7.3.5 */
  nonce: string | undefined;
  /** Undefined: POST-as-GET, an empty payload. @see RFC 8555 §6.3 */
  payload: unknown;
}

export async function signJws({ key, kid }: JwsSigner, content: JwsContent): Promise<FlattenedJWS> {
  const { url, nonce, payload } = content;
  const text = payload === undefined ? '' : JSON.stringify(payload);
  return new FlattenedSign(Buffer.from(text))
    .setProtectedHeader({
      alg: algorithmOf(key),
      url,
      ...(nonce !== undefined && { nonce }),
      ...(kid === undefined ? { jwk: publicJwk(key) } : { kid }),
    })
    .sign(key);
}

/** RSA is for the keys of certificates that are revoked with their own key. */
function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string {
  const algorithm = type === 'rsa' ? 'RS256' : CURVES[details?.namedCurve ?? ''];
  if (algorithm === undefined)
    throw new AppError(
      'INVALID_INPUT',
      `a key of type ${type ?? 'secret'} can't sign for a CA; P-256, P-384 and RSA can`,
    );
  return algorithm;
}

export const publicJwk = (key: KeyObject): JWK => createPublicKey(exportedOf(key)).export({ format: 'jwk' });

/** `createPublicKey` takes private keys as text only, by its types. */
const exportedOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

/** @see {@link https://www.rfc-editor.org/rfc/rfc7638 | RFC 7638} */
export const thumbprintOf = async (key: KeyObject): Promise<string> => calculateJwkThumbprint(publicJwk(key));
