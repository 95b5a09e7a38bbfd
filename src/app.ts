/**
 * The composition root: the only file that constructs. What is made here is disposed of in the opposite order, so
 * that the listeners close before what they need, and the log closes last.
 */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import {
  certificatesProbe,
  diskProbe,
  engineProbe,
  eventLoopProbe,
  listenersProbe,
  logWriterProbe,
  storeProbe,
} from './admin/health-probes.ts';
import { createHealthService } from './admin/health.ts';
import { gatewaySettings, mcpSettings } from './app.settings.ts';
import { createCommandService } from './admin/run-command.ts';
import type { StartFacts } from './banner.ts';
import { openCertificates } from './certificates/service.ts';
import type { Config } from './config/config.ts';
import { createSealer, deriveKey, loadMasterKey } from './config/secrets.ts';
import { type Clock, HOUR, systemClock } from './core/clock.ts';
import { createDispatch, type Dispatch } from './core/dispatch.ts';
import { createEndpointRegistry, type EndpointRegistry } from './core/endpoints.ts';
import { messageOf } from './core/errors.ts';
import { createEvents } from './core/events.ts';
import type { ExchangeHandler } from './core/exchange.ts';
import { LiveStreams } from './core/live-streams.ts';
import type { ServicesFor } from './core/operation.ts';
import type { Log } from './core/record.ts';
import { gatewayEndpoints } from './gateway/endpoints.ts';
import { createGateway, type Gateway } from './gateway/gateway.ts';
import { createMcpInterface, type McpOptions } from './interfaces/mcp/mcp.ts';
import { createRestInterface } from './interfaces/rest.ts';
import { createLogArchive } from './logs/archive.ts';
import { levelsOf } from './logs/levels.ts';
import { createLogService } from './logs/service.ts';
import { createLogSink } from './logs/sink.ts';
import { operations } from './operations.ts';
import { ProxyService } from './proxies/service.ts';
import { targetFault } from './proxies/target-policy.ts';
import { RouteService } from './routes/service.ts';
import { createDockerEngine } from './services/engine.docker.ts';
import { createServiceDirectory } from './services/service.ts';
import { createSessionStore } from './sessions/store.ts';
import type { Database } from './store/database.ts';
import { createIdempotencyStore } from './store/idempotency.ts';
import { lockDirectory } from './store/lock.ts';
import { openSqlite } from './store/sqlite.ts';
import { TokenService } from './tokens/service.ts';

const OWNER_ONLY = 0o700;
const SWEEP_MS = HOUR;

export interface App extends AsyncDisposable {
  readonly facts: StartFacts;
  readonly endpoints: EndpointRegistry;
  readonly dispatch: Dispatch;
}

/** What tests put in the place of the real thing. */
export interface Overrides {
  clock?: Clock;
  /** Conformance fixtures are attached to the production stack by this. */
  extendMcp?: McpOptions['extend'];
}

