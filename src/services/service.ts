/**
 * The rules for services: one record for each, which says what is to be there before the engine is asked, so that a crash
 * at any point leaves what the next call or start finishes or undoes. What may run at all is the policy's to say, behind
 * the engine. Changes of one service come one after the other. Called by the operations of this folder, and by the
 * composition root for `resume`.
 */
import type { Clock } from '../core/clock.ts';
import { requireVersion, toTimestamp } from '../core/collection.ts';
import { AppError, messageOf, toAppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Log } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database, Reader } from '../store/database.ts';
import { cleanUp } from './clean-up.ts';
import { createDirectory, type ServiceDirectory } from './directory.ts';
import type { ContainerEngine } from './engine.ts';
import {
  createExternalServices,
  type ExternalServices,
  externalStore,
  requireNotExternal,
} from './external.ts';
import { openGuards, type PortGuards } from './guarded.ts';
import { requireMayAnswer, requireMayLead, requireMayLeadAll } from './leading.ts';
import {
  bringUp,
  containerDetails,
  currentOf,
  type KeeperParts,
  makeContainer,
  missingVolumes,
  roll,
  settle,
} from './keeping.ts';
import { type PortParts, withPorts } from './port-choice.ts';
import { publishedServices } from './published.ts';
import { type Prospect, prospectOf } from './prospect.ts';
import { ensureImage, type PullMode, type Telling, tellingOf } from './pull.ts';
import { requireEngine } from './require-engine.ts';
import { claimsOf, createRecordStore, nothingLeft, recordSchema, type ServiceRecord } from './record.ts';
import {
  type CleanUp,
  type ServiceChanges,
  type ServiceDetails,
  type KeptSettings,
  type PublishedAs,
  type ServiceSettings,
} from './schema.ts';
import { createSecretKeeper, type SecretKeeper } from './secrets.ts';
import { detailsOf } from './shown.ts';
import { answeringOf, nextImage } from './sharing.ts';
import { type Naming, volumesOf } from './spec.ts';
import { placesOf, requireNoneLed, targeting } from './targets.ts';
import { changedSettings } from './changed-settings.ts';
import { createTurns } from './turns.ts';

const MAX_SERVICES = 5000;

export interface ServiceOptions {
  database: Database;
  sealer: Sealer;
  engine: ContainerEngine;
  naming: Naming;
  ports: PortParts;
  /** Opens what not everybody may reach. */
  guards: PortGuards;
  clock: Clock;
  log: Log;
  /** Why the URL of an external service may not be a target. */
  urlFault: (url: string) => string | undefined;
  /** For who follows where a service is: it was changed, whatever came of that. Never rejects. */
  changed?: ((name: string) => Promise<void>) | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency' | 'signal' | 'progress'>;
export interface Starting {
  pull: PullMode;
  healthy_within_ms: number;
}

export interface Deletion {
  version?: number | undefined;
  force: boolean;
  /** All that it has, or those of these names; never one that another service has. */
  deleteVolumes: boolean | readonly string[];
  /** Only the service of this id: there may be another one of its name by now. */
  id?: string | undefined;
}

export interface ServiceKeeper extends ServiceDirectory {
  readonly engine: ContainerEngine;
  readonly clock: Clock;
  readonly external: ExternalServices;
  readonly secrets: SecretKeeper;
  get(name: string, caller: Pick<Caller, 'principal'>): Promise<ServiceDetails>;
  publishedAs(name: string): Promise<PublishedAs | undefined>;
  /** What `create` would find and do. @throws AppError UNAVAILABLE without an engine. */
  prospect(name: string, settings: ServiceSettings): Promise<Prospect>;
  /** As `create` fetches it first. */
  fetchImage(image: string, mode: PullMode, caller: Pick<Caller, 'progress' | 'signal'>): Promise<void>;
  create(
    wanted: Starting & { name: string; start: boolean; settings: ServiceSettings; id?: string | undefined },
    caller: Caller,
  ): Promise<ServiceDetails>;
  start(name: string, caller: Caller): Promise<ServiceDetails>;
  stop(name: string, caller: Caller): Promise<ServiceDetails>;
  restart(name: string, caller: Caller): Promise<ServiceDetails>;
  update(
    name: string,
    change: Starting & { changes: ServiceChanges; version: number | undefined },
    caller: Caller,
  ): Promise<ServiceDetails>;
  /** Hostnames of proxies and ids of routes that lead to it. */
  users(name: string): Promise<string[]>;
  /** Whether a proxy or a route names it, whatever it is, or was. */
  isLedTo(name: string): Promise<boolean>;
  delete(name: string, how: Deletion, caller: Pick<Caller, 'principal'>): Promise<{ name: string }>;
  cleanUp(how: { plan: string | undefined; volumes: boolean }): Promise<CleanUp>;
  /** The container of a service, for who looks at it only. */
  containerOf(name: string): Promise<string>;
  /**
   * Finishes or undoes what the process before did not, and opens the guarded ports of what runs. Asks no engine where
   * nothing is unfinished; never throws.
   */
  resume(): Promise<void>;
}

type Parts = KeeperParts & Pick<ServiceOptions, 'changed' | 'ports'>;
type Check = (tx: Reader) => Promise<void>;
type Mark = Partial<Omit<ServiceRecord, 'id' | 'name' | 'owner'>>;

export function createServiceKeeper(options: ServiceOptions): ServiceKeeper {
  const parts: Parts = { ...options, records: createRecordStore(options.sealer) };
  const inTurn = createTurns(options.changed);
  /** As the record is once nothing is unfinished. */
  const changing = <Result>(name: string, work: (record: ServiceRecord) => Promise<Result>) =>
    inTurn(name, async () => {
      const found = await recordOf(parts, name);
      await requireEngine(parts);
      const record = await settle(parts, found);
      if (!record) throw noService(name);
      return work(record);
    });
  return {
    engine: parts.engine,
    clock: parts.clock,
    external: createExternalServices(options),
    secrets: createSecretKeeper(parts),
    ...createDirectory({ ...parts, external: externalStore, published: publishedServices }),
    publishedAs: async (name) => (await publishedServices(parts.database.read)).get(name),
    get: async (name, { principal }) => shown(parts, await recordOf(parts, name), principal),
    async prospect(name, settings) {
      requireSense(settings);
      await requireEngine(parts);
      return prospectOf(parts, name, settings);
    },
    fetchImage: (image, mode, caller) =>
      ensureImage(parts.engine, image, { mode, telling: tellingOf(caller) }),
    create: (wanted, caller) => inTurn(wanted.name, () => create(parts, wanted, caller)),
    start: (name, caller) => changing(name, (record) => run(parts, record, 'start', caller)),
    restart: (name, caller) => changing(name, (record) => run(parts, record, 'restart', caller)),
    stop: (name, caller) => changing(name, (record) => stop(parts, record, caller)),
    update: (name, change, caller) =>
      changing(name, async (record) => {
        requireVersion(name, change.version, record.version);
        return update(parts, record, change, caller);
      }),
    users: async (name) => usersOf(parts, await recordOf(parts, name)),
    isLedTo: async (name) => (await targeting(parts.database.read, name, [])).length > 0,
    delete: (name, how, caller) => inTurn(name, () => remove(parts, name, how, caller)),
    cleanUp: (how) => cleanUp({ ...parts, isBusy: (name) => inTurn.isBusy(name) }, how),
    async containerOf(name) {
      const container = await currentOf(parts, await recordOf(parts, name));
      if (container) return container.id;
      throw new AppError('CONFLICT', `the service ${name} has no container; start_service makes one`);
    },
    async resume() {
      for (const name of await parts.records.unfinished(parts.database.read))
        await inTurn(name, () => finish(parts, name)).catch((cause: unknown) =>
          report(
            parts,
            `service ${name} was cut off in a change, which is finished when it is called next`,
            cause,
          ),
        );
      for (const name of await parts.records.guarded(parts.database.read))
        await inTurn(name, () => openAgain(parts, name)).catch((cause: unknown) =>
          report(parts, `the guarded ports of service ${name} stay closed until it is started again`, cause),
        );
    },
  };
}

const noService = (name: string): AppError =>
  new AppError('NOT_FOUND', `there is no service ${name} that was made here; list_services names them`);

async function recordOf({ records, database }: Parts, name: string): Promise<ServiceRecord> {
  const record = await records.find(database.read, name);
  if (record) return record;
  if (await externalStore.find(database.read, name))
    throw new AppError(
      'INVALID_INPUT',
      `the service ${name} is external, a URL: there is nothing here to start, stop or look into; update_external_service leads it elsewhere`,
    );
  throw noService(name);
}

async function shown(
  parts: Parts,
  record: ServiceRecord,
  principal: Caller['principal'],
): Promise<ServiceDetails> {
  return detailsOf(record, await containerDetails(parts, record), principal);
}

/**
 * Writes the record down; `settings`, `version` and times as given.
 * @param check of who leads where: a proxy that is made in this moment comes before or after
 */
async function mark(
  parts: Parts,
  record: ServiceRecord,
  change: Mark,
  check?: Check,
): Promise<ServiceRecord> {
  const next = { ...record, ...change };
  await parts.database.change({}, async (tx) => {
    await check?.(tx);
    await parts.records.put(tx, next);
  });
  return next;
}

async function create(
  parts: Parts,
  wanted: Parameters<ServiceKeeper['create']>[0],
  caller: Caller,
): Promise<ServiceDetails> {
  const { name, settings, pull } = wanted;
  const { engine, records, database, ports } = parts;
  requireSense(settings);
  const earlier = await records.find(database.read, name);
  if (earlier && earlier.pending !== 'create' && earlier.pending !== 'delete')
    throw new AppError('CONFLICT', `there is a service ${name} already, ${earlier.id}; use update_service`);
  await requireNotExternal(database.read, name);
  await requireEngine(parts);
  if (earlier) await settle(parts, earlier);
  const telling = tellingOf(caller);
  await ensureImage(engine, settings.image, { mode: pull, telling });
  return withPorts({ ports, db: database.read, before: [] }, settings, (numbered) =>
    makeService(parts, { ...wanted, settings: numbered }, caller, telling),
  );
}

async function makeService(
  parts: Parts,
  wanted: Parameters<ServiceKeeper['create']>[0],
  caller: Caller,
  telling: Telling,
): Promise<ServiceDetails> {
  const { name, settings, start } = wanted;
  const { records, database } = parts;
  const now = toTimestamp(parts.clock.now());
  const record: ServiceRecord = {
    id: wanted.id ?? newId('svc'),
    name,
    owner: caller.principal.id,
    version: 1,
    pending: 'create',
    desired: start ? 'running' : 'stopped',
    generation: 1,
    last_generation: 1,
    doomed_volumes: await missingVolumes(parts, volumesOf(settings)),
    claimed_networks: [],
    claimed_ports: [],
    created_at: now,
    updated_at: now,
    settings,
  };
  await insert(parts, record, caller);
  try {
    await bringUp(parts, record, wanted, telling);
    const made = { ...record, ...nothingLeft };
    const result = await shown(parts, made, caller.principal);
    return await database.change(caller, async (tx) => {
      await records.put(tx, made);
      return result;
    });
  } catch (cause) {
    throw await undone(parts, record, cause, 'nothing of it is left');
  }
}

async function insert(parts: Parts, record: ServiceRecord, { principal }: Caller): Promise<void> {
  const { database, records } = parts;
  const answering = await answeringOf(parts, record, record.settings);
  await database.change({}, async (tx) => {
    await requireNotExternal(tx, record.name);
    await requireMayLeadAll(tx, answering, principal);
    const { count } = await tx
      .selectFrom('services')
      .select((query) => query.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    if (Number(count) >= MAX_SERVICES)
      throw new AppError('PRECONDITION_FAILED', `there are ${MAX_SERVICES} services, which is the limit`);
    await records.insert(tx, record);
  });
}

/** Undoes it at once; where that fails too, the record says so, and the next call or start does it. */
async function undone(parts: Parts, record: ServiceRecord, cause: unknown, then: string): Promise<AppError> {
  const { code, message, details } = toAppError(cause);
  const withCause = { cause, ...(details && { details: { ...details } }) };
  try {
    await settle(parts, record);
    return new AppError(code, `${message}; ${then}`, withCause);
  } catch (second) {
    report(parts, `a change of service ${record.name} failed and could not be undone yet`, second);
    return new AppError(code, `${message}; what it left is undone by the next call or start`, { cause });
  }
}

function requireSense({ ports, networks }: ServiceSettings): void {
  if (ports.length > 0 && networks.length === 0)
    throw new AppError('INVALID_INPUT', 'ports: a service without networks can publish none; name a network');
}

async function run(
  parts: Parts,
  record: ServiceRecord,
  verb: 'start' | 'restart',
  { principal }: Caller,
): Promise<ServiceDetails> {
  const { engine } = parts;
  const { settings } = record;
  const current = await currentOf(parts, record);
  const answering = current ? undefined : await answeringOf(parts, record, settings);
  const started = await mark(parts, record, { desired: 'running', pending: 'apply' }, async (tx) => {
    // What is made anew takes the secrets of today, and the image that its tag is today.
    if (answering) await requireMayLeadAll(tx, answering, principal);
  });
  try {
    if (current && verb === 'restart') {
      await engine.restart(current.id, { timeoutMs: settings.stop_timeout_ms });
    } else await engine.start(current?.id ?? (await makeContainer(parts, started)));
    await openGuards(parts.guards, started);
  } catch (cause) {
    // It is as it was, as far as that can be told; what could not be started is not tried again behind anybody's back.
    if (record.desired === 'running') await mark(parts, record, nothingLeft);
    else throw await undone(parts, await mark(parts, record, { pending: 'apply' }), cause, 'it is stopped');
    throw cause;
  }
  return shown(parts, await mark(parts, started, nothingLeft), principal);
}

async function stop(parts: Parts, record: ServiceRecord, { principal }: Caller): Promise<ServiceDetails> {
  const stopped = await mark(parts, record, { desired: 'stopped', pending: 'apply' });
  try {
    const current = await currentOf(parts, stopped);
    if (current) await parts.engine.stop(current.id, { timeoutMs: record.settings.stop_timeout_ms });
    parts.guards.close(record.id);
  } catch (cause) {
    await mark(parts, record, nothingLeft);
    throw cause;
  }
  return shown(parts, await mark(parts, stopped, nothingLeft), principal);
}

async function update(
  parts: Parts,
  record: ServiceRecord,
  change: Parameters<ServiceKeeper['update']>[1],
  caller: Caller,
): Promise<ServiceDetails> {
  const settings = changedSettings(record.settings, change.changes);
  requireSense(settings);
  const telling = tellingOf(caller);
  const { ports, engine, database } = parts;
  await ensureImage(engine, settings.image, { mode: change.pull, telling });
  const done = await withPorts(
    { ports, db: database.read, before: record.settings.ports },
    settings,
    (settings) => replace(parts, record, { ...change, ...caller, settings }, telling),
  );
  const settled = await settle(parts, done).catch((cause: unknown) => {
    report(parts, `service ${record.name} is updated, but its old container is still there`, cause);
    return done;
  });
  return shown(parts, settled ?? done, caller.principal);
}

type Replacement = Starting & Pick<Caller, 'principal'> & { settings: KeptSettings };

/** The new container is up and written down; the old one is still there, stopped. */
async function replace(
  parts: Parts,
  record: ServiceRecord,
  { settings, healthy_within_ms, pull, principal }: Replacement,
  telling: Telling,
): Promise<ServiceRecord> {
  const answering = await answeringOf(parts, record, settings);
  const image = await nextImage(parts, record, { image: settings.image, pull });
  const generation = Math.max(record.generation, record.last_generation) + 1;
  const next = recordSchema.parse({
    ...record,
    settings,
    generation,
    last_generation: generation,
    version: record.version + 1,
    updated_at: toTimestamp(parts.clock.now()),
  });
  const marked: Mark = {
    pending: 'apply',
    last_generation: generation,
    doomed_volumes: await missingVolumes(parts, volumesOf(settings)),
    claimed_networks: settings.networks,
    claimed_ports: claimsOf(next),
  };
  const before = await mark(parts, record, marked, (tx) =>
    requireMayAnswer(tx, { ...answering, record, settings, isImageAnother: image.isAnother }, principal),
  );
  try {
    const starting = { healthy_within_ms, start: record.desired === 'running', imageId: image.id };
    if (!(await roll(parts, next, starting, telling))) {
      // Two can't have the same port, and few programs share their files.
      const old = await currentOf(parts, before);
      if (old) await parts.engine.stop(old.id, { timeoutMs: record.settings.stop_timeout_ms });
      // The engine may have to listen where this process does.
      parts.guards.close(record.id);
      await bringUp(parts, next, starting, telling);
    }
    const done = await mark(parts, next, { ...nothingLeft, pending: 'apply' });
    // Not only when the old one is cleared away.
    await parts.changed?.(record.name);
    return done;
  } catch (cause) {
    throw await undone(parts, before, cause, `version ${record.version} is back as it was`);
  }
}

async function remove(
  parts: Parts,
  name: string,
  { version, force, deleteVolumes, id }: Deletion,
  { principal }: Pick<Caller, 'principal'>,
): Promise<{ name: string }> {
  const record = await parts.records.findAny(parts.database.read, name);
  if (!record || (id !== undefined && id !== record.id)) throw noService(name);
  const { settings } = record;
  requireVersion(name, version, record.version);
  await requireEngine(parts);
  const places = placesOf(settings, await containerDetails(parts, record));
  const doomed_volumes = [...record.doomed_volumes, ...doomedOf(settings, deleteVolumes)];
  const doomed = await mark(parts, record, { pending: 'delete', doomed_volumes }, (tx) =>
    force ? requireMayLead(tx, name, principal, places) : requireNoneLed(tx, name, places),
  );
  await settle(parts, doomed);
  return { name };
}

const doomedOf = (settings: ServiceSettings, which: Deletion['deleteVolumes']): readonly string[] => {
  if (which === true) return volumesOf(settings);
  return which === false ? [] : which;
};

/** Proxies and routes that lead to it. */
async function usersOf(parts: Parts, record: ServiceRecord): Promise<string[]> {
  const places = placesOf(record.settings, await containerDetails(parts, record));
  return targeting(parts.database.read, record.name, places);
}

async function finish(parts: Parts, name: string): Promise<void> {
  const record = await parts.records.find(parts.database.read, name);
  if (record && record.pending !== null) await settle(parts, record);
}

async function openAgain(parts: Parts, name: string): Promise<void> {
  const record = await parts.records.find(parts.database.read, name);
  if (record?.pending === null && record.desired === 'running') await openGuards(parts.guards, record);
}

function report({ log, clock }: Parts, message: string, cause: unknown): void {
  log.write({
    time: clock.now(),
    kind: 'system',
    level: 'warn',
    component: 'services',
    message: `${message}: ${cleanText(messageOf(cause))}`,
  });
}
