/**
 * The way in for who has none yet, or lost it: a link that works once and not for long, with which a person sets a
 * password or a passkey. Only the hash of its code is kept, and one for each user.
 */
import { hash, randomBytes } from 'node:crypto';
import { type Clock, HOUR } from '../core/clock.ts';
import type { Reader, Writer } from '../store/database.ts';

export const INVITE_MS = 72 * HOUR;
const CODE_BYTES = 32;
const MAX_CODE = 64;

export interface Invite {
  readonly userId: string;
  readonly expiresAt: number;
}

/** Random text of 256 bits needs neither salt nor stretching, and looking up its hash tells nobody what is near. */
const keyOf = (code: string): string => hash('sha256', `invite:${code}`, 'hex');

/** An earlier invitation of the same user ends. */
export async function createInvite(tx: Writer, userId: string, clock: Clock) {
  const code = randomBytes(CODE_BYTES).toString('base64url');
  const now = clock.now();
  const expiresAt = now + INVITE_MS;
  await endInvites(tx, userId);
  await tx
    .insertInto('invites')
    .values({ id: keyOf(code), user_id: userId, created_at: now, expires_at: expiresAt })
    .execute();
  return { code, expiresAt };
}

/** Undefined when it is unknown, used or too old. */
export async function findInvite(
  db: Pick<Reader, 'selectFrom'>,
  code: string,
  clock: Clock,
): Promise<Invite | undefined> {
  if (code.length > MAX_CODE) return undefined;
  const row = await db
    .selectFrom('invites')
    .select(['user_id', 'expires_at'])
    .where('id', '=', keyOf(code))
    .executeTakeFirst();
  return row && row.expires_at > clock.now() ? { userId: row.user_id, expiresAt: row.expires_at } : undefined;
}

export async function endInvites(tx: Writer, userId: string): Promise<void> {
  await tx.deleteFrom('invites').where('user_id', '=', userId).execute();
}
