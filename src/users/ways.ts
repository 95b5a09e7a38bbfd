/** The ways by which somebody signs in, as the store knows them. */
import { AppError } from '../core/errors.ts';
import type { Reader } from '../store/database.ts';

/** A provider elsewhere, by which people sign in. */
export interface Provider {
  readonly name: string;
  readonly title: string;
  /** What its identities are remembered by. */
  readonly issuer: string;
}

export interface Ways {
  readonly hasPassword: boolean;
  readonly passkeys: number;
  /** Issuers; one that is no provider any more is no way in. */
  readonly identities: readonly string[];
  readonly lastSeenAt: number | null;
}

export async function waysOf(db: Pick<Reader, 'selectFrom'>, userId: string): Promise<Ways> {
  const row = await db
    .selectFrom('users')
    .select(['password_hash', 'last_seen_at'])
    .where('id', '=', userId)
    .executeTakeFirst();
  const passkeys = await db.selectFrom('passkeys').select('id').where('user_id', '=', userId).execute();
  const identities = await db
    .selectFrom('identities')
    .select('issuer')
    .where('user_id', '=', userId)
    .orderBy('created_at')
    .execute();
  return {
    hasPassword: Boolean(row?.password_hash),
    passkeys: passkeys.length,
    identities: identities.map(({ issuer }) => issuer),
    lastSeenAt: row?.last_seen_at ?? null,
  };
}

/** In words for `list_users`: password, passkey, or the name of a provider. */
export function wordsOf(
  { hasPassword, passkeys, identities }: Ways,
  providers: readonly Provider[],
): string[] {
  const names = identities.map((issuer) => providers.find((one) => one.issuer === issuer)?.name ?? issuer);
  return [...(hasPassword ? ['password'] : []), ...(passkeys > 0 ? ['passkey'] : []), ...new Set(names)];
}

/** @throws AppError PRECONDITION_FAILED when without one more of these ways nobody could come in. */
export function requireAnotherWay(
  { hasPassword, passkeys, identities }: Ways,
  providers: readonly Provider[],
): void {
  const usable = identities.filter((issuer) => providers.some((one) => one.issuer === issuer));
  if ((hasPassword ? 1 : 0) + passkeys + usable.length > 1) return;
  throw new AppError(
    'PRECONDITION_FAILED',
    'this is your only way to sign in; set a password or add another passkey first',
  );
}
