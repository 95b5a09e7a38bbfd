/** Scopes: every permission, and the bundles by name. What a scope gives is bounded by what its user may do. */
import {
  type Bundle,
  bundleNames,
  bundles,
  expandPermissions,
  holds,
  isPermission,
  type Permission,
  permissions,
} from '../core/permissions.ts';

/** In the order in which they are shown; those of commands that the settings name are besides. */
export const controlScopes: readonly string[] = [...bundleNames, ...permissions];

const isBundle = (scope: string): scope is Bundle => Object.hasOwn(bundles, scope);

/** What the scopes of a token stand for; unknown ones stand for nothing. */
export function permissionsOf(scope: string): ReadonlySet<Permission> {
  const granted = scope.split(' ').flatMap((name): readonly Permission[] => {
    if (isBundle(name)) return bundles[name];
    return isPermission(name) ? [name] : [];
  });
  return expandPermissions(granted);
}

/**
 * Of the scopes asked for, those that a holder of `held` may give away. Words of a protected site give nothing here;
 * its policy asks at each request who it is, so anybody may give them.
 */
export function grantableScopes(scopes: readonly string[], held: ReadonlySet<Permission>): string[] {
  return scopes.filter((scope) => [...permissionsOf(scope)].every((permission) => holds(held, permission)));
}

const verbs: Readonly<Record<string, string>> = {
  read: 'See',
  write: 'Create, change and delete',
  run: 'Run',
  export: 'Take private keys with',
};

/** For the person who is asked. */
export function meaningOf(scope: string): string {
  switch (scope) {
    case 'viewer':
      return 'See everything that is served: proxies, routes, certificates, services, logs';
    case 'operator':
      return 'See everything, and change proxies, routes and certificates';
    case 'admin':
      return 'Do everything an administrator can, including tokens and users';
    case 'access':
      return 'Reach it in your name';
    default: {
      const [noun = scope, verb = '', name] = scope.split(':');
      if (name !== undefined) return `Run the command ${name} of the settings`;
      return `${verbs[verb] ?? 'Use'} ${noun}`;
    }
  }
}
