/**
 * Port: a provider elsewhere that says who somebody is. One adapter for each kind, one contract suite for all of them
 * (`upstream.contract.ts`). It keeps nothing of a person and gives no access token to anybody; whose account it is,
 * others decide (`users/identities.ts`).
 */
import { AppError } from '../../core/errors.ts';
import type { Identity } from '../../users/schema.ts';

export interface Upstream {
  readonly settings: UpstreamSettings;
  /** Where the browser goes, and what its answer will be checked with. @throws UpstreamFault */
  begin(asked: Asked): Promise<Begun>;
  /** Who came back. `answer` is the whole URL that was called. @throws UpstreamFault */
  finish(answer: URL, proof: Proof): Promise<Identity>;
}

export interface UpstreamSettings {
  readonly name: string;
  readonly title: string;
  readonly kind: 'oidc' | 'github';
  /** Without a slash at its end: what identities are remembered by. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scopes: readonly string[];
  readonly groupsClaim: string | undefined;
  /** Undefined: whoever has linked it, or is invited. */
  readonly allow: Allow | undefined;
  /** Of an account for who is allowed and has none; undefined: none is made. */
  readonly newRole: 'none' | 'viewer' | 'operator' | undefined;
}

export interface Allow {
  readonly everyone: boolean;
  readonly emails: readonly string[];
  readonly domains: readonly string[];
  readonly groups: readonly string[];
}

export interface Asked {
  readonly redirectUri: string;
  /** The person is signed in and has to show once more that it is they. */
  readonly isAgain: boolean;
}

export interface Begun {
  readonly url: string;
  readonly proof: Proof;
}

/** Known to who began. @see {@link https://www.rfc-editor.org/rfc/rfc9700#section-4.7 | RFC 9700 §4.7} */
export interface Proof {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
}

/** Told to the person in the message, to the operator by the reason; neither names a secret. */
export class UpstreamFault extends AppError {
  readonly reason: string;

  constructor(
    code: 'UNAUTHENTICATED' | 'UPSTREAM_FAILED' | 'UNAVAILABLE',
    message: string,
    reason: string,
    cause?: unknown,
  ) {
    super(code, message, { cause });
    this.reason = reason;
  }
}
