/**
 * The composition root: the only file that constructs. What is made here is disposed of in the opposite order, so
 * that the listeners close before what they need, and the log closes last.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createDiagnostics } from './admin/diagnostics.ts';
import { EventLoopWatch } from './admin/event-loop.ts';
import {
  auditProbe,
  certificatesProbe,
  connectionsProbe,
  diskProbe,
  engineProbe,
  eventLoopProbe,
  logWriterProbe,
  storeProbe,
  telemetryProbe,
} from './admin/health-probes.ts';
import { createHealthService } from './admin/health.ts';
import { listenersProbe } from './admin/listener-probe.ts';
import { AlertDesk } from './alerts/desk.ts';
import { AlertService } from './alerts/service.ts';
import { channelsOf, openRules, remindAfterOf, tellFollowers } from './app.alerts.ts';
import { gatewaySettings, logSettings, mcpSettings } from './app.settings.ts';
import { type CommandOptions, type CommandService, createCommandService } from './admin/run-command.ts';
import { openAsking } from './app.asking.ts';
import { openTrail, watchTrail } from './app.audit.ts';
import { openConnectors } from './app.connectors.ts';
import { type Data, openData } from './app.data.ts';
import { openEdge } from './app.edge.ts';
import { createTallies, openMetrics } from './app.metrics.ts';
import { openOAuth } from './app.oauth.ts';
import { openProposals } from './app.proposals.ts';
import { openPublications } from './app.publications.ts';
import { openProtection } from './app.protection.ts';
import { openOtlp } from './app.telemetry.ts';
import type { StartFacts } from './banner.ts';
import type { Config } from './config/config.ts';
import { engineMachine } from './config/docker.ts';
import type { Asks } from './core/asks.ts';
import { createSealer, deriveKey } from './config/secrets.ts';
import { createOutbound } from './outbound.ts';
import { type Clock, HOUR, systemClock } from './core/clock.ts';
import { createDispatch, type Dispatch } from './core/dispatch.ts';
import { createEndpointRegistry, type EndpointRegistry } from './core/endpoints.ts';
import { messageOf } from './core/errors.ts';
import { createEvents } from './core/events.ts';
import type { Meter } from './core/meter.ts';
import { LiveStreams } from './core/live-streams.ts';
import type { ServicesFor } from './core/operation.ts';
import type { Log } from './core/record.ts';
import type { Taint } from './core/taint.ts';
import { gatewayEndpoints } from './gateway/endpoints.ts';
import { ownUrls } from './gateway/own-urls.ts';
import { createMcpInterface, type McpInterface, type McpOptions } from './interfaces/mcp/mcp.ts';
import { createRestInterface } from './interfaces/rest.ts';
import { createLogArchive } from './logs/archive.ts';
import { createLogService } from './logs/service.ts';
import { METRICS_PATH } from './metrics/endpoint.ts';
import { RuntimeWatch } from './metrics/runtime.ts';
import { createLogSink } from './logs/sink.ts';
import { principalIdOf } from './oauth/authenticate.ts';
import { oauthEndpoints } from './oauth/endpoints.ts';
import { operations } from './operations.ts';
import { targetFault } from './proxies/target-policy.ts';
import type { ProtectionService } from './protection/service.ts';
import { openEngine } from './services/open-engine.ts';
import { portRangeOf } from './services/policy.ts';
import type { PortParts } from './services/port-choice.ts';
import { isPortFree } from './services/port-probe.ts';
import { createServiceKeeper, type ServiceKeeper } from './services/service.ts';
import { createSessionStore } from './sessions/store.ts';
import { createTaskStore } from './sessions/tasks.ts';
import type { Database } from './store/database.ts';
import { createIdempotencyStore } from './store/idempotency.ts';
import { openSqlite } from './store/sqlite.ts';
import { storageFault } from './store/storage-fault.ts';
import { TokenService } from './tokens/service.ts';

const SWEEP_MS = HOUR;

export interface App extends AsyncDisposable {
  readonly facts: StartFacts;
  readonly endpoints: EndpointRegistry;
  readonly dispatch: Dispatch;
}

/** What tests put in the place of the real thing, and what is there already. */
export interface Overrides {
  clock?: Clock;
  /** Opened before this was loaded; the app closes it. */
  data?: Data;
  /** Conformance fixtures are attached to the production stack by this. */
  extendMcp?: McpOptions['extend'];
}

