import type { Transit } from '../transit.ts';

/**
 * A target that leads back here, by whatever way, would go round until something breaks.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8586 | RFC 8586} (Via would make some upstreams stop compressing.)
 */
export function refuseLoop(transit: Transit): boolean {
  const loop = transit.headers['cdn-loop'];
  if (loop === undefined || !loop.includes(transit.core.loopToken)) return false;
  return transit.refuse({
    status: 508,
    code: 'UPSTREAM_FAILED',
    message: 'The target leads back to this server.',
  });
}
