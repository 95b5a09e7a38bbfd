/**
 * The rules for proxies: one per hostname, never the control plane's own, never to a forbidden target. Each change is
 * compiled by the gateway before it is written and served after it. It does not forward (that is the gateway's), nor
 * decide who may call (that is `dispatch`), but it keeps confined principals to their hostnames. Called by the
 * operations of this folder, and by the composition root for `load`.
 */
import type { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import {
  changesIn,
  decodeCursor,
  encodeCursor,
  pageOf,
  requireVersion,
  takeOneMore,
  toTimestamp,
} from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import { parseHostname } from '../core/hostname.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import { mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import { inPortions, readRow } from '../core/rows.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Publisher, RoutingChange } from '../routes/schema.ts';
import type { Database, Reader } from '../store/database.ts';
import type { AuthPolicy } from './auth-policy.ts';
import { requireChoice } from './certificate-choice.ts';
import { targetsFault, targetsOf, type TargetState } from './load-balancing.ts';
import type { ClientAuth, ClientAuthFacts, ClientTrust } from './client-auth.ts';
import { closedProxy, type ProxyRow, parseRow, toRow } from './row.ts';
import {
  listedProxySchema,
  type Proxy,
  type ProxyChanges,
  type ProxySettings,
  proxySchema,
} from './schema.ts';
import { leadingTo, requireMayName, requireServices, type TargetServices } from './service-targets.ts';
import { type OwnAddress, targetFault } from './target-policy.ts';

const MAX_PROXIES = 100_000;

export interface ProxyServiceOptions {
  database: Database;
  sealer: Sealer;
  publisher: Publisher;
  events: Events;
  clock: Clock;
  log: Log;
  /** Where this process listens: never a target. */
  own: () => readonly OwnAddress[];
  controlHosts: readonly string[];
  /** Names of the CAs that are set up. */
  issuers: readonly string[];
  clientTrust: ClientTrustReader;
  /** By the id of the proxy. */
  targetStates: (proxyId: string) => TargetState[] | undefined;
  services: TargetServices;
}

/** Reads certificates, which is not known here. `now`: milliseconds since 1970. */
export interface ClientTrustReader {
  /** @throws AppError INVALID_INPUT when nobody could be checked by it. */
  require(trust: ClientTrust, now: number): void;
  describe(trust: ClientTrust, now: number): ClientAuthFacts;
}

export interface ListQuery {
  limit?: number | undefined;
  cursor?: string | undefined;
  filter?: string | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

/** There may be another one of its hostname by now. */
interface Only {
  readonly id?: string;
  readonly withoutRoutes?: boolean;
}

export class ProxyService {
  readonly #options: ProxyServiceOptions;
  readonly #controlHosts: ReadonlySet<string>;

  constructor(options: ProxyServiceOptions) {
    this.#options = options;
    this.#controlHosts = new Set(options.controlHosts.map((host) => parseHostname(host) ?? host));
  }

