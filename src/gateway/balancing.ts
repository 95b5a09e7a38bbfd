/**
 * Proxies with several targets: what is known of each target, and which one gets the next request. Lives beside the
 * snapshot, so that a change elsewhere forgets nothing. What a target does with real requests decides on it (a circuit
 * breaker): failures in a row take it out for a time, then one request decides whether it comes back.
 */
import type { Clock } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import type { Log } from '../core/record.ts';
import { cleanText, withoutCertificateNames } from '../core/untrusted.ts';
import {
  type BalancedTarget,
  type HealthCheck,
  isSameTarget,
  type Sticky,
  type TargetState,
  targetsOf,
} from '../proxies/load-balancing.ts';
import type { Proxy } from '../proxies/schema.ts';
import type { Whereabouts } from '../proxies/target-url.ts';
import type { RoutingChange } from '../routes/schema.ts';
import { choose, isIn, NONE, type Slot, type Standing } from './choose.ts';
import { type Checks, startChecks, type UnderWay } from './health-checks.ts';
import { gatewayLimits } from './settings.ts';
import { type Mark, markOf } from './sticky.ts';
import type { Upstreams } from './upstream.ts';

export interface BalancersOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Whom health checks ask. */
  readonly upstreams: Pick<Upstreams, 'of'>;
  readonly services: Pick<Whereabouts, 'placeOf'>;
  readonly mark: Mark;
}

/** One target of one proxy. A request that has it is known by itself: any object. */
export class Endpoint implements Standing {
  readonly url: string;
  readonly #hostname: string;
  readonly #options: BalancersOptions;
  open = 0;
  outUntil = 0;
  isSick = false;
  #trial: object | undefined;
  #reason: string | undefined;
  #since: number;
  /** Failures in a row. */
  #failures = 0;
  /** Checks in a row that say other than what it counts as. */
  #checks = 0;
  /** Times out in a row, each twice as long as the one before. */
  #timesOut = 0;

  constructor(url: string, hostname: string, options: BalancersOptions) {
    this.url = url;
    this.#hostname = hostname;
    this.#options = options;
    this.#since = options.clock.now();
  }

  get isOnTrial(): boolean {
    return this.#trial !== undefined;
  }

  take(holder: object): void {
    this.open++;
    if (this.outUntil !== 0) this.#trial = holder;
  }

