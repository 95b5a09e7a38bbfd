import type { Endpoint } from '../core/endpoints.ts';
import { ACME_PREFIX, METADATA_PATH } from './well-known.ts';

/** What the gateway answers by itself, for the registry of endpoints. */
export const gatewayEndpoints: Endpoint[] = [
  {
    methods: ['GET', 'HEAD'],
    path: '/healthz',
    surface: 'web',
    hosts: 'control',
    gate: 'public',
    description: '200 while the process is alive',
  },
  {
    methods: ['GET', 'HEAD'],
    path: '/readyz',
    surface: 'web',
    hosts: 'control',
    gate: 'public',
    description: '200 once it serves, 503 before and while it shuts down',
  },
  ...['', '/mcp', '/mcp/'].map(
    (path): Endpoint => ({
      methods: ['GET', 'HEAD', 'OPTIONS'],
      path: `${METADATA_PATH}${path}`,
      surface: 'metadata',
      hosts: 'served',
      gate: 'public',
      description: 'Protected resource metadata of /mcp (RFC 9728)',
    }),
  ),
  {
    methods: ['GET', 'HEAD'],
    path: `${ACME_PREFIX}{token}`,
    surface: 'acme',
    hosts: 'served',
    gate: 'public',
    description: 'Answers a pending ACME challenge (RFC 8555); never forwarded',
  },
];
