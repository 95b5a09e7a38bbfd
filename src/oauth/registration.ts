/**
 * Registration by strangers (RFC 7591), within bounds: so many a minute, so many in all, and who never came back makes
 * room. A client that registered has no right to anything; a user gives it one.
 * @see {@link https://www.rfc-editor.org/rfc/rfc7591#section-5 | RFC 7591 §5}
 */
import { type Clock, DAY, SECOND } from '../core/clock.ts';
import type { Database, Writer } from '../store/database.ts';
import { CREATED_PREFIX } from './created-clients.ts';
import { PATHS } from './paths.ts';
import type { Middleware } from './server.ts';

/** Registered clients that are kept, used or not. */
export const MAX_CLIENTS = 5000;
/** A client that nobody let in by then is forgotten: it registers again when it is wanted. */
export const UNUSED_CLIENT_MS = DAY;
/** Of all, how many make room at once when there is none. */
const ROOM = 1 / 10;

export interface RegistrationOptions {
  readonly database: Database;
  readonly clock: Clock;
  /** Milliseconds to wait; 0: go on. */
  readonly take: (clientAddress: string) => number;
}

export const limitRegistration =
  (options: RegistrationOptions): Middleware =>
  async (context, next) => {
    if (context.path !== PATHS.registration || context.method !== 'POST') return next();
    const wait = options.take(context.ip);
    if (wait > 0) {
      context.set('retry-after', String(Math.ceil(wait / SECOND)));
      return refuse(context, 429, 'too many registrations; try again later');
    }
    if (await isFull(options)) return refuse(context, 503, 'no room for another client; try again later');
    await next();
    withoutUselessSecret(context);
  };

/** The library makes a secret before it knows that the client has no use for one; such a client would believe it had. */
function withoutUselessSecret(context: Parameters<Middleware>[0]): void {
  const told = context.body as Record<string, unknown> | undefined;
  if (told?.['token_endpoint_auth_method'] !== 'none') return;
  const { client_secret: _secret, client_secret_expires_at: _expiry, ...rest } = told;
  context.body = rest;
}

function refuse(context: Parameters<Middleware>[0], status: number, description: string): void {
  context.status = status;
  context.set('cache-control', 'no-store');
  context.body = { error: 'temporarily_unavailable', error_description: description };
}

async function isFull({ database, clock }: RegistrationOptions): Promise<boolean> {
  const count = () =>
    database.read
      .selectFrom('oauth_records')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .where('model', '=', 'Client')
      .where('client_id', 'not like', `${CREATED_PREFIX}%`)
      .executeTakeFirstOrThrow();
  if (Number((await count()).count) < MAX_CLIENTS) return false;
  await sweepClients(database, clock, { makeRoom: true });
  return Number((await count()).count) >= MAX_CLIENTS;
}

/**
 * Forgets clients that nobody uses. Where room is needed, the oldest unused ones go before their time, so that a
 * flood of registrations shuts nobody out.
 */
export async function sweepClients(
  database: Database,
  clock: Clock,
  { makeRoom = false } = {},
): Promise<number> {
  const now = clock.now();
  return database.change({}, async (tx) => {
    const unused = await unusedClients(tx, makeRoom ? now : now - UNUSED_CLIENT_MS);
    if (unused.length === 0) return 0;
    const victims = makeRoom ? unused.slice(0, Math.ceil(MAX_CLIENTS * ROOM)) : unused;
    for (const id of victims) await tx.deleteFrom('oauth_records').where('client_id', '=', id).execute();
    return victims.length;
  });
}

/** Oldest first. */
async function unusedClients(tx: Writer, before: number): Promise<string[]> {
  const rows = await tx
    .selectFrom('oauth_records as client')
    .select('client.client_id')
    .where('client.model', '=', 'Client')
    .where('client.created_at', '<', before)
    .where('client.client_id', 'not like', `${CREATED_PREFIX}%`)
    .where((is) =>
      is.not(
        is.exists(
          is
            .selectFrom('oauth_records as grant')
            .select('grant.id')
            .where('grant.model', '=', 'Grant')
            .whereRef('grant.client_id', '=', 'client.client_id'),
        ),
      ),
    )
    .orderBy('client.created_at')
    .execute();
  return rows.flatMap(({ client_id }) => client_id ?? []);
}
