import type { Transit } from '../transit.ts';

/** Requests that come on connections which were open before the end began. */
export function refuseDraining(transit: Transit): boolean {
  if (!transit.core.isDraining) return false;
  return transit.refuse({
    status: 503,
    code: 'UNAVAILABLE',
    message: 'The server is shutting down. Try again in a moment.',
    headers: { 'retry-after': '1' },
  });
}
