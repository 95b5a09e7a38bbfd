/**
 * What a person could not give when they were asked is remembered in the grant, so that they are not asked again and
 * again. When they may give it, it is asked for again: the library takes a scope that was rejected for settled.
 */
import type { Permission } from '../core/permissions.ts';
import { grantableScopes } from './scopes.ts';

/** The part of the library's grant in which it keeps what was rejected; its types leave it out. */
interface WithRejections {
  rejected?: { resources?: Record<string, string> };
}

export function dropOutgrown(grant: object, rights: ReadonlySet<Permission>): void {
  const { rejected } = grant as WithRejections;
  for (const [url, scope] of Object.entries(rejected?.resources ?? {})) {
    const names = scope.split(' ');
    const outgrown = new Set(grantableScopes(names, rights));
    if (rejected?.resources) rejected.resources[url] = names.filter((name) => !outgrown.has(name)).join(' ');
  }
}
