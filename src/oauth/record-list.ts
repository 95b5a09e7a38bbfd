/** Reads what the authorization server keeps, for lists and at the start. Loads none of the library. */
import type { AdapterPayload } from 'oidc-provider';
import type { Clock } from '../core/clock.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import { openPayload } from './record-form.ts';

export interface RecordListOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
}

export interface GrantFacts {
  readonly id: string;
  readonly accountId: string;
  readonly clientId: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number | undefined;
}

export interface StoredRecord {
  readonly clientId: string;
  readonly accountId: string | null;
  readonly grantId: string | null;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly payload: AdapterPayload;
}

/** Records of one model that have not expired, by what they are of. For lists, not for requests. */
export interface RecordQuery {
  readonly accountId?: string | undefined;
  readonly clientId?: string | undefined;
  readonly clientIds?: readonly string[] | undefined;
  /** Behind this one, in the order of their age. */
  readonly after?: { readonly createdAt: number; readonly grantId: string } | undefined;
  readonly limit?: number | undefined;
}

export async function listRecords(
  { database, sealer, clock }: RecordListOptions,
  model: string,
  { accountId, clientId, clientIds, after, limit }: RecordQuery = {},
): Promise<StoredRecord[]> {
  let query = database.read
    .selectFrom('oauth_records')
    .selectAll()
    .where('model', '=', model)
    .where((is) => is.or([is('expires_at', 'is', null), is('expires_at', '>', clock.now())]));
  if (accountId !== undefined) query = query.where('account_id', '=', accountId);
  if (clientId !== undefined) query = query.where('client_id', '=', clientId);
  if (clientIds) query = query.where('client_id', 'in', clientIds);
  if (after)
    query = query.where((is) =>
      is.or([
        is('created_at', '>', after.createdAt),
        is.and([is('created_at', '=', after.createdAt), is('grant_id', '>', after.grantId)]),
      ]),
    );
  if (limit !== undefined) query = query.limit(limit);
  const rows = await query.orderBy('created_at').orderBy('grant_id').orderBy('id').execute();
  return rows.map((row) => ({
    clientId: row.client_id ?? '',
    accountId: row.account_id,
    grantId: row.grant_id,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    payload: openPayload(sealer, row.id, row.payload),
  }));
}
