import { AppError } from './errors.ts';
import { confines } from './hostname.ts';
import { type Permission, permissions } from './permissions.ts';

/** Who is calling, as the gate found out. Nothing in it came from the caller's own words. */
export interface Principal {
  /** Stable and unique: sessions, idempotency keys and rate limits belong to it. */
  readonly id: string;
  /** For people: the token's name, `anonymous`, `system`. */
  readonly name: string;
  readonly kind: 'token' | 'user' | 'client' | 'anonymous' | 'system';
  readonly permissions: ReadonlySet<Permission>;
  /** Canonical hostname patterns it is confined to; undefined means all. An empty list means none. */
  readonly hostnames: readonly string[] | undefined;
  /** Milliseconds since 1970; undefined means that it does not expire. */
  readonly expiresAt: number | undefined;
  /** Of who came by OAuth. */
  readonly oauth?: OAuthFacts | undefined;
}

export interface OAuthFacts {
  /** Absent for a client of its own. */
  readonly userId: string | undefined;
  readonly clientId: string;
  readonly grantId: string | undefined;
  /** Of the access token (`jti`), where there is one. */
  readonly tokenId?: string | undefined;
  /** As granted, in order; what they give is in `permissions`. */
  readonly scopes: readonly string[];
}

/** Setting `mcp.access`: whether there is anything for who sends no credential. */
export type Access = 'authenticated' | 'public';

export const anonymous: Principal = Object.freeze({
  id: 'anonymous',
  name: 'anonymous',
  kind: 'anonymous',
  permissions: new Set<never>(),
  hostnames: [],
  expiresAt: undefined,
});

/** The process itself: first start, renewals, sweeps. Never reachable from outside. */
export const system: Principal = Object.freeze({
  id: 'system',
  name: 'system',
  kind: 'system',
  permissions: new Set(permissions),
  hostnames: undefined,
  expiresAt: undefined,
});

/** Whether the principal may see and change what belongs to this hostname (or wildcard). */
export function mayTouch({ hostnames }: Principal, hostname: string): boolean {
  return hostnames === undefined || hostnames.some((confinement) => confines(confinement, hostname));
}

export const isConfined = ({ hostnames }: Pick<Principal, 'hostnames'>): boolean => hostnames !== undefined;

/** For creating: the caller named the hostname itself, so saying why gives nothing away. */
export function requireHostname(principal: Principal, hostname: string): void {
  if (mayTouch(principal, hostname)) return;
  const allowed = principal.hostnames?.join(', ') || 'no hostname';
  throw new AppError('FORBIDDEN', `this credential is confined to ${allowed}; ${hostname} is outside of it`);
}

/** Hostnames that are served, and what has them, are told to those who may list them. */
export const mayBeToldNames = ({ permissions }: Pick<Principal, 'permissions'>): boolean =>
  permissions.has('proxies:read') && permissions.has('routes:read');
