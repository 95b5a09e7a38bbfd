/** How a proxy leads to the service that was made for it. The one place that knows. */
import { AppError } from '../core/errors.ts';
import type { ServiceDetails, ServiceSettings } from '../services/schema.ts';

const LOOPBACK = '127.0.0.1';

/** What the service publishes, so that it can be led to. */
export const portsFor = (port: number): ServiceSettings['ports'] => [
  { container_port: port, protocol: 'tcp', host_address: LOOPBACK, host_port: 0 },
];

export function targetFor({ name, container }: ServiceDetails, port: number): string {
  const found = container?.ports.find((one) => one.container_port === port && one.host_port !== undefined);
  if (found) return `http://${LOOPBACK}:${found.host_port}`;
  throw new AppError('UPSTREAM_FAILED', `the engine says of no port at which ${name} could be reached`);
}
