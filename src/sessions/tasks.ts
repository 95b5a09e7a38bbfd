/**
 * Tasks of the MCP interface in the database, by the port that it declares (`interfaces/mcp/task-store.ts`), by shape.
 * A result may hold what only its caller may see, so it is sealed at rest. `app.ts` makes it.
 */
import { z } from 'zod';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Tables } from '../store/database.ts';

const statusSchema = z.enum(['working', 'completed', 'failed', 'cancelled']);
type Status = z.output<typeof statusSchema>;

const needsSchema = z.object({ operation: z.string(), hostnames: z.array(z.string()).optional() });

interface StoredTask {
  readonly id: string;
  readonly principalId: string;
  readonly needs: { operation: string; hostnames: readonly string[] | undefined } | undefined;
  readonly status: Status;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly expiresAt: number;
  readonly result: string | undefined;
}

export function createTaskStore(database: Database, sealer: Sealer) {
  return {
    create: (
      { id, principalId, needs, createdAt, expiresAt }: Omit<StoredTask, 'status' | 'updatedAt' | 'result'>,
      maxPerPrincipal: number,
    ): Promise<boolean> =>
      database.change({}, async (tx) => {
        const { count } = await tx
          .selectFrom('mcp_tasks')
          .select(({ fn }) => fn.countAll<number>().as('count'))
          .where('principal_id', '=', principalId)
          .where('expires_at', '>', createdAt)
          .executeTakeFirstOrThrow();
        if (Number(count) >= maxPerPrincipal) return false;
        await tx
          .insertInto('mcp_tasks')
          .values({
            id,
            principal_id: principalId,
            needs: needs ? JSON.stringify(needs) : null,
            status: 'working',
            result_sealed: null,
            created_at: createdAt,
            updated_at: createdAt,
            expires_at: expiresAt,
          })
          .execute();
        return true;
      }),
    async find(id: string): Promise<StoredTask | undefined> {
      const row = await database.read
        .selectFrom('mcp_tasks')
        .selectAll()
        .where('id', '=', id)
        .executeTakeFirst();
      return row && storedOf(row, sealer);
    },
    async settle(
      id: string,
      { status, result, now }: { status: Status; result: string | undefined; now: number },
    ): Promise<void> {
      await database.change({}, async (tx) => {
        await tx
          .updateTable('mcp_tasks')
          .set({
            status,
            updated_at: now,
            result_sealed: result === undefined ? null : sealer.seal(result, contextOf(id)),
          })
          .where('id', '=', id)
          .where('status', '=', 'working')
          .execute();
      });
    },
    async sweep(now: number): Promise<void> {
      await database.change({}, async (tx) => {
        await tx.deleteFrom('mcp_tasks').where('expires_at', '<=', now).execute();
      });
    },
  };
}

const contextOf = (id: string): string => `mcp-task:${id}`;

const storedOf = (row: Tables['mcp_tasks'], sealer: Sealer): StoredTask => ({
  id: row.id,
  principalId: row.principal_id,
  needs: needsOf(row.needs),
  status: statusSchema.parse(row.status),
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  expiresAt: row.expires_at,
  result: row.result_sealed === null ? undefined : sealer.open(row.result_sealed, contextOf(row.id)),
});

function needsOf(text: string | null): StoredTask['needs'] {
  if (text === null) return undefined;
  const { operation, hostnames } = needsSchema.parse(JSON.parse(text));
  return { operation, hostnames };
}
