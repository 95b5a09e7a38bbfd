/** A service as the store keeps it: what was asked for, and what of it is not done yet. Its claims of ports are written with it. */
import { z } from 'zod';
import { timestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Reader, Tables, Writer } from '../store/database.ts';
import { type Claim, claimSchema, writeClaims } from './claims.ts';
import { claimsOfPort } from './port-choice.ts';
import { keptSettings, serviceName, serviceSettings } from './schema.ts';

type ServiceRow = Tables['services'];

/**
 * `create`: what was made so far is to be undone, and the record with it. `delete`: everything of it is to go. `apply`: there
 * is to be the container of `generation` alone, running or not as `desired` says.
 */
export const unfinished = ['create', 'delete', 'apply'] as const;

const keptSchema = z.strictObject({
  owner: z.string(),
  desired: z.enum(['running', 'stopped']),
  generation: z.int(),
  /** Of a change that was undone too: no two that the engine ever saw are called the same. */
  last_generation: z.int().default(0),
  /** Volumes that go with it when it is undone or deleted, by their names here. */
  doomed_volumes: z.array(z.string()),
  /** Networks that it needs besides those of its settings, while it changes. */
  claimed_networks: z.array(z.string()),
  /** Ports that it has besides those of its settings, while it changes. */
  claimed_ports: z.array(claimSchema).default([]),
  created_at: timestamp,
  updated_at: timestamp,
});

export const recordSchema = keptSchema.extend({
  id: z.string(),
  name: serviceName,
  version: z.int(),
  pending: z.enum(unfinished).nullable(),
  settings: keptSettings,
});
export type ServiceRecord = z.output<typeof recordSchema>;

/** Of a record with nothing left to do. */
export const nothingLeft = {
  pending: null,
  doomed_volumes: [],
  claimed_networks: [],
  claimed_ports: [],
} as const satisfies Partial<ServiceRecord>;

export const claimsOf = ({ settings, claimed_ports }: ServiceRecord): Claim[] => [
  ...settings.ports.flatMap(claimsOfPort),
  ...claimed_ports,
];

const contextOf = (id: string): string => `service:${id}:settings`;

/** Environments and commands hold secrets, and other settings may: all are sealed at rest. */
function toRow({ id, name, version, pending, settings, ...kept }: ServiceRecord, sealer: Sealer): ServiceRow {
  const sealed = sealer.seal(JSON.stringify(settings), contextOf(id));
  return { id, name, version, pending, document: JSON.stringify({ ...kept, sealed }) };
}

const documentSchema = keptSchema.extend({ sealed: z.string() });

/** @throws AppError INTERNAL when the row is not one that `toRow` wrote. */
function parseRow({ id, name, version, pending, document }: ServiceRow, sealer: Sealer): ServiceRecord {
  try {
    const { sealed, ...kept } = documentSchema.parse(JSON.parse(document));
    const settings: unknown = JSON.parse(sealer.open(sealed, contextOf(id)));
    return recordSchema.parse({ ...kept, id, name, version, pending, settings });
  } catch (cause) {
    throw new AppError(
      'INTERNAL',
      `the record of the service ${name} can't be read; delete_service and create it again`,
      { cause },
    );
  }
}

/** In place of a row that can't be read: enough to delete it, and its containers. */
const closedRecord = ({ id, name, version }: ServiceRow): ServiceRecord => ({
  id,
  name,
  version,
  ...nothingLeft,
  owner: 'unknown',
  desired: 'stopped',
  generation: 0,
  last_generation: 0,
  created_at: UNKNOWN_TIME,
  updated_at: UNKNOWN_TIME,
  settings: serviceSettings.parse({ image: 'unknown', networks: [] }),
});
const UNKNOWN_TIME = new Date(0).toISOString();

/** All there are; of those that can't be read it is not known what they need. */
export interface Kept {
  kept: ServiceRecord[];
  unreadable: ServiceRecord[];
}

export type RecordStore = ReturnType<typeof createRecordStore>;

export function createRecordStore(sealer: Sealer) {
  function readable(row: ServiceRow): ServiceRecord | undefined {
    try {
      return parseRow(row, sealer);
    } catch {
      return undefined; // Who asks says what follows from it.
    }
  }
  return {
    async find(db: Reader, name: string): Promise<ServiceRecord | undefined> {
      const row = await db.selectFrom('services').selectAll().where('name', '=', name).executeTakeFirst();
      return row && parseRow(row, sealer);
    },
    /** Also one that can't be read, so that it can be deleted. */
    async findAny(db: Reader, name: string): Promise<ServiceRecord | undefined> {
      const row = await db.selectFrom('services').selectAll().where('name', '=', name).executeTakeFirst();
      return row && (readable(row) ?? closedRecord(row));
    },
    async all(db: Reader): Promise<Kept> {
      const rows = await db.selectFrom('services').selectAll().orderBy('name').execute();
      const read = rows.map((row) => ({ row, record: readable(row) }));
      return {
        kept: read.flatMap(({ record }) => record ?? []),
        unreadable: read.flatMap(({ row, record }) => (record ? [] : [closedRecord(row)])),
      };
    },
    /** Names only: what is to be looked at after a start costs nothing when there is none. */
    async unfinished(db: Reader): Promise<string[]> {
      const query = db.selectFrom('services').select('name').where('pending', 'is not', null);
      return (await query.execute()).map(({ name }) => name);
    },
    /** Of those with guarded ports. */
    async guarded(db: Reader): Promise<string[]> {
      const query = db
        .selectFrom('service_ports')
        .innerJoin('services', 'services.id', 'service_ports.service_id')
        .select('services.name as name')
        .distinct()
        .where('kind', '=', 'guarded');
      return (await query.execute()).map(({ name }) => name);
    },
    async insert(tx: Writer, record: ServiceRecord): Promise<void> {
      await tx.insertInto('services').values(toRow(record, sealer)).execute();
      await writeClaims(tx, record.id, claimsOf(record));
    },
    async put(tx: Writer, record: ServiceRecord): Promise<void> {
      const { id, ...row } = toRow(record, sealer);
      await tx.updateTable('services').set(row).where('id', '=', id).execute();
      await writeClaims(tx, id, claimsOf(record));
    },
    async remove(tx: Writer, { id }: ServiceRecord): Promise<void> {
      await tx.deleteFrom('services').where('id', '=', id).execute();
    },
  };
}
