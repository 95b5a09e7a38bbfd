/** The rules about who may make, change and end whom. Pure. */
import { AppError } from '../core/errors.ts';
import { isConfined, type Principal } from '../core/principal.ts';
import { type Person, rightsOf } from './person.ts';
import type { UserDocument } from './schema.ts';

/**
 * Nobody can give more than they hold, and for no longer; who is confined to hostnames makes no users, who belong to
 * all of them. The token of somebody who signed in expires too, but they come back.
 * @throws AppError FORBIDDEN.
 */
export function requireGrantable(principal: Principal, { role }: Pick<UserDocument, 'role'>): void {
  if (isConfined(principal))
    throw new AppError('FORBIDDEN', 'users belong to all hostnames, and this credential is confined to some');
  const rights = rightsOf({ role });
  const missing = [...rights].filter((permission) => !principal.permissions.has(permission));
  if (missing.length > 0)
    throw new AppError('FORBIDDEN', `nobody can grant more than they hold: you lack ${missing.join(', ')}`);
  if (rights.size > 0 && principal.kind === 'token' && principal.expiresAt !== undefined)
    throw new AppError(
      'FORBIDDEN',
      `nobody can grant more than they hold: this token expires, and the role ${role} would outlive it`,
    );
}

/** @throws AppError FORBIDDEN when the user may do more than the caller. */
export function requireOutranks(principal: Principal, person: Person): void {
  const isAbove =
    !isConfined(principal) && [...person.permissions].every((one) => principal.permissions.has(one));
  if (!isAbove)
    throw new AppError('FORBIDDEN', `${person.username} may do more than you; ask an administrator`);
}

/** May do everything, everywhere, and is let in. */
export const isAdministrator = ({ document }: Pick<Person, 'document'>): boolean =>
  document.role === 'admin' && document.hostnames === null && !document.disabled;

/** @throws AppError PRECONDITION_FAILED when without this one there would be no administrator who can sign in. */
export function requireAnotherAdministrator(person: Person, everybody: Iterable<Person>): void {
  if (!isAdministrator(person)) return;
  for (const other of everybody) if (other.id !== person.id && isAdministrator(other)) return;
  throw new AppError(
    'PRECONDITION_FAILED',
    `${person.username} is the last administrator who can sign in; give somebody else the role admin first`,
  );
}

/** Whether somebody who has streams open could do with them what they may not, or not as the same person, any more. */
export function losesStreams(before: UserDocument, after: UserDocument): boolean {
  const facts = ({ role, hostnames, groups, email, email_verified, disabled }: UserDocument) =>
    JSON.stringify([role, hostnames, groups, email, email_verified, disabled]);
  return facts(before) !== facts(after);
}
