/** The table of services. */
import type { Migration } from './migrations.ts';

export const services: Migration = {
  name: '0015-services',
  async up({ schema }) {
    await schema
      .createTable('services')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull().unique())
      .addColumn('pending', 'text')
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('version', 'integer', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('services').execute();
  },
};

/** Names that lead to URLs elsewhere; no container has one of them. */
export const externalServices: Migration = {
  name: '0016-external-services',
  async up({ schema }) {
    await schema
      .createTable('external_services')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull().unique())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('version', 'integer', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('external_services').execute();
  },
};
