/**
 * In whose name orders count. Whoever is confined to hostnames has a budget of their own, together with all tokens that
 * they made and all clients that act for them; who is confined to none has none, for everything is theirs. Pure.
 */
export interface Identity {
  readonly isConfined: boolean;
  /** Id of the principal that made it; undefined: nobody's. */
  readonly madeBy: string | undefined;
}

/** A chain of tokens that made each other is never longer in good faith. */
const MAX_CHAIN = 100;

/**
 * Of the principals that made each other up to this one, the first that is confined; undefined: it is not confined.
 * `identityOf` gives undefined for one that is gone: what it owns counts as its own.
 */
export function payerOf(
  principalId: string,
  identityOf: (id: string) => Identity | undefined,
): string | undefined {
  let payer: string | undefined;
  let at: string | undefined = personOf(principalId);
  for (let steps = 0; at !== undefined && steps < MAX_CHAIN; steps++) {
    const identity = identityOf(at);
    if (!identity) return payer ?? at;
    if (!identity.isConfined) return payer;
    payer = at;
    at = identity.madeBy === undefined ? undefined : personOf(identity.madeBy);
  }
  return payer;
}

/** A user is the same by whichever client: the id of such a principal is `user:client`. */
function personOf(id: string): string {
  const at = id.indexOf(':');
  return at < 0 || id.startsWith('client:') ? id : id.slice(0, at);
}
