/** Whether the principal may go on. What can't be read denies. */
import { mayTouch } from '../../core/principal.ts';
import type { AuthPolicy } from '../../proxies/auth-policy.ts';
import { toolRulesOf } from '../../routes/decide.ts';
import { type Match, matchRequest } from '../../routes/match.ts';
import { scopeChallenge } from '../bearer.ts';
import type { GatewayCore } from '../core.ts';
import { admissionOf, challengeOf, isPublic, type Visit, visitOf } from '../protect.ts';
import type { Transit } from '../transit.ts';
import { keepsClientCertificate } from './check-client-certificate.ts';
import { forwardedMethod } from './identify.ts';

/** A credential that is confined to hostnames opens `/mcp` on those, and on the control host. */
export function authoriseMcp(transit: Transit): boolean {
  const { core, match, principal, hostname } = transit;
  if (!match || principal.kind === 'anonymous' || mayTouch(principal, hostname)) return false;
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This credential is confined to other hostnames.',
    headers: { 'www-authenticate': scopeChallenge(transit, core.settings.mcp.scopes) },
  });
}

export function authoriseProxied(transit: Transit): boolean {
  const { match, principal, core } = transit;
  if (!match || !isAllowed(match.auth, transit)) return deny(transit, match?.auth);
  if (principal.kind !== 'anonymous')
    transit.release = core.live.add(principal, () => endWithCredential(transit));
  if (match.auth.kind === 'oauth' && principal.kind !== 'anonymous')
    transit.identity = [
      ...transit.identity,
      ...core.protection.identityOf(match.auth, principal, visitOf(transit, match.auth).site),
    ];
  transit.isAuthorised = true;
  return false;
}

function isAllowed(policy: AuthPolicy, transit: Transit): boolean {
  const { principal, hostname, path, connection } = transit;
  switch (policy.kind) {
    case 'none':
      return true;
    case 'token':
      return (
        principal.permissions.has(policy.permission) &&
        mayTouch(principal, hostname) &&
        (!connection.guard || principal.kind === 'token')
      );
    case 'oauth':
      return isPublic(policy, path) || admissionOf(transit, visitOf(transit, policy), principal) === 'in';
    default:
      // The types know no other kind; what was read from a newer store might be one.
      return false;
  }
}

/** After a change of what is served: what is open and would be refused now is closed. */
export function reviewOpen({ inFlight, snapshots }: GatewayCore): void {
  const { table } = snapshots.current;
  for (const transit of inFlight) {
    const { hostname, path, match } = transit;
    if (match === undefined || transit.kind === 'acme') continue;
    const proxy = table.proxyOf(hostname);
    if (proxy && !keepsClientCertificate(transit, proxy)) {
      transit.close('FORBIDDEN', 'the client certificate was not checked by what counts now');
      continue;
    }
    if (!transit.isAuthorised) continue;
    const now = matchRequest(table, hostname, forwardedMethod(transit), path);
    // What is served no more ends by itself: requests in flight finish on what they began with.
    if (now === undefined || now.auth === match?.auth) continue;
    if (isAllowed(now.auth, transit) && keepsToolRules(now, transit)) continue;
    transit.close('FORBIDDEN', 'the policy has changed');
  }
}

/** A stream that is open is filtered by the new rules from now on; where there were none, it can't be. */
function keepsToolRules(now: Match, { path, tools }: Transit): boolean {
  const { auth } = now;
  const rules = toolRulesOf(now, path);
  if (!rules || auth.kind !== 'oauth') return true;
  return tools?.follow(auth, rules) ?? false;
}

function deny(transit: Transit, policy: AuthPolicy | undefined): true {
  if (policy?.kind === 'oauth') return denyVisit(transit, visitOf(transit, policy));
  const scope = policy?.kind === 'token' ? `, scope="${policy.permission}"` : '';
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This credential does not open this hostname.',
    headers: { 'www-authenticate': `Bearer error="insufficient_scope"${scope}` },
  });
}

const NOT_FOR_YOU =
  'Whoever you are signed in as is not let in here. To sign in as somebody else, open /.ohp/sign-out first.';

/** All scopes at once: who asks for them one by one never gets there (MCP 2026-07-28, Scope Challenge Handling). */
export function denyVisit(transit: Transit, visit: Visit): true {
  const lacksScopes = admissionOf(transit, visit, transit.principal) === 'lacks-scopes';
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: lacksScopes ? 'This token lacks scopes that are needed here.' : NOT_FOR_YOU,
    reason: lacksScopes ? 'insufficient scope' : 'not in the allow-list',
    headers: lacksScopes ? { 'www-authenticate': challengeOf(visit, 'insufficient_scope') } : {},
  });
}

/** While the gateway ends, what would end by itself may do so; `drain` takes care of the rest. */
function endWithCredential(transit: Transit): void {
  if (transit.core.isDraining && !transit.isEndless) return;
  transit.close('UNAUTHENTICATED', 'the credential was revoked or has expired');
}
