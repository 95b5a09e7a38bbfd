/**
 * A caller that changes its own part of the system at random, one call after the other, and keeps what was
 * acknowledged. After the server was killed and started again it says whether every acknowledged change is there and
 * the one that was under way is there as a whole or not at all, and goes on from what it found.
 */
import assert from 'node:assert/strict';
import { send } from './callers.ts';
import type { Product } from './product.ts';

/** Two fields of each thing carry the same generation, so that half a change would show. */
const DEAD_TARGET = 'http://127.0.0.1:9';
const MAX_PROXIES = 12;
const MAX_ROUTES = 4;
const MAX_TOKENS = 6;

interface RouteModel {
  path: string;
  generation: number;
}

interface ProxyModel {
  id: string;
  generation: number;
  routes: Map<string, RouteModel>;
}

interface TokenModel {
  name: string;
  secret: string | undefined;
  revoked: boolean;
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body?: Record<string, unknown>;
}

/** A call and what it makes of the model once it is acknowledged. */
interface Change {
  readonly what: string;
  readonly call: Call;
  /** Statuses of an acknowledgement; the later ones only when the call is repeated after a kill. */
  readonly statuses: readonly number[];
  readonly apply: (result: any) => void;
  /** What is there of it, found without the model: all, nothing, or half of it. */
  readonly seen: (world: World) => 'all' | 'nothing' | 'half';
}

/** What the server says is there. */
export interface World {
  readonly proxies: ReadonlyMap<string, any>;
  readonly routes: readonly any[];
  readonly tokens: readonly any[];
}

export async function observe(product: Product): Promise<World> {
  const listed = await all(product, 'proxies');
  const proxies = new Map<string, any>();
  for (const { hostname } of listed) {
    const { status, body } = await product.api('GET', `/v1/proxies/${hostname}`);
    assert.equal(status, 200, `${hostname} is listed and can be read`);
    proxies.set(hostname, body);
  }
  const routes = await all(product, 'routes');
  for (const { id, hostname } of routes) assert.ok(proxies.has(hostname), `route ${id} has lost its proxy`);
  return { proxies, routes, tokens: await all(product, 'tokens', 'include_revoked=true&') };
}

async function all(product: Product, noun: string, query = ''): Promise<any[]> {
  const found: any[] = [];
  for (let cursor = ''; ; ) {
    const { status, body } = await product.api('GET', `/v1/${noun}?${query}limit=200${cursor}`);
    assert.equal(status, 200, JSON.stringify(body));
    found.push(...body[noun]);
    if (body.next_cursor === undefined) return found;
    cursor = `&cursor=${body.next_cursor}`;
  }
}

const targetOf = (generation: number): string => `${DEAD_TARGET}/${generation}`;
const proxyBody = (generation: number) => ({
  target_url: targetOf(generation),
  request_headers: { set: { 'x-generation': String(generation) } },
});
const routeBody = (generation: number) => ({ target_url: targetOf(generation), priority: generation });

const isProxyOf = (proxy: any, generation: number): boolean =>
  proxy.target_url === targetOf(generation) &&
  proxy.request_headers.set['x-generation'] === String(generation);
const isRouteOf = (route: any, generation: number): boolean =>
  route.target_url === targetOf(generation) && route.priority === generation;

export class Mutator {
  readonly #name: string;
  readonly #random: () => number;
  readonly #proxies = new Map<string, ProxyModel>();
  readonly #tokens = new Map<string, TokenModel>();
  /** Creating calls with their keys, and the id that was answered. */
  readonly #created: { call: Call; id: string }[] = [];
  #pending: Change | undefined;
  #count = 0;

  constructor(name: string, random: () => number) {
    this.#name = name;
    this.#random = random;
  }

  /** One change. Resolves to false when the server was gone before it answered. */
  async change(product: Product): Promise<boolean> {
    const change = this.#choose();
    this.#pending = change;
    const answer = await this.#send(product, change.call).catch(() => undefined);
    if (answer === undefined) return false;
    assert.equal(answer.status, change.statuses[0], `${change.what}: ${JSON.stringify(answer.body)}`);
    change.apply(answer.body);
    this.#pending = undefined;
    return true;
  }

  /** Every acknowledged change is there, and of the one under way all or nothing. */
  check(world: World): void {
    const pending = this.#pending;
    const wasDone = pending?.seen(world);
    assert.notEqual(wasDone, 'half', `${pending?.what} is half there`);
    if (!pending || wasDone === 'nothing') this.#compare(world);
  }

