/**
 * Who may say who gets through. A route can have a policy of its own, so whoever may write routes could open what a
 * proxy asks a credential for: a policy that differs from a proxy's takes the permission to change that proxy.
 */
import { isDeepStrictEqual } from 'node:util';
import { AppError } from '../core/errors.ts';
import type { Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { storedPolicy } from '../proxies/auth-policy.ts';
import type { Reader } from '../store/database.ts';
import type { Route } from './schema.ts';

const NEEDED: Permission = 'proxies:write';

/** @param route as it will be. One that is off opens nothing; turning it on is asked about again. */
export async function requireMayDecide(
  tx: Reader,
  { hostname, auth, enabled }: Route,
  { permissions }: Principal,
): Promise<void> {
  if (auth === undefined || !enabled || permissions.has(NEEDED)) return;
  if (hostname !== null) {
    const policy = await policyOf(tx, hostname);
    // Anything is at least as strict as none.
    if (policy && (policy.kind === 'none' || isDeepStrictEqual(policy, auth))) return;
  }
  const whose = hostname === null ? 'the proxies' : `the proxy ${hostname}`;
  throw new AppError(
    'FORBIDDEN',
    `auth: another policy than ${whose} asks for needs the permission ${NEEDED}; leave auth out to keep theirs`,
    { details: { required: NEEDED } },
  );
}

async function policyOf(tx: Reader, hostname: string) {
  const proxy = await tx
    .selectFrom('proxies')
    .select('document')
    .where('hostname', '=', hostname)
    .executeTakeFirst();
  return proxy && storedPolicy(proxy.document);
}
