/** The part of the composition root that makes the metrics: what is counted, what is looked up, and who may read it. */
import { stat } from 'node:fs/promises';
import type { AlertService } from './alerts/service.ts';
import { metricsSettings } from './app.settings.ts';
import type { Issuance } from './certificates/issuance.ts';
import type { CertificateService } from './certificates/service.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import type { Events } from './core/events.ts';
import type { Gateway } from './gateway/gateway.ts';
import type { McpInterface } from './interfaces/mcp/mcp.ts';
import type { LogSink } from './logs/sink.ts';
import { createMetricsEndpoint } from './metrics/endpoint.ts';
import { type Family, family, one } from './metrics/family.ts';
import { type MetricsListener, openMetricsListener } from './metrics/listener.ts';
import {
  alertFamilies,
  type BalancedState,
  certificateFamilies,
  connectionFamilies,
  logFamilies,
  orderFamilies,
  poolFamilies,
  storeFamilies,
  targetFamilies,
} from './metrics/looked-up.ts';
import type { RuntimeWatch } from './metrics/runtime.ts';
import { MetricsService } from './metrics/service.ts';
import { Tallies } from './metrics/tallies.ts';
import type { OAuthService } from './oauth/service.ts';
import { originOf } from './proxies/target-url.ts';
import type { TokenService } from './tokens/service.ts';

/** Counts from the first moment on; `gateway` is asked once it is there. */
export const createTallies = (config: Config, gateway: () => Pick<Gateway, 'snapshot'>): Tallies =>
  new Tallies({
    controlHosts: new Set(config.control.hosts),
    isKnown: (id) => gateway().snapshot().table.has(id),
    generation: () => gateway().snapshot().generation,
  });

export interface MetricsParts {
  readonly clock: Clock;
  readonly version: string;
  readonly events: Events;
  readonly meter: Tallies;
  readonly runtime: RuntimeWatch;
  readonly gateway: Gateway;
  readonly certificates: Pick<CertificateService, 'entries' | 'used'>;
  readonly issuance: Pick<Issuance, 'orders'>;
  readonly mcp: Pick<McpInterface, 'stats'>;
  readonly oauth: Pick<OAuthService, 'grants'>;
  readonly sink: Pick<LogSink, 'stats'>;
  readonly alerts: Pick<AlertService, 'active'>;
  readonly stateFile: string;
  readonly tokens: Pick<TokenService, 'authenticate'>;
}

export function openMetrics(config: Config, parts: MetricsParts, stack: AsyncDisposableStack) {
  const { clock, gateway, tokens } = parts;
  const metrics = new MetricsService({ clock, sources: sourcesOf(parts, stack) });
  return {
    metrics,
    endpoint: createMetricsEndpoint({ metrics, clock, access: config.mcp.access }),
    /** Undefined: there is none. To be called before the gateway listens: no target may be there. */
    async listen(): Promise<MetricsListener | undefined> {
      const at = metricsSettings(config);
      if (!at) return undefined;
      const { hosts } = config.control;
      const authenticate = (credential: string) => tokens.authenticate(credential);
      const listener = stack.use(await openMetricsListener({ ...at, hosts, metrics, clock, authenticate }));
      gateway.keepOff(listener.address);
      return listener;
    },
  };
}

function sourcesOf(parts: MetricsParts, stack: AsyncDisposableStack) {
  const { version, gateway, certificates, issuance, mcp, oauth, sink, alerts, meter, runtime, stateFile } =
    parts;
  const certificateNews = countCertificateNews(parts.events, stack);
  return {
    build: () => [family('ohp_build_info', [{ labels: [version], value: 1 }])],
    counted: () => meter.families(),
    gateway: () => [
      ...snapshotFamilies(gateway.snapshot()),
      ...connectionFamilies(gateway.connections()),
      ...poolFamilies(gateway.upstreams()),
      ...targetFamilies(balancedStates(gateway)),
    ],
    certificates: () => [
      ...certificateFamilies(
        certificates.entries(),
        [...certificates.used()].map(([entry]) => entry),
      ),
      ...certificateNews(),
    ],
    acme: async () =>
      orderFamilies({
        byState: await issuance.orders.countsByState(),
        nextAttemptAt: await issuance.orders.nextAttemptAt(),
      }),
    mcp: () => {
      const { sessions, streams } = mcp.stats();
      return [one('ohp_mcp_sessions', sessions), one('ohp_mcp_event_streams', streams)];
    },
    oauth: () => [one('ohp_oauth_grants', oauth.grants.size)],
    store: async () =>
      storeFamilies({ database: await sizeOf(stateFile), wal: await sizeOf(`${stateFile}-wal`) }),
    log: () => logFamilies(sink.stats()),
    alerts: async () => alertFamilies(await alerts.active()),
    runtime: () => runtime.families(),
  };
}

const snapshotFamilies = ({ table, generation }: ReturnType<Gateway['snapshot']>): Family[] => [
  one(
    'ohp_hosts',
    Iterator.from(table.hostnames()).reduce((count) => count + 1, 0),
  ),
  one('ohp_snapshot_generation', generation),
];

function* balancedStates(gateway: Gateway): Generator<BalancedState> {
  for (const { hostname, states } of gateway.allTargets())
    for (const { url, state, open_requests: requests } of states)
      yield { hostname, origin: originOf(url), isHealthy: state === 'healthy', requests };
}

function countCertificateNews(events: Events, stack: AsyncDisposableStack): () => Family[] {
  let ready = 0;
  let failed = 0;
  stack.defer(events.on('certificate.ready', () => ready++));
  stack.defer(events.on('certificate.failed', () => failed++));
  return () => [one('ohp_certificates_ready_total', ready), one('ohp_acme_failures_total', failed)];
}

/** 0: it is not there, as the log of changes before the first one. */
const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );
