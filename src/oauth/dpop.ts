/**
 * Proof that who sends an access token has the key that it was issued for. Answers from memory and at once: the gate
 * asks for every request with such a token.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9449#section-4.3 | RFC 9449 §4.3}
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { z } from 'zod';
import { PROOF_ALGORITHMS } from '../core/bearer.ts';
import { isSameText } from '../core/same-text.ts';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import type { Possession } from '../core/exchange.ts';

const MAX_PROOF = 4096;
/** Between the client's clock and ours, either way. */
const WINDOW_MS = MINUTE;
/** Proofs that were seen within the window; who would be one more is refused, since it could not be told from a replay. */
const MAX_SEEN = 100_000;
const MIN_RSA_BITS = 2048;

/** `d` is the private part: it has no business in a proof (number 7). */
const publicJwkSchema = z.discriminatedUnion('kty', [
  z.object({ kty: z.literal('EC'), crv: z.literal('P-256'), x: z.string(), y: z.string() }),
  z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() }),
  z.object({ kty: z.literal('RSA'), n: z.string(), e: z.string() }),
]);
const jwkSchema = z.looseObject({ d: z.never().optional() }).pipe(publicJwkSchema);
type Jwk = z.output<typeof jwkSchema>;

const headerSchema = z.object({ typ: z.literal('dpop+jwt'), alg: z.enum(PROOF_ALGORITHMS), jwk: jwkSchema });
const claimsSchema = z.object({
  jti: z.string().min(1).max(MAX_PROOF),
  htm: z.string(),
  htu: z.string(),
  iat: z.number(),
  ath: z.string(),
});

const keyTypes = { ES256: 'EC', EdDSA: 'OKP', RS256: 'RSA' } as const satisfies Record<
  (typeof PROOF_ALGORITHMS)[number],
  Jwk['kty']
>;

export class ProofChecker {
  readonly #clock: Clock;
  /** Thumbprint and `jti` of a proof → when it is too old anyway, in the order of their arrival. */
  readonly #seen = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the request proves the key with this thumbprint (RFC 7638). A proof is good for one request. */
  isProven(token: string, thumbprint: string, { method, url, proof }: Possession): boolean {
    const read = proof === undefined ? undefined : readProof(proof);
    if (!read || !isSameText(thumbprintOf(read.jwk), thumbprint)) return false;
    const { jti, htm, htu, iat, ath } = read.claims;
    const isOfThis = htm === method && isSameUrl(htu, url) && isSameText(ath, digest(token));
    const isRecent = Math.abs(this.#clock.now() - iat * SECOND) <= WINDOW_MS;
    return isOfThis && isRecent && read.isSigned() && this.#isFirst(`${thumbprint}:${digest(jti)}`);
  }

  #isFirst(key: string): boolean {
    const now = this.#clock.now();
    for (const [known, until] of this.#seen) {
      if (until >= now) break;
      this.#seen.delete(known);
    }
    if (this.#seen.has(key) || this.#seen.size >= MAX_SEEN) return false;
    // As long as a proof with a clock ahead of ours could still come again.
    this.#seen.set(key, now + 2 * WINDOW_MS);
    return true;
  }
}

function readProof(proof: string) {
  if (proof.length > MAX_PROOF) return undefined;
  const [head = '', body = '', signature = '', ...rest] = proof.split('.');
  const [header, claims] = [headerSchema.safeParse(parsed(head)), claimsSchema.safeParse(parsed(body))];
  if (rest.length > 0 || !header.success || !claims.success) return undefined;
  const { alg, jwk } = header.data;
  if (keyTypes[alg] !== jwk.kty) return undefined;
  const isSigned = () => isSignedBy(jwk, Buffer.from(`${head}.${body}`), Buffer.from(signature, 'base64url'));
  return { jwk, claims: claims.data, isSigned };
}

function isSignedBy(jwk: Jwk, data: Buffer, signature: Buffer): boolean {
  const key = keyOf(jwk);
  if (!key) return false;
  switch (jwk.kty) {
    case 'EC':
      // RFC 7518 §3.4: the two numbers side by side, not DER.
      return verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature);
    case 'OKP':
      return verify(null, data, key, signature);
    case 'RSA':
      return (
        (key.asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS &&
        verify('sha256', data, key, signature)
      );
  }
}

function keyOf(jwk: Jwk): KeyObject | undefined {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined; // A point that is not on the curve: nobody can have signed with it.
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc7638#section-3.2 | RFC 7638 §3.2}: required members, in order. */
function thumbprintOf(jwk: Jwk): string {
  switch (jwk.kty) {
    case 'EC':
      return digest(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }));
    case 'OKP':
      return digest(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x }));
    case 'RSA':
      return digest(JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n }));
  }
}

/** Without query and fragment, and in one spelling (RFC 9449 §4.3, number 9). */
function isSameUrl(claimed: string, actual: string): boolean {
  const [one, other] = [URL.parse(claimed), URL.parse(actual)];
  return one !== null && other !== null && one.origin === other.origin && one.pathname === other.pathname;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('base64url');

function parsed(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString());
  } catch {
    return undefined; // Not JSON: not a proof.
  }
}
