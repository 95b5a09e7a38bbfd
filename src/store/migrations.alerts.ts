/** Tables of alerts: what was raised, and what is still to be told. */
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
