/** A publication as the store keeps it: how far it is, and by which ids what it made is found again. */
import { z } from 'zod';
import { timestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Reader, Tables, Writer } from '../store/database.ts';
import { stepNames } from './schema.ts';

/**
 * `publishing` and `undoing`: all that was made is to go, for nobody was told that it is there. `unpublishing`: it is to
 * go because somebody said so. Of `published` nothing is left to do.
 */
export const states = ['publishing', 'published', 'undoing', 'unpublishing'] as const;

const documentSchema = z.strictObject({
  owner: z.string(),
  /** Begun, in order: each stands here before it is acted on. */
  steps: z.array(z.enum(stepNames)),
  /** Given before anything is made by them, so that what has one of them is ours. */
  service_id: z.string(),
  proxy_id: z.string(),
  /** That were not there before it. */
  made_volumes: z.array(z.string()),
  /** Certificates for this hostname alone that were there before it: where there are some, all stay. */
  certificates_before: z.array(z.string()),
  keep_service: z.boolean(),
  delete_volumes: z.boolean(),
  created_at: timestamp,
});

export const recordSchema = documentSchema.extend({
  id: z.string(),
  hostname: z.string(),
  service: z.string(),
  state: z.enum(states),
});
export type PublicationRecord = z.output<typeof recordSchema>;

type Row = Tables['publications'];

function parseRow({ document, ...row }: Row): PublicationRecord {
  try {
    return recordSchema.parse({ ...documentSchema.parse(JSON.parse(document)), ...row });
  } catch (cause) {
    throw new AppError(
      'INTERNAL',
      `the record of the publication ${row.hostname} can't be read; delete_proxy and delete_service take away what it made`,
      { cause },
    );
  }
}

const toRow = ({ id, hostname, service, state, ...document }: PublicationRecord): Row => ({
  id,
  hostname,
  service,
  state,
  document: JSON.stringify(document),
});

/** By its hostname or the name of its service. */
export async function findRecord(db: Reader, name: string): Promise<PublicationRecord | undefined> {
  const rows = await db
    .selectFrom('publications')
    .selectAll()
    .where((where) => where.or([where('hostname', '=', name), where('service', '=', name)]))
    .execute();
  const row = rows.find(({ hostname }) => hostname === name) ?? rows[0];
  return row && parseRow(row);
}

/** Of those that a start has to look at. */
export async function unfinishedIds(db: Reader): Promise<string[]> {
  const query = db.selectFrom('publications').select('id').where('state', '!=', 'published');
  return (await query.execute()).map(({ id }) => id);
}

export async function recordOf(db: Reader, id: string): Promise<PublicationRecord | undefined> {
  const row = await db.selectFrom('publications').selectAll().where('id', '=', id).executeTakeFirst();
  return row && parseRow(row);
}

export async function insertRecord(tx: Writer, record: PublicationRecord): Promise<void> {
  await tx.insertInto('publications').values(toRow(record)).execute();
}

export async function putRecord(tx: Writer, record: PublicationRecord): Promise<void> {
  const { id, ...row } = toRow(record);
  await tx.updateTable('publications').set(row).where('id', '=', id).execute();
}

export async function removeRecord(tx: Writer, { id }: PublicationRecord): Promise<void> {
  await tx.deleteFrom('publications').where('id', '=', id).execute();
}
