import { createSealer } from '../config/secrets.ts';
import { ManualClock } from '../core/clock.ts';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqlite } from '../store/sqlite.ts';
import { type OpenRecords, recordsContract } from './records.contract.ts';
import { Records } from './records.ts';

const KEY_BYTES = 32;

recordsContract('records in SQLite', async (): Promise<OpenRecords> => {
  const directory = mkdtempSync(join(tmpdir(), 'ohp-records-'));
  const clock = new ManualClock(Date.now());
  const open = () => openSqlite(join(directory, 'state.sqlite'), clock);
  const ended: string[] = [];
  let database = await open();
  return {
    clock,
    ended,
    adapter: (model) =>
      new Records(model, {
        database,
        sealer: createSealer(Buffer.alloc(KEY_BYTES, 1)),
        clock,
        onGrantGone: (id) => void ended.push(id),
        onGrantSaved: () => undefined,
      }),
    async reopen() {
      await database[Symbol.asyncDispose]();
      database = await open();
    },
    stored: async () => JSON.stringify(await database.read.selectFrom('oauth_records').selectAll().execute()),
    async [Symbol.asyncDispose]() {
      await database[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    },
  };
});
