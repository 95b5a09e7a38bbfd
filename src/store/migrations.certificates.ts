/** Tables of certificates that are ordered: accounts at CAs, orders, and what is counted against the limits of a CA. */
import type { Migration } from './migrations.ts';

export const certificateOrders: Migration = {
  name: '0005-certificate-orders',
  async up({ schema }) {
    await schema
      .createTable('acme_accounts')
      .addColumn('directory', 'text', (c) => c.primaryKey())
      .addColumn('url', 'text')
      .addColumn('orders_url', 'text')
      .addColumn('key_sealed', 'text', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createTable('certificate_orders')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('open_for', 'text', (c) => c.unique())
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('urgency', 'integer', (c) => c.notNull())
      .addColumn('next_attempt_at', 'bigint', (c) => c.notNull())
      .addColumn('lease_holder', 'text')
      .addColumn('lease_until', 'bigint', (c) => c.notNull())
      .addColumn('certificate_id', 'text')
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('key_sealed', 'text', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createIndex('certificate_orders_certificate')
      .on('certificate_orders')
      .column('certificate_id')
      .execute();
    await schema
      .createTable('issuance_counts')
      .addColumn('issuer', 'text', (c) => c.notNull())
      .addColumn('kind', 'text', (c) => c.notNull())
      .addColumn('subject', 'text', (c) => c.notNull())
      .addColumn('at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createIndex('issuance_counts_kind')
      .on('issuance_counts')
      .columns(['issuer', 'kind', 'subject', 'at'])
      .execute();
  },
  async down({ schema }) {
    for (const table of ['issuance_counts', 'certificate_orders', 'acme_accounts'] as const)
      await schema.dropTable(table).execute();
  },
};

/** A change of an account's key is in the store before the CA hears of it. */
export const accountKeys: Migration = {
  name: '0008-account-keys',
  async up({ schema }) {
    await schema.alterTable('acme_accounts').addColumn('next_key_sealed', 'text').execute();
  },
  async down({ schema }) {
    await schema.alterTable('acme_accounts').dropColumn('next_key_sealed').execute();
  },
};

/** What DNS-01 has in the DNS: there before it is published, until it is withdrawn. */
export const challengeRecords: Migration = {
  name: '0009-challenge-records',
  async up({ schema }) {
    await schema
      .createTable('challenge_records')
      .addColumn('order_id', 'text', (c) => c.notNull())
      .addColumn('asked', 'text', (c) => c.notNull())
      .addColumn('value', 'text', (c) => c.notNull())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('failures', 'integer', (c) => c.notNull())
      .addColumn('next_attempt_at', 'bigint', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addPrimaryKeyConstraint('challenge_records_pk', ['order_id', 'asked', 'value'])
      .execute();
  },
  async down({ schema }) {
    await schema.dropTable('challenge_records').execute();
  },
};
