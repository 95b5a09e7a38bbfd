/** What is told of clients, grants and keys. Never a secret, and client names are a stranger's words. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { permissionSchema } from '../core/permissions.ts';

export const clientSchema = z.object({
  id: z.string(),
  name: z.string(),
  source: z
    .enum(['registered', 'metadata', 'created', 'built-in'])
    .describe(
      'registered: by itself (RFC 7591); metadata: its id is a URL (CIMD); created: by an administrator; built-in: the command line, and sign-in at protected hostnames',
    ),
  redirect_uris: z.array(z.string()),
  permissions: z
    .array(permissionSchema)
    .describe('What it may do for itself; only a created one may do anything'),
  grants: z.int().describe('Users that let it in'),
  created_at: timestamp,
});
export type Client = z.output<typeof clientSchema>;

export const createdClientSchema = clientSchema.extend({
  secret: z
    .string()
    .optional()
    .describe('client_secret: shown this once. Absent when a call was repeated by its idempotency_key'),
});
export type CreatedClient = z.output<typeof createdClientSchema>;
export const clientListSchema = z.object({ clients: z.array(clientSchema), next_cursor: nextCursorField });

export const grantSchema = z.object({
  id: z.string(),
  user: z.string(),
  username: z.string(),
  client: z.string(),
  client_name: z.string(),
  resources: z.array(z.object({ url: z.string(), scopes: z.array(z.string()) })),
  redirect_uris: z.array(z.string()),
  created_at: timestamp,
  expires_at: timestamp.nullable(),
});
export type Grant = z.output<typeof grantSchema>;
export const grantListSchema = z.object({ grants: z.array(grantSchema), next_cursor: nextCursorField });

export const keySchema = z.object({
  id: z.string(),
  state: z.enum(['next', 'current', 'previous']),
  created_at: timestamp,
});

export const whoamiSchema = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.string(),
  user: z.string().nullable(),
  client: z.string().nullable(),
  scopes: z.array(z.string()),
  permissions: z.array(z.string()),
  hostnames: z.array(z.string()).nullable().describe('null: all'),
  expires_at: timestamp.nullable(),
});
