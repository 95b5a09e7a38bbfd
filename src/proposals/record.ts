/** A proxy that a label made by itself, as the store keeps it. What is not here was made by somebody else, and is theirs. */
import { z } from 'zod';
import type { Reader, Tables, Writer } from '../store/database.ts';

const documentSchema = z.strictObject({
  label: z.string(),
  /** The whole id: no other container ever has it. */
  container: z.string(),
  /** Of the container, as it was called when it was judged: its tag may be another's by now. */
  image: z.string(),
  /** Of the container. */
  port: z.int(),
  /**
   * `making`, `leaving`: written down before the proxy is made and deleted. `dismissed`: somebody deleted it, so that it is
   * not made again for as long as the container is there.
   */
  state: z.enum(['making', 'applied', 'dismissed', 'leaving']),
});
const recordSchema = documentSchema.extend({
  id: z.string(),
  hostname: z.string(),
  /** Given before the proxy is made, so that what has it is ours. */
  proxy_id: z.string(),
});
export type Applied = z.output<typeof recordSchema>;

export interface Standing extends Applied {
  /** `changed`: by somebody, or with routes that somebody made: from then on it is theirs. */
  readonly proxy: 'as-made' | 'changed' | 'gone';
}

type Row = Tables['applied_labels'];

const parseRow = ({ id, hostname, proxy_id, document }: Row): Applied =>
  recordSchema.parse({ ...documentSchema.parse(JSON.parse(document)), id, hostname, proxy_id });

const toRow = ({ id, hostname, proxy_id, ...document }: Applied): Row => ({
  id,
  hostname,
  proxy_id,
  document: JSON.stringify(document),
});

/** Of the target of such a proxy; no name of a service is like it. */
export const targetOf = ({ id }: Pick<Applied, 'id'>): string => `service://${id}`;

/** @throws ZodError for what another version wrote: then nothing is applied or taken away. */
export async function standings(db: Reader): Promise<Standing[]> {
  const rows = await db
    .selectFrom('applied_labels as applied')
    .leftJoin('proxies', 'proxies.id', 'applied.proxy_id')
    .selectAll('applied')
    .select((query) => [
      'proxies.version as version',
      query
        .exists(
          query.selectFrom('routes').select('routes.id').whereRef('routes.hostname', '=', 'applied.hostname'),
        )
        .as('hasRoutes'),
    ])
    .orderBy('applied.id')
    .execute();
  return rows.map(({ version, hasRoutes, ...row }) => ({
    ...parseRow(row),
    proxy: version === null ? 'gone' : version === 1 && !hasRoutes ? 'as-made' : 'changed',
  }));
}

/** Where such a target leads: a container that was made elsewhere, and a port of it. */
export async function ledByLabel(
  db: Reader,
  id: string,
): Promise<{ container: string; port: number } | undefined> {
  const row = await db.selectFrom('applied_labels').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row) return undefined;
  const { container, port } = parseRow(row);
  return { container, port };
}

export async function putApplied(tx: Writer, record: Applied): Promise<void> {
  const { id, ...row } = toRow(record);
  await tx
    .insertInto('applied_labels')
    .values({ id, ...row })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
    .execute();
}

export async function removeApplied(tx: Writer, { id }: Pick<Applied, 'id'>): Promise<void> {
  await tx.deleteFrom('applied_labels').where('id', '=', id).execute();
}
