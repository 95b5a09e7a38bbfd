import { METADATA_PATH } from '../../routes/own.ts';
import { baseUrlOf, issuerOf } from '../bearer.ts';
import type { Transit } from '../transit.ts';

const MAX_AGE_SECONDS = 60;

/**
 * `resource` is the very URL that the client uses: with the slash where it asked with one.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-3.2 | RFC 9728 §3.2}
 */
export function answerMetadata(transit: Transit): boolean {
  const { core, path, method, response } = transit;
  if (method !== 'GET' && method !== 'HEAD')
    return transit.refuse({
      status: 405,
      code: 'INVALID_INPUT',
      message: 'Only GET is served here.',
      headers: { allow: 'GET, HEAD, OPTIONS' },
    });
  const { scopes, resourceName } = transit.described
    ? { scopes: transit.described.scopes, resourceName: transit.hostname }
    : core.settings.mcp;
  const body = Buffer.from(
    JSON.stringify({
      resource: `${baseUrlOf(transit)}${path.slice(METADATA_PATH.length)}`,
      authorization_servers: [issuerOf(transit)],
      scopes_supported: scopes,
      bearer_methods_supported: ['header'],
      resource_name: resourceName,
    }),
  );
  transit.status = 200;
  response.writeHead(200, {
    ...transit.closing(),
    'content-type': 'application/json',
    'content-length': String(body.length),
    'cache-control': `max-age=${MAX_AGE_SECONDS}`,
  });
  transit.end(body);
  return true;
}
