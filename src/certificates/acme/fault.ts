/**
 * What can go wrong between us and a CA. Every failure says what it stops (`Consequence`), so that whoever renews can
 * decide without reading prose: `AcmeProblem` (problem.ts) is what the CA said, `AcmeFault` is what we saw ourselves.
 */

/**
 * `retry_later`: the same request may work later; `retryAfterMs` is when the CA wants it.
 * `order`: this order (or this request) can't succeed; a new one may.
 * `account`: nothing will succeed before the account or a setting is changed.
 * `person`: somebody has to act at the CA first, at the URL that comes with it.
 * `network`: the CA was not reached, or something else answered; whether a request took effect is not known.
 */
export type Consequence = 'retry_later' | 'order' | 'account' | 'person' | 'network';

export interface AcmeErrorOptions {
  consequence: Consequence;
  /** Not sooner than in this time, as the CA said; bounded. */
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

export class AcmeError extends Error {
  readonly consequence: Consequence;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, { consequence, retryAfterMs, ...rest }: AcmeErrorOptions) {
    super(message, 'cause' in rest ? { cause: rest.cause } : undefined);
    this.consequence = consequence;
    this.retryAfterMs = retryAfterMs;
  }
}

export type FaultCode =
  /** A URL that is not fetched, whoever names it. */
  | 'unsafe_url'
  /** No connection, or one that ended before the reply was whole. */
  | 'unreachable'
  /** The certificate of the CA's server is not trusted, or TLS failed otherwise. */
  | 'tls'
  /** No whole reply in the time for one request. */
  | 'timeout'
  | 'redirected'
  | 'too_large'
  /** Another media type than the one that was asked for; an HTML page, say. */
  | 'content_type'
  /** No JSON, or JSON without what RFC 8555 requires of it. */
  | 'malformed_reply'
  /** An error status without a problem document. */
  | 'http_status'
  /** Not finished by the caller's deadline; the order goes on at the CA. */
  | 'deadline'
  /** A certificate chain that is not what was ordered. */
  | 'wrong_certificate';

export interface AcmeFaultOptions extends Partial<AcmeErrorOptions> {
  /** Of `http_status`. */
  status?: number | undefined;
}

export class AcmeFault extends AcmeError {
  override readonly name = 'AcmeFault';
  readonly code: FaultCode;
  readonly status: number | undefined;

  constructor(code: FaultCode, message: string, { status, ...options }: AcmeFaultOptions = {}) {
    super(message, { consequence: 'network', ...options });
    this.code = code;
    this.status = status;
  }
}
