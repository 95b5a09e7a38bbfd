import { isProbePath } from '../../routes/own.ts';
import type { GatewayCore } from '../core.ts';
import type { Transit } from '../transit.ts';

/** For probes: alive at all, and ready to serve. Nothing about what is served. */
export function answerHealth(transit: Transit): boolean {
  const { path, method, core } = transit;
  if (!isProbePath(path)) return false;
  if (method !== 'GET' && method !== 'HEAD')
    return transit.refuse({
      status: 405,
      code: 'INVALID_INPUT',
      message: 'Only GET is served here.',
      headers: { allow: 'GET, HEAD' },
    });
  if (path === '/readyz' && !isReady(core))
    return transit.refuse({
      status: 503,
      code: 'UNAVAILABLE',
      message: 'Not ready.',
      headers: { 'retry-after': '1' },
    });
  const body = Buffer.from('ok\n');
  transit.status = 200;
  transit.response.writeHead(200, {
    ...transit.closing(),
    'content-type': 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
    'content-length': String(body.length),
  });
  transit.end(body);
  return true;
}

function isReady({ isLoaded, isListening, isDraining }: GatewayCore): boolean {
  return isLoaded && isListening && !isDraining;
}
