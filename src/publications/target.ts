/** How a proxy leads to the service that was made for it. The one place that knows. */
import type { ServiceSettings } from '../services/schema.ts';

/**
 * Published, at any port, at the address where the gateway reaches it (loopback for an engine on this machine): where an engine keeps its networks to itself (rootless Podman, an engine in a machine
 * of its own), containers are reached in no other way.
 */
export const portsFor = (port: number, host_address: string): ServiceSettings['ports'] => [
  { container_port: port, protocol: 'tcp', host_address, host_port: 0 },
];

/** By name: where it is, also after a restart, is followed. */
export const targetFor = (service: string, port: number): string => `service://${service}:${port}`;
