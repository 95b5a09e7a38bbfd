/** What a name leads to, by the store. */
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import { externalStore } from './external.ts';
import { createRecordStore } from './record.ts';
import type { Led } from './whereabouts.ts';

interface Kept {
  database: Pick<Database, 'read'>;
  sealer: Sealer;
}

/** @throws AppError INTERNAL when its record can't be read. */
export function createFinder({ database, sealer }: Kept): (name: string) => Promise<Led | undefined> {
  const records = createRecordStore(sealer);
  return async (name) => {
    const external = await externalStore.find(database.read, name);
    if (external) return { url: external.url };
    const record = await records.find(database.read, name);
    return record && { id: record.id, generation: record.generation };
  };
}
