/** Why a subscriber may take a certificate back. @see {@link https://www.rfc-editor.org/rfc/rfc5280#section-5.3.1 | RFC 5280 §5.3.1} */
export const revocationCodes = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
} as const;

export type RevocationReason = keyof typeof revocationCodes;

// The table is closed: it has no other keys than those of its type.
export const revocationReasons = Object.keys(revocationCodes) as RevocationReason[];
