/** What may be granted. A permission is also an OAuth scope, so its spelling is a contract. */
export const permissions = [
  'proxies:read',
  'proxies:write',
  'routes:read',
  'routes:write',
  'certificates:read',
  'certificates:write',
  /** To be given private keys. */
  'certificates:export',
  'tokens:read',
  'tokens:write',
  'users:read',
  'users:write',
  'clients:read',
  'clients:write',
  'services:read',
  'services:write',
  'logs:read',
  'commands:run',
  'system:read',
  'system:write',
] as const;

export type Permission = (typeof permissions)[number];

const viewer = [
  'proxies:read',
  'routes:read',
  'certificates:read',
  'services:read',
  'logs:read',
  'system:read',
] as const;

/** Named sets of permissions, each containing the one before it. */
export const bundles = {
  viewer,
  operator: [...viewer, 'proxies:write', 'routes:write', 'certificates:write'],
  admin: permissions,
} as const satisfies Record<string, readonly Permission[]>;

export type Bundle = keyof typeof bundles;

/** What is asked for where nothing was. */
export const DEFAULT_SCOPE: Bundle = 'viewer';

export const bundleNames = Object.keys(bundles) as [Bundle, ...Bundle[]];

const known: ReadonlySet<string> = new Set(permissions);
const isPermission = (text: string): text is Permission => known.has(text);

/** Who may write may read: the hierarchy is applied once, where permissions are granted. */
export function expandPermissions(granted: readonly Permission[]): ReadonlySet<Permission> {
  const all = new Set<Permission>(granted);
  for (const permission of granted) {
    const read = permission.replace(/:write$/, ':read');
    if (isPermission(read)) all.add(read);
  }
  return all;
}