/** @throws what `openData` throws. */
export async function createApp(config: Config, overrides: Overrides = {}): Promise<App> {
  await using stack = new AsyncDisposableStack();
  const app = await construct(config, overrides, stack).catch((cause: unknown) => {
    throw storageFault(config.data_dir, cause) ?? cause;
  });
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
  const meter = createTallies(config, () => edge.gateway);
  const base = { ...(await openBase(config, { data: overrides.data, clock, meter }, stack)), meter };
  const edge: Edge = await openEdge(config, { ...base, spans: base.telemetry?.spans }, stack);
  const asking = await openAsking(config, { ...base, ...edge.asked });
  const identity = await openOAuth(
    config,
    { ...base, ...edge.asked, ...asking, controlHosts: config.control.hosts },
    stack,
  );
  const { sites, protection } = await openProtection({ ...base, ...edge, ...identity }, stack);
  const eventLoop = stack.use(new EventLoopWatch(clock));
  const runtime = stack.use(new RuntimeWatch(() => eventLoop.state()));
  const parts = { ...base, ...edge, ...identity, protection, eventLoop, runtime, version };
  const operate = operating(() => dispatch);
  const { services, endpoints } = openServices(config, { ...parts, operate }, stack);
  const idempotency = createIdempotencyStore(base.database, clock, base.sealer);
  const { access } = config.mcp;
  const dispatch = createDispatch({
    services,
    access,
    log: base.log,
    trail: base.log,
    clock,
    idempotency,
    meter,
    ...asking,
  });
  const mcp = openMcp(config, { base, services, dispatch, ...asking }, overrides, stack);
  const metrics = openMetrics(config, { ...parts, mcp }, stack);
  if (base.telemetry) stack.use(base.telemetry.tellMetrics(() => metrics.metrics.families()));
  const rest = createRestInterface({ operations, dispatch, version, access, others: [metrics.endpoint] });
  for (const endpoint of [...gatewayEndpoints, ...oauthEndpoints, ...mcp.endpoints, ...rest.endpoints])
    endpoints.register(endpoint);
  Object.assign(edge.handlers, {
    user: (id) => identity.users.find(id),
    authenticate: identity.authenticate,
    oauth: (exchange) => identity.handle(exchange),
    sites: (exchange) => sites.handle(exchange),
    protection: sites,
    control: rest.handle,
    mcp: mcp.handle,
  } satisfies Partial<Edge['handlers']>);
  for (const kept of [idempotency, asking.taint]) sweepHourly(clock, base.log, () => kept.sweep(), stack);
  base.alerts.start();
  const created = await base.tokens.ensureAdministrator(config.admin_token);
  const told = await metrics.listen();
  const { http, https, proxies } = await edge.open();
  openRules(config, { ...base, ...edge }, stack);
  // It changes what is served, so that comes first.
  const resumed = services.publications.resume();
  stack.defer(() => resumed);
  void services.proposals.start();
  stack.defer(async () => void (await Promise.all([edge.gateway.drain(), mcp.drain()])));
  const facts = {
    version,
    urls: ownUrls(gatewaySettings(config), { http, https }),
    metrics: told && metricsUrl(told.address),
    caFile: base.caFile,
    administratorToken: created.secret,
    adminTokenIgnored: created.ignored === true,
    proxies,
  };
  return { facts, endpoints, dispatch };
}

interface McpParts {
  readonly base: Base;
  readonly services: Services;
  readonly dispatch: Dispatch;
  readonly taint: Taint;
  readonly asks: Asks;
}

function openMcp(
  config: Config,
  { base, services, dispatch, taint, asks }: McpParts,
  { extendMcp }: Overrides,
  stack: AsyncDisposableStack,
): McpInterface {
  const { clock, log, live, database, sealer } = base;
  const mcp = stack.use(
    createMcpInterface({
      operations,
      isOff: ({ offBy }) => offBy?.(services) !== undefined,
      dispatch,
      clock,
      log,
      live,
      sessions: createSessionStore(database, sealer),
      tasks: createTaskStore(database, sealer),
      secret: deriveKey(base.masterKey, 'mcp-request-state'),
      settings: mcpSettings(config),
      taint,
      version: readVersion(),
      extend: extendMcp,
    }),
  );
  cutWhenEnded(base, { mcp, asks }, stack);
  tellFollowers({ ...base, logs: services.logs }, mcp, stack);
  return mcp;
}

