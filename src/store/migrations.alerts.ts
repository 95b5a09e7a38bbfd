/** Tables of alerts: what was raised, and what is still to be told. */
import { newId } from '../core/ids.ts';
import type { Migration } from './migrations.ts';

export const alerts: Migration = {
  name: '0010-alerts',
  async up({ schema }) {
    await schema
      .createTable('alerts')
      .addColumn('key', 'text', (c) => c.primaryKey())
      .addColumn('source', 'text', (c) => c.notNull())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('raised_at', 'bigint', (c) => c.notNull())
      .addColumn('resolved_at', 'bigint')
      .execute();
    await schema.createIndex('alerts_source').on('alerts').column('source').execute();
    await schema
      .createTable('alert_deliveries')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('body', 'text', (c) => c.notNull())
      .addColumn('attempts', 'integer', (c) => c.notNull())
      .addColumn('next_attempt_at', 'bigint', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    for (const table of ['alert_deliveries', 'alerts'] as const) await schema.dropTable(table).execute();
  },
};

/** Channels beside the webhook, and who has seen an alert. */
export const alertChannels: Migration = {
  name: '0020-alert-channels',
  async up(db) {
    const { schema } = db;
    for (const [name, type] of [
      ['id', 'text'],
      ['acknowledged', 'text'],
      ['told_at', 'bigint'],
    ] as const)
      await schema.alterTable('alerts').addColumn(name, type).execute();
    for (const { key, raised_at: told_at } of await db
      .selectFrom('alerts')
      .select(['key', 'raised_at'])
      .execute())
      await db
        .updateTable('alerts')
        .set({ id: newId('alr'), told_at })
        .where('key', '=', key)
        .execute();
    await schema.createIndex('alerts_id').unique().on('alerts').column('id').execute();
    await schema
      .alterTable('alert_deliveries')
      .addColumn('channel', 'text', (c) => c.notNull().defaultTo('webhook'))
      .execute();
    await schema.alterTable('alert_deliveries').addColumn('alert_key', 'text').execute();
  },
  async down({ schema }) {
    for (const name of ['alert_key', 'channel'])
      await schema.alterTable('alert_deliveries').dropColumn(name).execute();
    await schema.dropIndex('alerts_id').execute();
    for (const name of ['told_at', 'acknowledged', 'id'])
      await schema.alterTable('alerts').dropColumn(name).execute();
  },
};
