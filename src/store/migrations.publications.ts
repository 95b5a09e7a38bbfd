/** The table of publications. One for each hostname and for each service. */
import type { Migration } from './migrations.ts';

export const publications: Migration = {
  name: '0018-publications',
  async up({ schema }) {
    await schema
      .createTable('publications')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('hostname', 'text', (c) => c.notNull().unique())
      .addColumn('service', 'text', (c) => c.notNull().unique())
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('document', 'text', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('publications').execute();
  },
};
