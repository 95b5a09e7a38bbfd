/** The part of the composition root that makes the metrics: what is counted, what is looked up, and who may read it. */
import { metricsSettings } from './app.settings.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import type { Gateway } from './gateway/gateway.ts';
import { createMetricsEndpoint } from './metrics/endpoint.ts';
import { family } from './metrics/family.ts';
import { type MetricsListener, openMetricsListener } from './metrics/listener.ts';
import { RequestTallies } from './metrics/requests.ts';
import { MetricsService } from './metrics/service.ts';
import type { TokenService } from './tokens/service.ts';

/** Counts from the first request on; `gateway` is asked once it is there. */
export function createTallies(config: Config, clock: Clock, gateway: () => Pick<Gateway, 'snapshot'>) {
  return {
    requests: new RequestTallies({
      controlHosts: new Set(config.control.hosts),
      isKnown: (id) => gateway().snapshot().table.has(id),
      generation: () => gateway().snapshot().generation,
      now: () => clock.now(),
    }),
  };
}

export interface MetricsParts {
  readonly clock: Clock;
  readonly version: string;
  readonly gateway: Gateway;
  readonly tallies: ReturnType<typeof createTallies>;
  readonly tokens: Pick<TokenService, 'authenticate'>;
}

export function openMetrics(config: Config, parts: MetricsParts) {
  const { clock, version, gateway, tallies } = parts;
  const metrics = new MetricsService({
    clock,
    sources: {
      build: () => [family('ohp_build_info', [{ labels: [version], value: 1 }])],
      requests: () => tallies.requests.families(),
      connections: () => {
        const { requests } = gateway.connections();
        return [family('ohp_http_requests_in_flight', [{ labels: [], value: requests }])];
      },
    },
  });
  return {
    metrics,
    endpoint: createMetricsEndpoint({ metrics, clock, access: config.mcp.access }),
    /** Undefined: there is none. To be called before the gateway listens: no target may be there. */
    async listen(stack: AsyncDisposableStack): Promise<MetricsListener | undefined> {
      const listen = metricsSettings(config);
      if (!listen) return undefined;
      const hosts = config.control.hosts;
      const authenticate = (credential: string) => parts.tokens.authenticate(credential);
      const listener = stack.use(
        await openMetricsListener({ ...listen, hosts, metrics, clock, authenticate }),
      );
      gateway.keepOff(listener.address);
      return listener;
    },
  };
}
