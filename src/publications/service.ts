/**
 * The rules for publications: a plan first, then each step written down before it is acted on; whatever fails, all of it is
 * undone, at once or by the next start. Each step is what its own operation would do, by the same rules. Called by the
 * operations of this folder, and by the composition root for `resume`.
 */
import { toTimestamp } from '../core/collection.ts';
import { AppError, messageOf, toAppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import { Again, type AgainParts } from './again.ts';
import { type Plan, planOf } from './plan.ts';
import {
  findRecord,
  insertRecord,
  type PublicationRecord,
  putRecord,
  recordOf,
  unfinishedIds,
} from './record.ts';
import type { Publication, PublishInput, Unpublished, UnpublishInput } from './schema.ts';
import { type PublishingParts, type Settled, settle, volumesToGo } from './settle.ts';
import { carryOut, type Work } from './steps.ts';

type Caller = Pick<OperationContext, 'principal' | 'signal' | 'progress' | 'idempotency'>;

/** Of what each step takes by itself, besides that of the operations here. */
const NEEDED: readonly Permission[] = ['proxies:write', 'certificates:write'];

export interface PublicationServiceParts extends PublishingParts {
  /** Whom it is told that something can't be undone. */
  readonly alerts: AgainParts['alerts'];
}

export class PublicationService implements AsyncDisposable {
  readonly #parts: PublishingParts;
  readonly #again: Again;
  /** Ids of those that a call, or the start, is working on. */
  readonly #busy = new Set<string>();

  constructor(parts: PublicationServiceParts) {
    this.#parts = parts;
    this.#again = new Again({
      clock: parts.clock,
      alerts: parts.alerts,
      attempt: (id) => this.#resumeOne(id),
      report: (message, cause) => this.#report(message, cause),
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#again[Symbol.asyncDispose]();
  }

  /** @throws AppError as the step that failed, saying what was undone; CONFLICT for what is there already */
  async publish(input: PublishInput, caller: Caller): Promise<Publication> {
    requirePermissions(caller.principal);
    const { ports } = this.#parts;
    if (!input.dry_run) await this.#settleLeft(input);
    const plan = await planOf(input, caller, ports, await this.#conflictOf(input));
    if (input.dry_run) return this.#told(input, plan);
    if (plan.refusal) throw plan.refusal;
    const record = this.#newRecord(input, plan, caller.principal);
    return this.#working(record.id, async () => {
      await this.#insert(record);
      return this.#carryOut(record, { input, plan, caller });
    });
  }

  /** @throws AppError NOT_FOUND for what was not made by `publish`, PRECONDITION_FAILED while others lead to it */
  async unpublish(input: UnpublishInput, caller: Caller): Promise<Unpublished> {
    requirePermissions(caller.principal);
    const { database } = this.#parts;
    const found = await findRecord(database.read, input.name);
    if (!found) throw await this.#notFound(input.name);
    this.#requireIdle(found);
    const { keep_service, delete_volumes } = input;
    const record: PublicationRecord = { ...found, state: 'unpublishing', keep_service, delete_volumes };
    if (!keep_service) await this.#requireUnused(record);
    const { hostname, service } = record;
    const steps = await this.#effectsOf(record);
    if (input.dry_run) return { unpublished: false, hostname, service, steps };
    return this.#working(record.id, async () => {
      await database.change({}, (tx) => putRecord(tx, record));
      const { left } = await settle(this.#parts, record);
      this.#note(record, left);
      if (left.length > 0)
        throw new AppError(
          'UPSTREAM_FAILED',
          `${hostname} is not served any more, but not all is gone: ${left.join('; ')}. It is tried again by itself, by the next call and by the next start`,
          { details: { left } },
        );
      return { unpublished: true, hostname, service, steps };
    });
  }

  /** Undoes or finishes what the process before did not. Never throws. */
  async resume(): Promise<void> {
    const { database } = this.#parts;
    try {
      for (const id of await unfinishedIds(database.read)) await this.#resumeOne(id);
      this.#again.settledAll();
    } catch (cause) {
      this.#report('publications that were cut off are not looked at', cause);
    }
  }

  /** What is left of it is tried again. Never rejects. */
  async #resumeOne(id: string): Promise<void> {
    if (this.#busy.has(id)) return;
    let hostname = id;
    let left: readonly string[];
    try {
      left = await this.#working(id, async () => {
        const record = await recordOf(this.#parts.database.read, id);
        if (!record || record.state === 'published') return [];
        hostname = record.hostname;
        return (await settle(this.#parts, record)).left;
      });
    } catch (cause) {
      left = [cleanText(messageOf(cause))];
    }
    this.#note({ id, hostname }, left);
    if (left.length > 0) this.#report(`${hostname} is not undone yet`, new Error(left.join('; ')));
  }

  #note({ id, hostname }: Pick<PublicationRecord, 'id' | 'hostname'>, left: readonly string[]): void {
    if (left.length > 0) this.#again.later(id, { hostname, left });
    else this.#again.done(id);
  }

  async #carryOut(
    record: PublicationRecord,
    { input, plan, caller }: { input: PublishInput; plan: Plan; caller: Caller },
  ): Promise<Publication> {
    const { database } = this.#parts;
    let told = 0;
    const tell = (message: string) => caller.progress?.({ progress: ++told, message });
    const work: Work = {
      parts: this.#parts,
      plan,
      input,
      // One count for all that is told; the key of the call is for its last change.
      caller: {
        principal: caller.principal,
        signal: caller.signal,
        progress: ({ message }) => message !== undefined && tell(message),
      },
      tell,
      record,
    };
    try {
      const steps = await carryOut(work);
      const done = { ...this.#told(input, { ...plan, steps }), published: true };
      const result = { ...done, id: record.id, created_at: record.created_at };
      return await database.change(caller, async (tx) => {
        await putRecord(tx, { ...work.record, state: 'published' });
        return result;
      });
    } catch (cause) {
      throw await this.#undone(work.record, cause);
    }
  }

  async #undone(record: PublicationRecord, cause: unknown): Promise<AppError> {
    const { code, message, details } = toAppError(cause);
    const failed = record.steps.at(-1) ?? 'record';
    const { undone, left } = await this.#undo(record);
    this.#note(record, left);
    const after =
      left.length === 0
        ? `undone: ${undone.join(', ') || 'nothing had been made'}`
        : `not undone yet, which is tried again by itself, by the next call and by the next start: ${left.join('; ')}`;
    return new AppError(code, `${failed} failed: ${message}; ${after}`, {
      cause,
      // What is left is told with the words of an engine or a CA.
      ...(left.length > 0 && { isQuoting: true }),
      details: { ...details, failed, undone, left },
    });
  }

  async #undo(record: PublicationRecord): Promise<Settled> {
    const undoing: PublicationRecord = { ...record, state: 'undoing' };
    try {
      await this.#parts.database.change({}, (tx) => putRecord(tx, undoing));
      return await settle(this.#parts, undoing);
    } catch (cause) {
      this.#report(`${record.hostname} could not be undone yet`, cause);
      return { undone: [], left: [cleanText(messageOf(cause))] };
    }
  }

  #newRecord({ hostname }: PublishInput, plan: Plan, { id: owner }: Principal): PublicationRecord {
    const { ports, clock } = this.#parts;
    return {
      id: newId('pub'),
      hostname,
      service: plan.service,
      state: 'publishing',
      owner,
      steps: [],
      service_id: newId('svc'),
      proxy_id: newId('prx'),
      made_volumes: [...plan.newVolumes],
      certificates_before: ports.certificates.of(hostname),
      keep_service: false,
      delete_volumes: false,
      created_at: toTimestamp(clock.now()),
    };
  }

  /** The hostname and the name of the service are taken by it, before anything is made. */
  async #insert(record: PublicationRecord): Promise<void> {
    await this.#parts.database.change({}, async (tx) => {
      for (const name of [record.hostname, record.service]) {
        const other = await findRecord(tx, name);
        if (other) throw conflictWith(other);
      }
      await insertRecord(tx, record);
    });
  }

  async #conflictOf({ hostname, name }: PublishInput): Promise<AppError | undefined> {
    for (const one of [hostname, ...(name === undefined ? [] : [name])]) {
      const other = await findRecord(this.#parts.database.read, one);
      if (other) return conflictWith(other);
    }
    return undefined;
  }

  /** What an earlier call for the same left behind goes first. */
  async #settleLeft({ hostname, name }: PublishInput): Promise<void> {
    for (const one of [hostname, name ?? hostname.split('.')[0] ?? '']) {
      const other = await findRecord(this.#parts.database.read, one);
      if (other && other.state !== 'published') await this.#resumeOne(other.id);
    }
  }

  #requireIdle({ id, hostname }: PublicationRecord): void {
    if (this.#busy.has(id))
      throw new AppError(
        'CONFLICT',
        `${hostname} is being changed by another call; wait for it, or cancel it`,
      );
  }

  async #requireUnused(record: PublicationRecord): Promise<void> {
    const { hostname, service, proxy_id, service_id } = record;
    const { services, proxies } = this.#parts.ports;
    if ((await services.idOf(service)) !== service_id) return;
    const isOurs = (await proxies.idOf(hostname)) === proxy_id;
    const own = isOurs ? [hostname, ...(await proxies.routes(hostname))] : [];
    const others = (await services.users(service)).filter((user) => !own.includes(user));
    const users = others.slice(0, MAX_TOLD);
    if (users.length > 0)
      throw new AppError(
        'PRECONDITION_FAILED',
        `requests of ${users.map((user) => cleanText(user)).join(', ')} go to the service ${service} too; change these first, or pass keep_service: true`,
        { details: { users } },
      );
  }

  async #effectsOf(record: PublicationRecord): Promise<Unpublished['steps']> {
    const { hostname, proxy_id, certificates_before } = record;
    const { proxies, certificates } = this.#parts.ports;
    const found = await proxies.idOf(hostname);
    const isOurs = found === proxy_id;
    const ids = certificates_before.length > 0 ? [] : certificates.of(hostname);
    const isNone = (found !== undefined && !isOurs) || ids.length === 0;
    return [
      {
        step: 'proxy',
        effect: isOurs
          ? `deletes the proxy of ${hostname}, with its routes and protection`
          : `none: that of ${hostname} is gone, or not the one that was made here`,
      },
      {
        step: 'certificate',
        effect: isNone ? 'none was made for it alone' : `deletes ${ids.join(', ')}, without revoking`,
      },
      { step: 'service', effect: await this.#serviceEffectOf(record) },
    ];
  }

  async #serviceEffectOf(record: PublicationRecord): Promise<string> {
    const { service, service_id, keep_service } = record;
    if ((await this.#parts.ports.services.idOf(service)) !== service_id)
      return `none: that of the name ${service} is gone, or not the one that was made here`;
    if (keep_service) return `keeps the service ${service}`;
    const volumes = volumesToGo(record).join(', ');
    return `deletes the service ${service}${volumes === '' ? '' : ` and its volumes ${volumes}`}`;
  }

  async #notFound(name: string): Promise<AppError> {
    const rows = await this.#parts.database.read
      .selectFrom('publications')
      .select('hostname')
      .limit(MAX_TOLD)
      .execute();
    const known = rows.map(({ hostname }) => hostname).join(', ') || 'none';
    return new AppError(
      'NOT_FOUND',
      `${cleanText(name)} was not made by publish_service (those are: ${known}); delete_proxy and delete_service take away what they name`,
    );
  }

  #told(
    { hostname }: PublishInput,
    { service, steps, refusal }: Pick<Plan, 'service' | 'steps' | 'refusal'>,
  ): Publication {
    const url = `https://${hostname}/`;
    return { published: false, possible: refusal === undefined, url, hostname, service, steps };
  }

  async #working<Result>(id: string, work: () => Promise<Result>): Promise<Result> {
    this.#busy.add(id);
    try {
      return await work();
    } finally {
      this.#busy.delete(id);
    }
  }

  #report(message: string, cause: unknown): void {
    const { log, clock } = this.#parts;
    log.write({
      time: clock.now(),
      kind: 'system',
      level: 'warn',
      component: 'services',
      message: `${message}: ${cleanText(messageOf(cause))}`,
    });
  }
}

/** Of the names that a refusal tells. */
const MAX_TOLD = 10;

const conflictWith = ({ hostname, service, state }: PublicationRecord): AppError =>
  new AppError(
    'CONFLICT',
    `${hostname} is ${state === 'published' ? 'published' : `at ${state}`} already, with the service ${service}; unpublish_service takes it back`,
  );

function requirePermissions({ permissions }: Principal): void {
  const missing = NEEDED.filter((permission) => !permissions.has(permission));
  if (missing.length === 0) return;
  throw new AppError('FORBIDDEN', `publishing takes the permissions ${missing.join(', ')} as well`, {
    details: { required: missing[0] },
  });
}
