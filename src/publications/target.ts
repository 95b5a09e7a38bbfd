/** How a proxy leads to the service that was made for it. The one place that knows. */
import type { ServiceSettings } from '../services/schema.ts';

/**
 * Published at loopback, at any port: where an engine keeps its networks to itself (rootless Podman, an engine in a machine
 * of its own), containers are reached in no other way.
 */
export const portsFor = (port: number): ServiceSettings['ports'] => [
  { container_port: port, protocol: 'tcp', host_address: '127.0.0.1', host_port: 0 },
];

/** By name: where it is, also after a restart, is followed. */
export const targetFor = (service: string, port: number): string => `service://${service}:${port}`;
