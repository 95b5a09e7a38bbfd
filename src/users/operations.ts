/** What can be done with the people who sign in. Nobody's password is an argument or a result. */
import { z } from 'zod';
import {
  changesIn,
  changesOf,
  cursorField,
  idempotencyKeyField,
  limitField,
  versionField,
} from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { invitedUserSchema, userListSchema, username, userSettings } from './schema.ts';
import type { UserService } from './service.ts';

type Services = { users: UserService };

const idField = z.string().min(1).max(limits.shortText).describe('Id of the user, usr_…, or the username');

export const listUsers = defineOperation({
  name: 'list_users',
  title: 'List users',
  description:
    'Lists who can sign in: role, groups, how they prove who they are, when they were last seen. Never how to become them.',
  permission: 'users:read',
  confinement: 'refused',
  effect: 'read',
  // Names and addresses as a provider elsewhere told them.
  untrusted: true,
  mcp: 'listed',
  toolset: 'access',
  http: { method: 'GET', path: '/v1/users' },
  input: z.object({ limit: limitField, cursor: cursorField }),
  output: userListSchema,
  handler: (page, _context, { users }: Services) => users.list(page),
});

export const createUser = defineOperation({
  name: 'create_user',
  title: 'Create a user',
  description:
    'Creates somebody who can sign in and returns a link, once, good for 72 hours, by which they set a password or passkey. Never a role above your own.',
  permission: 'users:write',
  confinement: 'refused',
  effect: 'create',
  givesCredential: true,
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'POST', path: '/v1/users' },
  input: z.object({ username, ...userSettings.shape, idempotency_key: idempotencyKeyField }),
  output: invitedUserSchema,
  async handler({ idempotency_key: _key, ...wanted }, context, { users }: Services) {
    const user = await users.create(wanted, context);
    context.audit({ user: user.id });
    return user;
  },
});

export const updateUser = defineOperation({
  name: 'update_user',
  title: 'Change a user',
  description:
    'Changes what is named, the rest stays. disabled signs out at once, and ends grants. reset_sign_in ends password, passkeys, linked providers and sessions and returns a new link, once.',
  permission: 'users:write',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'PATCH', path: '/v1/users/{id}' },
  input: z.object({
    id: idField,
    ...changesOf(userSettings.shape),
    reset_sign_in: z
      .boolean()
      .optional()
      .describe(
        'true: password, passkeys and linked providers stop working; the result has a link to set new ones',
      ),
    version: versionField,
  }),
  output: invitedUserSchema,
  confirm: ({ id, disabled, reset_sign_in }) => {
    if (disabled) return `Disable the user ${id}? They are signed out, and what they granted ends, at once.`;
    return reset_sign_in
      ? `Reset how ${id} signs in? Their password, passkeys and linked providers stop working at once.`
      : undefined;
  },
  async handler({ id, version, ...changes }, context, { users }: Services) {
    changesIn('update_user', changes);
    return users.update(id, { ...changes, version }, context);
  },
});

export const deleteUser = defineOperation({
  name: 'delete_user',
  title: 'Delete a user',
  description: 'Ends an account for good, with its sessions, streams and all that it granted to clients.',
  permission: 'users:write',
  confinement: 'refused',
  effect: 'delete',
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'DELETE', path: '/v1/users/{id}' },
  input: z.object({ id: idField }),
  output: z.object({ id: z.string() }),
  confirm: ({ id }) => `Delete the user ${id}? They are signed out everywhere at once; it can't be undone.`,
  handler: ({ id }, context, { users }: Services) => users.delete(id, undefined, context),
});

export const userOperations = [listUsers, createUser, updateUser, deleteUser] as const;
