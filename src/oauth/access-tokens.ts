/**
 * Access tokens as the gateway checks them: JSON Web Tokens that this process signed itself, for one audience, whose
 * grant is still alive. Answers from memory; a signature is verified once for each token and remembered.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9068#section-4 | RFC 9068 §4}
 */
import { hash, verify } from 'node:crypto';
import { z } from 'zod';
import { type Clock, SECOND } from '../core/clock.ts';
import type { KeyRing } from './keys.ts';

const MAX_TOKEN = 8192;
/** Tokens whose signature is remembered; the one that was asked for longest ago makes room. */
const MAX_REMEMBERED = 20_000;

const headerSchema = z.object({ alg: z.literal('ES256'), typ: z.literal('at+jwt'), kid: z.string() });

const claimsSchema = z.object({
  iss: z.string(),
  sub: z.string(),
  aud: z.string(),
  client_id: z.string(),
  scope: z.string().default(''),
  jti: z.string(),
  iat: z.number(),
  exp: z.number(),
  /** The grant that it was issued under; absent for a client of its own (RFC 6749 §4.4). */
  grant_id: z.string().optional(),
  /** @see {@link https://www.rfc-editor.org/rfc/rfc9449#section-6 | RFC 9449 §6} */
  cnf: z.object({ jkt: z.string() }).optional(),
});
export type AccessTokenClaims = Readonly<z.output<typeof claimsSchema>>;

export interface AccessTokensOptions {
  readonly keys: KeyRing;
  readonly clock: Clock;
  /** Of a URL always the same: asked for once. */
  readonly isIssuer: (issuer: string) => boolean;
  /** Of this process; a token's own id may have been revoked alone. */
  readonly isRevoked: (claims: AccessTokenClaims) => boolean;
}

export const looksLikeJwt = (credential: string): boolean => credential.startsWith('eyJ');

export class AccessTokens {
  readonly #options: AccessTokensOptions;
  readonly #remembered = new Map<string, AccessTokenClaims>();

  constructor(options: AccessTokensOptions) {
    this.#options = options;
  }

  /** Undefined when it is not ours, expired or revoked. Whom it is for is the caller's question. */
  read(token: string): AccessTokenClaims | undefined {
    if (token.length > MAX_TOKEN) return undefined;
    const key = hash('sha256', token, 'base64url');
    const claims = this.#remembered.get(key) ?? this.#verify(token, key);
    const { clock, isRevoked } = this.#options;
    if (!claims || claims.exp * SECOND <= clock.now()) return undefined;
    return isRevoked(claims) ? undefined : claims;
  }

  /** After a rotation: what an old key signed is asked for again. */
  forget(): void {
    this.#remembered.clear();
  }

  #verify(token: string, key: string): AccessTokenClaims | undefined {
    const [head = '', body = '', signature = '', ...rest] = token.split('.');
    if (rest.length > 0) return undefined;
    const header = headerSchema.safeParse(parsed(head));
    if (!header.success) return undefined;
    const publicKey = this.#options.keys.publicKey(header.data.kid);
    if (!publicKey) return undefined;
    const data = Buffer.from(`${head}.${body}`);
    const bytes = Buffer.from(signature, 'base64url');
    // RFC 7518 §3.4: the two numbers side by side, not DER.
    if (!verify('sha256', data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, bytes)) return undefined;
    const claims = claimsSchema.safeParse(parsed(body));
    if (!claims.success || !this.#options.isIssuer(claims.data.iss)) return undefined;
    this.#remember(key, Object.freeze(claims.data));
    return claims.data;
  }

  #remember(key: string, claims: AccessTokenClaims): void {
    if (this.#remembered.size >= MAX_REMEMBERED) {
      const [oldest] = this.#remembered.keys();
      if (oldest !== undefined) this.#remembered.delete(oldest);
    }
    this.#remembered.set(key, claims);
  }
}

function parsed(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString());
  } catch {
    return undefined; // Not JSON: not a token of ours.
  }
}