  /** Every proxy, for the start. One that can't be read is reported and holds its hostname without serving it. */
  async load(): Promise<Proxy[]> {
    const rows = await this.#options.database.read.selectFrom('proxies').selectAll().execute();
    return rows.map((row) => this.#parsed(row) ?? closedProxy(row));
  }

  /** By hostname. */
  async list(query: ListQuery, { principal }: Pick<Caller, 'principal'>) {
    const [after] = query.cursor === undefined ? [''] : decodeCursor('proxies', ['string'], query.cursor);
    const visible = this.#visible(after, query.filter?.toLowerCase() ?? '', principal);
    const found = await takeOneMore(visible, query.limit);
    const cursorOf = ({ hostname }: Proxy) => encodeCursor('proxies', [hostname]);
    const { items, ...more } = pageOf(found, query.limit, cursorOf, (proxy) => ({
      ...listedProxySchema.parse(proxy),
      ...this.leadingTo(proxy, principal),
    }));
    return { proxies: items.map((proxy) => ({ ...proxy, ...this.leadingTo(proxy, principal) })), ...more };
  }

  async get(hostname: string, { principal }: Pick<Caller, 'principal'>): Promise<Proxy> {
    return this.#readable(await this.#find(this.#options.database.read, hostname, principal));
  }

  /** How the targets stand that requests are spread over; undefined: there is one. */
  targetStates({ id }: Proxy): TargetState[] | undefined {
    return this.#options.targetStates(id);
  }

  /** Where the services are that its targets name, for who may know. */
  leadingTo(proxy: Proxy, principal: Principal): Pick<z.output<typeof listedProxySchema>, 'leads_to'> {
    return leadingTo(principal, urlsOf(proxy), this.#options.services);
  }

  /** What clients' certificates are checked by; undefined where none is asked for. */
  clientAuthFacts({ client_auth }: Proxy): ClientAuthFacts | undefined {
    return client_auth.mode === 'off'
      ? undefined
      : this.#options.clientTrust.describe(client_auth, this.#options.clock.now());
  }

  /** @throws AppError what `create` would say now, whatever the target */
  async check(
    wanted: Omit<ProxySettings, 'target_url'> & { hostname: string },
    { principal }: Pick<Caller, 'principal'>,
  ): Promise<void> {
    this.#requireSense(wanted, principal);
    await this.#requireFree(this.#options.database.read, wanted.hostname);
  }

  /** `id`: known before to who has to find it again. */
  async create(
    { hostname, ...settings }: ProxySettings & { hostname: string },
    context: Caller,
    id: string = newId('prx'),
  ): Promise<Proxy> {
    this.#requireSense({ ...settings, hostname }, context.principal);
    this.#requireTargets(settings);
    requireMayName(context.principal, urlsOf(settings));
    await requireServices(context.principal, urlsOf(settings), this.#options.services);
    return this.#options.database.change(context, async (tx, afterCommit) => {
      await this.#requireFree(tx, hostname);
      const now = toTimestamp(this.#options.clock.now());
      const proxy: Proxy = {
        ...settings,
        id,
        hostname,
        owner: context.principal.id,
        version: 1,
        created_at: now,
        updated_at: now,
      };
      const publish = this.#prepare({ putProxies: [proxy] }, hostname);
      await tx.insertInto('proxies').values(toRow(proxy, this.#options.sealer)).execute();
      afterCommit(publish);
      return proxy;
    });
  }

  async update(
    hostname: string,
    changes: ProxyChanges,
    version: number | undefined,
    context: Caller,
  ): Promise<Proxy> {
    const { target_url, load_balancing } = changes;
    const named = [target_url ?? [], (load_balancing?.targets ?? []).map(({ url }) => url)].flat();
    await requireServices(context.principal, named, this.#options.services);
    return this.#change(hostname, version, context, () => {
      if (changes.certificate) requireChoice(changes.certificate, { hostname, known: this.#options.issuers });
      if (changes.client_auth !== undefined) this.#requireClientAuth(changes.client_auth);
      return changesIn('update_proxy', changes);
    });
  }

  /** Any policy, also those that `update` does not take. */
  setPolicy(
    hostname: string,
    auth: AuthPolicy,
    version: number | undefined,
    context: Caller,
  ): Promise<Proxy> {
    return this.#change(hostname, version, context, () => ({ auth }));
  }

  #change(
    hostname: string,
    version: number | undefined,
    context: Caller,
    changesTo: () => Readonly<Record<string, unknown>>,
  ): Promise<Proxy> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const current = this.#readable(await this.#find(tx, hostname, context.principal));
      requireVersion(hostname, version, current.version);
      const changes = changesTo();
      const proxy = proxySchema.parse({
        ...current,
        ...changes,
        version: current.version + 1,
        updated_at: toTimestamp(this.#options.clock.now()),
      });
      requireScheme(proxy);
      if ('target_url' in changes || 'load_balancing' in changes) {
        this.#requireTargets(proxy);
        requireMayName(context.principal, urlsOf(proxy), urlsOf(current));
      }
      const publish = this.#prepare({ putProxies: [proxy] }, hostname);
      const { id, ...row } = toRow(proxy, this.#options.sealer);
      await tx.updateTable('proxies').set(row).where('id', '=', id).execute();
      afterCommit(publish);
      return proxy;
    });
  }

  /**
   * With its routes. Also one that can't be read, so that it can be made anew.
   * @throws AppError PRECONDITION_FAILED where it has routes, and `only` says that it may have none
   */
  async delete(
    hostname: string,
    version: number | undefined,
    context: Caller,
    only: Only = {},
  ): Promise<{ hostname: string; deleted_routes: number }> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const row = await this.#find(tx, hostname, context.principal);
      if (only.id !== undefined && only.id !== row.id) throw noProxy(hostname);
      requireVersion(hostname, version, row.version);
      const routes = await tx.selectFrom('routes').select('id').where('hostname', '=', hostname).execute();
      if (only.withoutRoutes && routes.length > 0)
        throw new AppError('PRECONDITION_FAILED', `${hostname} has routes, which would go with it`);
      const removeRoutes = routes.map(({ id }) => id);
      const publish = this.#prepare({ removeProxies: [row.id], removeRoutes }, hostname);
      await tx.deleteFrom('routes').where('hostname', '=', hostname).execute();
      await tx.deleteFrom('proxies').where('id', '=', row.id).execute();
      afterCommit(publish);
      return { hostname, deleted_routes: removeRoutes.length };
    });
  }

  /** Refuses what can't be served before anything is written; what it returns serves it and tells the others. */
  #prepare(change: RoutingChange, hostname: string): () => void {
    const candidate = this.#options.publisher.prepare(change);
    return () => {
      candidate.publish();
      this.#options.events.emit('proxy.changed', { hostnames: [hostname] });
    };
  }

