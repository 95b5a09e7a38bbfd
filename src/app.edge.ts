/**
 * The part of the composition root that makes the gateway and what it serves. Its handlers come later, from the
 * surfaces, which stand on it.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { dnsSettings, gatewaySettings, issuanceSettings } from './app.settings.ts';
import type { Challenges } from './certificates/challenges.ts';
import { describeClientTrust, requireClientTrust } from './certificates/client-trust.ts';
import { createDns, type Dns } from './certificates/dns/providers.ts';
import { Issuance } from './certificates/issuance.ts';
import type { IssuanceSettings } from './certificates/issuers.ts';
import { OrderingService } from './certificates/ordering.ts';
import { type Identity, payerOf } from './certificates/payer.ts';
import { createPreflight } from './certificates/preflight.ts';
import { type CertificateService, openCertificates } from './certificates/service.ts';
import type { CertificateWish } from './certificates/wishes.ts';
import { openTicketKeys } from './certificates/ticket-keys.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import type { Events } from './core/events.ts';
import type { Authenticate, ExchangeHandler } from './core/exchange.ts';
import type { LiveStreams } from './core/live-streams.ts';
import { system } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { Sealer } from './core/sealer.ts';
import type { Protection } from './gateway/core.ts';
import { createGateway, type Gateway } from './gateway/gateway.ts';
import { ownUrls } from './gateway/own-urls.ts';
import { closed } from './gateway/protect.ts';
import type { Proxy } from './proxies/schema.ts';
import { ProxyService } from './proxies/service.ts';
import { targetFault } from './proxies/target-policy.ts';
import { scopesAt } from './routes/decide.ts';
import { answersMcp } from './routes/own.ts';
import { RouteService } from './routes/service.ts';
import type { Database } from './store/database.ts';
import type { TokenService } from './tokens/service.ts';
import type { Person } from './users/person.ts';

/** Its certificate is for loopback addresses too, which no CA certifies; clients here trust the internal CA. */
const THIS_MACHINE = 'localhost';

export interface EdgeParts {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly events: Events;
  readonly log: Log;
  readonly live: LiveStreams;
  readonly dataDir: string;
  readonly caFile: string;
  readonly tokens: TokenService;
}

/** The gateway with what it serves, not yet listening. Its handlers are filled in when the surfaces exist. */
export async function openEdge(config: Config, base: EdgeParts, stack: AsyncDisposableStack) {
  const { database, sealer, clock, events, log, live, tokens } = base;
  const controlHosts = config.control.hosts;
  const handlers = laterHandlers(tokens);
  const tickets = stack.use(await openTicketKeys(base));
  const gateway: Gateway = createGateway({
    settings: gatewaySettings(config),
    clock,
    log,
    selectCertificate: (servername, clients) => certificates.select(servername, clients),
    ...answersToCas(() => issuance.challenges),
    tickets,
    live,
    ...callersOf(handlers),
  });
  stack.use(gateway);
  const table = () => gateway.snapshot().table;
  const certificates = stack.use(await certificatesFor(base, controlHosts, table));
  const settings = issuanceSettings(config);
  const payer = (principalId: string) => payerOf(principalId, identitiesOf(tokens, handlers));
  const dns = dnsFor(config, base);
  const dns01 = config.dns.length > 0 ? dns : undefined;
  const issuance = stack.use(issuanceFor(config, base, { settings, certificates, table, payer, dns, dns01 }));
  const own = () => gateway.own();
  let bound: Awaited<ReturnType<Gateway['listen']>> | undefined;
  const proxies = new ProxyService({
    database,
    sealer,
    events,
    clock,
    log,
    own,
    controlHosts,
    issuers: settings.issuers.map(({ name }) => name),
    publisher: gateway.publisher,
    clientTrust: { require: requireClientTrust, describe: describeClientTrust },
  });
  const routes = new RouteService({
    database,
    publisher: gateway.publisher,
    events,
    clock,
    log,
    targetFault: (url) => targetFault(url, own()),
    table,
    controlHosts,
    mcpHosts: config.mcp.hosts,
    ports: () => portsOf(config, bound),
  });
  return {
    gateway,
    certificates,
    ordering: orderingOf({ clock, issuance, certificates, table, payer, dns, dns01 }),
    proxies,
    routes,
    handlers,
    siteIssuer: (scheme: 'http' | 'https') => gateway.siteIssuer(scheme),
    asked: { ...questionsTo(table, config), ownOrigin: () => ownOrigin(config, bound) },
    listeners: () => listenersOf(bound),
    async open() {
      const loaded = await proxies.load();
      gateway.load(loaded, await routes.load());
      await certificates.ensure(controlHosts);
      bound = await gateway.listen();
      await issuance.start();
      return { ...bound, proxies: loaded.length };
    },
  };
}

