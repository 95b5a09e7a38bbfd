import type { Endpoint } from '../core/endpoints.ts';
import { ACME_PREFIX, METADATA_PATH, metadataPaths, sitePaths, VERIFY_PATH } from '../routes/own.ts';

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
  ...metadataPaths.map(
    (path): Endpoint => ({
      methods: ['GET', 'HEAD', 'OPTIONS'],
      path,
      surface: 'metadata',
      hosts: 'served',
      gate: 'public',
      description: 'Protected resource metadata of /mcp (RFC 9728)',
    }),
  ),
  {
    methods: ['GET', 'HEAD'],
    path: VERIFY_PATH,
    surface: 'web',
    hosts: 'control',
    gate: 'front',
    description: 'Whether a request that a trusted front tells of may pass (forward authentication)',
  },
  ...[sitePaths.signIn, sitePaths.callback].map(
    (path): Endpoint => ({
      methods: ['GET'],
      path,
      surface: 'web',
      hosts: 'protected',
      gate: 'public',
      description: 'Sign-in of browsers',
    }),
  ),
  {
    methods: ['GET', 'POST'],
    path: sitePaths.signOut,
    surface: 'web',
    hosts: 'protected',
    gate: 'public',
    description: 'Signs a browser out',
  },
  {
    methods: ['GET', 'HEAD', 'OPTIONS'],
    path: `${METADATA_PATH}/{path}`,
    surface: 'metadata',
    hosts: 'protected',
    gate: 'public',
    description: 'Protected resource metadata of a path that asks for access tokens (RFC 9728)',
  },
  {
    methods: ['GET', 'HEAD'],
    path: `${ACME_PREFIX}{token}`,
    surface: 'acme',
    hosts: 'served',
    gate: 'public',
    description: 'Answers a pending ACME challenge (RFC 8555); never forwarded',
  },
];
