/** What can be done with clients, grants and signing keys, and what a caller may know of itself. */
import { z } from 'zod';
import { cursorField, idempotencyKeyField, limitField, toTimestamp } from '../core/collection.ts';
import { limits } from '../core/limits.ts';
import { AppError } from '../core/errors.ts';
import { defineOperation } from '../core/operation.ts';
import {
  type Bundle,
  bundleNames,
  bundles,
  expandPermissions,
  type Permission,
  MAX_PERMISSIONS,
  ordered,
  permissionSchema,
} from '../core/permissions.ts';
import { cleanText } from '../core/untrusted.ts';
import type { AccessService } from './access.ts';
import { clientListSchema, createdClientSchema, grantListSchema, keySchema, whoamiSchema } from './schema.ts';
import type { OAuthService } from './service.ts';

const MAX_REDIRECT_URIS = 20;

type Services = { access: AccessService; oauth: OAuthService };

const idField = z.string().min(1).max(limits.untrustedText);

export const whoami = defineOperation({
  name: 'whoami',
  title: 'Who am I',
  description:
    'Tells who is calling: the user or token, through which client, with which scopes and permissions.',
  permission: 'authenticated',
  confinement: 'harmless',
  effect: 'read',
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'GET', path: '/v1/me' },
  input: z.object({}),
  output: whoamiSchema,
  async handler(_input, { principal }) {
    const { id, name, kind, permissions, hostnames, expiresAt, oauth } = principal;
    return {
      id,
      name,
      kind,
      user: oauth?.userId ?? null,
      client: oauth?.clientId ?? null,
      scopes: [...(oauth?.scopes ?? [])],
      permissions: [...permissions],
      hostnames: hostnames === undefined ? null : [...hostnames],
      expires_at: expiresAt === undefined ? null : toTimestamp(expiresAt),
    };
  },
});

export const listClients = defineOperation({
  name: 'list_clients',
  title: 'List OAuth clients',
  description:
    'Lists the programs that can ask users to let them in: registered ones, and those whose id is a URL that somebody let in. Names are what the clients call themselves.',
  permission: 'clients:read',
  confinement: 'refused',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'GET', path: '/v1/clients' },
  input: z.object({ limit: limitField, cursor: cursorField }),
  output: clientListSchema,
  handler: (page, _context, { access }: Services) => access.listClients(page),
});

export const createClient = defineOperation({
  name: 'create_client',
  title: 'Create an OAuth client',
  description:
    'Creates a program with an id and a secret, returned once: it acts for itself (client_credentials) with permissions or a bundle, never more than the caller holds; with redirect_uris it can also ask users to let it in.',
  permission: 'clients:write',
  confinement: 'refused',
  effect: 'create',
  givesCredential: true,
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'POST', path: '/v1/clients' },
  input: z.object({
    name: z
      .string()
      .min(1)
      .max(limits.shortText)
      .refine(
        (text) => text.trim() === text && cleanText(text) === text,
        'has to be printable, without spaces around it',
      )
      .describe('What it is, e.g. "deploy job"; users are shown it'),
    permissions: z
      .array(permissionSchema)
      .max(MAX_PERMISSIONS)
      .optional()
      .describe('What it may do here for itself; write includes read'),
    bundle: z.enum(bundleNames).optional().describe('Instead of permissions'),
    redirect_uris: z
      .array(z.string().min(1).max(limits.untrustedText))
      .max(MAX_REDIRECT_URIS)
      .default([])
      .describe('Where users are sent back to; to the letter'),
    idempotency_key: idempotencyKeyField,
  }),
  output: createdClientSchema,
  async handler(input, context, { oauth }: Services) {
    const client = await oauth.clients.create(
      {
        name: input.name,
        permissions: grantedBy(input.permissions, input.bundle),
        redirectUris: input.redirect_uris,
      },
      context,
    );
    context.audit({ client: client.id });
    return client;
  },
});

/** In the order of the list, with what follows: who may write may read. */
function grantedBy(named: readonly Permission[] | undefined, bundle: Bundle | undefined): Permission[] {
  if (named && bundle)
    throw new AppError('INVALID_INPUT', 'create_client: give either permissions or a bundle, not both');
  const all = expandPermissions(named ?? (bundle ? bundles[bundle] : []));
  return ordered(all);
}

export const deleteClient = defineOperation({
  name: 'delete_client',
  title: 'Delete an OAuth client',
  description:
    'Ends a client and all that users granted it; its streams close at once. It may register again.',
  permission: 'clients:write',
  confinement: 'refused',
  effect: 'delete',
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'DELETE', path: '/v1/clients/{id}' },
  input: z.object({
    id: idField.describe('Id of the client, as in list_clients'),
  }),
  output: z.object({ id: z.string(), grants_ended: z.int() }),
  confirm: ({ id }) => `Delete the client ${id}? Everybody who uses it is signed out of it at once.`,
  handler: ({ id }, context, { access }: Services) => access.deleteClient(id, context),
});

export const listGrants = defineOperation({
  name: 'list_grants',
  title: 'List grants',
  description:
    'Lists which client may act for which user, with which scopes. Callers with clients:read see all, others their own.',
  permission: 'authenticated',
  confinement: 'harmless',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'GET', path: '/v1/grants' },
  input: z.object({
    limit: limitField,
    cursor: cursorField,
    user: idField.optional().describe('Only of this user, usr_…'),
    client: idField.optional().describe('Only of this client'),
  }),
  output: grantListSchema,
  handler: (query, context, { access }: Services) => access.listGrants(query, context),
});

export const revokeGrant = defineOperation({
  name: 'revoke_grant',
  title: 'Revoke a grant',
  description:
    "Ends what a user granted a client: its tokens stop and its streams close at once. One's own, or any with clients:write.",
  permission: 'authenticated',
  confinement: 'harmless',
  effect: 'delete',
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'DELETE', path: '/v1/grants/{id}' },
  input: z.object({ id: idField.describe('Id of the grant, as in list_grants') }),
  output: z.object({ id: z.string() }),
  confirm: ({ id }) => `Revoke the grant ${id}? The client loses access at once.`,
  handler: ({ id }, context, { access }: Services) => access.revokeGrant(id, context),
});

export const rotateKeys = defineOperation({
  name: 'rotate_keys',
  title: 'Rotate the signing keys',
  description:
    'Access tokens are signed with the next key from now on. Tokens that exist stay valid; nobody is signed out.',
  permission: 'system:write',
  confinement: 'refused',
  effect: 'update',
  mcp: 'searchable',
  toolset: 'access',
  http: { method: 'POST', path: '/v1/keys/rotate' },
  input: z.object({}),
  output: z.object({ keys: z.array(keySchema) }),
  async handler(_input, _context, { oauth }: Services) {
    await oauth.rotateKeys();
    const keys = oauth.keys.keys.map(({ kid, state, createdAt }) => ({
      id: kid,
      state,
      created_at: toTimestamp(createdAt),
    }));
    return { keys };
  },
});

export const oauthOperations = [
  whoami,
  listClients,
  createClient,
  deleteClient,
  listGrants,
  revokeGrant,
  rotateKeys,
] as const;
