/** A service that is a URL elsewhere: a name that targets can lead to, with nothing here to start or stop. */
import { z } from 'zod';
import { timestamp } from '../core/collection.ts';
import type { Reader, Tables, Writer } from '../store/database.ts';
import { serviceName } from './schema.ts';

type ExternalRow = Tables['external_services'];

const keptSchema = z.strictObject({
  url: z.string(),
  owner: z.string(),
  created_at: timestamp,
  updated_at: timestamp,
});
const recordSchema = keptSchema.extend({ id: z.string(), name: serviceName, version: z.int() });
export type ExternalRecord = z.output<typeof recordSchema>;

const toRow = ({ id, name, version, ...kept }: ExternalRecord): ExternalRow => ({
  id,
  name,
  version,
  document: JSON.stringify(kept),
});

const parseRow = ({ document, ...row }: ExternalRow): ExternalRecord =>
  recordSchema.parse({ ...keptSchema.parse(JSON.parse(document)), ...row });

export const externalStore = {
  async find(db: Reader, name: string): Promise<ExternalRecord | undefined> {
    const row = await db
      .selectFrom('external_services')
      .selectAll()
      .where('name', '=', name)
      .executeTakeFirst();
    return row && parseRow(row);
  },
  async all(db: Reader): Promise<ExternalRecord[]> {
    return (await db.selectFrom('external_services').selectAll().orderBy('name').execute()).map(parseRow);
  },
  async insert(tx: Writer, record: ExternalRecord): Promise<void> {
    await tx.insertInto('external_services').values(toRow(record)).execute();
  },
  async put(tx: Writer, record: ExternalRecord): Promise<void> {
    const { id, ...row } = toRow(record);
    await tx.updateTable('external_services').set(row).where('id', '=', id).execute();
  },
  async remove(tx: Writer, { id }: ExternalRecord): Promise<void> {
    await tx.deleteFrom('external_services').where('id', '=', id).execute();
  },
};
