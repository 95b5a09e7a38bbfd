/** Ports of this machine that services have: no two the same, and none of a service that is gone. */
import type { Migration } from './migrations.ts';

export const servicePorts: Migration = {
  name: '0017-service-ports',
  async up({ schema }) {
    await schema
      .createTable('service_ports')
      .addColumn('port', 'integer', (c) => c.notNull())
      .addColumn('protocol', 'text', (c) => c.notNull())
      .addColumn('address', 'text', (c) => c.notNull())
      .addColumn('kind', 'text', (c) => c.notNull())
      .addColumn('service_id', 'text', (c) => c.notNull().references('services.id').onDelete('cascade'))
      .addPrimaryKeyConstraint('service_ports_pk', ['port', 'protocol', 'address'])
      .execute();
    await schema.createIndex('service_ports_service').on('service_ports').column('service_id').execute();
  },
  async down({ schema }) {
    await schema.dropTable('service_ports').execute();
  },
};
