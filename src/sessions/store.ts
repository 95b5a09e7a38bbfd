/**
 * Legacy MCP sessions and the events of their streams, in the database. It satisfies the port that the MCP interface
 * declares (`interfaces/mcp/session-store.ts`) by shape. It knows nothing of the protocol; `app.ts` makes it.
 */
import { z } from 'zod';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Writer } from '../store/database.ts';

const documentSchema = z.object({
  initialize: z.record(z.string(), z.unknown()),
  version: z.string(),
});

interface StoredSession {
  readonly id: string;
  readonly principalId: string;
  readonly initialize: Readonly<Record<string, unknown>>;
  readonly version: string;
  readonly createdAt: number;
  readonly lastSeenAt: number;
}

interface StoredEvent {
  readonly sessionId: string;
  readonly streamId: string;
  readonly sequence: number;
  readonly message: string;
}

interface Caps {
  readonly perPrincipal: number;
  readonly total: number;
}

/** What a stream told may hold a secret that is shown once, so events are sealed at rest. */
export function createSessionStore(database: Database, sealer: Sealer) {
  const { read } = database;
  const { sealed, opened } = sealing(sealer);
  return {
    create: (session: StoredSession, caps: Caps): Promise<string[]> =>
      database.change({}, async (tx) => {
        await insert(tx, session);
        const own = await beyond(tx, caps.perPrincipal, session.id, session.principalId);
        await removeAll(tx, own);
        const rest = await beyond(tx, caps.total, session.id);
        await removeAll(tx, rest);
        return [...own, ...rest];
      }),

    async find(id: string): Promise<StoredSession | undefined> {
      const row = await read.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst();
      if (!row) return undefined;
      const { initialize, version } = documentSchema.parse(JSON.parse(row.document));
      const { principal_id: principalId, created_at: createdAt, last_seen_at: lastSeenAt } = row;
      return { id, principalId, initialize, version, createdAt, lastSeenAt };
    },

    remove: (id: string): Promise<void> => database.change({}, (tx) => removeAll(tx, [id])),

    removeOf: (principalId: string): Promise<void> =>
      database.change({}, async (tx) => {
        await tx.deleteFrom('sessions').where('principal_id', '=', principalId).execute();
      }),

    touch: (lastSeen: ReadonlyMap<string, number>): Promise<void> =>
      database.change({}, async (tx) => {
        for (const [id, last_seen_at] of lastSeen)
          await tx.updateTable('sessions').set({ last_seen_at }).where('id', '=', id).execute();
      }),

    sweep: (idleBefore: number, eventsBefore: number): Promise<string[]> =>
      database.change({}, async (tx) => {
        await tx.deleteFrom('session_events').where('created_at', '<', eventsBefore).execute();
        const idle = await tx
          .selectFrom('sessions')
          .select('id')
          .where('last_seen_at', '<', idleBefore)
          .execute();
        const ids = idle.map(({ id }) => id);
        await removeAll(tx, ids);
        return ids;
      }),

    append: (events: readonly StoredEvent[], now: number): Promise<void> =>
      database.change({}, async (tx) => {
        const known = await existing(tx, new Set(events.map(({ sessionId }) => sessionId)));
        for (const event of events) if (known.has(event.sessionId)) await insertEvent(tx, sealed(event), now);
      }),

    async eventsAfter(
      { sessionId, streamId, sequence }: Omit<StoredEvent, 'message'>,
      limit: number,
    ): Promise<StoredEvent[]> {
      const rows = await read
        .selectFrom('session_events')
        .select(['sequence', 'message'])
        .where('session_id', '=', sessionId)
        .where('stream_id', '=', streamId)
        .where('sequence', '>', sequence)
        .orderBy('sequence')
        .limit(limit)
        .execute();
      return rows.map((row) => opened({ sessionId, streamId, ...row }));
    },
  };
}

async function insert(tx: Writer, session: StoredSession): Promise<void> {
  const { id, principalId, initialize, version, createdAt, lastSeenAt } = session;
  await tx
    .insertInto('sessions')
    .values({
      id,
      principal_id: principalId,
      document: JSON.stringify({ initialize, version }),
      created_at: createdAt,
      last_seen_at: lastSeenAt,
    })
    .execute();
}

/** Ids that exceed the cap, longest unused first; never the new one. */
async function beyond(tx: Writer, cap: number, newest: string, principalId?: string): Promise<string[]> {
  const all = tx.selectFrom('sessions');
  const some = principalId === undefined ? all : all.where('principal_id', '=', principalId);
  const counted = await some.select((e) => e.fn.countAll<number>().as('count')).executeTakeFirst();
  const excess = Number(counted?.count ?? 0) - cap;
  if (excess <= 0) return [];
  const rows = await some
    .select('id')
    .where('id', '!=', newest)
    .orderBy('last_seen_at')
    .orderBy('created_at')
    .limit(excess)
    .execute();
  return rows.map(({ id }) => id);
}

/** Their events go with them. */
async function removeAll(tx: Writer, ids: readonly string[]): Promise<void> {
  for (const id of ids) await tx.deleteFrom('sessions').where('id', '=', id).execute();
}

async function existing(tx: Writer, ids: ReadonlySet<string>): Promise<Set<string>> {
  const rows = await tx
    .selectFrom('sessions')
    .select('id')
    .where('id', 'in', [...ids])
    .execute();
  return new Set(rows.map(({ id }) => id));
}

async function insertEvent(
  tx: Writer,
  { sessionId, streamId, sequence, message }: StoredEvent,
  now: number,
): Promise<void> {
  await tx
    .insertInto('session_events')
    .values({ session_id: sessionId, stream_id: streamId, sequence, message, created_at: now })
    .execute();
}

function sealing(sealer: Sealer) {
  const change = (event: StoredEvent, how: 'seal' | 'open') => ({
    ...event,
    message: sealer[how](event.message, contextOf(event)),
  });
  return {
    sealed: (event: StoredEvent) => change(event, 'seal'),
    opened: (event: StoredEvent) => change(event, 'open'),
  };
}

const contextOf = ({ sessionId, streamId, sequence }: Omit<StoredEvent, 'message'>): string =>
  `event:${sessionId}:${streamId}:${sequence}`;
