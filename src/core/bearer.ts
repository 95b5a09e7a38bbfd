/**
 * What may be a bearer credential, here and in the setting of the administrator's token: whatever is accepted as one
 * can be sent as one. Wider than RFC 6750's `token68`, because the administrator may choose any text that HTTP brings
 * here unchanged: printable ASCII, spaces inside it too. Spaces at its ends would be trimmed on the way.
 * @see {@link https://www.rfc-editor.org/rfc/rfc6750#section-2.1 | RFC 6750 §2.1}, RFC 9110 §5.5
 */
const SCHEME = /^bearer +/i;
/** @see {@link https://www.rfc-editor.org/rfc/rfc9449#section-7.1 | RFC 9449 §7.1} */
const PROVEN_SCHEME = /^dpop +/i;
/** Of proofs that this system verifies. */
export const PROOF_ALGORITHMS = ['ES256', 'EdDSA', 'RS256'] as const;
const PRINTABLE = /^(?! )[\x20-\x7e]+(?<! )$/;

/** Longest credential that is looked at: access tokens are the long ones. */
export const MAX_CREDENTIAL = 8192;

export const isCredential = (text: string): boolean => text.length <= MAX_CREDENTIAL && PRINTABLE.test(text);

/** The credential in the value of an Authorization field; undefined when there is no bearer credential in it. */
export const bearerIn = (authorization: string): string | undefined => credentialIn(authorization, SCHEME);

/** The credential of a client that proves a key with it. */
export const provenIn = (authorization: string): string | undefined =>
  credentialIn(authorization, PROVEN_SCHEME);

function credentialIn(authorization: string, pattern: RegExp): string | undefined {
  const [scheme] = pattern.exec(authorization) ?? [];
  if (scheme === undefined) return undefined;
  const text = authorization.slice(scheme.length).trimEnd();
  return isCredential(text) ? text : undefined;
}
