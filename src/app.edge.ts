/**
 * The part of the composition root that makes the gateway and what it serves. Its handlers come later, from the
 * surfaces, which stand on it.
 */
import type { AlertService } from './alerts/service.ts';
import { answersToCas, openCertification } from './app.certificates.ts';
import { gatewaySettings } from './app.settings.ts';
import { describeClientTrust, requireClientTrust } from './certificates/client-trust.ts';
import { openTicketKeys } from './certificates/ticket-keys.ts';
import { CaptureService } from './captures/service.ts';
import type { Config } from './config/config.ts';
import { engineMachine } from './config/docker.ts';
import type { Clock } from './core/clock.ts';
import type { Events } from './core/events.ts';
import type { Authenticate, ExchangeHandler } from './core/exchange.ts';
import type { LiveStreams } from './core/live-streams.ts';
import type { GatewayMeter } from './core/meter.ts';
import type { Log } from './core/record.ts';
import type { Sealer } from './core/sealer.ts';
import type { SpanSink } from './core/spans.ts';
import type { Protection } from './gateway/core.ts';
import { createGateway, type Gateway } from './gateway/gateway.ts';
import { ownUrls } from './gateway/own-urls.ts';
import { closed } from './gateway/protect.ts';
import { ledByLabel } from './proposals/record.ts';
import { ProxyService } from './proxies/service.ts';
import { targetFault } from './proxies/target-policy.ts';
import { scopesAt } from './routes/decide.ts';
import { answersMcp } from './routes/own.ts';
import { RouteService } from './routes/service.ts';
import { ServiceAddresses } from './services/addresses.ts';
import type { ContainerEngine } from './services/engine.ts';
import { createFinder } from './services/led.ts';
import type { Database } from './store/database.ts';
import type { TokenService } from './tokens/service.ts';
import type { Person } from './users/person.ts';

export interface EdgeParts {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly events: Events;
  readonly log: Log;
  /** Absent: nobody follows traces. */
  readonly spans?: SpanSink | undefined;
  readonly live: LiveStreams;
  readonly dataDir: string;
  readonly caFile: string;
  /** For services that settings name. */
  readonly fetch: typeof globalThis.fetch;
  readonly tokens: TokenService;
  readonly engine: ContainerEngine;
  readonly alerts: Pick<AlertService, 'reconcile'>;
  readonly meter: GatewayMeter;
}

const servedBy = (gateway: Gateway) => ({
  publisher: gateway.publisher,
  targetStates: (proxyId: string) => gateway.targets(proxyId),
});

/** The gateway with what it serves, not yet listening. Its handlers are filled in when the surfaces exist. */
export async function openEdge(config: Config, base: EdgeParts, stack: AsyncDisposableStack) {
  const { database, sealer, clock, events, log, live, tokens, meter } = base;
  const controlHosts = config.control.hosts;
  const handlers = laterHandlers(tokens);
  const tickets = stack.use(await openTicketKeys(base));
  const services = openAddresses(config, base, stack);
  const isServed = (hostname: string) => gateway.snapshot().table.proxyOf(hostname) !== undefined;
  const captures = stack.use(new CaptureService({ clock, isServed }));
  const gateway: Gateway = createGateway({
    captures,
    services,
    settings: gatewaySettings(config),
    clock,
    log,
    meter,
    spans: base.spans,
    selectCertificate: (servername, clients) => certificates.select(servername, clients),
    ...answersToCas(() => issuance.challenges),
    tickets,
    live,
    ...callersOf(handlers),
  });
  stack.use(gateway);
  const table = () => gateway.snapshot().table;
  const { certificates, issuance, onDemand, watch, ordering, issuers } = await openCertification(
    config,
    { ...base, table, userOf: (id) => handlers.user(id) },
    stack,
  );
  const own = () => gateway.own();
  let bound: Awaited<ReturnType<Gateway['listen']>> | undefined;
  const parts = { database, events, clock, log, controlHosts, services, ...servedBy(gateway) };
  const clientTrust = { require: requireClientTrust, describe: describeClientTrust };
  const proxies = new ProxyService({ ...parts, sealer, own, issuers, clientTrust });
  const routes = new RouteService({
    ...parts,
    targetFault: (url) => targetFault(url, own()),
    table,
    mcpHosts: config.mcp.hosts,
    ports: () => portsOf(config, bound),
  });
  return {
    gateway,
    captures,
    certificates,
    issuance,
    ordering,
    proxies,
    routes,
    addresses: services,
    handlers,
    siteIssuer: (scheme: 'http' | 'https') => gateway.siteIssuer(scheme),
    asked: { ...questionsTo(table, config), ownOrigin: () => ownOrigin(config, bound) },
    listeners: () => listenersOf(bound),
    async open() {
      const loaded = await proxies.load();
      gateway.load(loaded, await routes.load());
      const found = services.settled();
      await certificates.ensure(controlHosts);
      await onDemand.load();
      await found;
      bound = await gateway.listen();
      await issuance.start();
      watch.start();
      return { ...bound, proxies: loaded.length };
    },
  };
}

