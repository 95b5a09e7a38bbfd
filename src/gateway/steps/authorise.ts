/** Whether the principal may go on. What can't be read denies. */
import { mayTouch, type Principal } from '../../core/principal.ts';
import type { AuthPolicy } from '../../proxies/schema.ts';
import type { Transit } from '../transit.ts';

/** A credential that is confined to hostnames opens `/mcp` on those, and on the control host. */
export function authoriseMcp(transit: Transit): boolean {
  const { match, principal, hostname } = transit;
  if (!match || principal.kind === 'anonymous' || mayTouch(principal, hostname)) return false;
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This credential is confined to other hostnames.',
  });
}

export function authoriseProxied(transit: Transit): boolean {
  const { match, principal, hostname, core } = transit;
  if (!match || !isAllowed(match.auth, principal, hostname)) return deny(transit, match?.auth);
  if (match.auth.kind !== 'none')
    transit.release = core.live.add(principal, () => endWithCredential(transit));
  return false;
}

function isAllowed(policy: AuthPolicy, principal: Principal, hostname: string): boolean {
  switch (policy.kind) {
    case 'none':
      return true;
    case 'token':
      return principal.permissions.has(policy.permission) && mayTouch(principal, hostname);
    default:
      // The types know no other kind; what was read from a newer store might be one.
      return false;
  }
}

function deny(transit: Transit, policy: AuthPolicy | undefined): true {
  const scope = policy?.kind === 'token' ? `, scope="${policy.permission}"` : '';
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This credential does not open this hostname.',
    headers: { 'www-authenticate': `Bearer error="insufficient_scope"${scope}` },
  });
}

/** While the gateway ends, what would end by itself may do so; `drain` takes care of the rest. */
function endWithCredential(transit: Transit): void {
  if (transit.core.isDraining && !transit.isEndless) return;
  transit.close('UNAUTHENTICATED', 'the credential was revoked or has expired');
}
