/**
 * The rules for routes: each belongs to a proxy that exists, or to all (global; not for confined principals). Each
 * change is compiled by the gateway before it is written and served after it. It does not match requests while
 * serving (the gateway does, with `match.ts`), nor decide who may call (that is `dispatch`). Called by the operations
 * of this folder, and by the composition root for `load`.
 */
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
import { isConfined, mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import { inPortions, readRow } from '../core/rows.ts';
import type { Database, Reader } from '../store/database.ts';
import type { AuthPolicy } from '../proxies/auth-policy.ts';
import type { TargetState } from '../proxies/load-balancing.ts';
import {
  leadingTo,
  requireMayName,
  requireServices,
  type TargetServices,
} from '../proxies/service-targets.ts';
import type { Ports } from './decide.ts';
import type { RoutingTable } from './match.ts';
import { requireMayDecide } from './policy.ts';
import { closedRoute, parseRow, type RouteRow, toRow } from './row.ts';
import {
  type Publisher,
  type Route,
  type RouteChanges,
  type RouteSettings,
  type RouteTest,
  type RoutingChange,
  routeSchema,
} from './schema.ts';
import { testRequest } from './test-request.ts';

/** A request is compared with the routes of its proxy and the global ones, one after the other. */
const MAX_ROUTES_PER_PROXY = 500;
const MAX_GLOBAL_ROUTES = 100;

export interface RouteServiceOptions {
  database: Database;
  publisher: Publisher;
  events: Events;
  clock: Clock;
  log: Log;
  /** `proxies/target-policy`, with the addresses of this process filled in. */
  targetFault: (url: string) => string | undefined;
  /** The table that serves at this moment. */
  table: () => RoutingTable;
  controlHosts: readonly string[];
  /** Setting `mcp.hosts`, canonical. */
  mcpHosts: readonly string[];
  /** Where this process listens: what a redirect to HTTPS names. */
  ports: () => Ports;
  /** By the id of the proxy. */
  targetStates: (proxyId: string) => TargetState[] | undefined;
  services: TargetServices;
}

export interface RouteQuery {
  limit?: number | undefined;
  cursor?: string | undefined;
  hostname?: string | undefined;
}

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;

export class RouteService {
  readonly #options: RouteServiceOptions;
  readonly #controlHosts: ReadonlySet<string>;

  constructor(options: RouteServiceOptions) {
    this.#options = options;
    this.#controlHosts = new Set(options.controlHosts.map((host) => parseHostname(host) ?? host));
  }

  /** Every route, for the start. One that can't be read is reported, and closes the paths it was for. */
  async load(): Promise<Route[]> {
    const rows = await this.#options.database.read.selectFrom('routes').selectAll().execute();
    return rows.map((row) => this.#parsed(row) ?? closedRoute(row));
  }

  /** By id. Global ones are seen by principals that are not confined. */
  async list(query: RouteQuery, { principal }: Pick<Caller, 'principal'>) {
    const [after] = query.cursor === undefined ? [''] : decodeCursor('routes', ['string'], query.cursor);
    const found = await takeOneMore(this.#visible(after, query.hostname, principal), query.limit);
    const { items, ...more } = pageOf(found, query.limit, (last) => encodeCursor('routes', [last.id]));
    const routes = items.map((route) => ({
      ...route,
      ...leadingTo(principal, [route.target_url], this.#options.services),
    }));
    return { routes, ...more };
  }

  async create(
    { hostname, ...settings }: RouteSettings & { hostname: string | null },
    context: Caller,
  ): Promise<Route> {
    requireScope(context.principal, hostname);
    this.#requireTarget(settings.target_url);
    requireMayName(context.principal, [settings.target_url]);
    await requireServices(context.principal, [settings.target_url], this.#options.services);
    return this.#options.database.change(context, async (tx, afterCommit) => {
      await requireProxy(tx, hostname);
      await requireRoom(tx, hostname);
      const now = toTimestamp(this.#options.clock.now());
      const route: Route = {
        ...settings,
        id: newId('rte'),
        hostname,
        owner: context.principal.id,
        version: 1,
        created_at: now,
        updated_at: now,
      };
      await requireMayDecide(tx, route, context.principal);
      const publish = this.#prepare({ putRoutes: [route] }, hostname);
      await tx.insertInto('routes').values(toRow(route)).execute();
      afterCommit(publish);
      return route;
    });
  }

  async update(
    id: string,
    changes: RouteChanges,
    version: number | undefined,
    context: Caller,
  ): Promise<Route> {
    const { target_url } = changes;
    if (target_url !== undefined)
      await requireServices(context.principal, [target_url], this.#options.services);
    return this.#change(id, version, context, () => {
      if (target_url !== undefined) this.#requireTarget(target_url);
      return changesIn('update_route', changes);
    });
  }

  async get(id: string, { principal }: Pick<Caller, 'principal'>): Promise<Route> {
    return this.#readable(await find(this.#options.database.read, id, principal));
  }

  /** All of one proxy. */
  async ofHostname(hostname: string, { principal }: Pick<Caller, 'principal'>): Promise<Route[]> {
    const routes: Route[] = [];
    for await (const route of this.#visible('', hostname, principal)) routes.push(route);
    return routes;
  }

  /** Any policy, also those that `update` does not take; undefined: the proxy's. */
  setPolicy(
    id: string,
    auth: AuthPolicy | undefined,
    version: number | undefined,
    context: Caller,
  ): Promise<Route> {
    return this.#change(id, version, context, () => ({ auth }));
  }

  #change(
    id: string,
    version: number | undefined,
    context: Caller,
    changesTo: () => Readonly<Record<string, unknown>>,
  ): Promise<Route> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const current = this.#readable(await find(tx, id, context.principal));
      requireVersion(id, version, current.version);
      const route = routeSchema.parse({
        ...current,
        ...changesTo(),
        version: current.version + 1,
        updated_at: toTimestamp(this.#options.clock.now()),
      });
      requireMayName(context.principal, [route.target_url], [current.target_url]);
      await requireMayDecide(tx, route, context.principal);
      const publish = this.#prepare({ putRoutes: [route] }, route.hostname);
      const { id: _, ...row } = toRow(route);
      await tx.updateTable('routes').set(row).where('id', '=', id).execute();
      afterCommit(publish);
      return route;
    });
  }

  /** Also one that can't be read, so that it can be made anew. */
  async delete(id: string, version: number | undefined, context: Caller): Promise<{ id: string }> {
    return this.#options.database.change(context, async (tx, afterCommit) => {
      const row = await find(tx, id, context.principal);
      requireVersion(id, version, row.version);
      const publish = this.#prepare({ removeRoutes: [id] }, row.hostname);
      await tx.deleteFrom('routes').where('id', '=', id).execute();
      afterCommit(publish);
      return { id };
    });
  }

  /** By the code and the table that serve. */
  test(url: string, method: string, { principal }: Pick<Caller, 'principal'>): RouteTest {
    return testRequest(url, method, principal, {
      leadingTo: (urls) => leadingTo(principal, urls, this.#options.services),
      table: this.#options.table(),
      controlHosts: this.#controlHosts,
      mcpHosts: this.#options.mcpHosts,
      ports: this.#options.ports(),
      targetStates: this.#options.targetStates,
    });
  }

  /** Refuses what can't be served before anything is written; what it returns serves it and tells the others. */
  #prepare(change: RoutingChange, hostname: string | null): () => void {
    const candidate = this.#options.publisher.prepare(change);
    return () => {
      candidate.publish();
      this.#options.events.emit('route.changed', { hostnames: hostname === null ? [] : [hostname] });
    };
  }

  async *#visible(id: string, hostname: string | undefined, principal: Principal): AsyncGenerator<Route> {
    for await (const row of this.#rowsAfter(id, hostname)) {
      const route = maySee(principal, row.hostname) ? this.#parsed(row) : undefined;
      if (route) yield route;
    }
  }

  #rowsAfter(id: string, hostname: string | undefined): AsyncGenerator<RouteRow> {
    const query = this.#options.database.read
      .selectFrom('routes')
      .selectAll()
      .$if(hostname !== undefined, (all) => all.where('hostname', '=', hostname ?? ''))
      .orderBy('id');
    return inPortions(
      id,
      (row: RouteRow) => row.id,
      (after, limit) => query.where('id', '>', after).limit(limit).execute(),
    );
  }

  #requireTarget(url: string): void {
    const fault = this.#options.targetFault(url);
    if (fault) throw new AppError('INVALID_INPUT', `target_url: may not be a target: ${fault}`);
  }

  #readable(row: RouteRow): Route {
    const route = this.#parsed(row);
    if (route) return route;
    throw new AppError(
      'INTERNAL',
      `the record of ${row.id} can't be read, so its paths are closed; delete_route and create it again`,
    );
  }

  #parsed(row: RouteRow): Route | undefined {
    const message = `route ${row.id} can't be read; its paths are closed`;
    return readRow(() => parseRow(row), this.#options, { message, hostname: row.hostname ?? undefined });
  }
}

