/**
 * Legacy MCP sessions and the events of their streams, in the database. It satisfies the port that the MCP interface
 * declares (`interfaces/mcp/session-store.ts`) by shape. It knows nothing of the protocol; `app.ts` makes it.
 */
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Writer } from '../store/database.ts';

/** Removed in one transaction, during which nothing else runs. */
const EVENTS_AT_ONCE = 500;
const SESSIONS_AT_ONCE = 50;

const documentSchema = z.object({
  initialize: z.record(z.string(), z.unknown()),
  version: z.string(),
  followed: z.array(z.string()).optional(),
});

interface StoredSession {
  readonly id: string;
  readonly principalId: string;
  readonly initialize: Readonly<Record<string, unknown>>;
  readonly version: string;
  readonly followed?: readonly string[] | undefined;
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
  readonly firstToGo?: string | undefined;
}

/** What a stream told may hold a secret that is shown once, so events are sealed at rest. */
export function createSessionStore(database: Database, sealer: Sealer) {
  const { read } = database;
  const { sealed, opened } = sealing(sealer);
  return {
    create: (session: StoredSession, caps: Caps): Promise<string[]> =>
      database.change({}, async (tx) => {
        await insert(tx, session);
        const { id, principalId } = session;
        const own = await beyond(tx, { cap: caps.perPrincipal, newest: id, principalId });
        await removeAll(tx, own);
        const rest = await beyond(tx, { cap: caps.total, newest: id, firstToGo: caps.firstToGo });
        await removeAll(tx, rest);
        return [...own, ...rest];
      }),

    async find(id: string): Promise<StoredSession | undefined> {
      const row = await read.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst();
      if (!row) return undefined;
      const { initialize, version, followed } = documentSchema.parse(JSON.parse(row.document));
      const { principal_id: principalId, created_at: createdAt, last_seen_at: lastSeenAt } = row;
      return { id, principalId, initialize, version, createdAt, lastSeenAt, ...(followed && { followed }) };
    },

    follow: (id: string, followed: readonly string[]): Promise<void> =>
      database.change({}, (tx) => keepFollowed(tx, id, followed)),

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

    async sweep(idleBefore: number, eventsBefore: number): Promise<string[]> {
      const removed: string[] = [];
      await inSlices(EVENTS_AT_ONCE, () => database.change({}, (tx) => removeEvents(tx, eventsBefore)));
      await inSlices(SESSIONS_AT_ONCE, async () => {
        const ids = await database.change({}, (tx) => removeIdle(tx, idleBefore));
        removed.push(...ids);
        return ids.length;
      });
      return removed;
    },

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

async function keepFollowed(tx: Writer, id: string, followed: readonly string[]): Promise<void> {
  const row = await tx.selectFrom('sessions').select('document').where('id', '=', id).executeTakeFirst();
  // It ended meanwhile.
  if (!row) return;
  const document = JSON.stringify({ ...documentSchema.parse(JSON.parse(row.document)), followed });
  await tx.updateTable('sessions').set({ document }).where('id', '=', id).execute();
}

/** Until one removed less than it could. Whoever waits for the event loop or for a change of its own comes in between. */
async function inSlices(size: number, remove: () => Promise<number>): Promise<void> {
  while ((await remove()) >= size) await setImmediate();
}

/** Returns how many; at most `EVENTS_AT_ONCE`. */
async function removeEvents(tx: Writer, before: number): Promise<number> {
  const { numDeletedRows } = await tx
    .deleteFrom('session_events')
    .where((expression) =>
      expression(
        expression.refTuple('session_id', 'stream_id', 'sequence'),
        'in',
        expression
          .selectFrom('session_events')
          .select(['session_id', 'stream_id', 'sequence'])
          .where('created_at', '<', before)
          .limit(EVENTS_AT_ONCE)
          .$asTuple('session_id', 'stream_id', 'sequence'),
      ),
    )
    .executeTakeFirst();
  return Number(numDeletedRows);
}

/** Returns their ids; at most `SESSIONS_AT_ONCE`. */
async function removeIdle(tx: Writer, before: number): Promise<string[]> {
  const idle = await tx
    .selectFrom('sessions')
    .select('id')
    .where('last_seen_at', '<', before)
    .limit(SESSIONS_AT_ONCE)
    .execute();
  const ids = idle.map(({ id }) => id);
  await removeAll(tx, ids);
  return ids;
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

interface Counted {
  readonly cap: number;
  readonly newest: string;
  /** Undefined: the sessions of all. */
  readonly principalId?: string;
  readonly firstToGo?: string | undefined;
}

/** Ids that exceed the cap, longest unused first; never the new one. */
async function beyond(tx: Writer, { cap, newest, principalId, firstToGo = '' }: Counted): Promise<string[]> {
  const all = tx.selectFrom('sessions');
  const some = principalId === undefined ? all : all.where('principal_id', '=', principalId);
  const counted = await some.select((e) => e.fn.countAll<number>().as('count')).executeTakeFirst();
  const excess = Number(counted?.count ?? 0) - cap;
  if (excess <= 0) return [];
  const rows = await some
    .select('id')
    .where('id', '!=', newest)
    .orderBy((e) => e('principal_id', 'like', `${firstToGo}%`), 'desc')
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
