/**
 * Who has been let in, and how to end it: clients and grants for the operations of this folder. Ending a grant ends
 * its refresh tokens in the store at once, its access tokens in memory, and every stream opened with one.
 */
import type { Clock } from '../core/clock.ts';
import { decodeCursor, encodeCursor, toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Principal } from '../core/principal.ts';
import type { Sealer } from '../core/sealer.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import { type CreatedClients, isCreatedId, rightsIn } from './created-clients.ts';
import type { LiveGrants } from './grants.ts';
import type { GrantFacts } from './record-list.ts';
import { listRecords, type StoredRecord } from './record-list.ts';
import type { Client, Grant } from './schema.ts';

const MAX_REDIRECTS_TOLD = 10;

export interface AccessOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly grants: LiveGrants;
  readonly clients: CreatedClients;
  /** After the commit: what it holds is good for nothing any more. */
  readonly onClientGone: (clientId: string) => void;
  readonly usernameOf: (userId: string) => string | undefined;
}

interface Page {
  limit?: number | undefined;
  cursor?: string | undefined;
}
type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

export class AccessService {
  readonly #options: AccessOptions;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  /** By id. Clients that were registered, and those whose id is a URL as far as somebody let them in. */
  async listClients({
    limit = limits.pageSizeDefault,
    cursor,
  }: Page): Promise<{ clients: Client[]; next_cursor?: string }> {
    const [after] = cursor === undefined ? [''] : decodeCursor('clients', ['string'], cursor);
    const usage = Map.groupBy(this.#options.grants.all(), ({ clientId }) => clientId);
    const ids = [...new Set([...(await this.#clientIds()), ...usage.keys()])]
      .filter((id) => id > after)
      .sort();
    const page = ids.slice(0, limit);
    const known = await this.#clients(page);
    const redirects = await this.#redirects(
      page.flatMap((id) => (usage.get(id) ?? []).map((grant) => grant.id)),
    );
    return {
      clients: page.map((id) => clientOf(id, known.get(id), usage.get(id) ?? [], redirects)),
      ...(ids.length > limit && { next_cursor: encodeCursor('clients', [page.at(-1) ?? '']) }),
    };
  }

  /** With all that it was granted. A client whose id is a URL comes back when somebody lets it in again. */
  async deleteClient(id: string, context: Caller): Promise<{ id: string; grants_ended: number }> {
    this.#options.clients.requireOutranked(id, context.principal);
    const grants = this.#options.grants.all().filter(({ clientId }) => clientId === id);
    const result = await this.#options.database.change(context, async (tx, afterCommit) => {
      const { numDeletedRows } = await tx
        .deleteFrom('oauth_records')
        .where('client_id', '=', id)
        .executeTakeFirst();
      if (numDeletedRows === 0n)
        throw new AppError('NOT_FOUND', `no client ${cleanText(id)}; list_clients names them`);
      await tx.deleteFrom('consents').where('client_id', '=', id).execute();
      afterCommit(() => {
        this.#options.clients.forget(id);
        for (const grant of grants) this.#options.grants.end(grant.id);
        this.#options.onClientGone(id);
      });
      return { id, grants_ended: grants.length };
    });
    return result;
  }

  /** Oldest first: the caller's own, or everybody's for who may see clients. */
  async listGrants(
    {
      limit = limits.pageSizeDefault,
      cursor,
      user,
      client,
    }: Page & { user?: string | undefined; client?: string | undefined },
    { principal }: Pick<Caller, 'principal'>,
  ): Promise<{ grants: Grant[]; next_cursor?: string }> {
    const accountId = seesAll(principal) ? user : ownUser(principal);
    if (!seesAll(principal) && accountId === undefined) return { grants: [] };
    const [at, last] = cursor === undefined ? [-1, ''] : decodeCursor('grants', ['number', 'string'], cursor);
    const found = await listRecords(this.#options, 'Grant', {
      accountId,
      clientId: client,
      after: { createdAt: at, grantId: last },
      limit: limit + 1,
    });
    const page = found.slice(0, limit);
    const end = found.length > limit ? page.at(-1) : undefined;
    const redirects = await this.#redirects(page.flatMap(({ grantId }) => grantId ?? []));
    const clients = await this.#clients(page.map(({ clientId }) => clientId));
    return {
      grants: page.map((record) => this.#grantOf(record, redirects, clients)),
      ...(end && { next_cursor: encodeCursor('grants', [end.createdAt, end.grantId ?? '']) }),
    };
  }

  /** One's own, or anybody's for who may change clients. */
  async revokeGrant(id: string, context: Caller): Promise<{ id: string }> {
    const grant = this.#options.grants.find(id);
    const { principal } = context;
    const mayEnd =
      grant && (principal.permissions.has('clients:write') || grant.accountId === ownUser(principal));
    if (!mayEnd)
      throw new AppError('NOT_FOUND', `no grant ${JSON.stringify(cleanText(id))}; list_grants names them`);
    return this.#options.database.change(context, async (tx, afterCommit) => {
      await tx.deleteFrom('oauth_records').where('grant_id', '=', id).execute();
      await tx.deleteFrom('consents').where('grant_id', '=', id).execute();
      afterCommit(() => this.#options.grants.end(id));
      return { id };
    });
  }

  /** A user is gone or not let in any more: nothing that they granted goes on. */
  async endGrantsOf(userId: string): Promise<void> {
    const grants = this.#options.grants.all().filter(({ accountId }) => accountId === userId);
    await this.#options.database.change({}, async (tx, afterCommit) => {
      await tx.deleteFrom('oauth_records').where('account_id', '=', userId).execute();
      await tx.deleteFrom('consents').where('user_id', '=', userId).execute();
      await tx.deleteFrom('browser_sessions').where('user_id', '=', userId).execute();
      afterCommit(() => {
        for (const grant of grants) this.#options.grants.end(grant.id);
      });
    });
  }

  /** Every browser of this user is signed out; what they granted goes on. */
  async endSessionsOf(userId: string): Promise<void> {
    await this.#options.database.change({}, async (tx) => {
      await tx
        .deleteFrom('oauth_records')
        .where('account_id', '=', userId)
        .where('model', '=', 'Session')
        .execute();
      await tx.deleteFrom('browser_sessions').where('user_id', '=', userId).execute();
    });
  }

  async #clientIds(): Promise<string[]> {
    const rows = await this.#options.database.read
      .selectFrom('oauth_records')
      .select('client_id')
      .where('model', '=', 'Client')
      .execute();
    return rows.flatMap(({ client_id }) => client_id ?? []);
  }

  async #clients(ids: readonly string[]): Promise<ReadonlyMap<string, StoredRecord>> {
    const records = await listRecords(this.#options, 'Client', { clientIds: ids });
    return new Map(records.map((record) => [record.clientId, record]));
  }

  async #redirects(grantIds: readonly string[]): Promise<ReadonlyMap<string, string[]>> {
    const rows = await this.#options.database.read
      .selectFrom('consents')
      .select(['grant_id', 'redirect_uri'])
      .where('grant_id', 'in', grantIds)
      .execute();
    const byGrant = Map.groupBy(rows, ({ grant_id }) => grant_id);
    return new Map(
      [...byGrant].map(([id, of]) => [
        id,
        of.slice(0, MAX_REDIRECTS_TOLD).map(({ redirect_uri }) => cleanText(redirect_uri)),
      ]),
    );
  }

  #grantOf(
    { grantId, accountId, clientId, payload, createdAt, expiresAt }: StoredRecord,
    redirects: ReadonlyMap<string, string[]>,
    clients: ReadonlyMap<string, StoredRecord>,
  ): Grant {
    const resources = (payload['resources'] ?? {}) as Record<string, string>;
    return {
      id: grantId ?? '',
      user: accountId ?? '',
      username: this.#options.usernameOf(accountId ?? '') ?? '',
      client: clientId,
      client_name: nameIn(clients.get(clientId)?.payload, clientId),
      resources: Object.entries(resources).map(([url, scope]) => ({
        url,
        scopes: scope.split(' ').filter(Boolean),
      })),
      redirect_uris: redirects.get(grantId ?? '') ?? [],
      created_at: toTimestamp(createdAt),
      expires_at: expiresAt === null ? null : toTimestamp(expiresAt),
    };
  }
}

