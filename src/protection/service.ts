/**
 * Protection as its operations see it: a policy of kind `oauth` on a proxy or one of its routes. The policy is kept
 * with the proxy or route and served by the gateway; here users are found by name, and what could not work is refused.
 * Who a request comes from is `site.ts`.
 */
import { AppError } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Principal } from '../core/principal.ts';
import type { AllowList, AuthPolicy, OAuthPolicy } from '../proxies/auth-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import type { Route } from '../routes/schema.ts';
import { isLoopbackName } from './callback.ts';
import type { Protection, Protections } from './schema.ts';

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;
type Reader = Pick<Caller, 'principal'>;
type Version = number | undefined;

export interface ProtectionServiceOptions {
  readonly proxies: {
    get(hostname: string, context: Reader): Promise<Proxy>;
    setPolicy(hostname: string, auth: AuthPolicy, version: Version, context: Caller): Promise<Proxy>;
  };
  readonly routes: {
    get(id: string, context: Reader): Promise<Route>;
    ofHostname(hostname: string, context: Reader): Promise<Route[]>;
    setPolicy(id: string, auth: AuthPolicy | undefined, version: Version, context: Caller): Promise<Route>;
  };
  /** By id or username; undefined: there is none. */
  readonly userIdOf: (name: string) => string | undefined;
  readonly usernameOf: (id: string) => string | undefined;
}

interface Place {
  readonly hostname: string;
  readonly route: string | undefined;
  readonly version: Version;
}

export class ProtectionService {
  readonly #options: ProtectionServiceOptions;

  constructor(options: ProtectionServiceOptions) {
    this.#options = options;
  }

  async protect(place: Place, wanted: Omit<OAuthPolicy, 'kind'>, context: Caller): Promise<Protection> {
    const proxy = await this.#options.proxies.get(place.hostname, context);
    requireHttps(proxy);
    return this.#set(place, { ...wanted, kind: 'oauth', allow: this.#withIds(wanted.allow) }, context);
  }

  unprotect(place: Place, context: Caller): Promise<Protection> {
    return this.#set(place, place.route === undefined ? { kind: 'none' } : undefined, context);
  }

  async get(hostname: string, context: Reader): Promise<Protections> {
    const { auth, version } = await this.#options.proxies.get(hostname, context);
    const routes = await this.#options.routes.ofHostname(hostname, context);
    return {
      hostname,
      policy: this.#told(auth),
      version,
      routes: routes.flatMap((route) =>
        route.auth === undefined
          ? []
          : [{ route: route.id, path: route.path, policy: this.#told(route.auth), version: route.version }],
      ),
    };
  }

  async #set(
    { hostname, route: id, version }: Place,
    auth: AuthPolicy | undefined,
    context: Caller,
  ): Promise<Protection> {
    const { proxies, routes } = this.#options;
    if (id === undefined) {
      const proxy = await proxies.setPolicy(hostname, auth ?? { kind: 'none' }, version, context);
      return { hostname, route: null, policy: this.#told(proxy.auth), version: proxy.version };
    }
    await this.#requireRoute(id, hostname, context);
    const route = await routes.setPolicy(id, auth, version, context);
    const policy = route.auth ?? (await proxies.get(hostname, context)).auth;
    return { hostname, route: id, policy: this.#told(policy), version: route.version };
  }

  async #requireRoute(id: string, hostname: string, context: Reader): Promise<void> {
    requireMayChangeRoutes(context.principal);
    const route = await this.#options.routes.get(id, context);
    if (route.hostname === hostname) return;
    throw new AppError(
      'INVALID_INPUT',
      `route: ${id} does not belong to ${hostname}; list_routes says which routes do`,
    );
  }

  /** Names are given away again when their user is gone; ids are not. */
  #withIds(allow: AllowList): AllowList {
    const users = allow.users.map((name) => {
      const id = this.#options.userIdOf(name);
      if (id !== undefined) return id;
      throw new AppError(
        'INVALID_INPUT',
        `allow.users: there is no user ${JSON.stringify(name)}; list_users names them, create_user makes one`,
      );
    });
    return { ...allow, users: [...new Set(users)] };
  }

  #told(policy: AuthPolicy): AuthPolicy {
    if (policy.kind !== 'oauth') return policy;
    const users = policy.allow.users.map((id) => this.#options.usernameOf(id) ?? id);
    return { ...policy, allow: { ...policy.allow, users } };
  }
}

function requireMayChangeRoutes({ permissions }: Principal): void {
  if (permissions.has('routes:write')) return;
  throw new AppError('FORBIDDEN', 'the policy of a route takes the permission routes:write as well', {
    details: { required: 'routes:write' },
  });
}

/** Cookies and tokens would go in the clear. */
function requireHttps({ hostname, enable_https }: Proxy): void {
  if (enable_https || isLoopbackName(hostname)) return;
  throw new AppError(
    'PRECONDITION_FAILED',
    `${hostname} is not served over HTTPS, and nobody can sign in without; set enable_https with update_proxy first`,
  );
}
