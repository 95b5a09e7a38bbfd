/**
 * Services that are URLs elsewhere: names that targets lead to, with nothing here to start or stop. They share one
 * namespace with those that are containers. Called by the operations of this folder.
 */
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { requireVersion, timestamp, toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Database, Reader, Tables, Writer } from '../store/database.ts';
import { requireMayLead } from './leading.ts';
import { type ExternalDetails, serviceName } from './schema.ts';
import { requireNoneLed } from './targets.ts';

const MAX_EXTERNAL = 5000;

type ExternalRow = Tables['external_services'];

const keptSchema = z.strictObject({
  url: z.string(),
  owner: z.string(),
  created_at: timestamp,
  updated_at: timestamp,
});
const recordSchema = keptSchema.extend({ id: z.string(), name: serviceName, version: z.int() });
type ExternalRecord = z.output<typeof recordSchema>;

const toRow = ({ id, name, version, ...kept }: ExternalRecord): ExternalRow => ({
  id,
  name,
  version,
  document: JSON.stringify(kept),
});

const parseRow = ({ document, ...row }: ExternalRow): ExternalRecord =>
  recordSchema.parse({ ...keptSchema.parse(JSON.parse(document)), ...row });

export const externalStore = {
  async find(db: Reader, name: string): Promise<ExternalRecord | undefined> {
    const row = await db
      .selectFrom('external_services')
      .selectAll()
      .where('name', '=', name)
      .executeTakeFirst();
    return row && parseRow(row);
  },
  async all(db: Reader): Promise<ExternalRecord[]> {
    return (await db.selectFrom('external_services').selectAll().orderBy('name').execute()).map(parseRow);
  },
  async insert(tx: Writer, record: ExternalRecord): Promise<void> {
    await tx.insertInto('external_services').values(toRow(record)).execute();
  },
  async put(tx: Writer, record: ExternalRecord): Promise<void> {
    const { id, ...row } = toRow(record);
    await tx.updateTable('external_services').set(row).where('id', '=', id).execute();
  },
  async remove(tx: Writer, { id }: ExternalRecord): Promise<void> {
    await tx.deleteFrom('external_services').where('id', '=', id).execute();
  },
};

export interface ExternalParts {
  database: Database;
  clock: Clock;
  /** Why the URL may not be a target. */
  urlFault: (url: string) => string | undefined;
  changed?: ((name: string) => Promise<void>) | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

export interface ExternalServices {
  /** Undefined: none of that name is external. */
  find(name: string): Promise<ExternalDetails | undefined>;
  create(wanted: { name: string; url: string }, caller: Caller): Promise<ExternalDetails>;
  update(
    name: string,
    change: { url: string; version: number | undefined },
    by: Pick<Caller, 'principal'>,
  ): Promise<ExternalDetails>;
  delete(
    name: string,
    how: { version: number | undefined; force: boolean },
    by: Pick<Caller, 'principal'>,
  ): Promise<{ name: string }>;
}

export function createExternalServices(parts: ExternalParts): ExternalServices {
  const { database, clock, changed } = parts;
  /** Who follows it knows before the caller does. */
  async function change<Result>(name: string, by: Partial<Caller>, work: (tx: Writer) => Promise<Result>) {
    const result = await database.change(by, work);
    await changed?.(name);
    return result;
  }
  return {
    find: (name) => externalStore.find(database.read, name),
    async create({ name, url }, caller) {
      requireUrl(parts, url);
      const now = toTimestamp(clock.now());
      const owner = caller.principal.id;
      return change(name, caller, async (tx) => {
        await requireRoom(tx, name);
        await requireMayLead(tx, name, caller.principal);
        const record = { id: newId('svc'), name, url, owner, version: 1, created_at: now, updated_at: now };
        await externalStore.insert(tx, record);
        return record;
      });
    },
    async update(name, { url, version }, { principal }) {
      requireUrl(parts, url);
      return change(name, {}, async (tx) => {
        const record = await existing(tx, name, version);
        await requireMayLead(tx, name, principal);
        const updated_at = toTimestamp(clock.now());
        const next = { ...record, url, version: record.version + 1, updated_at };
        await externalStore.put(tx, next);
        return next;
      });
    },
    delete: (name, { version, force }, { principal }) =>
      change(name, {}, async (tx) => {
        const record = await existing(tx, name, version);
        await (force ? requireMayLead(tx, name, principal) : requireNoneLed(tx, name, []));
        await externalStore.remove(tx, record);
        return { name };
      }),
  };
}

async function existing(tx: Reader, name: string, version: number | undefined): Promise<ExternalRecord> {
  const record = await externalStore.find(tx, name);
  if (!record)
    throw new AppError('NOT_FOUND', `there is no external service ${name}; list_services names them`);
  requireVersion(name, version, record.version);
  return record;
}

function requireUrl({ urlFault }: ExternalParts, url: string): void {
  const fault = urlFault(url);
  if (fault !== undefined) throw new AppError('INVALID_INPUT', `url: may not be a target: ${fault}`);
}

async function requireRoom(tx: Reader, name: string): Promise<void> {
  await requireNotExternal(tx, name);
  const taken = await tx.selectFrom('services').select('id').where('name', '=', name).executeTakeFirst();
  if (taken)
    throw new AppError('CONFLICT', `there is a service ${name} already, a container; choose another name`);
  const { count } = await tx
    .selectFrom('external_services')
    .select((query) => query.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  if (Number(count) >= MAX_EXTERNAL)
    throw new AppError(
      'PRECONDITION_FAILED',
      `there are ${MAX_EXTERNAL} external services, which is the limit`,
    );
}

/** One name means one service. */
export async function requireNotExternal(db: Reader, name: string): Promise<void> {
  if (await externalStore.find(db, name))
    throw new AppError(
      'CONFLICT',
      `there is an external service ${name} already; use update_external_service`,
    );
}
