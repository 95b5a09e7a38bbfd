/** Values that services are given by name. */
import type { Migration } from './migrations.ts';

export const serviceSecrets: Migration = {
  name: '0019-service-secrets',
  async up({ schema }) {
    await schema
      .createTable('service_secrets')
      .addColumn('name', 'text', (c) => c.primaryKey())
      .addColumn('sealed', 'text', (c) => c.notNull())
      .addColumn('updated_at', 'integer', (c) => c.notNull())
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('service_secrets').execute();
  },
};