/** What a principal may not touch does not exist for it. */
async function find(db: Reader, id: string, principal: Principal): Promise<RouteRow> {
  const row = await db.selectFrom('routes').selectAll().where('id', '=', id).executeTakeFirst();
  if (row && maySee(principal, row.hostname)) return row;
  throw new AppError('NOT_FOUND', `no route ${JSON.stringify(id)}; list_routes names them`);
}

const maySee = (principal: Principal, hostname: string | null): boolean =>
  hostname === null ? !isConfined(principal) : mayTouch(principal, hostname);

function requireScope(principal: Principal, hostname: string | null): void {
  if (hostname !== null) requireHostname(principal, hostname);
  else if (isConfined(principal))
    throw new AppError(
      'FORBIDDEN',
      'a global route (hostname null) is for every hostname; this credential is confined, name one hostname',
    );
}

async function requireProxy(tx: Reader, hostname: string | null): Promise<void> {
  if (hostname === null) return;
  const proxy = await tx
    .selectFrom('proxies')
    .select('id')
    .where('hostname', '=', hostname)
    .executeTakeFirst();
  if (!proxy)
    throw new AppError(
      'NOT_FOUND',
      `there is no proxy with the hostname ${hostname}; create_proxy makes one`,
    );
}

async function requireRoom(tx: Reader, hostname: string | null): Promise<void> {
  const max = hostname === null ? MAX_GLOBAL_ROUTES : MAX_ROUTES_PER_PROXY;
  const { count } = await tx
    .selectFrom('routes')
    .select((query) => query.fn.countAll<number>().as('count'))
    .where('hostname', hostname === null ? 'is' : '=', hostname)
    .executeTakeFirstOrThrow();
  if (Number(count) < max) return;
  const what = hostname === null ? 'global routes' : `routes of ${hostname}`;
  throw new AppError('PRECONDITION_FAILED', `there are ${max} ${what}, which is the limit`);
}
