/** Tables of the authorization server and of the people who sign in. */
import type { Kysely } from 'kysely';
import type { Migration } from './migrations.ts';
import type { Tables } from './schema.ts';

export const oauth: Migration = {
  name: '0003-oauth',
  async up({ schema }) {
    await createRecordTables(schema);
    await createUserTables(schema);
  },
  async down({ schema }) {
    const tables = [
      'invites',
      'browser_sessions',
      'passkeys',
      'identities',
      'users',
      'consents',
      'signing_keys',
      'oauth_records',
    ] as const;
    for (const table of tables) await schema.dropTable(table).execute();
  },
};

/** What a person is called at the provider, and when they last came by it: told in their account. */
export const identityFacts: Migration = {
  name: '0004-identity-facts',
  async up({ schema }) {
    await schema
      .alterTable('identities')
      .addColumn('label', 'text', (c) => c.notNull().defaultTo(''))
      .execute();
    await schema.alterTable('identities').addColumn('last_used_at', 'bigint').execute();
  },
  async down({ schema }) {
    await schema.alterTable('identities').dropColumn('last_used_at').execute();
    await schema.alterTable('identities').dropColumn('label').execute();
  },
};

async function createRecordTables(schema: Kysely<Tables>['schema']): Promise<void> {
  await schema
    .createTable('oauth_records')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('model', 'text', (c) => c.notNull())
    .addColumn('grant_id', 'text')
    .addColumn('uid', 'text')
    .addColumn('user_code', 'text')
    .addColumn('account_id', 'text')
    .addColumn('client_id', 'text')
    .addColumn('payload', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('expires_at', 'bigint')
    .addColumn('consumed_at', 'bigint')
    .execute();
  for (const column of ['grant_id', 'uid', 'user_code', 'account_id', 'client_id', 'expires_at'])
    await schema
      .createIndex(`oauth_records_${column}`)
      .on('oauth_records')
      .columns([column, 'model'])
      .execute();
  await schema
    .createTable('signing_keys')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('public_jwk', 'text', (c) => c.notNull())
    .addColumn('key_sealed', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute();
  await schema
    .createTable('consents')
    .addColumn('user_id', 'text', (c) => c.notNull())
    .addColumn('client_id', 'text', (c) => c.notNull())
    .addColumn('redirect_uri', 'text', (c) => c.notNull())
    .addColumn('grant_id', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addPrimaryKeyConstraint('consents_pk', ['user_id', 'client_id', 'redirect_uri'])
    .execute();
  await schema.createIndex('consents_grant').on('consents').column('grant_id').execute();
}

async function createUserTables(schema: Kysely<Tables>['schema']): Promise<void> {
  await schema
    .createTable('users')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('username', 'text', (c) => c.notNull().unique())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('password_hash', 'text')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('last_seen_at', 'bigint')
    .addColumn('version', 'integer', (c) => c.notNull())
    .execute();
  const ofUser = (table: string) =>
    schema
      .createTable(table)
      .addColumn('user_id', 'text', (c) => c.notNull().references('users.id').onDelete('cascade'))
      .addColumn('created_at', 'bigint', (c) => c.notNull());
  await ofUser('identities')
    .addColumn('issuer', 'text', (c) => c.notNull())
    .addColumn('subject', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('identities_pk', ['issuer', 'subject'])
    .execute();
  await ofUser('passkeys')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('counter', 'bigint', (c) => c.notNull())
    .addColumn('last_used_at', 'bigint')
    .execute();
  await ofUser('invites')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('expires_at', 'bigint', (c) => c.notNull())
    .execute();
  await ofUser('browser_sessions')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('hostname', 'text', (c) => c.notNull())
    .addColumn('document', 'text', (c) => c.notNull())
    .addColumn('expires_at', 'bigint', (c) => c.notNull())
    .execute();
  for (const table of ['identities', 'passkeys', 'invites', 'browser_sessions'])
    await schema.createIndex(`${table}_user`).on(table).column('user_id').execute();
}
