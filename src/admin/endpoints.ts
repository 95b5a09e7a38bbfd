/** `list_endpoints`: every route that the process serves for itself, as the registry holds them. */
import { z } from 'zod';
import type { EndpointRegistry } from '../core/endpoints.ts';
import { defineOperation } from '../core/operation.ts';

const surfaces = ['mcp', 'rest', 'web', 'metadata', 'acme'] as const;

export const listEndpoints = defineOperation({
  name: 'list_endpoints',
  title: 'List endpoints',
  description:
    'Lists every route this system itself serves, and what a caller needs for it. Proxied hostnames: list_proxies.',
  permission: 'system:read',
  confinement: 'refused',
  effect: 'read',
  mcp: 'searchable',
  toolset: 'system',
  http: { method: 'GET', path: '/v1/endpoints' },
  input: z.object({ surface: z.enum(surfaces).optional().describe('Only this surface') }),
  output: z.object({
    endpoints: z.array(
      z.object({
        methods: z.array(z.string()),
        path: z.string(),
        surface: z.enum(surfaces),
        hosts: z.enum(['control', 'served']),
        gate: z.string().describe('Permission; public, authenticated or mcp'),
        description: z.string(),
      }),
    ),
  }),
  async handler({ surface }, _context, { endpoints }: { endpoints: EndpointRegistry }) {
    const shown = endpoints
      .list()
      .filter((endpoint) => surface === undefined || endpoint.surface === surface);
    return { endpoints: shown.map((endpoint) => ({ ...endpoint, methods: [...endpoint.methods] })) };
  },
});
