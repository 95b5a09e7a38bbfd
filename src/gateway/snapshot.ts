/**
 * What is served at one moment: immutable, swapped in one assignment. A request keeps the snapshot it began with.
 * Compiled facts of a target are made when it is first asked for and live as long as its `Match` does, so that an edit
 * costs the same among ten hosts and among ten thousand.
 */
import { AppError } from '../core/errors.ts';
import type { Proxy } from '../proxies/schema.ts';
import { targetsOf } from '../proxies/load-balancing.ts';
import { type OwnAddress, targetFault } from '../proxies/target-policy.ts';
import {
  type Place,
  serviceOf,
  type ServiceTarget,
  type Stay,
  type Whereabouts,
} from '../proxies/target-url.ts';
import { asksForCertificate } from '../routes/decide.ts';
import {
  applyChange,
  atTarget,
  createTable,
  foundAt,
  isOwnOrigin,
  type Match,
  type RoutingTable,
} from '../routes/match.ts';
import type { Publisher, Route, RoutingChange } from '../routes/schema.ts';
import type { Balancers, Group } from './balancing.ts';
import { type CompiledRules, compileRules, type HeaderPlan, withoutValues } from './headers.ts';
import type { Target } from './dialer.ts';
import { targetOf } from './target-of.ts';
import type { Upstream } from './upstream.ts';

export interface Snapshot {
  readonly table: RoutingTable;
  /** Rises with every change that is served. */
  readonly generation: number;
}

/** Everything about forwarding to one target that does not depend on the request. */
export interface Plan extends Destination {
  readonly responseRules: CompiledRules;
  /** Of a target that names a service; `isLed` brings the plan there. */
  readonly place: Place | undefined;
  /** Where the plan leads. */
  stay: Stay | undefined;
  /** Kept here to spare the look-up; whoever uses it sees to it that it is not closed. */
  upstream: Upstream | undefined;
  /** Where there are several targets: who chooses, and the plan for each. */
  readonly balance: Balance | undefined;
}

interface Destination {
  match: Match;
  target: Target;
  headers: HeaderPlan;
}

export interface Balance {
  readonly group: Group;
  /** In the order of the group's slots. */
  readonly plans: readonly Plan[];
}

export interface SnapshotOptions {
  /** Name of this process in CDN-Loop. */
  readonly loopToken: string;
  /** Where this process listens. */
  readonly own: () => readonly OwnAddress[];
  readonly balancers: Balancers;
  readonly services: Whereabouts;
}

export class Snapshots implements Publisher {
  readonly #options: SnapshotOptions;
  readonly #plans = new WeakMap<Match, Plan>();
  /** Ids of proxies whose clients are asked for certificates. */
  readonly #asking = new Set<string>();
  /** Services that targets name, by the id of the proxy or route. */
  readonly #led = new Map<string, readonly ServiceTarget[]>();
  #current: Snapshot = Object.freeze({ table: createTable([], []), generation: 0 });

  constructor(options: SnapshotOptions) {
    this.#options = options;
  }

  get current(): Snapshot {
    return this.#current;
  }

  /** Whether any host asks clients for certificates: then hellos are looked at. */
  get asksForCertificates(): boolean {
    return this.#asking.size > 0;
  }

  load(proxies: Iterable<Proxy>, routes: Iterable<Route>): void {
    const all = { putProxies: [...proxies], putRoutes: [...routes] };
    this.#asking.clear();
    this.#led.clear();
    this.#options.balancers.load(all.putProxies);
    this.#count(all);
    this.#swap(createTable(all.putProxies, all.putRoutes));
  }

  /** @throws AppError PRECONDITION_FAILED when the change could not be served. */
  prepare(change: RoutingChange): { publish(): void } {
    for (const proxy of change.putProxies ?? [])
      for (const { url } of targetsOf(proxy)) this.#checkTarget(proxy.hostname, url);
    for (const { path, target_url } of change.putRoutes ?? []) this.#checkTarget(`route ${path}`, target_url);
    const base = this.#current;
    const candidate = applyChange(base.table, change);
    return {
      // Another change may have been published since; then this one is made again on top of it.
      publish: () => {
        this.#count(change);
        this.#options.balancers.apply(change);
        this.#swap(this.#current === base ? candidate : applyChange(this.#current.table, change));
      },
    };
  }

