import type { Transit } from '../transit.ts';

/**
 * Ends the chain always: an upstream can never answer a challenge for its own hostname.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.3 | RFC 8555 §8.3}
 */
export function answerAcme(transit: Transit): boolean {
  const { core, hostname, path, method, response } = transit;
  if (method !== 'GET' && method !== 'HEAD')
    return transit.refuse({
      status: 405,
      code: 'INVALID_INPUT',
      message: 'Only GET is served here.',
      headers: { allow: 'GET, HEAD' },
    });
  const token = path.slice(path.lastIndexOf('/') + 1);
  const authorization = token === '' ? undefined : core.acmeChallenge?.(hostname, token);
  if (authorization === undefined)
    return transit.refuse({ status: 404, code: 'NOT_FOUND', message: 'No such challenge is pending.' });
  transit.status = 200;
  const body = Buffer.from(authorization);
  response.writeHead(200, {
    ...transit.closing(),
    'content-type': 'application/octet-stream',
    'content-length': String(body.length),
  });
  transit.end(body);
  return true;
}
