/** A token in memory, and how it becomes a row of the store and an answer. */
import type { z } from 'zod';
import { toTimestamp } from '../core/collection.ts';
import type { Principal } from '../core/principal.ts';
import type { Tables } from '../store/database.ts';
import { HASH } from './credential.ts';
import { canonicalPermissions, type Grants } from './grants.ts';
import { type Token, tokenSchema } from './schema.ts';

export interface Entry {
  readonly id: string;
  readonly owner: string;
  readonly createdAt: number;
  /** Of its secret. */
  readonly hash: string;
  /** The same as bytes, for comparing. */
  readonly hashBytes: Buffer;
  /** Built once: what `authenticate` gives is the same frozen object for every request. */
  readonly principal: Principal;
  readonly version: number;
  readonly revokedAt: number | undefined;
  lastUsedAt: number | undefined;
}

/** The part of a token that no column holds. */
const documentSchema = tokenSchema.omit({ last_used_at: true, revoked_at: true, version: true });

export function createEntry(facts: {
  id: string;
  name: string;
  owner: string;
  grants: Grants;
  createdAt: number;
  hash: string;
}): Entry {
  const { id, name, owner, grants, createdAt, hash } = facts;
  const principal = principalOf(id, name, grants);
  return {
    id,
    owner,
    createdAt,
    ...hashed(hash),
    principal,
    version: 1,
    revokedAt: undefined,
    lastUsedAt: undefined,
  };
}

const hashed = (hash: string): Pick<Entry, 'hash' | 'hashBytes'> => ({ hash, hashBytes: Buffer.from(hash) });

export const replaceHash = (entry: Entry, hash: string): Entry => ({
  ...entry,
  ...hashed(hash),
  version: entry.version + 1,
});

function principalOf(id: string, name: string, { permissions, hostnames, expiresAt }: Grants): Principal {
  const granted = canonicalPermissions([...permissions]);
  return Object.freeze({
    id,
    name,
    kind: 'token',
    permissions: new Set(granted),
    hostnames: hostnames && Object.freeze([...hostnames]),
    expiresAt,
  });
}

/** @throws when the row is not one that `toRow` wrote. */
export function parseRow(row: Tables['tokens']): Entry {
  const document = documentSchema.parse(JSON.parse(row.document));
  if (!HASH.test(row.hash) || document.id !== row.id) throw new Error('its row contradicts itself');
  const expiresAt = document.expires_at === null ? undefined : Date.parse(document.expires_at);
  const grants: Grants = {
    permissions: new Set(document.permissions),
    hostnames: document.hostnames ?? undefined,
    expiresAt,
  };
  return {
    id: row.id,
    owner: document.owner,
    createdAt: Date.parse(document.created_at),
    ...hashed(row.hash),
    principal: principalOf(row.id, document.name, grants),
    version: row.version,
    revokedAt: row.revoked_at ?? undefined,
    lastUsedAt: row.last_used_at ?? undefined,
  };
}

export function toRow(entry: Entry): Tables['tokens'] {
  const { last_used_at: _used, revoked_at: _revoked, version, ...document } = toToken(entry);
  return {
    id: entry.id,
    hash: entry.hash,
    document: JSON.stringify(document satisfies z.output<typeof documentSchema>),
    last_used_at: entry.lastUsedAt ?? null,
    revoked_at: entry.revokedAt ?? null,
    version,
  };
}

export function toToken({ id, owner, createdAt, principal, version, revokedAt, lastUsedAt }: Entry): Token {
  return {
    id,
    name: principal.name,
    permissions: [...principal.permissions],
    hostnames: principal.hostnames ? [...principal.hostnames] : null,
    owner,
    created_at: toTimestamp(createdAt),
    expires_at: timestampOrNull(principal.expiresAt),
    last_used_at: timestampOrNull(lastUsedAt),
    revoked_at: timestampOrNull(revokedAt),
    version,
  };
}

const timestampOrNull = (ms: number | undefined): string | null =>
  ms === undefined ? null : toTimestamp(ms);
