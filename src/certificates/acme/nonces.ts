/**
 * Nonces that the CA gave and nobody used yet. The newest goes first: old ones expire at the CA.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.5 | RFC 8555 §6.5}
 */
const MAX_KEPT = 32;
const NONCE = /^[A-Za-z0-9_-]{1,512}$/;

export interface Nonces {
  /** What is no nonce is left out. @see RFC 8555 §6.5.1: base64url, everything else has to be ignored. */
  add(nonce: string | undefined): void;
  take(): string | undefined;
}

export function createNonces(): Nonces {
  const kept: string[] = [];
  return {
    add(nonce) {
      if (nonce === undefined || !NONCE.test(nonce)) return;
      kept.push(nonce);
      if (kept.length > MAX_KEPT) kept.shift();
    },
    take: () => kept.pop(),
  };
}
