/** What can be done with API tokens. */
import { z } from 'zod';
import { DAY, MINUTE } from '../core/clock.ts';
import { cursorField, idempotencyKeyField, limitField, versionField } from '../core/collection.ts';
import { parseDuration } from '../core/duration.ts';
import { AppError } from '../core/errors.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import {
  bundleNames,
  bundles,
  expandPermissions,
  MAX_PERMISSIONS,
  type Permission,
  permissionSchema,
} from '../core/permissions.ts';
import { cleanText } from '../core/untrusted.ts';
import { tokenListSchema, tokenSchema } from './schema.ts';
import type { TokenService } from './service.ts';

const MAX_HOSTNAMES = 100;
const MAX_DURATION_TEXT = 40;
const MIN_EXPIRY_MS = MINUTE;
const MAX_EXPIRY_MS = 3650 * DAY;

type Services = { tokens: TokenService };

const idField = z.string().min(1).max(limits.shortText).describe('Id of the token, tok_…');

const nameField = z
  .string()
  .min(1)
  .max(limits.shortText)
  .refine(
    (text) => text.trim() === text && cleanText(text) === text,
    'has to be printable, without spaces around it',
  )
  .describe('What it is for, e.g. "deploy job"');

const expiresInField = z
  .string()
  .max(MAX_DURATION_TEXT)
  .refine((text) => {
    const ms = parseDuration(text);
    return ms !== undefined && ms >= MIN_EXPIRY_MS && ms <= MAX_EXPIRY_MS;
  }, 'has to be a duration such as 30d, 12h or 1d12h, from 1m to 3650d')
  .optional()
  .describe('Life such as 30d or 12h; absent: until revoked');

const secretTold = tokenSchema.extend({
  secret: z
    .string()
    .optional()
    .describe(
      'The credential: shown this once, never again. Absent when a call was repeated by its idempotency_key',
    ),
});

export const listTokens = defineOperation({
  name: 'list_tokens',
  title: 'List API tokens',
  description: 'Lists API tokens: what each may do and where, its expiry and last use. Never the secrets.',
  permission: 'tokens:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'listed',
  toolset: 'tokens',
  http: { method: 'GET', path: '/v1/tokens' },
  input: z.object({
    limit: limitField,
    cursor: cursorField,
    include_revoked: z.boolean().default(false).describe('Also revoked ones'),
  }),
  output: tokenListSchema,
  async handler({ limit, cursor, include_revoked }, context, { tokens }: Services) {
    return tokens.list({ limit, cursor, includeRevoked: include_revoked }, context);
  },
});

export const createToken = defineOperation({
  name: 'create_token',
  title: 'Create an API token',
  description:
    'Creates an API token and returns its secret once. Give permissions or a bundle; never more than the caller holds.',
  permission: 'tokens:write',
  confinement: 'filters',
  effect: 'create',
  givesCredential: true,
  mcp: 'listed',
  toolset: 'tokens',
  http: { method: 'POST', path: '/v1/tokens' },
  input: z.object({
    name: nameField,
    permissions: z
      .array(permissionSchema)
      .min(1)
      .max(MAX_PERMISSIONS)
      .optional()
      .describe('What it may do; write includes read'),
    bundle: z
      .enum(bundleNames)
      .optional()
      .describe(
        'Instead of permissions. viewer reads; operator also changes proxies, routes, certificates, alerts; admin: all',
      ),
    hostnames: z
      .array(hostname)
      .min(1, 'has to name a hostname; leave it out for all hostnames')
      .max(MAX_HOSTNAMES)
      .optional()
      .describe('Confines it to these, e.g. *.dev.example.com; absent: all'),
    expires_in: expiresInField,
    idempotency_key: idempotencyKeyField,
  }),
  output: secretTold,
  async handler({ name, permissions: named, bundle, hostnames, expires_in }, context, { tokens }: Services) {
    const lifeMs = expires_in === undefined ? undefined : parseDuration(expires_in);
    const grants = {
      permissions: expandPermissions(grantedBy(named, bundle)),
      hostnames: hostnames && [...new Set(hostnames)],
    };
    const token = await tokens.create({ name, ...grants, lifeMs }, context);
    context.audit({ token: token.id });
    return token;
  },
});

function grantedBy(
  named: readonly Permission[] | undefined,
  bundle: keyof typeof bundles | undefined,
): readonly Permission[] {
  if (named && !bundle) return named;
  if (bundle && !named) return bundles[bundle];
  throw new AppError(
    'INVALID_INPUT',
    `create_token: give either permissions or a bundle (${bundleNames.join(', ')}), ${named ? 'not both' : 'one of them'}`,
  );
}

export const revokeToken = defineOperation({
  name: 'revoke_token',
  title: 'Revoke an API token',
  description: 'Ends an API token for good, with the sessions and streams that were opened with it.',
  permission: 'tokens:write',
  confinement: 'filters',
  effect: 'delete',
  mcp: 'listed',
  toolset: 'tokens',
  http: { method: 'DELETE', path: '/v1/tokens/{id}' },
  input: z.object({ id: idField }),
  output: tokenSchema,
  confirm: ({ id }) => `Revoke the token ${id}? Whoever uses it loses access at once; it can't be undone.`,
  handler: ({ id }, context, { tokens }: Services) => tokens.revoke(id, context),
});

export const rotateToken = defineOperation({
  name: 'rotate_token',
  title: 'Rotate an API token',
  description:
    'Gives an API token a new secret, returned once. Its id and permissions stay; the old secret stops at once.',
  permission: 'tokens:write',
  confinement: 'filters',
  effect: 'update',
  mcp: 'searchable',
  toolset: 'tokens',
  http: { method: 'POST', path: '/v1/tokens/{id}/rotate' },
  input: z.object({ id: idField, version: versionField }),
  output: secretTold,
  confirm: ({ id }) =>
    `Rotate the token ${id}? Its present secret stops working at once, wherever it is used.`,
  handler: ({ id, version }, context, { tokens }: Services) => tokens.rotate(id, version, context),
});

export const tokenOperations = [listTokens, createToken, revokeToken, rotateToken] as const;
