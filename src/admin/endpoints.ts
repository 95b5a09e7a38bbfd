/** `list_endpoints`: every route that the process serves for itself, as the registry holds them. */
import { z } from 'zod';
import {
  cursorField,
  decodeCursor,
  encodeCursor,
  limitField,
  nextCursorField,
  pageOf,
} from '../core/collection.ts';
import type { EndpointRegistry } from '../core/endpoints.ts';
import { defineOperation } from '../core/operation.ts';

const LIST = 'endpoints';
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
  input: z.object({
    surface: z.enum(surfaces).optional().describe('Only this surface'),
    limit: limitField,
    cursor: cursorField,
  }),
  output: z.object({
    endpoints: z.array(
      z.object({
        methods: z.array(z.string()),
        path: z.string(),
        surface: z.enum(surfaces),
        hosts: z.enum(['control', 'served', 'protected']),
        gate: z.string().describe('Permission; public, authenticated, mcp, front or oauth'),
        description: z.string(),
      }),
    ),
    next_cursor: nextCursorField,
  }),
  async handler({ surface, limit, cursor }, _context, { endpoints }: { endpoints: EndpointRegistry }) {
    // What is registered, and in which order, is settled once the process serves.
    const [after] = cursor === undefined ? [-1] : decodeCursor(LIST, ['number'], cursor);
    const found = endpoints
      .list()
      .map((endpoint, place) => ({ endpoint, place }))
      .filter(({ endpoint, place }) => place > after && (surface ?? endpoint.surface) === endpoint.surface);
    const cursorOf = ({ place }: { place: number }) => encodeCursor(LIST, [place]);
    const { items, ...more } = pageOf(found, limit, cursorOf, ({ endpoint }) => endpoint);
    return {
      endpoints: items.map(({ endpoint }) => ({ ...endpoint, methods: [...endpoint.methods] })),
      ...more,
    };
  },
});
