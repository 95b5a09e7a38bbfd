/** What may be granted. A permission is also an OAuth scope, so its spelling is a contract. */
import { z } from 'zod';

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
  'alerts:read',
  'alerts:write',
  'commands:run',
  /** To be told numbers of all hostnames. */
  'metrics:read',
  'system:read',
  'system:write',
] as const;

/** To run one command of the settings and no other. There are as many as the settings name. */
type CommandPermission = `commands:run:${string}`;

export type Permission = (typeof permissions)[number] | CommandPermission;

const COMMAND_NAME = /[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/;
const COMMAND = new RegExp(`^commands:run:${COMMAND_NAME.source}$`);
/** Of one credential. */
export const MAX_PERMISSIONS = 100;

export const commandPermission = (name: string): Permission => `commands:run:${name}`;

const ofCommand = z.templateLiteral(['commands:run:', z.string().regex(COMMAND_NAME)]);
/** As a caller writes it. */
export const permissionSchema = z.union([
  z.enum(permissions),
  // What the pattern says already, for who reads lengths only.
  ofCommand.meta({ description: 'commands:run:NAME', maxLength: 76 }),
]);

const viewer = [
  'proxies:read',
  'routes:read',
  'certificates:read',
  'services:read',
  'logs:read',
  'alerts:read',
  'metrics:read',
  'system:read',
] as const;

/** Named sets of permissions, each containing the one before it. */
export const bundles = {
  viewer,
  operator: [...viewer, 'proxies:write', 'routes:write', 'certificates:write', 'alerts:write'],
  admin: permissions,
} as const satisfies Record<string, readonly Permission[]>;

export type Bundle = keyof typeof bundles;

/** What is asked for where nothing was. */
export const DEFAULT_SCOPE: Bundle = 'viewer';

export const bundleNames = Object.keys(bundles) as [Bundle, ...Bundle[]];

const known: ReadonlySet<string> = new Set(permissions);
const isListed = (text: string): text is (typeof permissions)[number] => known.has(text);
export const isPermission = (text: string): text is Permission => isListed(text) || COMMAND.test(text);

/** Whether who holds these has it: by itself, or as part of one, as `commands:run` has every command of the settings. */
export function holds(held: ReadonlySet<Permission>, permission: Permission): boolean {
  return held.has(permission) || (COMMAND.test(permission) && held.has('commands:run'));
}

/** Whether who holds these has a part of it. */
export const holdsPart = (held: ReadonlySet<Permission>, permission: Permission): boolean =>
  [...held].some((one) => one.startsWith(`${permission}:`));

/** In the order of the list, and after it by name. */
export function ordered(granted: ReadonlySet<Permission>): Permission[] {
  const more = [...granted].filter((permission) => !known.has(permission));
  return [...permissions.filter((permission) => granted.has(permission)), ...more.sort()];
}

/** Who may write may read: the hierarchy is applied once, where permissions are granted. */
export function expandPermissions(granted: readonly Permission[]): ReadonlySet<Permission> {
  const all = new Set<Permission>(granted);
  for (const permission of granted) {
    const read = permission.replace(/:write$/, ':read');
    // A command may be called `write`; another may be called `read`.
    if (isListed(read)) all.add(read);
  }
  return all;
}