  #count(change: RoutingChange): void {
    const { removeProxies = [], putProxies = [] } = change;
    for (const id of removeProxies) this.#asking.delete(id);
    for (const proxy of putProxies)
      if (asksForCertificate(proxy)) this.#asking.add(proxy.id);
      else this.#asking.delete(proxy.id);
    this.#lead(change);
  }

  /** Where services are is asked for as long as something leads to them. */
  #lead({ removeProxies = [], removeRoutes = [], putProxies = [], putRoutes = [] }: RoutingChange): void {
    const put = [
      ...putProxies.map((proxy) => ({ id: proxy.id, urls: targetsOf(proxy).map(({ url }) => url) })),
      ...putRoutes.map(({ id, target_url }) => ({ id, urls: [target_url] })),
    ].map(({ id, urls }) => ({ id, named: urls.flatMap((url) => serviceOf(url) ?? []) }));
    const isNews = [...removeProxies, ...removeRoutes, ...put.map(({ id }) => id)].some((id) =>
      this.#led.delete(id),
    );
    const led = put.filter(({ named }) => named.length > 0);
    for (const { id, named } of led) this.#led.set(id, named);
    if (isNews || led.length > 0) this.#options.services.follow([...this.#led.values()].flat());
  }

  planOf(match: Match): Plan {
    const known = this.#plans.get(match);
    if (known) return known;
    const plan = compile(match, this.#options);
    this.#plans.set(match, plan);
    return plan;
  }

  #swap(table: RoutingTable): void {
    this.#current = Object.freeze({ table, generation: this.#current.generation + 1 });
  }

  #checkTarget(what: string, url: string): void {
    const fault = targetFault(url, this.#options.own());
    if (fault) throw new AppError('PRECONDITION_FAILED', `${what} can't be served: target ${url}: ${fault}`);
  }
}

/** A route that names another target goes there and nowhere else. */
function compile(match: Match, options: SnapshotOptions): Plan {
  const { proxy } = match;
  const group = match.targetUrl === proxy.target_url ? options.balancers.of(proxy) : undefined;
  if (!group) return planFor(match, options, undefined);
  const plans: Plan[] = [];
  const balance = { group, plans };
  for (const { endpoint } of group.slots)
    plans.push(planFor(atTarget(match, endpoint.url), options, balance));
  return planFor(match, options, balance);
}

function planFor(match: Match, { loopToken, services }: SnapshotOptions, balance: Balance | undefined): Plan {
  const { proxy } = match;
  const rules = compileRules(proxy.request_headers);
  // Whoever may name a target of the proxy may set its headers: they go to each of them.
  const isOwn = balance !== undefined || isOwnOrigin(match);
  const service = serviceOf(match.targetUrl);
  const url = new URL(service ? NOWHERE : match.targetUrl);
  return {
    match,
    target: targetOf(url, { proxy, isOneOfSeveral: balance !== undefined }),
    headers: {
      host: proxy.preserve_host ? undefined : url.host,
      rules: isOwn ? rules : withoutValues(rules),
      loopToken,
      ownCookie: proxy.load_balancing?.sticky?.cookie,
    },
    responseRules: compileRules(proxy.response_headers),
    place: service && services.placeOf(service),
    stay: undefined,
    upstream: undefined,
    balance,
  };
}

/** Never resolves (RFC 6761 §6.4). */
const NOWHERE = 'http://closed.invalid';

/** Whether there is somewhere to go. What names a service goes where that is now. */
export function isLed(plan: Plan): boolean {
  const { place, stay } = plan;
  if (!place) return true;
  // Marks name targets, not replicas: browsers that are to stay with a target all get its first one.
  const isInTurn = place.next && !plan.match.proxy.load_balancing?.sticky;
  const next = isInTurn ? place.next?.() : place.stay;
  if (!next) return false;
  if (next !== stay) move(plan, next);
  return true;
}

function move(plan: Plan, stay: Stay): void {
  const { proxy } = plan.match;
  plan.stay = stay;
  plan.match = foundAt(plan.match, stay.url);
  plan.target = targetOf(new URL(stay.url), { proxy, isOneOfSeveral: plan.balance !== undefined, stay });
  plan.headers = { ...plan.headers, host: proxy.preserve_host ? undefined : stay.host };
  plan.upstream = undefined;
}