/** Who may no longer is cut off in the middle. */
function cutWhenEnded(
  { events, live }: Base,
  { mcp, asks }: { mcp: McpInterface; asks: Asks },
  stack: AsyncDisposableStack,
): void {
  const stopListening = events.on('token.revoked', ({ tokenId }) => {
    live.cut(tokenId);
    mcp.closeSessionsOf(tokenId);
    asks.forget(tokenId);
  });
  stack.defer(stopListening);
  const stopFollowing = events.on('grant.ended', ({ grantId, userId, clientId }) => {
    live.cutGrant(grantId);
    mcp.closeSessionsOf(principalIdOf(userId, clientId));
    asks.forget(principalIdOf(userId, clientId));
  });
  stack.defer(stopFollowing);
  stack.defer(events.on('user.cut', ({ userId }) => asks.forgetPerson(userId)));
}

const metricsUrl = ({ address, port }: AddressInfo): string =>
  `http://${address.includes(':') ? `[${address}]` : address}:${port}${METRICS_PATH}`;

type Base = Awaited<ReturnType<typeof openBase>> & { meter: Meter };

/** What everything else stands on: log, store, tokens. */
async function openBase(
  config: Config,
  { data, clock, meter }: { data: Data | undefined; clock: Clock; meter: Meter },
  stack: AsyncDisposableStack,
) {
  const { masterKey, directory } = stack.use(data ?? openData(config));
  const { path: dataDir, stateFile } = directory;
  const logDir = join(dataDir, 'logs');
  const sink = stack.use(createLogSink({ directory: logDir, clock, ...logSettings(config) }));
  const telemetry = await openOtlp(config, { clock, log: sink, version: readVersion() }, stack);
  const log = stack.use(openTrail({ dataDir, masterKey, clock, log: sink }));
  const archive = stack.use(createLogArchive({ directory: logDir, clock, log }));
  const database = stack.use(await openSqlite(stateFile, clock, log, meter));
  const events = createEvents();
  const live = stack.use(new LiveStreams(clock));
  const tokens = stack.use(new TokenService({ database, events, clock, log }));
  await tokens.load();
  const outbound = stack.use(createOutbound());
  const alerts = stack.use(
    new AlertService({
      database,
      clock,
      log,
      events,
      channels: channelsOf(config, { fetch: outbound }),
      remindAfterMs: remindAfterOf(config),
    }),
  );
  const sealer = createSealer(masterKey);
  const audit = await watchTrail(config, { trail: log, clock, alerts, database, sealer });
  stack.use(audit.watch);
  const { docker, broker, services: policy } = config;
  return {
    alerts,
    telemetry,
    engine: openEngine({ docker, broker, policy }, { clock, log }),
    fetch: outbound,
    dataDir,
    stateFile,
    masterKey,
    caFile: join(dataDir, 'ca.pem'),
    log,
    sink,
    audit: audit.service,
    archive,
    database,
    events,
    live,
    tokens,
    clock,
    sealer,
  };
}

type Edge = Awaited<ReturnType<typeof openEdge>>;
type Identity = Awaited<ReturnType<typeof openOAuth>>;
type Services = ServicesFor<typeof operations>;

function openServices(
  config: Config,
  parts: Base &
    Edge &
    Identity & {
      protection: ProtectionService;
      eventLoop: EventLoopWatch;
      runtime: RuntimeWatch;
      version: string;
      operate: CommandOptions['operate'];
    },
  stack: AsyncDisposableStack,
) {
  const {
    clock,
    sink,
    audit,
    archive,
    certificates,
    ordering,
    proxies,
    routes,
    tokens,
    oauth,
    access,
    users,
    protection,
  } = parts;
  const endpoints = createEndpointRegistry();
  const commands = stack.use(openCommands(config, parts));
  const logs = createLogService({ sink, archive, clock });
  const keeper = openKeeper(config, parts, stack);
  const services: Services = {
    proxies,
    routes,
    certificates,
    ordering,
    tokens,
    services: keeper,
    publications: stack.use(openPublications({ ...parts, publishing: publishingOf(config) }, keeper)),
    proposals: stack.use(
      openProposals(config, { ...parts, trail: parts.log, own: () => parts.gateway.own() }),
    ),
    logs,
    captures: parts.captures,
    audit,
    alerts: new AlertDesk(parts),
    connectors: openConnectors(config, { ...parts, logs }, stack),
    ...openHealth(config, parts),
    commands,
    endpoints,
    oauth,
    access,
    users,
    protection,
  };
  return { services, endpoints };
}