function clientOf(
  id: string,
  record: StoredRecord | undefined,
  grants: readonly GrantFacts[],
  redirects: ReadonlyMap<string, string[]>,
): Client {
  const registered = record?.payload['redirect_uris'];
  const seen = grants.flatMap((grant) => redirects.get(grant.id) ?? []);
  return {
    id,
    name: nameIn(record?.payload, id),
    source: sourceOf(id, record),
    redirect_uris: Array.isArray(registered)
      ? registered.slice(0, MAX_REDIRECTS_TOLD).map((uri) => cleanText(String(uri)))
      : [...new Set(seen)],
    permissions: rightsIn(record?.payload),
    grants: new Set(grants.map(({ accountId }) => accountId)).size,
    created_at: toTimestamp(record?.createdAt ?? 0),
  };
}

function sourceOf(id: string, record: StoredRecord | undefined): Client['source'] {
  if (record) return isCreatedId(id) ? 'created' : 'registered';
  return id.startsWith('https://') ? 'metadata' : 'built-in';
}

const nameIn = (payload: StoredRecord['payload'] | undefined, id: string): string => {
  const name: unknown = payload?.['client_name'];
  return cleanText(typeof name === 'string' ? name : id);
};

const seesAll = ({ permissions }: Principal): boolean => permissions.has('clients:read');
const ownUser = ({ oauth }: Principal): string | undefined => oauth?.userId;
