/**
 * What an upstream is told of a visitor, signed: it can check with our key set that nobody else wrote it. Not an access
 * token: its `typ` is another, and it opens nothing here.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8725#section-3.11 | RFC 8725 §3.11}
 */
import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { type KeyRing, SIGNING_ALGORITHM } from './keys.ts';

const TYPE = 'ohp-assertion+jwt';

export class Assertions {
  readonly #keys: KeyRing;
  #signing: { readonly kid: string; readonly key: KeyObject } | undefined;

  constructor(keys: KeyRing) {
    this.#keys = keys;
  }

  /** @throws Error when there is no key, which the start would have made. */
  sign(claims: Readonly<Record<string, unknown>>): string {
    const { kid, key } = this.#current();
    const header = { alg: SIGNING_ALGORITHM, typ: TYPE, kid };
    const text = `${encoded(header)}.${encoded(claims)}`;
    // RFC 7518 §3.4: the two numbers side by side, not DER.
    const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' });
    return `${text}.${signature.toString('base64url')}`;
  }

  #current(): { kid: string; key: KeyObject } {
    const [current] = this.#keys.keys;
    if (!current) throw new Error('there is no signing key');
    if (this.#signing?.kid !== current.kid) {
      const key = createPrivateKey({ key: current.privateJwk, format: 'jwk' });
      this.#signing = { kid: current.kid, key };
    }
    return this.#signing;
  }
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
