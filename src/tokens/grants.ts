/** The rules about who may hand on what. Pure. One sentence: nobody can grant, or take over, more than they hold. */
import { AppError } from '../core/errors.ts';
import { expandPermissions, holds, ordered, type Permission, permissions } from '../core/permissions.ts';
import { mayTouch, type Principal } from '../core/principal.ts';

/** What a token may do, where, and until when: a principal without its name. */
export type Grants = Pick<Principal, 'permissions' | 'hostnames' | 'expiresAt'>;

/** @throws AppError FORBIDDEN that begins with `refusal` and names each thing the holder does not have. */
export function requireGrantable(holder: Principal, wanted: Grants, refusal: string): void {
  const faults = [
    permissionFault(holder, wanted),
    hostnameFault(holder, wanted),
    expiryFault(holder, wanted),
  ].filter((fault) => fault !== undefined);
  if (faults.length > 0) throw new AppError('FORBIDDEN', `${refusal}: ${faults.join('; ')}`);
}

/** Whether the holder may revoke it: it holds all that the token may do, everywhere the token may do it. */
export const outranks = (holder: Principal, token: Grants): boolean =>
  permissionFault(holder, token) === undefined && hostnameFault(holder, token) === undefined;

/** Whether the principal is shown it: confined ones see what is confined within their own hostnames. */
export const maySee = (principal: Principal, token: Grants): boolean =>
  hostnameFault(principal, token) === undefined;

/** Everything, everywhere, for ever: one such token has to be left, or nobody could ever get in again. */
export const isLastingAdministrator = (token: Grants): boolean =>
  token.hostnames === undefined &&
  token.expiresAt === undefined &&
  permissions.every((permission) => token.permissions.has(permission));

function permissionFault(holder: Principal, wanted: Grants): string | undefined {
  const missing = [...wanted.permissions].filter((permission) => !holds(holder.permissions, permission));
  return missing.length === 0 ? undefined : `you lack ${missing.join(', ')}`;
}

function hostnameFault(holder: Principal, wanted: Grants): string | undefined {
  if (holder.hostnames === undefined) return undefined;
  const allowed = holder.hostnames.join(', ') || 'no hostname';
  if (wanted.hostnames === undefined) return `you are confined to ${allowed}, and this is not`;
  const outside = wanted.hostnames.filter((hostname) => !mayTouch(holder, hostname));
  return outside.length === 0
    ? undefined
    : `you are confined to ${allowed}; ${outside.join(', ')} is outside of it`;
}

function expiryFault({ expiresAt }: Principal, wanted: Grants): string | undefined {
  if (expiresAt === undefined || (wanted.expiresAt !== undefined && wanted.expiresAt <= expiresAt))
    return undefined;
  return `your own credential expires at ${new Date(expiresAt).toISOString()}, and this would outlive it`;
}

/** In the order of the list, each once, with what follows: who may write may read. */
export const canonicalPermissions = (granted: readonly Permission[]): Permission[] =>
  ordered(expandPermissions(granted));
