/** What is told about an API token. The secret is told once, when it is made; only its hash is kept. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { permissionSchema } from '../core/permissions.ts';

export const tokenSchema = z.object({
  id: z.string(),
  name: z.string(),
  permissions: z.array(permissionSchema),
  hostnames: z.array(z.string()).nullable().describe('Hostnames it is confined to; null: all'),
  owner: z.string(),
  created_at: timestamp,
  expires_at: timestamp.nullable(),
  last_used_at: timestamp.nullable(),
  revoked_at: timestamp.nullable(),
  version: z.int(),
});
export type Token = z.output<typeof tokenSchema>;

export const tokenListSchema = z.object({ tokens: z.array(tokenSchema), next_cursor: nextCursorField });