  /**
   * Repeats what was under way: its key finds the result when it was done, and else it is done now. Then the keys of
   * the acknowledged ones find theirs.
   */
  async goOn(product: Product, before: World): Promise<void> {
    const pending = this.#pending;
    if (pending) {
      const wasDone = pending.seen(before) === 'all';
      const { status, body } = await this.#send(product, pending.call);
      assert.ok(
        pending.statuses.includes(status),
        `${pending.what} again: ${status} ${JSON.stringify(body)}`,
      );
      if (wasDone && pending.call.body?.idempotency_key !== undefined)
        assert.ok(idsOf(before).has(body.id), `${pending.what}: its key finds what was made`);
      pending.apply(body);
      this.#pending = undefined;
    }
    this.#compare(await observe(product));
    for (const { call, id } of this.#created.slice(-MAX_ROUTES)) {
      const { body } = await this.#send(product, call);
      assert.equal(body.id, id, 'an idempotency key gives the same result');
    }
  }

  /** Revoked tokens open nothing, and the others still do. */
  async checkTokens(product: Product): Promise<void> {
    for (const { secret, revoked, name } of [...this.#tokens.values()].slice(-MAX_TOKENS)) {
      if (secret === undefined) continue;
      const { status } = await send(product, { path: '/v1/proxies?limit=1', token: secret });
      assert.equal(status, revoked ? 401 : 200, name);
    }
  }

  /** A hostname that is served, if there is one. */
  get served(): string | undefined {
    return this.#proxies.keys().next().value;
  }

  #send(product: Product, { method, path, body }: Call) {
    return product.api(method, path, body);
  }

