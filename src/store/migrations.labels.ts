/** The table of proxies that labels of containers made by themselves. One for each hostname. */
import type { Migration } from './migrations.ts';

export const appliedLabels: Migration = {
  name: '0047-applied-labels',
  async up({ schema }) {
    await schema
      .createTable('applied_labels')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('hostname', 'text', (c) => c.notNull().unique())
      .addColumn('proxy_id', 'text', (c) => c.notNull())
      .addColumn('document', 'text', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('applied_labels').execute();
  },
};
