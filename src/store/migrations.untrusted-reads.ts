/** The table of who has read text that strangers wrote. */
import type { Migration } from './migrations.ts';

export const untrustedReads: Migration = {
  name: '0045-untrusted-reads',
  async up({ schema }) {
    await schema
      .createTable('untrusted_reads')
      .addColumn('principal_id', 'text', (c) => c.primaryKey())
      .addColumn('operation', 'text', (c) => c.notNull())
      .addColumn('since', 'bigint', (c) => c.notNull())
      .addColumn('read_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema.createIndex('untrusted_reads_age').on('untrusted_reads').column('read_at').execute();
  },
  async down({ schema }) {
    await schema.dropTable('untrusted_reads').execute();
  },
};