/** Asks nobody before a target names a service. */
function openAddresses(config: Config, base: EdgeParts, stack: AsyncDisposableStack): ServiceAddresses {
  const machine = engineMachine(config);
  const findService = createFinder(base);
  const find = async (name: string) =>
    (await ledByLabel(base.database.read, name)) ?? (await findService(name));
  return stack.use(new ServiceAddresses({ ...base, machine, find }));
}

const portsOf = (config: Config, bound: Awaited<ReturnType<Gateway['listen']>> | undefined) => ({
  http: bound?.http.port ?? config.http_port,
  https: bound?.https.port ?? config.https_port,
});

/** What the authorization server asks about hostnames. */
const questionsTo = (table: () => ReturnType<Gateway['snapshot']>['table'], { mcp }: Config) => ({
  answersMcp: (hostname: string) => {
    const proxy = table().proxyOf(hostname);
    return proxy !== undefined && answersMcp(proxy, hostname, mcp.hosts);
  },
  protectedScopes: (hostname: string, path: string) => scopesAt(table(), hostname, path),
  asksForSignIn: (hostname: string) => table().asksForSignIn(hostname),
});

/** For a link to a page: the name that others know, or this machine's own without a certificate that nobody trusts. */
function ownOrigin(config: Config, bound: Awaited<ReturnType<Gateway['listen']>> | undefined): string {
  if (!bound) throw new Error('a link was made before the listeners were open');
  const { plain, secure, isFronted } = ownUrls(gatewaySettings(config), bound);
  return !isFronted && config.control.hosts[0] === 'localhost' ? (plain ?? secure) : secure;
}

/** What the surfaces answer with, once they exist. */
function laterHandlers(tokens: TokenService) {
  const notReady: ExchangeHandler = async () => {
    throw new Error('a request came before the surfaces were ready');
  };
  return {
    control: notReady,
    mcp: notReady,
    oauth: notReady,
    sites: notReady,
    protection: closed as Protection,
    user: ((_id) => undefined) as (id: string) => Pick<Person, 'hostnames'> | undefined,
    authenticate: ((credential) => tokens.authenticate(credential)) as Authenticate,
  };
}

/** Each asks for what is there when it is called. */
function callersOf(handlers: ReturnType<typeof laterHandlers>) {
  return {
    authenticate: ((...question) =>
      handlers.authenticate(...question)) satisfies Authenticate as Authenticate,
    handlers: {
      control: ((...call) => handlers.control(...call)) as ExchangeHandler,
      mcp: ((...call) => handlers.mcp(...call)) as ExchangeHandler,
      oauth: ((...call) => handlers.oauth(...call)) as ExchangeHandler,
      sites: ((...call) => handlers.sites(...call)) as ExchangeHandler,
    },
    protection: {
      sessionOf: (...question) => handlers.protection.sessionOf(...question),
      allows: (...question) => handlers.protection.allows(...question),
      lacksScopes: (...question) => handlers.protection.lacksScopes(...question),
      names: (...question) => handlers.protection.names(...question),
      mark: (text) => handlers.protection.mark(text),
      identityOf: (...question) => handlers.protection.identityOf(...question),
      beginSignIn: (...question) => handlers.protection.beginSignIn(...question),
    } satisfies Protection as Protection,
  };
}

const listenersOf = (bound: Awaited<ReturnType<Gateway['listen']>> | undefined) => [
  { name: 'http', isTls: false, at: bound?.http },
  { name: 'https', isTls: true, at: bound?.https },
];
