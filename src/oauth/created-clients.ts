/**
 * Clients that an administrator made: they have a secret, and may act for themselves (RFC 6749 §4.4) within what they
 * were given, which is in memory because every request asks. Who registers itself can be none of these.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { SECOND, type Clock } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import { expandPermissions, holds, type Permission, permissionSchema } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Writer } from '../store/database.ts';
import { listRecords } from './record-list.ts';
import { clientKey, type ClientMetadata, sealPayload } from './record-form.ts';
import { redirectFault } from './redirects.ts';
import type { CreatedClient } from './schema.ts';

export const MAX_CREATED_CLIENTS = 1000;
const SECRET_BYTES = 32;
const PREFIX = 'cli';
export const CREATED_PREFIX = `${PREFIX}_`;
const MODEL = 'Client';

/** No client chooses its own id: registered ones get another prefix, and the id of a metadata document is its URL. */
export const isCreatedId = (id: string | undefined): boolean => id?.startsWith(CREATED_PREFIX) === true;

/** Beside the metadata of RFC 7591, which the library reads. */
const rightsSchema = z.object({ ohp_permissions: z.array(permissionSchema).default([]) });

/** What a client may do for itself; unreadable: nothing. */
export const rightsIn = (payload: unknown): Permission[] =>
  rightsSchema.safeParse(payload ?? {}).data?.ohp_permissions ?? [];

export interface NewClient {
  readonly name: string;
  /** What it may do here for itself; empty: nothing, but it may be let in where a protected hostname names it. */
  readonly permissions: readonly Permission[];
  /** Empty: it signs nobody in. */
  readonly redirectUris: readonly string[];
}

export interface CreatedClientsOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

export class CreatedClients {
  readonly #options: CreatedClientsOptions;
  readonly #permissions = new Map<string, ReadonlySet<Permission>>();

  constructor(options: CreatedClientsOptions) {
    this.#options = options;
  }

  async load(): Promise<void> {
    for (const { clientId, payload } of await listRecords(this.#options, MODEL)) {
      if (!isCreatedId(clientId)) continue;
      this.#permissions.set(clientId, expandPermissions(rightsIn(payload)));
    }
  }

  /** Of a client that acts for itself; undefined: there is none of this id, and it may nothing. */
  permissions(id: string): ReadonlySet<Permission> | undefined {
    return this.#permissions.get(id);
  }

  forget(id: string): void {
    this.#permissions.delete(id);
  }

  /** The secret is in the answer and, sealed, in the store: the result kept for an idempotency key is without it. */
  async create(wanted: NewClient, context: Caller): Promise<CreatedClient> {
    requireGrantable(context.principal, wanted.permissions);
    requireRedirects(wanted.redirectUris);
    const { database, clock } = this.#options;
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    const client = await database.change(context, async (tx, afterCommit) => {
      await this.#requireRoom(tx);
      const id = newId(PREFIX);
      const now = clock.now();
      await this.#insert(tx, metadataOf({ id, secret, now }, wanted), now);
      afterCommit(() => void this.#permissions.set(id, expandPermissions(wanted.permissions)));
      return toldOf(id, wanted, now);
    });
    return { ...client, secret };
  }

  /** @throws AppError FORBIDDEN when it may do for itself what the principal may not. */
  requireOutranked(id: string, { permissions: held }: Principal): void {
    const isAbove = [...(this.#permissions.get(id) ?? [])].every((permission) => holds(held, permission));
    if (!isAbove) throw new AppError('FORBIDDEN', `${id} may do more than you; ask an administrator`);
  }

  async #requireRoom(tx: Writer): Promise<void> {
    const { count } = await tx
      .selectFrom('oauth_records')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .where('model', '=', MODEL)
      .where('client_id', 'like', `${CREATED_PREFIX}%`)
      .executeTakeFirstOrThrow();
    if (Number(count) >= MAX_CREATED_CLIENTS)
      throw new AppError(
        'PRECONDITION_FAILED',
        `there are ${MAX_CREATED_CLIENTS} clients of this kind, which is the limit; delete_client makes room`,
      );
  }

  async #insert(tx: Writer, metadata: ClientMetadata, now: number): Promise<void> {
    const id = clientKey(metadata.client_id);
    await tx
      .insertInto('oauth_records')
      .values({
        id,
        model: MODEL,
        grant_id: null,
        uid: null,
        user_code: null,
        account_id: null,
        client_id: metadata.client_id,
        payload: sealPayload(this.#options.sealer, id, metadata),
        created_at: now,
        expires_at: null,
        consumed_at: null,
      })
      .execute();
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc7591#section-2 | RFC 7591 §2} */
function metadataOf(
  { id, secret, now }: { id: string; secret: string; now: number },
  { name, permissions: granted, redirectUris }: NewClient,
): ClientMetadata {
  const signsIn = redirectUris.length > 0;
  return {
    client_id: id,
    client_id_issued_at: Math.floor(now / SECOND),
    client_secret: secret,
    client_secret_expires_at: 0,
    client_name: name,
    grant_types: ['client_credentials', ...(signsIn ? ['authorization_code', 'refresh_token'] : [])],
    response_types: signsIn ? ['code'] : [],
    redirect_uris: [...redirectUris],
    token_endpoint_auth_method: 'client_secret_basic',
    ohp_permissions: [...granted],
  };
}

const toldOf = (id: string, { name, permissions: granted, redirectUris }: NewClient, now: number) => ({
  id,
  name,
  source: 'created' as const,
  redirect_uris: [...redirectUris],
  permissions: [...granted],
  grants: 0,
  created_at: toTimestamp(now),
});

function requireGrantable({ permissions: held }: Principal, wanted: readonly Permission[]): void {
  const missing = wanted.filter((permission) => !holds(held, permission));
  if (missing.length > 0)
    throw new AppError('FORBIDDEN', `nobody can grant more than they hold: you lack ${missing.join(', ')}`);
}

function requireRedirects(uris: readonly string[]): void {
  for (const uri of uris) {
    const fault = redirectFault(uri);
    if (fault !== undefined) throw new AppError('INVALID_INPUT', `redirect_uris: ${uri} ${fault}`);
  }
}