/** What works, found out by using it, and what the process says of itself. */
function openHealth(
  config: Config,
  parts: Base & Edge & { eventLoop: EventLoopWatch; runtime: RuntimeWatch; version: string },
) {
  const { clock, log, sink, certificates, gateway, telemetry, eventLoop, version } = parts;
  const startedAt = clock.now();
  const connections = () => gateway.connections();
  const probes = {
    store: storeProbe((text) => roundTrip(parts.database, text)),
    disk: diskProbe(parts.dataDir),
    certificates: certificatesProbe(() => certificates.soonestExpiry(), clock),
    container_engine: engineProbe(parts.engine),
    listeners: listenersProbe(parts.listeners, { clock, host: config.control.hosts[0] ?? 'localhost' }),
    connections: connectionsProbe(connections, clock),
    event_loop: eventLoopProbe(eventLoop),
    log_writer: logWriterProbe(() => sink.stats(), clock),
    ...(telemetry && { telemetry: telemetryProbe(() => telemetry.state(), clock) }),
    audit_trail: auditProbe(() => log.state(), clock),
  };
  return {
    health: createHealthService({ probes, clock, log, version, startedAt }),
    diagnostics: createDiagnostics({
      clock,
      startedAt,
      eventLoop: () => eventLoop.state(),
      collections: () => parts.runtime.collections(),
      connections,
      log: () => sink.stats(),
    }),
  };
}

function openKeeper(
  config: Config,
  parts: Base & Pick<Edge, 'addresses' | 'gateway'>,
  stack: AsyncDisposableStack,
): ServiceKeeper {
  const { installation, adopt_networks, adopt_volumes } = config.services;
  const naming = { installation, adopted: new Set([...adopt_networks, ...adopt_volumes]) };
  const keeper = createServiceKeeper({
    ...parts,
    naming,
    guards: parts.gateway.guardedPorts,
    ports: portsOf(config, parts),
    changed: (name) => parts.addresses.changed(name),
    urlFault: (url) => targetFault(url, parts.gateway.own()),
  });
  const resumed = keeper.resume();
  stack.defer(() => resumed);
  return keeper;
}

const publishingOf = (config: Config) => ({
  machine: engineMachine(config),
  addresses: config.services.bind_addresses,
});

function portsOf(config: Config, { gateway }: Pick<Edge, 'gateway'>): PortParts {
  const policy = config.services;
  return {
    range: portRangeOf(policy),
    isSwarm: policy.orchestrator === 'swarm',
    own: () => gateway.own(),
    ...(engineMachine(config) === undefined && {
      probe: isPortFree,
      guardable: { addresses: policy.bind_addresses, minPort: policy.min_port },
    }),
  };
}

function openCommands(
  { commands }: Config,
  { dataDir, clock, log, operate }: Base & Pick<CommandOptions, 'operate'>,
): CommandService {
  return createCommandService({
    mode: commands.mode,
    allow: commands.allow,
    templates: commands.templates,
    operate,
    timeoutMs: commands.timeout_ms,
    maxOutputBytes: commands.max_output_bytes,
    scratchDir: join(dataDir, 'scratch'),
    clock,
    log,
  });
}

/** An operation that another asks for, in the name of the same caller. */
const operating =
  (dispatch: () => Dispatch): CommandOptions['operate'] =>
  async (name, input, { audit: _audit, idempotency: _idempotency, ...context }) => {
    const operation = operations.find((one) => one.name === name);
    if (!operation) throw new Error(`there is no operation ${name}`);
    return dispatch()(operation, input, context);
  };

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
