/** Whether a policy lets somebody in. What is not named is not let in. Pure; asked for every request. */
import type { Principal } from '../core/principal.ts';
import type { AllowList, OAuthPolicy } from '../proxies/auth-policy.ts';

/** What is known of a user. */
export interface Visitor {
  readonly id: string;
  readonly username: string;
  readonly email: string | undefined;
  readonly isEmailVerified: boolean;
  readonly groups: readonly string[];
}

export function letsIn(
  { allow }: Pick<OAuthPolicy, 'allow'>,
  principal: Principal,
  visitor: Visitor | undefined,
): boolean {
  switch (principal.kind) {
    case 'user':
      return visitor !== undefined && letsUserIn(allow, visitor);
    case 'client':
      return principal.oauth !== undefined && allow.clients.includes(principal.oauth.clientId);
    case 'token':
      return allow.clients.includes(principal.id);
    case 'anonymous':
    case 'system':
      return false;
  }
}

function letsUserIn(allow: AllowList, { id, email, isEmailVerified, groups }: Visitor): boolean {
  if (allow.everyone || allow.users.includes(id)) return true;
  if (groups.some((group) => allow.groups.includes(group))) return true;
  // An address that nobody has checked is what its user says of themselves.
  if (email === undefined || !isEmailVerified) return false;
  return allow.emails.includes(email) || allow.domains.includes(domainOf(email));
}

const domainOf = (email: string): string => email.slice(email.lastIndexOf('@') + 1);

/** A person at a browser acts for themselves, and an API token is named in the policy: neither carries scopes. */
export function scopesOf(
  { scopes }: { readonly scopes: readonly string[] },
  principal: Principal,
  isSession: boolean,
): readonly string[] {
  return isSession || principal.kind === 'token' ? scopes : (principal.oauth?.scopes ?? []);
}
