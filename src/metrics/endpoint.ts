/** `GET /metrics` on the control hosts, for credentials with `metrics:read`. */
import type { Clock } from '../core/clock.ts';
import { authorise } from '../core/dispatch.ts';
import type { Endpoint } from '../core/endpoints.ts';
import type { ExchangeHandler } from '../core/exchange.ts';
import type { Access } from '../core/principal.ts';
import { contentTypes, formatFor } from './exposition.ts';
import type { MetricsService } from './service.ts';

export const METRICS_PATH = '/metrics';
/** They tell of all hostnames. */
export const metricsGate = {
  name: 'GET /metrics',
  permission: 'metrics:read',
  confinement: 'refused',
} as const;

const endpoint: Endpoint = {
  methods: ['GET', 'HEAD'],
  path: METRICS_PATH,
  surface: 'web',
  hosts: 'control',
  gate: metricsGate.permission,
  description: 'Metrics for Prometheus',
};

export interface MetricsEndpointOptions {
  readonly metrics: Pick<MetricsService, 'text'>;
  readonly clock: Clock;
  readonly access: Access;
}

export function createMetricsEndpoint({ metrics, clock, access }: MetricsEndpointOptions): {
  endpoint: Endpoint;
  /** @throws AppError UNAUTHENTICATED or FORBIDDEN. */
  handle: ExchangeHandler;
} {
  return {
    endpoint,
    async handle({ method, headers, reply }, principal) {
      authorise(metricsGate, principal, clock.now(), access);
      const format = formatFor(headers.accept);
      const body = Buffer.from(await metrics.text(format));
      reply.writeHead(200, {
        'content-type': contentTypes[format],
        'content-length': body.length,
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        vary: 'Accept',
      });
      reply.end(method === 'HEAD' ? undefined : body);
    },
  };
}
