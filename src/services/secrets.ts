/**
 * Named values for environments of services: sealed in the store, put in when a container is made, and told to nobody. A
 * container keeps the value that it was made with. Called by the operations of this folder and by `keeping`.
 */
import type { Clock } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Reader } from '../store/database.ts';
import type { Kept, RecordStore, ServiceRecord } from './record.ts';
import type { Secret, ServiceSettings } from './schema.ts';

const MAX_SECRETS = 1000;

export interface SecretKeeper {
  list(): Promise<Secret[]>;
  /** Services that use it keep the value they have until they get another container. @throws AppError CONFLICT while one is changed */
  set(name: string, value: string): Promise<Secret>;
  /** @throws AppError NOT_FOUND, PRECONDITION_FAILED while a service uses it, unless `force`. */
  delete(name: string, how: { force: boolean }): Promise<{ name: string }>;
}

interface SecretParts {
  database: Database;
  records: Pick<RecordStore, 'all'>;
  sealer: Sealer;
  clock: Clock;
}

const contextOf = (name: string): string => `service-secret:${name}`;

/** Names of the secrets that an environment refers to, by variable. */
export function secretsOf({ environment }: Pick<ServiceSettings, 'environment'>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([variable, value]) =>
      typeof value === 'string' ? [] : [[variable, value.secret]],
    ),
  );
}

const wantedBy = (settings: Pick<ServiceSettings, 'environment'>): string[] => [
  ...new Set(Object.values(secretsOf(settings))),
];

/** Whether a container that is made now has the values that the one of this record was made with. */
export async function haveSecretsStayed(db: Reader, record: ServiceRecord): Promise<boolean> {
  const wanted = new Set(wantedBy(record.settings));
  const rows = wanted.size === 0 ? [] : (await rowsOf(db)).filter(({ name }) => wanted.has(name));
  return rows.length === wanted.size && !rows.some((row) => isOlder(record, row));
}

/** @throws AppError PRECONDITION_FAILED that names each secret that is not there. */
export async function resolveEnvironment(
  { database, sealer }: Pick<SecretParts, 'database' | 'sealer'>,
  { settings }: ServiceRecord,
): Promise<Record<string, string>> {
  const wanted = wantedBy(settings);
  const rows =
    wanted.length === 0
      ? []
      : await database.read.selectFrom('service_secrets').selectAll().where('name', 'in', wanted).execute();
  const values = new Map(rows.map(({ name, sealed }) => [name, sealer.open(sealed, contextOf(name))]));
  const missing = wanted.filter((name) => !values.has(name));
  if (missing.length > 0)
    throw new AppError(
      'PRECONDITION_FAILED',
      `environment: there is no secret ${missing.join(', ')}; set_secret makes one`,
      { details: { missing } },
    );
  return Object.fromEntries(
    Object.entries(settings.environment).map(([variable, value]) => [
      variable,
      typeof value === 'string' ? value : (values.get(value.secret) ?? ''),
    ]),
  );
}

export function createSecretKeeper(parts: SecretParts): SecretKeeper {
  const { database, sealer, clock } = parts;
  return {
    async list() {
      const rows = await rowsOf(database.read);
      const kept = await parts.records.all(database.read);
      return rows.map((row) => shown(row, kept));
    },
    set: (name, value) =>
      database.change({}, async (tx) => {
        const now = clock.now();
        const sealed = sealer.seal(value, contextOf(name));
        const rows = await rowsOf(tx);
        if (rows.length >= MAX_SECRETS && !rows.some((row) => row.name === name))
          throw new AppError('PRECONDITION_FAILED', `there are ${MAX_SECRETS} secrets, which is the limit`);
        const kept = await parts.records.all(tx);
        const before = rows.find((row) => row.name === name);
        // What is being made has been judged by the value that it has so far.
        if (before) requireNoneChanging(name, shown(before, kept).used_by, kept);
        await tx
          .insertInto('service_secrets')
          .values({ name, sealed, updated_at: now })
          .onConflict((conflict) => conflict.column('name').doUpdateSet({ sealed, updated_at: now }))
          .execute();
        return shown({ name, updated_at: now }, kept);
      }),
    delete: (name, { force }) =>
      database.change({}, async (tx) => {
        const row = (await rowsOf(tx)).find((one) => one.name === name);
        if (!row) throw new AppError('NOT_FOUND', `there is no secret ${name}; list_secrets names them`);
        const kept = await parts.records.all(tx);
        const { used_by: users } = shown(row, kept);
        if (users.length > 0 && !force)
          throw new AppError(
            'PRECONDITION_FAILED',
            `the services ${users.join(', ')} use the secret ${name} and could not get another container; change these first, or pass force: true`,
            { details: { users } },
          );
        requireNoneChanging(name, users, kept);
        await tx.deleteFrom('service_secrets').where('name', '=', name).execute();
        return { name };
      }),
  };
}

function requireNoneChanging(name: string, users: readonly string[], { kept }: Kept): void {
  const changing = users.filter((user) => kept.some((one) => one.name === user && one.pending === 'apply'));
  if (changing.length > 0)
    throw new AppError(
      'CONFLICT',
      `the services ${changing.join(', ')} are being changed and may have to go back to a version with the secret ${name}; wait until that is over`,
      { details: { users: changing } },
    );
}

const rowsOf = (db: Reader) =>
  db.selectFrom('service_secrets').select(['name', 'updated_at']).orderBy('name').execute();

/** It may have a container with the value of before. */
const isOlder = ({ updated_at }: ServiceRecord, secret: { updated_at: number }): boolean =>
  Date.parse(updated_at) <= secret.updated_at;

function shown(row: { name: string; updated_at: number }, { kept }: Kept): Secret {
  const users = kept.filter(({ settings }) => wantedBy(settings).includes(row.name));
  const older = users.filter((user) => isOlder(user, row));
  return {
    name: row.name,
    updated_at: toTimestamp(row.updated_at),
    used_by: users.map((user) => user.name),
    with_old_value: older.map((user) => user.name),
  };
}
