/** How orders are found: in their turn, by age, by name; and what an order has taken of a limit before it is known. */
import { sql } from 'kysely';
import type { Migration } from './migrations.ts';

export const issuanceIndexes: Migration = {
  name: '0007-issuance-indexes',
  async up(db) {
    const { schema } = db;
    // Whose turn it is, of the open ones; all that the question asks is in it, so that who waits costs no look at its row.
    await schema
      .createIndex('certificate_orders_turn')
      .on('certificate_orders')
      .columns(['urgency', 'created_at', 'id', 'next_attempt_at', 'lease_until'])
      .where(sql.ref('open_for'), 'is not', null)
      .execute();
    await schema
      .createIndex('certificate_orders_age')
      .on('certificate_orders')
      .columns(['created_at', 'id'])
      .execute();
    await schema
      .createTable('certificate_order_names')
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addColumn('order_id', 'text', (c) =>
        c.notNull().references('certificate_orders.id').onDelete('cascade'),
      )
      .addPrimaryKeyConstraint('certificate_order_names_pk', ['name', 'created_at', 'order_id'])
      .execute();
    await schema
      .createIndex('certificate_order_names_order')
      .on('certificate_order_names')
      .column('order_id')
      .execute();
    await schema.alterTable('issuance_counts').addColumn('order_id', 'text').execute();
    await schema.createIndex('issuance_counts_order').on('issuance_counts').column('order_id').execute();
    await schema.createIndex('issuance_counts_age').on('issuance_counts').column('at').execute();
    await schema
      .createTable('on_demand_names')
      .addColumn('hostname', 'text', (c) => c.primaryKey())
      .addColumn('wildcard', 'text', (c) => c.notNull())
      .addColumn('last_seen_at', 'bigint', (c) => c.notNull())
      .execute();
    const orders = await db
      .selectFrom('certificate_orders')
      .select(['id', 'created_at', 'document'])
      .execute();
    for (const { id, created_at, document } of orders)
      for (const name of namesIn(document))
        await db.insertInto('certificate_order_names').values({ name, created_at, order_id: id }).execute();
  },
  async down({ schema }) {
    await schema.dropTable('on_demand_names').execute();
    for (const index of ['issuance_counts_age', 'issuance_counts_order'])
      await schema.dropIndex(index).execute();
    await schema.alterTable('issuance_counts').dropColumn('order_id').execute();
    await schema.dropTable('certificate_order_names').execute();
    for (const index of ['certificate_orders_age', 'certificate_orders_turn'])
      await schema.dropIndex(index).execute();
  },
};

/** Of an order that is over, the certificate alone has the key: deleted there, it is gone. Nothing brings them back. */
export const keysOfOrders: Migration = {
  name: '0012-keys-of-orders',
  async up(db) {
    await db
      .updateTable('certificate_orders')
      .set({ key_sealed: '' })
      .where('open_for', 'is', null)
      .execute();
  },
  down: async () => undefined,
};

/** Of a row that can't be read, none: its order is reported where it is read. */
function namesIn(document: string): Set<string> {
  const { names } = JSON.parse(document) as { names?: unknown };
  return new Set(Array.isArray(names) ? names.filter((name) => typeof name === 'string') : []);
}

/** What a CA was last told of how to reach us: a change is told once, whatever is restarted. */
export const accountContacts: Migration = {
  name: '0013-account-contacts',
  async up({ schema }) {
    await schema.alterTable('acme_accounts').addColumn('contact', 'text').execute();
  },
  async down({ schema }) {
    await schema.alterTable('acme_accounts').dropColumn('contact').execute();
  },
};