/** They are made after the gateway, which asks for them. */
const answersToCas = (challenges: () => Challenges) => ({
  acmeChallenge: (hostname: string, token: string) => challenges().http(hostname, token),
  tlsChallenges: {
    get isAskedByTls() {
      return challenges().isAskedByTls;
    },
    tls: (servername: string) => challenges().tls(servername),
  },
});

type Table = ReturnType<Gateway['snapshot']>['table'];

const certificatesFor = (base: EdgeParts, controlHosts: readonly string[], table: () => Table) =>
  openCertificates({
    ...base,
    controlHosts,
    servedName: (hostname) => table().proxyOf(hostname)?.hostname,
    servedHostnames: () => table().hostnames(),
  });

function issuanceFor(
  config: Config,
  base: EdgeParts,
  {
    settings,
    certificates,
    table,
    payer,
    dns,
    dns01,
  }: {
    settings: IssuanceSettings;
    certificates: CertificateService;
    table: () => Table;
    payer: (principalId: string) => string | undefined;
    dns: Dns;
    dns01: Dns | undefined;
  },
): Issuance {
  return new Issuance({
    ...base,
    settings,
    dns,
    dns01,
    wishOf: (name) => wishOf(table().proxyOf(name)),
    payerOf: (name) => ownerOf(table, payer, name),
    shelf: certificates,
    wanted: () =>
      [...config.control.hosts, ...secureHostnames(table())].filter((name) => name !== THIS_MACHINE),
    // The lock of the data directory is ours.
    isAlone: true,
  });
}

function wishOf(proxy: Proxy | undefined): CertificateWish | undefined {
  if (!proxy) return undefined;
  const { issuers, key_type: keyType, profile } = proxy.certificate;
  return { issuers, keyType, profile };
}

/** Of tokens and of users; a client that acts for itself is confined to nothing. */
const identitiesOf =
  (tokens: TokenService, handlers: Pick<ReturnType<typeof laterHandlers>, 'user'>) =>
  (id: string): Identity | undefined => {
    if (id === system.id || id.startsWith('client:')) return { isConfined: false, madeBy: undefined };
    const user = handlers.user(id);
    return user ? { isConfined: user.hostnames !== undefined, madeBy: undefined } : tokens.identityOf(id);
  };

/** Whose budget an order for this hostname is counted in. */
function ownerOf(
  table: () => Table,
  payer: (principalId: string) => string | undefined,
  name: string,
): string | undefined {
  const owner = table().proxyOf(name)?.owner;
  return owner === undefined ? undefined : payer(owner);
}

/** Nobody is asked before an order or a question needs it. */
const dnsFor = (config: Config, { clock, dataDir }: EdgeParts): Dns =>
  createDns({
    ...dnsSettings(config),
    scratchDir: join(dataDir, 'scratch-dns'),
    network: { clock, randomBytes },
    fetch,
    environment: process.env,
  });

const orderingOf = ({
  clock,
  issuance,
  certificates,
  table,
  payer,
  dns,
  dns01,
}: Pick<EdgeParts, 'clock'> & {
  issuance: Issuance;
  certificates: CertificateService;
  table: () => Table;
  payer: (principalId: string) => string | undefined;
  dns: Dns;
  dns01: Dns | undefined;
}) =>
  new OrderingService({
    clock,
    issuance,
    certificates,
    dns01,
    servedName: (hostname) => table().proxyOf(hostname)?.hostname,
    payer: (principal) => payer(principal.id),
    ownerOf: (name) => ownerOf(table, payer, name),
    preflight: createPreflight({
      clock,
      dns,
      identitiesOf: async (issuer, signal) =>
        (await issuance.clientOf(issuer).directory({ signal })).meta.caaIdentities,
      accountUrlOf: (issuer) => issuance.accountUrlOf(issuer),
      usageOf: (limit) => issuance.orders.usageOf(limit),
      placeProbe: issuance.challenges.placeProbe,
    }),
  });

/** Those of enabled proxies that answer over HTTPS. */
function* secureHostnames(table: Table): Generator<string> {
  for (const hostname of table.hostnames())
    if (table.proxyOf(hostname)?.enable_https === true) yield hostname;
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
