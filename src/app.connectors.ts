/** The part of the composition root that gives the diagnosis of connectors what it asks. */
import { readFileSync } from 'node:fs';
import type { Config } from './config/config.ts';
import { ConnectorService } from './connectors/service.ts';
import type { Clock } from './core/clock.ts';
import { AppError } from './core/errors.ts';
import { parseHostname } from './core/hostname.ts';
import type { Principal } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { Gateway } from './gateway/gateway.ts';
import type { LogService } from './logs/service.ts';
import type { OAuthService } from './oauth/service.ts';
import { StandIn } from './oauth/stand-in.ts';
import type { ProxyService } from './proxies/service.ts';
import { isLoopbackAddress } from './routes/own.ts';
import type { RouteService } from './routes/service.ts';

export interface ConnectorParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly caFile: string;
  readonly gateway: Gateway;
  readonly proxies: ProxyService;
  readonly routes: RouteService;
  readonly oauth: OAuthService;
  readonly logs: LogService;
  readonly listeners: () => readonly {
    readonly name: string;
    readonly at: { readonly address: string; readonly port: number } | undefined;
  }[];
  readonly siteIssuer: (scheme: 'http' | 'https') => string;
}

export function openConnectors({ control }: Config, parts: ConnectorParts, stack: AsyncDisposableStack) {
  const { clock, log, caFile, gateway, proxies, routes, oauth, logs, listeners, siteIssuer } = parts;
  const controlHosts = new Set(control.hosts.map((host) => parseHostname(host) ?? host));
  const isControlHost = (hostname: string) => controlHosts.has(hostname) || isLoopbackAddress(hostname);
  const at = (name: string) => listeners().find((listener) => listener.name === name)?.at;
  return stack.use(
    new ConnectorService({
      clock,
      log,
      routes,
      listeners: () => ({ http: at('http'), https: at('https') }),
      isOwn: (hostname) =>
        isControlHost(hostname) || gateway.snapshot().table.proxyOf(hostname) !== undefined,
      authority: () => readFileSync(caFile, 'utf8'),
      proxyAt: (hostname, principal) => proxyAt(proxies, hostname, principal),
      records: (question, context) => logs.get(question, context),
      issuerHostname: () => new URL(siteIssuer('https')).hostname,
      isControlHost,
      publicUrl: control.public_url,
      signInAs: (userId, issuer) =>
        isControlHost(new URL(issuer).hostname)
          ? new StandIn(userId, (name) => oauth.server.provider(name))
          : undefined,
    }),
  );
}

/** Its own proxy, or the wildcard above it. */
async function proxyAt(proxies: ProxyService, hostname: string, principal: Principal) {
  for (const name of [hostname, hostname.replace(/^[^.]+/, '*')]) {
    const proxy = parseHostname(hostname) === undefined ? undefined : await find(proxies, name, principal);
    if (!proxy) continue;
    const isSticky = proxy.load_balancing?.sticky !== undefined;
    return { proxy: proxy.enabled ? 'enabled' : 'disabled', isSticky } as const;
  }
  return { proxy: 'absent', isSticky: false } as const;
}

async function find(proxies: ProxyService, hostname: string, principal: Principal) {
  try {
    return await proxies.get(hostname, { principal });
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'NOT_FOUND') return undefined;
    throw cause;
  }
}