/** @throws AppError CONFLICT when another process has the data directory. */
export async function createApp(config: Config, overrides: Overrides = {}): Promise<App> {
  await using stack = new AsyncDisposableStack();
  const app = await construct(config, overrides, stack);
  const owned = stack.move();
  return { ...app, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function construct(
  config: Config,
  overrides: Overrides,
  stack: AsyncDisposableStack,
): Promise<Omit<App, keyof AsyncDisposable>> {
  const version = readVersion();
  const clock = overrides.clock ?? systemClock;
  const base = await openBase(config, clock, stack);
  const edge = await openEdge(config, base, stack);
  const { services, endpoints } = openServices(config, { ...base, ...edge, version }, stack);
  const idempotency = createIdempotencyStore(base.database, clock, base.sealer);
  const dispatch = createDispatch({ services, log: base.log, clock, idempotency });
  const mcp = stack.use(
    createMcpInterface({
      operations,
      dispatch,
      clock,
      log: base.log,
      live: base.live,
      sessions: createSessionStore(base.database, base.sealer),
      secret: deriveKey(base.masterKey, 'mcp-request-state'),
      settings: mcpSettings(config),
      version,
      extend: overrides.extendMcp,
    }),
  );
  const stopListening = base.events.on('token.revoked', ({ tokenId }) => {
    base.live.cut(tokenId);
    mcp.closeSessionsOf(tokenId);
  });
  stack.defer(stopListening);
  const rest = createRestInterface({
    operations,
    dispatch,
    version,
    allowedOrigins: config.mcp.allowed_origins,
  });
  for (const endpoint of [...gatewayEndpoints, ...mcp.endpoints, ...rest.endpoints])
    endpoints.register(endpoint);
  edge.handlers.control = rest.handle;
  edge.handlers.mcp = mcp.handle;
  sweepHourly(clock, base.log, () => idempotency.sweep(), stack);
  const created = await base.tokens.ensureAdministrator(config.admin_token);
  const { http, https, proxies } = await edge.open();
  stack.defer(() => edge.gateway.drain());
  const facts = {
    version,
    httpPort: http.port,
    httpsPort: https.port,
    caFile: base.caFile,
    administratorToken: config.admin_token === undefined ? created.secret : undefined,
    proxies,
  };
  return { facts, endpoints, dispatch };
}

type Base = Awaited<ReturnType<typeof openBase>>;

/** What everything else stands on: the data directory, secrets, log, store, tokens. */
async function openBase(config: Config, clock: Clock, stack: AsyncDisposableStack) {
  const dataDir = resolve(config.data_dir);
  mkdirSync(dataDir, { recursive: true, mode: OWNER_ONLY });
  chmodSync(dataDir, OWNER_ONLY);
  stack.use(lockDirectory(dataDir));
  const masterKey = loadMasterKey({ dataDir, masterKey: config.master_key });
  const logDir = join(dataDir, 'logs');
  const log = stack.use(
    createLogSink({
      directory: logDir,
      clock,
      queueRecords: config.log.queue_records,
      levels: levelsOf(config.log.level),
      retentionDays: config.log.retention_days,
      retentionBytes: config.log.retention_bytes,
      stderr: config.log.stderr,
    }),
  );
  const archive = stack.use(createLogArchive({ directory: logDir, clock }));
  const database = stack.use(await openSqlite(join(dataDir, 'state.sqlite'), clock));
  const events = createEvents();
  const live = new LiveStreams(clock);
  const tokens = stack.use(new TokenService({ database, events, clock, log }));
  await tokens.load();
  const caFile = join(dataDir, 'ca.pem');
  return {
    dataDir,
    masterKey,
    caFile,
    log,
    archive,
    database,
    events,
    live,
    tokens,
    clock,
    sealer: createSealer(masterKey),
  };
}

/** The gateway with what it serves, not yet listening. Its handlers are filled in when the surfaces exist. */
async function openEdge(config: Config, base: Base, stack: AsyncDisposableStack) {
  const { database, sealer, clock, events, log, live, caFile, tokens } = base;
  const controlHosts = config.control.hosts;
  const notReady = async () => {
    throw new Error('a request came before the surfaces were ready');
  };
  const handlers = { control: notReady as ExchangeHandler, mcp: notReady as ExchangeHandler };
  const gateway: Gateway = createGateway({
    settings: gatewaySettings(config),
    clock,
    log,
    authenticate: tokens.authenticate,
    selectCertificate: (servername) => certificates.select(servername),
    live,
    handlers: { control: (...call) => handlers.control(...call), mcp: (...call) => handlers.mcp(...call) },
  });
  stack.use(gateway);
  const table = () => gateway.snapshot().table;
  const certificates = stack.use(
    await openCertificates({
      database,
      sealer,
      clock,
      log,
      events,
      caFile,
      controlHosts,
      servedName: (hostname) => table().proxyOf(hostname)?.hostname,
      servedHostnames: () => table().hostnames(),
    }),
  );
  const { publisher } = gateway;
  const own = () => gateway.own();
  let bound: Awaited<ReturnType<Gateway['listen']>> | undefined;
  const proxies = new ProxyService({ database, sealer, publisher, events, clock, log, own, controlHosts });
  const routes = new RouteService({
    database,
    publisher,
    events,
    clock,
    log,
    targetFault: (url) => targetFault(url, own()),
    table,
    controlHosts,
    mcpHosts: config.mcp.hosts,
    httpsPort: () => bound?.https.port ?? config.https_port,
  });
  return {
    gateway,
    certificates,
    proxies,
    routes,
    handlers,
    listeners: () => listenersOf(bound),
    async open() {
      const loaded = await proxies.load();
      gateway.load(loaded, await routes.load());
      await certificates.ensure(controlHosts);
      bound = await gateway.listen();
      return { ...bound, proxies: loaded.length };
    },
  };
}

type Edge = Awaited<ReturnType<typeof openEdge>>;
type Services = ServicesFor<typeof operations>;

function openServices(config: Config, parts: Base & Edge & { version: string }, stack: AsyncDisposableStack) {
  const { clock, log, archive, database, dataDir, certificates, proxies, routes, tokens, version } = parts;
  const endpoints = createEndpointRegistry();
  const engine = createDockerEngine({ socket: config.docker.socket, clock });
  const commands = stack.use(
    createCommandService({
      mode: config.commands.mode,
      allow: config.commands.allow,
      timeoutMs: config.commands.timeout_ms,
      maxOutputBytes: config.commands.max_output_bytes,
      scratchDir: join(dataDir, 'scratch'),
      clock,
    }),
  );
  const eventLoop = stack.use(eventLoopProbe(clock));
  const probes = {
    store: storeProbe((text) => roundTrip(database, text)),
    disk: diskProbe(dataDir),
    certificates: certificatesProbe(() => certificates.soonestExpiry(), clock),
    container_engine: engineProbe(engine),
    listeners: listenersProbe(parts.listeners),
    event_loop: eventLoop,
    log_writer: logWriterProbe(() => log.stats(), clock),
  };
  const services: Services = {
    proxies,
    routes,
    certificates,
    tokens,
    services: createServiceDirectory(engine),
    logs: createLogService({ sink: log, archive, clock }),
    health: createHealthService({ probes, clock, version, startedAt: clock.now() }),
    commands,
    endpoints,
  };
  return { services, endpoints };
}

const listenersOf = (bound: Awaited<ReturnType<Gateway['listen']>> | undefined) => [
  { name: 'http', address: bound && textOf(bound.http) },
  { name: 'https', address: bound && textOf(bound.https) },
];

const textOf = ({ address, port, family }: AddressInfo): string =>
  `${family === 'IPv6' ? `[${address}]` : address}:${port}`;

const PROBE_KEY = 'health_probe';

/** Writes and reads back, through the same transaction machinery as every change. */
async function roundTrip(database: Database, text: string): Promise<string | undefined> {
  await database.change({}, async (tx) => {
    await tx
      .insertInto('meta')
      .values({ key: PROBE_KEY, value: text })
      .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: text }))
      .execute();
  });
  const row = await database.read
    .selectFrom('meta')
    .select('value')
    .where('key', '=', PROBE_KEY)
    .executeTakeFirst();
  return row?.value;
}

function sweepHourly(clock: Clock, log: Log, sweep: () => Promise<void>, stack: AsyncDisposableStack): void {
  const timer = clock.every(SWEEP_MS, () => {
    sweep().catch((error: unknown) =>
      log.write({
        time: clock.now(),
        kind: 'system',
        level: 'warn',
        component: 'store',
        message: `sweep failed: ${messageOf(error)}`,
      }),
    );
  });
  stack.defer(() => timer.cancel());
}

function readVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
