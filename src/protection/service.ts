/**
 * Protection as its operations see it: a policy of kind `oauth` on a proxy or one of its routes. The policy is kept
 * with the proxy or route and served by the gateway; here users are found by name, and what could not work is refused.
 * Who a request comes from is `site.ts`.
 */
import { AppError } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Principal } from '../core/principal.ts';
import type { AllowList, AuthPolicy, McpPolicy, OAuthPolicy } from '../proxies/auth-policy.ts';
import type { Proxy } from '../proxies/schema.ts';
import type { Route } from '../routes/schema.ts';
import { isLoopbackName } from './callback.ts';
import type { McpInput, Protection, Protections } from './schema.ts';

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

/** As `protect_proxy` takes it: `mcp` absent keeps the rules for tools, null drops them. */
type Wanted = Omit<OAuthPolicy, 'kind' | 'mcp'> & { readonly mcp?: McpInput | null | undefined };

export class ProtectionService {
  readonly #options: ProtectionServiceOptions;

  constructor(options: ProtectionServiceOptions) {
    this.#options = options;
  }

  async protect(place: Place, { mcp: rules, ...wanted }: Wanted, context: Caller): Promise<Protection> {
    const proxy = await this.#options.proxies.get(place.hostname, context);
    requireHttps(proxy);
    const kept = rules === undefined ? await this.#rulesOf(place, proxy, context) : undefined;
    const mcp = rules ? this.#rulesWithIds(rules) : kept?.mcp;
    const policy: OAuthPolicy = {
      ...wanted,
      kind: 'oauth',
      allow: this.#withIds(wanted.allow, 'allow'),
      ...(mcp && { mcp }),
    };
    requireToolsToWork(policy, proxy);
    // What is kept was read before: who has changed it since must not have it undone.
    const version = place.version ?? kept?.version;
    return this.#set({ ...place, version }, policy, context);
  }

  /** The rules for tools that are in force, which for a route may be its proxy's, and the version of what is changed. */
  async #rulesOf({ route: id }: Place, proxy: Proxy, context: Reader) {
    const { auth = proxy.auth, version } =
      id === undefined ? proxy : await this.#options.routes.get(id, context);
    return auth.kind === 'oauth' && auth.mcp ? { mcp: auth.mcp, version } : undefined;
  }

  #rulesWithIds({ path, default: fallback, tools }: McpInput): McpPolicy {
    return {
      path,
      default: fallback,
      tools: tools.map(({ allow, ...rule }, i) => ({
        ...rule,
        ...(allow && { allow: this.#withIds(allow, `mcp.tools[${i}].allow`) }),
      })),
    };
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

  /** @throws AppError INVALID_INPUT for a user that there is not */
  check(allow: AllowList): void {
    this.#withIds(allow, 'allow');
  }

  /** Names are given away again when their user is gone; ids are not. */
  #withIds(allow: AllowList, where: string): AllowList {
    const users = allow.users.map((name) => {
      const id = this.#options.userIdOf(name);
      if (id !== undefined) return id;
      throw new AppError(
        'INVALID_INPUT',
        `${where}.users: there is no user ${JSON.stringify(name)}; list_users names them, create_user makes one`,
      );
    });
    return { ...allow, users: [...new Set(users)] };
  }

  #told(policy: AuthPolicy): AuthPolicy {
    if (policy.kind !== 'oauth') return policy;
    const { allow, mcp } = policy;
    const tools = mcp?.tools.map((rule) =>
      rule.allow ? { ...rule, allow: this.#withNames(rule.allow) } : rule,
    );
    return { ...policy, allow: this.#withNames(allow), ...(mcp && tools && { mcp: { ...mcp, tools } }) };
  }

  #withNames(allow: AllowList): AllowList {
    return { ...allow, users: allow.users.map((id) => this.#options.usernameOf(id) ?? id) };
  }
}

/** Rules that would never be asked, or asked of nobody, look like protection and are none. */
function requireToolsToWork({ mode, mcp, public_paths }: OAuthPolicy, { serve_mcp, hostname }: Proxy): void {
  if (!mcp) return;
  if (mode === 'redirect')
    throw new AppError(
      'INVALID_INPUT',
      'mcp: programs come with access tokens, which mode redirect does not take; choose auto or bearer',
    );
  const open = public_paths.find((path) => covers(path, mcp.path));
  if (open !== undefined)
    throw new AppError(
      'INVALID_INPUT',
      `mcp.path: ${mcp.path} is open to anyone by public_paths ${open}, where nobody is known; take it out of public_paths`,
    );
  if (serve_mcp)
    throw new AppError(
      'PRECONDITION_FAILED',
      `/mcp on ${hostname} is this system's own, so that nobody reaches the target's; set serve_mcp to false with update_proxy first`,
    );
}

/** By whole segments, in any case, as `routes/decide.ts` compares the path of the rules. */
function covers(outer: string, inner: string): boolean {
  const [stem, path] = [outer, inner].map((text) => text.replace(/\/$/, '').toLowerCase());
  return `${path}/`.startsWith(`${stem}/`);
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
