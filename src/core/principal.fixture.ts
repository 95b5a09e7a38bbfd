/** Somebody who came by an OAuth client, for tests. */
import type { Principal } from './principal.ts';

export const principal = (id: string, more: Partial<Principal> = {}): Principal => ({
  id,
  name: id,
  kind: 'user',
  permissions: new Set(),
  hostnames: undefined,
  expiresAt: undefined,
  oauth: { userId: 'usr_1', clientId: 'client', grantId: 'g', scopes: [] },
  ...more,
});
