/** Each step once, in order, in its own transaction; the number of the last one is kept in the database itself. */
import { type Kysely, sql } from 'kysely';
import { AppError } from '../core/errors.ts';
import { accountKeys, certificateOrders, challengeRecords } from './migrations.certificates.ts';
import { accountContacts, issuanceIndexes, keysOfOrders } from './migrations.issuance.ts';
import { alertChannels, alerts } from './migrations.alerts.ts';
import { appliedLabels } from './migrations.labels.ts';
import { servicePorts } from './migrations.service-ports.ts';
import { serviceSecrets } from './migrations.secrets.ts';
import { externalServices, services } from './migrations.services.ts';
import { publications } from './migrations.publications.ts';
import { mcpTasks, taskNeeds } from './migrations.tasks.ts';
import { identityFacts, oauth } from './migrations.oauth.ts';
import { untrustedReads } from './migrations.untrusted-reads.ts';
import type { Tables } from './schema.ts';

export interface Migration {
  name: string;
  up(db: Kysely<Tables>): Promise<void>;
  down(db: Kysely<Tables>): Promise<void>;
}

const first: Migration = {
  name: '0001-foundation',
  async up(db) {
    const { schema } = db;
    await schema
      .createTable('proxies')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('hostname', 'text', (c) => c.notNull().unique())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('version', 'integer', (c) => c.notNull())
      .execute();
    await schema
      .createTable('routes')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('hostname', 'text')
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('version', 'integer', (c) => c.notNull())
      .execute();
    await schema.createIndex('routes_hostname').on('routes').column('hostname').execute();
    await schema
      .createTable('certificates')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('source', 'text', (c) => c.notNull())
      .addColumn('not_after', 'bigint', (c) => c.notNull())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('chain_pem', 'text', (c) => c.notNull())
      .addColumn('key_sealed', 'text', (c) => c.notNull())
      .execute();
    await schema
      .createTable('authorities')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('chain_pem', 'text', (c) => c.notNull())
      .addColumn('key_sealed', 'text', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createTable('tokens')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('hash', 'text', (c) => c.notNull().unique())
      .addColumn('document', 'text', (c) => c.notNull())
      .addColumn('last_used_at', 'bigint')
      .addColumn('revoked_at', 'bigint')
      .addColumn('version', 'integer', (c) => c.notNull())
      .execute();
    await createSessionTables(db);
    await schema
      .createTable('idempotency')
      .addColumn('principal_id', 'text', (c) => c.notNull())
      .addColumn('operation', 'text', (c) => c.notNull())
      .addColumn('key', 'text', (c) => c.notNull())
      .addColumn('input_digest', 'text', (c) => c.notNull())
      .addColumn('result', 'text', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addPrimaryKeyConstraint('idempotency_pk', ['principal_id', 'operation', 'key'])
      .execute();
    await schema.createIndex('idempotency_age').on('idempotency').column('created_at').execute();
  },
  async down(db) {
    const tables = [
      'idempotency',
      'session_events',
      'sessions',
      'tokens',
      'authorities',
      'certificates',
      'routes',
      'proxies',
    ] as const;
    for (const table of tables) await db.schema.dropTable(table).execute();
  },
};

async function createSessionTables({ schema }: Kysely<Tables>): Promise<void> {
  await schema
    .createTable('sessions')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('principal_id', 'text', (c) => c.notNull())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('last_seen_at', 'bigint', (c) => c.notNull())
    .execute();
  await schema
    .createIndex('sessions_principal')
    .on('sessions')
    .columns(['principal_id', 'last_seen_at'])
    .execute();
  await schema
    .createTable('session_events')
    .addColumn('session_id', 'text', (c) => c.notNull().references('sessions.id').onDelete('cascade'))
    .addColumn('stream_id', 'text', (c) => c.notNull())
    .addColumn('sequence', 'integer', (c) => c.notNull())
    .addColumn('message', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('session_events_pk', ['session_id', 'stream_id', 'sequence'])
    .execute();
}

/** The sweeps of sessions and their events look for what is old, and nothing else. */
const ages: Migration = {
  name: '0002-session-ages',
  async up({ schema }) {
    await schema.createIndex('session_events_age').on('session_events').column('created_at').execute();
    await schema.createIndex('sessions_age').on('sessions').column('last_seen_at').execute();
  },
  async down({ schema }) {
    await schema.dropIndex('sessions_age').execute();
    await schema.dropIndex('session_events_age').execute();
  },
};

export const migrations: readonly Migration[] = [
  first,
  ages,
  oauth,
  identityFacts,
  certificateOrders,
  issuanceIndexes,
  accountKeys,
  challengeRecords,
  alerts,
  mcpTasks,
  keysOfOrders,
  accountContacts,
  taskNeeds,
  services,
  externalServices,
  servicePorts,
  publications,
  serviceSecrets,
  untrustedReads,
  alertChannels,
  appliedLabels,
];

const VERSION_KEY = 'schema_version';

/** @throws AppError PRECONDITION_FAILED when the database was written by a newer version of this program. */
export async function migrate(db: Kysely<Tables>, steps: readonly Migration[] = migrations): Promise<void> {
  await sql`create table if not exists meta (key text primary key, value text not null)`.execute(db);
  const row = await db.selectFrom('meta').select('value').where('key', '=', VERSION_KEY).executeTakeFirst();
  const current = Number(row?.value ?? 0);
  if (!(current <= steps.length))
    throw new AppError(
      'PRECONDITION_FAILED',
      `the data is at schema version ${current}; this program knows ${steps.length}: run the newer program`,
    );
  for (const [index, step] of steps.entries()) {
    if (index < current) continue;
    await db.transaction().execute(async (tx) => {
      await step.up(tx);
      await writeVersion(tx, index + 1);
    });
  }
}

async function writeVersion(db: Kysely<Tables>, version: number): Promise<void> {
  await db
    .insertInto('meta')
    .values({ key: VERSION_KEY, value: String(version) })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: String(version) }))
    .execute();
}