  #compare({ proxies, routes, tokens }: World): void {
    const own = [...proxies.keys()].filter((hostname) => hostname.startsWith(`${this.#name}-`));
    assert.deepEqual(new Set(own), new Set(this.#proxies.keys()), 'the proxies that were acknowledged');
    for (const [hostname, model] of this.#proxies) {
      assert.equal(proxies.get(hostname).id, model.id);
      assert.ok(isProxyOf(proxies.get(hostname), model.generation), `${hostname} at ${model.generation}`);
      const found = routes.filter((route) => route.hostname === hostname);
      assert.deepEqual(new Set(found.map(({ id }) => id)), new Set(model.routes.keys()), hostname);
      for (const route of found) {
        const { path, generation } = model.routes.get(route.id)!;
        assert.ok(route.path === path && isRouteOf(route, generation), `${route.id} at ${generation}`);
      }
    }
    const ownTokens = tokens.filter(({ name }) => name.startsWith(`${this.#name}-`));
    assert.deepEqual(new Set(ownTokens.map(({ id }) => id)), new Set(this.#tokens.keys()));
    for (const { id, revoked_at } of ownTokens)
      assert.equal(revoked_at !== null, this.#tokens.get(id)!.revoked, id);
  }

  #choose(): Change {
    const proxies = [...this.#proxies];
    const tokens = [...this.#tokens].filter(([, { revoked }]) => !revoked);
    if (proxies.length === 0) return this.#createProxy();
    const [hostname, proxy] = this.#pick(proxies);
    const routes = [...proxy.routes];
    const options = [
      ...(proxies.length < MAX_PROXIES ? [() => this.#createProxy(), () => this.#createProxy()] : []),
      () => this.#updateProxy(hostname, proxy),
      () => this.#deleteProxy(hostname, proxy),
      ...(routes.length < MAX_ROUTES
        ? [() => this.#createRoute(hostname, proxy), () => this.#createRoute(hostname, proxy)]
        : []),
      ...(routes.length > 0
        ? [
            () => this.#updateRoute(proxy, this.#pick(routes)),
            () => this.#deleteRoute(proxy, this.#pick(routes)),
          ]
        : []),
      ...(tokens.length < MAX_TOKENS ? [() => this.#createToken()] : []),
      ...(tokens.length > 0 ? [() => this.#revokeToken(this.#pick(tokens))] : []),
    ];
    return this.#pick(options)();
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.#random() * from.length)];
    assert.ok(picked !== undefined);
    return picked;
  }

  #next(): string {
    this.#count += 1;
    return `${this.#name}-${this.#count}`;
  }

  #createProxy(): Change {
    const name = this.#next();
    const hostname = `${name}.example.com`;
    const call = post('/v1/proxies', { hostname, ...proxyBody(0), idempotency_key: `key-of-${name}` });
    return {
      what: `create_proxy ${hostname}`,
      call,
      statuses: [201],
      apply: ({ id }) => {
        this.#proxies.set(hostname, { id, generation: 0, routes: new Map() });
        this.#created.push({ call, id });
      },
      seen: ({ proxies }) => wholeOf(proxies.get(hostname), (proxy) => isProxyOf(proxy, 0)),
    };
  }

  #updateProxy(hostname: string, proxy: ProxyModel): Change {
    const generation = proxy.generation + 1;
    return {
      what: `update_proxy ${hostname}`,
      call: { method: 'PATCH', path: `/v1/proxies/${hostname}`, body: proxyBody(generation) },
      statuses: [200],
      apply: () => void (proxy.generation = generation),
      seen: ({ proxies }) => eitherOf(proxies.get(hostname), isProxyOf, generation),
    };
  }

  #deleteProxy(hostname: string, proxy: ProxyModel): Change {
    return {
      what: `delete_proxy ${hostname} with ${proxy.routes.size} routes`,
      call: { method: 'DELETE', path: `/v1/proxies/${hostname}` },
      statuses: [200, 404],
      apply: () => void this.#proxies.delete(hostname),
      seen: ({ proxies, routes }) => {
        const left = routes.filter(({ id }) => proxy.routes.has(id)).length;
        if (proxies.has(hostname)) return left === proxy.routes.size ? 'nothing' : 'half';
        return left === 0 ? 'all' : 'half';
      },
    };
  }

  #createRoute(hostname: string, proxy: ProxyModel): Change {
    const name = this.#next();
    const path = `/${name}`;
    const call = post('/v1/routes', { hostname, path, ...routeBody(0), idempotency_key: `key-of-${name}` });
    return {
      what: `create_route ${hostname}${path}`,
      call,
      statuses: [201],
      apply: ({ id }) => {
        proxy.routes.set(id, { path, generation: 0 });
        this.#created.push({ call, id });
      },
      seen: ({ routes }) =>
        wholeOf(
          routes.find((route) => route.hostname === hostname && route.path === path),
          (route) => isRouteOf(route, 0),
        ),
    };
  }

  #updateRoute(proxy: ProxyModel, [id, route]: [string, RouteModel]): Change {
    const generation = route.generation + 1;
    assert.ok(proxy.routes.has(id));
    return {
      what: `update_route ${id}`,
      call: { method: 'PATCH', path: `/v1/routes/${id}`, body: routeBody(generation) },
      statuses: [200],
      apply: () => void (route.generation = generation),
      seen: ({ routes }) =>
        eitherOf(
          routes.find((one) => one.id === id),
          isRouteOf,
          generation,
        ),
    };
  }

  #deleteRoute(proxy: ProxyModel, [id]: [string, RouteModel]): Change {
    return {
      what: `delete_route ${id}`,
      call: { method: 'DELETE', path: `/v1/routes/${id}` },
      statuses: [200, 404],
      apply: () => void proxy.routes.delete(id),
      seen: ({ routes }) => (routes.some((route) => route.id === id) ? 'nothing' : 'all'),
    };
  }

  #createToken(): Change {
    const name = this.#next();
    const call = post('/v1/tokens', {
      name,
      permissions: ['proxies:read'],
      idempotency_key: `key-of-${name}`,
    });
    return {
      what: `create_token ${name}`,
      call,
      statuses: [201],
      // A repeated call does not tell the secret again.
      apply: ({ id, secret }) => {
        this.#tokens.set(id, { name, secret, revoked: false });
        this.#created.push({ call, id });
      },
      seen: ({ tokens }) => (tokens.some((token) => token.name === name) ? 'all' : 'nothing'),
    };
  }

  #revokeToken([id, token]: [string, TokenModel]): Change {
    return {
      what: `revoke_token ${id}`,
      call: { method: 'DELETE', path: `/v1/tokens/${id}` },
      statuses: [200],
      apply: () => void (token.revoked = true),
      seen: ({ tokens }) => (tokens.find((one) => one.id === id)?.revoked_at === null ? 'nothing' : 'all'),
    };
  }
}

const post = (path: string, body: Record<string, unknown>): Call => ({ method: 'POST', path, body });

const wholeOf = (found: any, isWhole: (found: any) => boolean) =>
  found === undefined ? 'nothing' : isWhole(found) ? 'all' : 'half';

function eitherOf(found: any, isOf: (found: any, generation: number) => boolean, generation: number) {
  if (found === undefined) return 'half';
  return isOf(found, generation) ? 'all' : isOf(found, generation - 1) ? 'nothing' : 'half';
}

const idsOf = ({ proxies, routes, tokens }: World): Set<string> =>
  new Set([proxies.values().toArray(), routes, tokens].flat().map(({ id }) => id));