  async *#visible(after: string, filter: string, principal: Principal): AsyncGenerator<Proxy> {
    const inDocument = JSON.stringify(filter).slice(1, -1);
    for await (const row of this.#rowsAfter(after)) {
      if (!mayTouch(principal, row.hostname)) continue;
      // Cheap first: most rows of a filtered list are never parsed.
      if (!row.hostname.includes(filter) && !row.document.toLowerCase().includes(inDocument)) continue;
      const proxy = this.#parsed(row);
      if (proxy && isFoundBy(filter, proxy)) yield proxy;
    }
  }

  #rowsAfter(hostname: string): AsyncGenerator<ProxyRow> {
    const query = this.#options.database.read.selectFrom('proxies').selectAll().orderBy('hostname');
    return inPortions(
      hostname,
      (row: ProxyRow) => row.hostname,
      (after, limit) => query.where('hostname', '>', after).limit(limit).execute(),
    );
  }

  /** What a principal may not touch does not exist for it. */
  async #find(db: Reader, hostname: string, principal: Principal): Promise<ProxyRow> {
    const row = mayTouch(principal, hostname)
      ? await db.selectFrom('proxies').selectAll().where('hostname', '=', hostname).executeTakeFirst()
      : undefined;
    if (row) return row;
    throw noProxy(hostname);
  }

  async #requireFree(tx: Reader, hostname: string): Promise<void> {
    const taken = await tx
      .selectFrom('proxies')
      .select('id')
      .where('hostname', '=', hostname)
      .executeTakeFirst();
    if (taken)
      throw new AppError('CONFLICT', `${hostname} is served already, by ${taken.id}; use update_proxy`, {
        details: { id: taken.id },
      });
    const { count } = await tx
      .selectFrom('proxies')
      .select((query) => query.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    if (Number(count) >= MAX_PROXIES)
      throw new AppError('PRECONDITION_FAILED', `there are ${MAX_PROXIES} proxies, which is the limit`);
  }

  #requireSense(
    { hostname, ...settings }: Omit<ProxySettings, 'target_url'> & { hostname: string },
    principal: Principal,
  ): void {
    requireHostname(principal, hostname);
    this.#requireServable(hostname);
    this.#requireClientAuth(settings.client_auth);
    requireScheme(settings);
    requireChoice(settings.certificate, { hostname, known: this.#options.issuers });
  }

  #requireServable(hostname: string): void {
    if (this.#controlHosts.has(hostname))
      throw new AppError(
        'INVALID_INPUT',
        `hostname: ${hostname} is this system's control host; choose another`,
      );
  }

  #requireTargets(proxy: Pick<Proxy, 'target_url' | 'load_balancing'>): void {
    this.#requireTarget('target_url', proxy.target_url);
    for (const { url } of proxy.load_balancing?.targets ?? [])
      this.#requireTarget(`load_balancing: targets: ${url}`, url);
    const fault = targetsFault(proxy);
    if (fault) throw new AppError('INVALID_INPUT', `load_balancing: ${fault}`);
  }

  #requireTarget(what: string, url: string): void {
    const fault = targetFault(url, this.#options.own());
    if (fault) throw new AppError('INVALID_INPUT', `${what}: may not be a target: ${fault}`);
  }

  #requireClientAuth(auth: ClientAuth): void {
    if (auth.mode !== 'off') this.#options.clientTrust.require(auth, this.#options.clock.now());
  }

  #readable(row: ProxyRow): Proxy {
    const proxy = this.#parsed(row);
    if (proxy) return proxy;
    throw new AppError(
      'INTERNAL',
      `the record of ${row.hostname} can't be read, so it is not served; delete_proxy and create it again`,
    );
  }

  #parsed(row: ProxyRow): Proxy | undefined {
    const { hostname } = row;
    const message = `proxy ${row.id} can't be read and is not served`;
    return readRow(() => parseRow(row, this.#options.sealer), this.#options, { message, hostname });
  }
}

const noProxy = (hostname: string): AppError =>
  new AppError('NOT_FOUND', `there is no proxy for ${hostname}; list_proxies names them`);

const urlsOf = (proxy: Parameters<typeof targetsOf>[0]): string[] => targetsOf(proxy).map(({ url }) => url);

const isFoundBy = (filter: string, proxy: Proxy): boolean =>
  proxy.hostname.includes(filter) || targetsOf(proxy).some(({ url }) => url.toLowerCase().includes(filter));

function requireScheme({
  enable_http,
  enable_https,
  client_auth,
}: Pick<Proxy, 'enable_http' | 'enable_https' | 'client_auth'>): void {
  if (!enable_https && client_auth.mode !== 'off')
    throw new AppError(
      'INVALID_INPUT',
      'client_auth needs enable_https: true, because clients show certificates over HTTPS only',
    );
  if (enable_http || enable_https) return;
  throw new AppError(
    'INVALID_INPUT',
    'enable_http and enable_https are both false, so that it would answer nobody; to stop serving it, set enabled: false',
  );
}