  /** Once for each `take`. */
  release(holder: object): void {
    this.open--;
    if (this.#trial === holder) this.#trial = undefined;
  }

  /** It began to answer. While it is out, only the request that decides says so. */
  succeeded(holder: object): void {
    this.#failures = 0;
    if (this.outUntil === 0) {
      if (this.#timesOut > 0) this.#forgive();
      return;
    }
    if (this.#trial !== holder) return;
    this.#trial = undefined;
    this.outUntil = 0;
    this.#turn(undefined);
    this.#tell('info', 'answers again');
  }

  failed(holder: object, reason: string): void {
    if (this.outUntil === 0) {
      if (++this.#failures >= gatewayLimits.failuresUntilOut) this.#takeOut(reason);
    } else if (this.#trial === holder) this.#takeOut(reason);
  }

  /** What a health check found; undefined: it is well. */
  checked(fault: string | undefined, { healthy_after, unhealthy_after }: HealthCheck): void {
    const isWell = fault === undefined;
    if (isWell !== this.isSick) {
      this.#checks = 0;
      return;
    }
    if (++this.#checks < (isWell ? healthy_after : unhealthy_after)) return;
    this.#checks = 0;
    this.isSick = !isWell;
    const reason = isWell ? undefined : `health check: ${cleanText(withoutCertificateNames(fault))}`;
    this.#turn(reason);
    if (reason === undefined) this.#tell('info', 'passes its health checks again');
    else this.#tell('warn', `gets no requests: ${reason}`);
  }

  /** Nobody checks it any more: only requests tell. */
  unchecked(): void {
    this.#checks = 0;
    if (!this.isSick) return;
    this.isSick = false;
    this.#turn(undefined);
  }

  state({ drain }: BalancedTarget): TargetState {
    const reason = this.#reason;
    return {
      url: this.url,
      state: drain ? 'drained' : this.#health(),
      ...(reason !== undefined && { reason }),
      since: toTimestamp(this.#since),
      open_requests: this.open,
    };
  }

  #health(): 'healthy' | 'unhealthy' | 'trial' {
    if (this.isSick) return 'unhealthy';
    if (this.outUntil === 0) return 'healthy';
    return this.#trial || this.#options.clock.now() >= this.outUntil ? 'trial' : 'unhealthy';
  }

  #takeOut(text: string): void {
    const isNews = this.outUntil === 0;
    const reason = cleanText(withoutCertificateNames(text));
    const { outMs, longestOutMs } = gatewayLimits;
    this.outUntil = this.#options.clock.now() + Math.min(longestOutMs, outMs * 2 ** this.#timesOut++);
    this.#trial = undefined;
    this.#failures = 0;
    if (!isNews) {
      this.#reason = reason;
      return;
    }
    this.#turn(reason);
    this.#tell('warn', `gets no requests for a time: ${reason}`);
  }

  /** Well for as long as it was out the first time: what was before is forgotten. */
  #forgive(): void {
    if (this.#options.clock.now() - this.#since >= gatewayLimits.outMs) this.#timesOut = 0;
  }

  #turn(reason: string | undefined): void {
    this.#since = this.#options.clock.now();
    this.#reason = reason;
  }

  #tell(level: 'info' | 'warn', what: string): void {
    const { clock, log } = this.#options;
    const hostname = this.#hostname;
    const message = `${hostname}: target ${this.url} ${what}`;
    log.write({ time: clock.now(), kind: 'system', level, component: 'gateway', hostname, message });
  }
}

interface BalancedSlot extends Slot {
  readonly endpoint: Endpoint;
  readonly target: BalancedTarget;
}

/** The targets of one proxy as it is set now. */
export class Group {
  readonly proxy: Proxy;
  readonly slots: readonly BalancedSlot[];
  readonly tries: number;
  readonly sticky: Sticky | undefined;
  readonly #isLeast: boolean;
  readonly #earned: number;
  readonly #markOf: (url: string) => string;
  #marks: readonly string[] | undefined;
  /** Requests that may be sent a second time. */
  #budget: number;

  constructor(proxy: Proxy, endpointOf: (url: string) => Endpoint, mark: Mark) {
    const { policy, retries, sticky } = proxy.load_balancing ?? {};
    this.proxy = proxy;
    this.sticky = sticky;
    this.#markOf = (url) => markOf(mark, proxy.id, url);
    this.#isLeast = policy === 'least_connections';
    this.tries = retries?.tries ?? 1;
    this.#earned = (retries?.budget_percent ?? 0) / 100;
    this.#budget = this.#earned === 0 ? 0 : gatewayLimits.retryReserve;
    this.slots = targetsOf(proxy).map((target) => ({
      endpoint: endpointOf(target.url),
      target,
      weight: target.weight,
      isDrained: target.drain,
      credit: 0,
    }));
  }

  /** For each request. */
  earn(): void {
    this.#budget = Math.min(gatewayLimits.retryReserve, this.#budget + this.#earned);
  }

  /** Whether one more may be sent a second time; it is counted then. */
  spend(): boolean {
    if (this.#budget < 1) return false;
    this.#budget--;
    return true;
  }

  /** Place of the target that opened a session; below 0: it is none of ours. */
  placeOf(mark: string | undefined): number {
    if (mark !== undefined) return this.marks.indexOf(mark);
    return this.slots.findIndex(({ target }) => isSameTarget(target.url, this.proxy.target_url));
  }

  /** Of the targets, in their order. */
  get marks(): readonly string[] {
    this.#marks ??= this.slots.map(({ target }) => this.#markOf(target.url));
    return this.#marks;
  }

  /** Place of the target for `holder`, which has it from now on; undefined: none may get it. */
  take(holder: object, tried: number, now: number): number | undefined {
    const at = choose(this.slots, this.#isLeast, tried, now);
    if (at === NONE) return undefined;
    this.slots[at]?.endpoint.take(holder);
    return at;
  }

  /** The same for a target that `holder` is pinned to, which may be drained. */
  takePinned(holder: object, at: number, now: number): number | undefined {
    const endpoint = this.slots[at]?.endpoint;
    if (!endpoint || !isIn(endpoint, now)) return undefined;
    endpoint.take(holder);
    return at;
  }
}

export class Balancers {
  readonly #options: BalancersOptions;
  /** By id of the proxy: those with several targets. */
  readonly #groups = new Map<string, Group>();
  readonly #checks = new Map<string, Checks>();
  readonly #underWay: UnderWay = { count: 0 };

  constructor(options: BalancersOptions) {
    this.#options = options;
  }

  load(proxies: Iterable<Proxy>): void {
    this.close();
    for (const proxy of proxies) this.#put(proxy);
  }

  /** Checks nothing any more. */
  close(): void {
    for (const checks of this.#checks.values()) checks.stop();
    this.#checks.clear();
    this.#groups.clear();
  }

  /** What a target was known for stays as long as its proxy names it. */
  apply({ removeProxies = [], putProxies = [] }: RoutingChange): void {
    for (const id of removeProxies) this.#remove(id);
    for (const proxy of putProxies) this.#put(proxy);
  }

  /** Undefined: it has one target. A proxy that was changed meanwhile is served as it was, and known for the same. */
  of(proxy: Proxy): Group | undefined {
    if (targetsOf(proxy).length < 2) return undefined;
    const known = this.#groups.get(proxy.id);
    return known?.proxy === proxy ? known : this.#make(proxy);
  }

  mark(proxyId: string, url: string): string {
    return markOf(this.#options.mark, proxyId, url);
  }

  /** Undefined: there are not several. */
  states(proxyId: string): TargetState[] | undefined {
    return this.#groups.get(proxyId)?.slots.map(({ endpoint, target }) => endpoint.state(target));
  }

  /** Of every proxy that has several. */
  *allStates(): Generator<{ hostname: string; states: TargetState[] }> {
    for (const { proxy, slots } of this.#groups.values())
      yield {
        hostname: proxy.hostname,
        states: slots.map(({ endpoint, target }) => endpoint.state(target)),
      };
  }

  #put(proxy: Proxy): void {
    const group = targetsOf(proxy).length > 1 ? this.#make(proxy) : undefined;
    this.#remove(proxy.id);
    if (!group) return;
    this.#groups.set(proxy.id, group);
    const checks = startChecks(group, { ...this.#options, underWay: this.#underWay });
    if (checks) this.#checks.set(proxy.id, checks);
  }

  #remove(id: string): void {
    this.#groups.delete(id);
    this.#checks.get(id)?.stop();
    this.#checks.delete(id);
  }

  #make(proxy: Proxy): Group {
    const known = new Map(
      this.#groups.get(proxy.id)?.slots.map(({ endpoint }) => [endpoint.url, endpoint]) ?? [],
    );
    const endpointOf = (url: string) => known.get(url) ?? new Endpoint(url, proxy.hostname, this.#options);
    return new Group(proxy, endpointOf, this.#options.mark);
  }
}
