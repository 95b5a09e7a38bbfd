/** Who has read text of strangers, in the database, by the port that `core/taint.ts` declares. `app.ts` makes it. */
import type { UntrustedRead, UntrustedReads } from '../core/taint.ts';
import type { Database } from '../store/database.ts';

export function createUntrustedReads(database: Database): UntrustedReads {
  return {
    async load(from, limit) {
      const rows = await database.read
        .selectFrom('untrusted_reads')
        .selectAll()
        .where('read_at', '>=', from)
        .orderBy('read_at', 'desc')
        .limit(limit)
        .execute();
      return rows.map(
        ({ principal_id: principalId, operation, since, read_at: at }): UntrustedRead => ({
          principalId,
          operation,
          since,
          at,
        }),
      );
    },
    async save({ principalId, operation, since, at }) {
      const read = { operation, since, read_at: at };
      await database.change({}, (tx) =>
        tx
          .insertInto('untrusted_reads')
          .values({ principal_id: principalId, ...read })
          .onConflict((conflict) => conflict.column('principal_id').doUpdateSet(read))
          .execute(),
      );
    },
    async sweep(before) {
      await database.change({}, (tx) =>
        tx.deleteFrom('untrusted_reads').where('read_at', '<', before).execute(),
      );
    },
  };
}
